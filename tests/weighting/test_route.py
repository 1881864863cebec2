"""Route: each sample hears the teachers that are named for it."""

import importlib.util
import pathlib
import sys

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from tutelage import Distiller, Frozen, Path
from tutelage.errors import InputError, RecipeError, UnknownName
from tutelage.losses import kl
from tutelage.tasks import Classification
from tutelage.weighting import Product, Route

_spec = importlib.util.spec_from_file_location("meetings", pathlib.Path(__file__).with_name("meetings.py"))
meetings = sys.modules["meetings"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(meetings)
bound, ledger, lesson, rows = meetings.bound, meetings.ledger, meetings.lesson, meetings.rows

ANIMALS = ("owl", "duck", "eel")
TO = {"owl": "a", "duck": ["a", "b"], 2: "b"}


def heard(gate, taught=None, **said):
    taught = rows() if taught is None else taught
    return gate(ledger(taught, [1.0] * len(taught)), lesson(**said))


def test_samples_hear_the_teachers_of_their_class_on_every_path():
    gate = bound(Route(TO), rows(2), classes=ANIMALS)
    weights = heard(gate, rows(2), target=(2, 0, 1))
    expected = torch.tensor([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0]])
    assert weights[0].eq(1).all()
    assert torch.equal(weights[1:3], expected)
    assert torch.equal(weights[3:], expected)


@pytest.mark.parametrize(("otherwise", "expected"), [((), [0.0, 0.0]), ("b", [0.0, 1.0]), (["a", "b"], [1.0, 1.0])])
def test_whoever_is_not_named_goes_the_other_way(otherwise, expected):
    gate = bound(Route({"owl": "a"}, otherwise=otherwise), rows(), classes=ANIMALS)
    weights = heard(gate, target=(0, 1, 0), labelled=[True, True, False])
    assert torch.equal(weights[1:], torch.tensor([[1.0, 0.0], expected, expected]).T)


def test_mixed_labels_go_by_every_class_for_its_share():
    gate = bound(Route(TO), rows(), classes=ANIMALS)
    mixed = torch.tensor([[0.5, 0.0, 0.5], [0.2, 0.3, 0.5], [1.0, 0.0, 0.0]])
    assert_close(heard(gate, target=mixed)[1:], torch.tensor([[0.5, 0.5, 1.0], [0.5, 0.8, 0.0]]))


def test_a_column_may_hold_names_of_teachers():
    gate = bound(Route(by="who", otherwise="b"), rows())
    weights = heard(gate, extras={"who": ["a", ["b", "a"], None]})
    assert torch.equal(weights[1:], torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]]))


@pytest.mark.parametrize(
    "column", [[7, 8, 9], torch.tensor([7, 8, 9]), ["7", "8", "9"]], ids=["numbers", "tensor", "words"]
)
def test_a_column_may_hold_values_that_stand_for_teachers(column):
    gate = bound(Route({7: "a", "8": ["a", "b"]}, by="camera"), rows())
    assert torch.equal(heard(gate, extras={"camera": column})[1:], torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 0.0]]))


def test_a_column_comes_with_the_batch_of_the_task():
    raw = {"inputs": torch.rand(3, 1, 2, 2), "target": torch.tensor([0, 1, 2]), "camera": [7, 7, 8]}
    assert Classification(3).unpack(raw).extras == {"camera": [7, 7, 8]}


def test_a_column_that_the_probe_batch_lacks_is_refused_at_build():
    task, pictures = Classification(3), torch.rand(3, 3, 2, 2)

    def build(**column):
        example = task.unpack({"inputs": pictures, "target": torch.tensor([0, 1, 2]), **column})
        nets = [nn.Sequential(nn.Flatten(), nn.Linear(12, 3)) for _ in range(2)]
        return Distiller(
            nets[0],
            teachers={"a": Frozen(nets[1])},
            paths={"logits": Path(kl)},
            task=task,
            weighting=Product((), [Route({7: "a"}, by="camera")]),
            example=example,
        )

    with pytest.raises(InputError, match=r"expected a column 'camera' in the extras of the batch; found 'camra'"):
        build(camra=[7, 7, 8])
    build(camera=[7, 7, 8])


def test_a_path_that_cannot_be_split_gets_the_mean_of_its_weights():
    gate = bound(Route(TO), rows(2), classes=ANIMALS, batchwise=frozenset({"layer1"}))
    weights = heard(gate, rows(2), target=(0, 0, 2))
    assert torch.equal(weights[1:3], torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]))
    assert_close(weights[3:], torch.tensor([[2 / 3], [1 / 3]]).expand(2, 3))


@pytest.mark.parametrize(
    ("gate", "known", "words"),
    [
        (Route({"owl": "c"}), {"classes": ANIMALS}, r"no path hears a teacher 'c'; there are: a, b"),
        (Route({"owl": "a"}, otherwise="c"), {"classes": ANIMALS}, r"no path hears a teacher 'c'"),
        (Route({"owls": "a"}), {"classes": ANIMALS}, r"no class 'owls'; close: owl"),
        (Route({3: "a"}), {"classes": ANIMALS}, r"no class '3'; there are: owl, duck, eel"),
        (Route({"owl": "a"}), {}, r"no class 'owl'; the task has none"),
        (Route({7: "c"}, by="camera"), {}, r"no path hears a teacher 'c'"),
    ],
)
def test_names_that_do_not_exist_are_refused_at_build(gate, known, words):
    with pytest.raises(UnknownName, match=words):
        bound(gate, rows(), **known)


def test_classes_need_a_map_and_labels_and_a_column_needs_neither():
    with pytest.raises(InputError, match=r"expected `to`, class -> teacher"):
        Route()
    with pytest.raises(RecipeError, match="Route goes by the labels"):
        bound(Route({"owl": "a"}), rows(), classes=ANIMALS, labelled=False)
    bound(Route(by="who"), rows(), labelled=False)


@pytest.mark.parametrize(
    ("gate", "said", "words"),
    [
        (Route(by="who"), {"extras": {"whom": ["a"] * 3}}, r"expected a column 'who' .* found 'whom'"),
        (Route(by="who"), {}, r"expected a column 'who' .* found none"),
        (Route(by="who"), {"extras": {"who": ["a"]}}, r"expected one value a sample in column 'who', 3; found 1"),
        (Route(by="who"), {"extras": {"who": ["a", "c", "b"]}}, r"column 'who', sample 1: no path hears a teacher 'c'"),
        (Route(TO), {"target": torch.zeros(3, 2, 2, dtype=torch.int64)}, r"expected one class a sample.*\[3, 2, 2\]"),
    ],
)
def test_what_cannot_be_read_is_told_by_its_name(gate, said, words):
    gate = bound(gate, rows(), classes=ANIMALS)
    with pytest.raises((InputError, UnknownName), match=words):
        heard(gate, **said)
