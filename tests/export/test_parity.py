import json

import pytest
import torch
from torch import nn

from tutelage.errors import ModelError, RunError
from tutelage.export.parity import CHUNK, compare, deliver
from tutelage.export.standalone import Standalone


@pytest.fixture
def model():
    return Standalone(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)))


PICTURES = torch.rand(6, 1, 2, 2, generator=torch.Generator().manual_seed(0))


def deliver_with(model, folder, runtime, file="model.x", tolerance=1e-3):
    return deliver(
        folder,
        file,
        write=lambda path: path.write_text("weights") and None,
        opened=lambda path: runtime,
        model=model,
        pictures=PICTURES,
        tolerance=tolerance,
    )


def test_the_model_agrees_with_itself(model):
    parity = compare(model, model, PICTURES, file="f", tolerance=0.0)
    assert (parity.max_difference, parity.agreement, parity.samples, parity.holds) == (0.0, 1.0, 6, True)


def test_the_difference_is_the_largest_one_and_agreement_the_share_of_equal_answers(model):
    def runtime(batch):
        logits = model(batch).detach().clone()
        logits[:, 0] += (batch == PICTURES[2]).all(dim=(1, 2, 3)) * 50.0 - 0.25
        return logits

    expected = model(PICTURES).argmax(1) == torch.cat([runtime(p[None]) for p in PICTURES]).argmax(1)
    parity = compare(model, runtime, PICTURES, file="f", tolerance=1e-3)
    assert parity.max_difference == pytest.approx(49.75)
    assert parity.agreement == pytest.approx(expected.float().mean().item())
    assert parity.agreement < 1
    assert not parity.holds


def test_the_first_picture_is_run_alone_and_the_others_in_batches(model):
    seen = []

    def runtime(batch):
        seen.append(len(batch))
        return model(batch)

    compare(model, runtime, torch.rand(2 * CHUNK + 2, 1, 2, 2), file="f", tolerance=1e-3)
    assert seen == [1, CHUNK, CHUNK, 1]


@pytest.mark.parametrize(("scale", "holds"), [(0.0, True), (1000.0, True), (0.001, False)])
def test_the_tolerance_grows_with_large_logits_but_never_shrinks_below_itself(scale, holds):
    class Scaled(nn.Module):
        def forward(self, image):
            return image.flatten(1) * 0 + scale

    off = 0.0 if scale == 0 else (0.9 if scale == 1000 else 0.0011)
    scaled = Standalone(Scaled())
    assert compare(scaled, lambda b: scaled(b) + off, PICTURES, file="f", tolerance=1e-3).holds is holds


def test_a_nan_never_holds(model):
    assert not compare(model, lambda batch: model(batch) * torch.nan, PICTURES, file="f", tolerance=1e9).holds


def test_a_file_that_disagrees_leaves_the_folder_as_it_was(model, tmp_path):
    deliver_with(model, tmp_path, model)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ModelError, match=r"model\.x: expected logits within 0\.001 .* found a difference of 1 "):
        deliver_with(model, tmp_path, lambda batch: model(batch) + 1)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_file_of_another_shape_is_refused_by_its_shapes(model, tmp_path):
    with pytest.raises(ModelError, match=r"expected an output of \(6, 3\), found \(6, 2\)"):
        deliver_with(model, tmp_path, lambda batch: model(batch)[:, :2])
    assert not list(tmp_path.iterdir())


def test_parity_json_keeps_one_line_for_each_file(model, tmp_path):
    deliver_with(model, tmp_path / "export", model, file="a")
    deliver_with(model, tmp_path / "export", model, file="b")
    stored = json.loads((tmp_path / "export" / "parity.json").read_text())
    assert set(stored) == {"a", "b"}
    assert stored["a"]["max_difference"] == 0
    assert sorted(path.name for path in (tmp_path / "export").iterdir()) == ["a", "b", "parity.json"]


def test_a_folder_that_cannot_be_made_is_named(model, tmp_path):
    (tmp_path / "export").write_text("a file")
    with pytest.raises(RunError, match=r"cannot write to .*export"):
        deliver_with(model, tmp_path / "export", model)
