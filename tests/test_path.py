"""Paths that read several taps at once."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from tutelage import Distiller, Frozen, Path
from tutelage.connectors import Project, Resize, chain
from tutelage.errors import RecipeError, TapNotFound
from tutelage.losses import CRD, VID, fsp, mse
from tutelage.losses.together import together
from tutelage.tasks import Classification
from tutelage.weighting import Fixed, Trust


class Net(nn.Module):
    """Two stages of maps, and a classifier."""

    def __init__(self, width):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, width, 3, 2, 1), nn.Conv2d(width, 2 * width, 3, 2, 1)
        self.fc = nn.Linear(2 * width, 3)

    def forward(self, x):
        return self.fc(self.two(self.one(x).relu()).mean(dim=(2, 3)))


class Told(nn.Module):
    """A loss that keeps what it was told, and compares level by level."""

    def bind(self, student, teacher, samples):
        self.shapes = student, teacher

    def forward(self, student, teacher):
        return sum(mse(s, t) for s, t in zip(student, teacher, strict=True))


TASK = Classification(3)
TAPS = ["one", "two"]


def batch():
    return TASK.unpack((torch.rand(4, 3, 16, 16), torch.tensor([0, 1, 2, 0])))


def distiller(path, weighting=None, width=4, **teachers):
    teachers = {name: Frozen(Net(wide)) for name, wide in (teachers or {"big": 4}).items()}
    return Distiller(
        Net(width), teachers=teachers, paths={"deep": path}, task=TASK, weighting=weighting or Fixed(), example=batch()
    )


def test_the_loss_gets_tuples_and_is_told_tuples_of_shapes():
    made = distiller(Path(Told(), student=TAPS, teacher=TAPS))
    assert made.paths["deep"].losses[0].shapes == (((4, 8, 8), (8, 4, 4)),) * 2
    step = made(batch())
    said, heard = step.lesson.student, step.lesson.teachers["big"]
    assert_close(step.ledger.losses[1], sum(mse(said[tap], heard[tap]) for tap in TAPS))
    assert [x.shape for x in step.lesson.adapted["deep/big"]] == [(4, 4, 8, 8), (4, 8, 4, 4)]


def test_one_tap_in_a_list_is_a_tuple_of_one():
    step = distiller(Path(Told(), student=["one"], teacher=["one"]))(batch())
    assert isinstance(step.lesson.adapted["deep/big"], tuple)


def test_each_teacher_may_have_taps_of_its_own():
    path = Path(
        Told(), student=TAPS, teacher={"big": TAPS, "other": ["two", "one"]}, connector=chain(Resize(), Project())
    )
    made = distiller(path, big=8, other=6)
    assert made.spec.taps == {"student": ("one", "two"), "big": ("one", "two"), "other": ("two", "one")}
    shapes = [loss.shapes for loss in made.paths["deep"].losses]
    assert shapes == [(((8, 8, 8), (16, 4, 4)),) * 2, (((12, 4, 4), (6, 8, 8)),) * 2]
    step = made(batch())
    step.loss.backward()
    assert step.ledger.losses.shape == (3, 4)
    assert all(p.grad is not None for p in made.paths["deep"].parameters())


def test_every_tap_has_a_connector_of_its_own():
    made = distiller(Path(Told(), student=TAPS, teacher=TAPS, connector=Project()), big=8)
    widths = [[part.linear.out_channels for part in connector] for connector in made.paths["deep"].connectors]
    assert widths == [[8, 16]]


def test_one_side_alone_may_have_several():
    def nearest(student, teacher):
        return torch.stack([mse(student, t.mean(dim=(2, 3), keepdim=True).expand_as(student)) for t in teacher]).amin(0)

    assert distiller(Path(nearest, student="one", teacher=["one", "one"]))(batch()).ledger.losses.isfinite().all()


def test_teachers_of_several_taps_are_heard_one_by_one():
    @together
    def gap(student, teacher):
        return sum(mse(s, t) for s, t in zip(student, teacher, strict=True))

    step = distiller(Path(gap, student=TAPS, teacher=TAPS), a=4, b=4)(batch())
    for row, teacher in zip(step.ledger.losses[1:], "ab", strict=True):
        said = step.lesson.teachers[teacher]
        assert_close(row, gap([step.lesson.student[tap] for tap in TAPS], [said[tap] for tap in TAPS]))


@pytest.mark.parametrize(("student", "teacher"), [("one", TAPS), (TAPS, "one"), (TAPS, ["one"])])
def test_a_connector_needs_a_tap_of_the_teacher_for_each_of_the_student(student, teacher):
    with pytest.raises(RecipeError, match=r"'deep'.*from tap to tap.*'big'"):
        distiller(Path(Told(), student=student, teacher=teacher, connector=Project()))


@pytest.mark.parametrize("loss", [mse, VID(), CRD()])
def test_a_loss_for_one_tap_is_refused_at_build(loss):
    with pytest.raises(RecipeError, match=r"'deep': (its loss cannot take several taps.*a path of its own|CRD)"):
        distiller(Path(loss, student=TAPS, teacher=TAPS))


def test_taps_that_the_loss_cannot_compare_are_refused_at_build():
    with pytest.raises(RecipeError, match=r"'deep': fsp: expected maps.*equal channels.*Project"):
        distiller(Path(fsp, student=TAPS, teacher=TAPS), big=8)


def test_an_empty_list_is_refused():
    with pytest.raises(RecipeError, match="empty list"):
        Path(mse, student=[])


@pytest.mark.parametrize("who", ["student", "teacher"])
def test_a_misspelt_tap_among_several_is_refused_with_the_closest_names(who):
    taps = {"student": TAPS, "teacher": TAPS} | {who: ["one", "tow"]}
    with pytest.raises(TapNotFound, match=r"tow.*\n?.*two"):
        distiller(Path(Told(), **taps))


def test_trust_judges_a_teacher_of_several_taps_by_its_own_answer():
    paths = {"deep": Path(Told(), student=TAPS, teacher=TAPS), "logits": Path(mse)}
    teachers = {"a": Frozen(Net(4)), "b": Frozen(Net(4))}
    made = Distiller(Net(4), teachers=teachers, paths=paths, task=TASK, weighting=Trust(), example=batch())
    weights = made(batch()).weights
    assert_close(weights[1:3], weights[3:5])
    assert_close(weights[1:3].sum(0), torch.ones(4))
    assert not torch.allclose(weights[1], weights[2])


def test_the_probe_is_not_needed_where_nothing_asks_for_shapes():
    path = Path(lambda student, teacher: mse(student[1], teacher[1]), student=TAPS, teacher=TAPS)
    made = Distiller(Net(4), teachers={"big": Frozen(Net(4))}, paths={"deep": path}, task=TASK, weighting=Fixed())
    assert made(batch()).ledger.losses.shape == (2, 4)
