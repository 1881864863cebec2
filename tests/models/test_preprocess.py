import json
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from tutelage.models import Preprocess

IMAGENET = Preprocess((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Inside(nn.Module):
    def __init__(self, preprocess):
        super().__init__()
        self.preprocess = preprocess
        self.net = nn.Conv2d(len(preprocess.mean), 2, 3)

    def forward(self, pictures):
        return self.preprocess.arrange(self.net(self.preprocess(pictures)).mean((2, 3)))


def test_each_channel_is_normalised_with_its_own_mean_and_std():
    pictures = torch.rand(2, 3, 4, 5)
    seen = IMAGENET(pictures)
    for c in range(3):
        assert_close(seen[:, c], (pictures[:, c] - IMAGENET.mean[c]) / IMAGENET.std[c])


def test_the_shared_picture_is_left_as_it_was():
    pictures = torch.rand(1, 3, 4, 4)
    before = pictures.clone()
    Preprocess((0.5,) * 3, (0.5,) * 3, size=(2, 2))(pictures)
    assert torch.equal(pictures, before)


def test_identity_hands_the_picture_on():
    pictures = torch.rand(1, 2, 4, 4)
    assert Preprocess.identity(2)(pictures) is pictures


def test_a_picture_of_another_size_is_resized_without_aliasing():
    stripes = torch.arange(8).remainder(2).float().expand(1, 1, 8, 8)
    halved = Preprocess((0.0,), (1.0,), size=(4, 4))(stripes)
    assert halved.shape == (1, 1, 4, 4)
    assert_close(halved[..., 1:-1], torch.full((1, 1, 4, 2), 0.5))


def test_a_grey_picture_fills_all_channels():
    grey = torch.rand(2, 1, 3, 3)
    assert_close(IMAGENET(grey), IMAGENET(grey.repeat(1, 3, 1, 1)))


def test_colour_becomes_luma_for_a_grey_model():
    green = torch.zeros(1, 3, 1, 1)
    green[0, 1] = 1
    assert_close(Preprocess((0.0,), (1.0,))(green), torch.full((1, 1, 1, 1), 0.587))


def test_other_channels_are_refused_with_both_numbers():
    with pytest.raises(ValueError, match=r"3 channels, found 4"):
        IMAGENET(torch.rand(1, 4, 2, 2))


def test_a_std_of_zero_is_refused():
    with pytest.raises(ValueError, match="positive std"):
        Preprocess((0.0,), (0.0,))


def test_columns_come_in_the_users_class_order():
    teacher = Preprocess((0.5,), (0.5,), classes=(2, 0))
    logits = torch.tensor([[1.0, 2.0, 3.0]])
    assert torch.equal(teacher.arrange(logits), torch.tensor([[3.0, 1.0]]))
    assert IMAGENET.arrange(logits) is logits


def test_survives_json_and_pickle():
    full = Preprocess((0.1, 0.2), (0.3, 0.4), size=(5, 6), classes=(1, 0))
    assert Preprocess.from_dict(json.loads(json.dumps(full.to_dict()))) == full
    assert pickle.loads(pickle.dumps(full)) == full


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_keeps_the_dtype(dtype):
    resized = Preprocess(IMAGENET.mean, IMAGENET.std, size=(4, 4))
    assert resized(torch.rand(1, 3, 8, 8, dtype=dtype)).dtype == dtype


def test_gradients_flow_even_after_a_first_use_in_inference_mode():
    fresh = Preprocess((0.123,), (0.456,))
    with torch.inference_mode():
        fresh(torch.rand(1, 1, 2, 2))
    pictures = torch.rand(1, 1, 2, 2, requires_grad=True)
    fresh(pictures).sum().backward()
    assert_close(pictures.grad, torch.full((1, 1, 2, 2), 1 / 0.456))


def test_is_no_part_of_the_state_dict():
    assert set(Inside(IMAGENET).state_dict()) == {"net.weight", "net.bias"}


def test_is_exported_with_the_model_for_any_batch():
    model = Inside(Preprocess(IMAGENET.mean, IMAGENET.std, size=(6, 6), classes=(1, 0))).eval()
    shapes = {"pictures": {0: torch.export.Dim("batch")}}
    program = torch.export.export(model, (torch.rand(2, 1, 8, 8),), dynamic_shapes=shapes)
    pictures = torch.rand(5, 1, 8, 8)
    assert_close(program.module()(pictures), model(pictures))
    assert_close(model(pictures), model(pictures))  # tracing left no traced constant behind


@pytest.mark.slow
def test_is_part_of_an_onnx_graph(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = Inside(Preprocess(IMAGENET.mean, IMAGENET.std, size=(6, 6), classes=(1, 0))).eval()
    shapes = {"pictures": {0: torch.export.Dim("batch")}}
    file = tmp_path / "model.onnx"
    torch.onnx.export(model, (torch.rand(2, 3, 8, 8),), file, dynamo=True, dynamic_shapes=shapes, verbose=False)
    session = onnxruntime.InferenceSession(file)
    pictures = torch.rand(3, 3, 8, 8)
    (found,) = session.run(None, {"pictures": pictures.numpy()})
    assert_close(torch.from_numpy(found), model(pictures), atol=1e-4, rtol=1e-4)


def test_resizing_equals_torchs_own_antialiased_bilinear():
    pictures = torch.rand(1, 3, 9, 7)
    expected = F.interpolate(pictures, (4, 5), mode="bilinear", antialias=True)
    assert_close(Preprocess((0.0,) * 3, (1.0,) * 3, size=(4, 5))(pictures), expected)
