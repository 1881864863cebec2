"""Modules given to `distill` and `train` from Python: what they are taken for, and that they are left as they are."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import tutelage as tu
from tutelage.errors import ModelError, RecipeError

LABELS = torch.arange(240) % 4
PICTURES = torch.rand(240, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.4
PICTURES += 0.6 * torch.eye(4)[LABELS].reshape(-1, 1, 2, 2).repeat_interleave(4, 2).repeat_interleave(4, 3)
DATA = TensorDataset(PICTURES, LABELS)
FEW = {"data": {"batch_size": 32}, "train": {"epochs": 1}, "baseline": False}


def net(width=4):
    layers = nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(2)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * width, 4))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A network that knows the four classes."""
    settings = {**FEW, "train": {"epochs": 6}}
    return tu.train(settings, model=net(16), data=DATA, out=tmp_path_factory.mktemp("runs") / "big").student


def state_of(model):
    """All that could be changed of a module."""
    flags = [x.requires_grad for x in model.parameters()]
    modes = [module.training for module in model.modules()]
    return flags, modes, sorted(model.__dict__), {name: x.clone() for name, x in model.state_dict().items()}


def distill(folder, **given):
    return tu.distill(FEW, data=DATA, out=folder / "run", **given)


def test_modules_are_left_as_they_are(trained, tmp_path):
    teacher, student = copy.deepcopy(trained).train().requires_grad_(), net()
    del teacher.__dict__["preprocess"], teacher.__dict__["origin"]
    teacher[1].eval()
    student[0].requires_grad_(False)
    before = [state_of(model) for model in (teacher, student)]
    run = distill(tmp_path, student=student, teachers=[teacher])
    for model, was in zip((teacher, student), before, strict=True):
        *told, weights = state_of(model)
        assert told == list(was[:3])
        assert all(torch.equal(weights[name], x) for name, x in was[3].items())
    assert torch.equal(run.student[0].weight, student[0].weight)
    assert not torch.equal(run.student[5].weight, student[5].weight)


def test_a_module_may_teach_itself_and_learn_afterwards(trained, tmp_path):
    model = copy.deepcopy(trained).train().requires_grad_()
    run = distill(tmp_path, student=model, teachers={"me": model})
    assert not torch.equal(run.student[0].weight, model[0].weight)
    alone = tu.train(FEW, model=model, data=DATA, out=tmp_path / "alone")
    assert not torch.equal(alone.student[0].weight, model[0].weight)


def test_layers_that_a_student_shares_with_its_teacher_are_trained(trained, tmp_path):
    teacher = copy.deepcopy(trained).requires_grad_()
    student = nn.Sequential(*list(teacher)[:-1], nn.Linear(64, 4))
    run = distill(tmp_path, student=student, teachers=[teacher])
    assert not torch.equal(run.student[0].weight, teacher[0].weight)


def test_a_student_without_anything_to_train_is_refused(trained, tmp_path):
    with pytest.raises(ModelError, match=r"student: expected parameters to train, found none.*requires_grad_\(\)"):
        distill(tmp_path, student=net().requires_grad_(False), teachers=[trained])
    assert not (tmp_path / "run").exists()


def test_a_module_that_cannot_be_copied_is_told(trained, tmp_path):
    model = net()
    model.lines = (line for line in ())
    with pytest.raises(ModelError, match=r"copying the module of student failed with TypeError: cannot pickle"):
        distill(tmp_path, student=model, teachers=[trained])


def test_one_teacher_needs_no_list(trained, tmp_path):
    found = distill(tmp_path, student=net(), teachers=trained, dry_run=True)
    assert list(found["teachers"]) == ["sequential"]
    found = distill(tmp_path, student=net(), teachers="cifar/resnet8", dry_run=True, force=True)
    assert list(found["teachers"]) == ["resnet8"]
    with pytest.raises(RecipeError, match="at least one teacher"):
        distill(tmp_path, student=net(), teachers=[])
