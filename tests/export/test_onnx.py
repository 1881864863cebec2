import json
import sys

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from tutelage.errors import MissingExtra, ModelError
from tutelage.export import onnx as module
from tutelage.export import to_onnx
from tutelage.models import Preprocess, find

onnxruntime = pytest.importorskip("onnxruntime")
PICTURES = torch.rand(7, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def small():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return model.append(nn.Linear(8, 4)).eval()


def run(folder, image):
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(["logits"], {"image": image.numpy()})[0])


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A small net with resizing, normalisation and another class order, exported once."""
    torch.manual_seed(0)
    model = small()
    model.preprocess = Preprocess((0.4, 0.5, 0.6), (0.2, 0.2, 0.3), size=(20, 24), classes=(3, 1, 0))
    folder = tmp_path_factory.mktemp("run") / "export"
    parity = to_onnx(model, folder, input_shape=(3, 32, 32), sample_inputs=PICTURES, classes=["a", "b", "c"])
    return model, folder, parity


@pytest.mark.parametrize("batch", [1, 5])
def test_the_graph_holds_the_preprocessing_and_takes_any_batch(exported, batch):
    model, folder, _ = exported
    image = torch.rand(batch, 3, 32, 32)
    expected = model.preprocess.arrange(model(model.preprocess(image)))
    assert expected.shape == (batch, 3)
    assert_close(run(folder, image), expected, atol=1e-5, rtol=1e-5)


def test_input_output_and_classes_can_be_read_from_the_file_alone(exported):
    _, folder, _ = exported
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    (image,), (logits,) = session.get_inputs(), session.get_outputs()
    assert (image.name, image.type, image.shape) == ("image", "tensor(float)", ["batch", 3, 32, 32])
    assert (logits.name, logits.shape) == ("logits", ["batch", 3])
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["classes"]) == ["a", "b", "c"]
    assert json.loads(metadata["input_range"]) == [0, 1]
    assert metadata["input_layout"] == "NCHW"


def test_the_file_is_whole_and_names_no_file_of_this_machine(exported):
    _, folder, parity = exported
    assert sorted(path.name for path in folder.iterdir()) == ["model.onnx", "parity.json"]
    assert b"site-packages" not in (folder / "model.onnx").read_bytes()
    assert b".py" not in (folder / "model.onnx").read_bytes()
    assert (parity.file, parity.samples, parity.agreement) == ("model.onnx", 7, 1.0)
    assert 0 <= parity.max_difference < 1e-5


def shortened_mobilenet():
    """Two kinds of blocks of torchvision's mobilenet_v3_small, each once."""
    mobilenetv3 = pytest.importorskip("torchvision.models.mobilenetv3")
    relu = mobilenetv3.InvertedResidualConfig(16, 3, 16, 16, True, "RE", 2, 1, 1)
    hard_swish = mobilenetv3.InvertedResidualConfig(16, 5, 96, 40, True, "HS", 2, 1, 1)
    return mobilenetv3.MobileNetV3([relu, hard_swish], last_channel=64, num_classes=10)


def vit():
    timm = pytest.importorskip("timm")
    return timm.create_model("vit_tiny_patch16_224", img_size=64, depth=2, num_classes=10)


NETWORKS = {
    "cifar/resnet8": lambda: find("cifar/resnet8", num_classes=10),
    "torchvision/mobilenet_v3_small": shortened_mobilenet,
    "timm/vit_tiny_patch16_224": vit,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_known_networks_say_the_same_alone_and_in_a_batch(name, tmp_path):
    model = NETWORKS[name]().eval()
    side = 32 if name.startswith("cifar") else 64
    pictures = torch.rand(9, 3, side, side)
    with torch.no_grad():
        for parameter in model.parameters():  # untrained nets answer the same to every picture
            parameter.add_(0.02 * torch.randn_like(parameter))
    parity = to_onnx(model, tmp_path, input_shape=(3, side, side), sample_inputs=pictures)
    assert parity.agreement == 1
    with torch.no_grad():
        expected = model(pictures[:5]).argmax(1)
    assert torch.equal(run(tmp_path, pictures[:5]).argmax(1), expected)
    assert torch.equal(run(tmp_path, pictures[:1]).argmax(1), expected[:1])


def test_a_graph_that_disagrees_with_the_model_is_not_written(tmp_path, monkeypatch):
    """The graph is traced from another net, as if the exporter had a defect."""
    trace, other = module.Standalone.trace, module.Standalone(small())
    monkeypatch.setattr(module.Standalone, "trace", lambda self, pictures, **options: trace(other, pictures, **options))
    with pytest.raises(ModelError, match="found a difference of"):
        to_onnx(small(), tmp_path, input_shape=(3, 32, 32), sample_inputs=PICTURES)
    assert not list(tmp_path.iterdir())


class Eigenvalues(nn.Module):
    def forward(self, image):
        return torch.linalg.eigvals(image[:, 0]).real


def test_an_operation_that_onnx_lacks_is_the_users_to_know(tmp_path):
    with pytest.raises(ModelError, match="ONNX cannot express"):
        to_onnx(Eigenvalues(), tmp_path, input_shape=(3, 32, 32), sample_inputs=PICTURES)
    assert not list(tmp_path.iterdir())


def test_more_weights_than_a_file_can_hold_are_refused_before_the_tracing(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LARGEST", 100)
    with pytest.raises(ModelError, match="at most 2 GB"):
        to_onnx(small(), tmp_path, input_shape=(3, 32, 32), sample_inputs=PICTURES)


def test_a_missing_package_is_an_install_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtra, match=r"pip install 'tutelage\[export\]'"):
        to_onnx(small(), tmp_path, input_shape=(3, 32, 32), sample_inputs=PICTURES)
