import argparse
import os

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.testing import assert_close

from tutelage.errors import ModelError
from tutelage.models import cifar, find, load_weights
from tutelage.models.logits import Logits


@pytest.fixture
def trained():
    return cifar.resnet8(num_classes=4, in_channels=1)


def fresh(classes=4):
    return cifar.resnet8(num_classes=classes, in_channels=1)


def same(one, two):
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".th", ".safetensors"])
def test_reads_every_kind_of_file(trained, tmp_path, suffix):
    file, model = tmp_path / f"w{suffix}", fresh()
    (save_file if suffix == ".safetensors" else torch.save)(trained.state_dict(), file)
    assert load_weights(model, file) == []
    assert same(model, trained)


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "net", "model_state_dict"])
def test_opens_a_wrapper_and_says_so(trained, tmp_path, wrapper):
    model = fresh()
    torch.save({"epoch": 3, wrapper: trained.state_dict()}, tmp_path / "w.pth")
    assert load_weights(model, tmp_path / "w.pth") == [f"took the weights under {wrapper!r}"]
    assert same(model, trained)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "student.", "module._orig_mod."])
def test_removes_a_prefix_and_says_so(trained, tmp_path, prefix):
    model = fresh()
    torch.save({prefix + k: v for k, v in trained.state_dict().items()}, tmp_path / "w.pt")
    notes = load_weights(model, tmp_path / "w.pt")
    assert notes == [f"removed the prefix '{part}.'" for part in prefix.split(".")[:-1]]
    assert same(model, trained)


def test_fills_the_model_inside_an_answer_of_logits(tmp_path):
    inner = nn.Linear(2, 3)
    torch.save(inner.state_dict(), tmp_path / "w.pt")
    outer = Logits(nn.Linear(2, 3))
    load_weights(outer, tmp_path / "w.pt")
    assert same(outer.model, inner)


def test_old_files_without_batch_counters_fit(trained, tmp_path):
    state = {k: v for k, v in trained.state_dict().items() if not k.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "w.pt")
    assert load_weights(fresh(), tmp_path / "w.pt") == []


def test_names_what_is_missing_unexpected_and_of_another_shape(trained, tmp_path):
    state = trained.state_dict()
    state["extra.weight"] = state.pop("bn1.weight")
    state["conv1.weight"] = torch.zeros(16, 3, 3, 3)
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(ModelError) as caught:
        load_weights(fresh(), tmp_path / "w.pt")
    message = str(caught.value)
    assert "w.pt do not fit cifar/resnet8" in message
    assert "missing 1 of 44: bn1.weight" in message
    assert "unexpected 1 of 44: extra.weight" in message
    assert "conv1.weight expected [16, 1, 3, 3], found [16, 3, 3, 3]" in message


def test_what_does_not_fit_changes_nothing(trained, tmp_path):
    state = trained.state_dict()
    state.pop("linear.bias")
    torch.save(state, tmp_path / "w.pt")
    model = fresh()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(ModelError, match=r"linear\.bias"):
        load_weights(model, tmp_path / "w.pt")
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_a_classifier_of_another_size_is_named_as_such(trained, tmp_path):
    torch.save(trained.state_dict(), tmp_path / "w.pt")
    with pytest.raises(ModelError, match="trained for 4 classes, the data has 9"):
        load_weights(fresh(9), tmp_path / "w.pt")


def test_a_new_classifier_is_kept_when_asked_for(trained, tmp_path):
    torch.save(trained.state_dict(), tmp_path / "w.pt")
    model = fresh(9)
    head = model.linear.weight.clone()
    (note,) = load_weights(model, tmp_path / "w.pt", new_classifier=True)
    assert "new classifier for 9 classes" in note
    assert_close(model.linear.weight, head, rtol=0, atol=0)
    assert_close(model.conv1.weight, trained.conv1.weight, rtol=0, atol=0)


def test_a_new_classifier_excuses_nothing_else(trained, tmp_path):
    state = trained.state_dict()
    state["conv1.weight"] = torch.zeros(16, 3, 3, 3)
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(ModelError, match=r"conv1\.weight"):
        load_weights(fresh(9), tmp_path / "w.pt", new_classifier=True)


class Touch:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.mkdir, (str(self.file),)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_refused_and_does_not_run(trained, tmp_path, zipped):
    mark = tmp_path / "ran"
    stored = {"state_dict": trained.state_dict(), "hook": Touch(mark)}
    torch.save(stored, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ModelError, match="would run code, so it was not opened"):
        load_weights(fresh(), tmp_path / "w.pth")
    assert not mark.exists()


def test_a_whole_pickled_model_is_refused(trained, tmp_path):
    torch.save(trained, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"resnet\.ResNet.*would run code"):
        load_weights(fresh(), tmp_path / "w.pth")


def test_the_options_of_a_training_script_do_no_harm(trained, tmp_path):
    torch.save({"model": trained.state_dict(), "args": argparse.Namespace(lr=0.1)}, tmp_path / "w.pth")
    assert load_weights(fresh(), tmp_path / "w.pth") == ["took the weights under 'model'"]


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99])
def test_a_truncated_file_is_called_damaged(trained, tmp_path, suffix, share):
    file = tmp_path / f"w{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(trained.state_dict(), file)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ModelError, match="damaged, cut short"):
        load_weights(fresh(), file)


def test_a_missing_file_a_folder_and_another_kind_are_told_apart(tmp_path):
    with pytest.raises(ModelError, match="no such file"):
        load_weights(fresh(), tmp_path / "w.pt")
    with pytest.raises(ModelError, match="a folder"):
        load_weights(fresh(), tmp_path)
    (tmp_path / "w.onnx").touch()
    with pytest.raises(ModelError, match=r"found w\.onnx"):
        load_weights(fresh(), tmp_path / "w.onnx")


@pytest.mark.parametrize(("stored", "found"), [({"epoch": 3}, "the keys epoch"), ([1], "list"), ({}, "the keys")])
def test_a_file_without_a_state_dict_says_what_it_holds(tmp_path, stored, found):
    torch.save(stored, tmp_path / "w.pt")
    with pytest.raises(ModelError, match=f"expected a state dict.*found {found}"):
        load_weights(fresh(), tmp_path / "w.pt")


def test_find_notes_what_was_done(trained, tmp_path):
    torch.save({"model": trained.state_dict()}, tmp_path / "w.pt")
    model = find("cifar/resnet8", num_classes=4, in_channels=1, weights=tmp_path / "w.pt")
    assert model.origin["weights"] == "w.pt"
    assert model.origin["notes"] == ["took the weights under 'model'"]
