import json

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from tutelage.export import to_pt2
from tutelage.models import Preprocess

PICTURES = torch.rand(7, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model.append(nn.Linear(8, 4)).eval()
    model.preprocess = Preprocess((0.4, 0.5, 0.6), (0.2, 0.2, 0.3), size=(20, 24), classes=(3, 1, 0))
    folder = tmp_path_factory.mktemp("run") / "export"
    parity = to_pt2(model, folder, input_shape=(3, 16, 16), sample_inputs=PICTURES, classes=["a", "b", "c"])
    return model, folder, parity


@pytest.mark.parametrize("batch", [1, 5])
def test_the_archive_holds_the_preprocessing_and_takes_any_batch(exported, batch):
    model, folder, _ = exported
    image = torch.rand(batch, 3, 16, 16)
    expected = model.preprocess.arrange(model(model.preprocess(image)))
    assert_close(torch.export.load(folder / "model.pt2").module()(image), expected)


def test_the_classes_and_the_parity_lie_beside_it(exported):
    _, folder, parity = exported
    extra = {"classes.json": ""}
    torch.export.load(folder / "model.pt2", extra_files=extra)
    assert json.loads(extra["classes.json"]) == ["a", "b", "c"]
    assert sorted(path.name for path in folder.iterdir()) == ["model.pt2", "parity.json"]
    assert json.loads((folder / "parity.json").read_text())["model.pt2"]["samples"] == 7
    assert (parity.file, parity.agreement) == ("model.pt2", 1.0)
    assert b'.py"' not in (folder / "model.pt2").read_bytes()


@pytest.mark.slow
def test_a_network_of_timm_says_the_same_alone_and_in_a_batch(tmp_path):
    timm = pytest.importorskip("timm")
    model = timm.create_model("mobilenetv3_small_050", num_classes=10).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # untrained nets answer the same to every picture
            parameter.add_(0.02 * torch.randn_like(parameter))
    pictures = torch.rand(5, 3, 64, 64)
    assert to_pt2(model, tmp_path, input_shape=(3, 64, 64), sample_inputs=pictures).agreement == 1
    again = torch.export.load(tmp_path / "model.pt2").module()
    with torch.no_grad():
        for batch in (pictures[:1], pictures):
            assert torch.equal(again(batch).argmax(1), model(batch).argmax(1))
