"""Meta: shares that learn from what a step does to hard samples."""

import importlib.util
import pathlib
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call
from torch.testing import assert_close

from tutelage import Distiller, Frozen, Path, weighting
from tutelage.errors import InputError, RecipeError
from tutelage.losses import kl, mse
from tutelage.losses.batchwise import batchwise
from tutelage.tasks import Classification
from tutelage.weighting import Meta, Product

_spec = importlib.util.spec_from_file_location("meetings", pathlib.Path(__file__).with_name("meetings.py"))
meetings = sys.modules["meetings"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(meetings)
bound, ledger, lesson, rows = meetings.bound, meetings.ledger, meetings.lesson, meetings.rows

KNOWN = {"student": nn.Linear(3, 3), "classes": tuple("xyz"), "responses": frozenset({"logits"})}


def net(width=6):
    return nn.Sequential(nn.Flatten(), nn.Linear(12, width), nn.Tanh(), nn.Linear(width, 3))


@batchwise
def spread(student, teacher):
    return (student.std() - teacher.std()).square().expand(len(student))


def distilled(gate, loss=mse, teachers=("a", "b"), **options):
    paths = {"logits": Path(kl), "deep": Path(loss, student="2", teacher="2")}
    task = Classification(3)
    made = {name: Frozen(net()) for name in teachers}
    batch = task.unpack((torch.rand(8, 3, 2, 2), torch.randint(3, (8,))))
    return Distiller(net(), teachers=made, paths=paths, task=task, weighting=Product([], [gate]), **options), batch


def steps(distiller, batches, rate=0.0):
    optimizer = torch.optim.SGD(distiller.student.parameters(), lr=rate)
    for batch in batches:
        optimizer.zero_grad()
        step = distiller(batch)
        step.loss.backward()
        optimizer.step()
        distiller.after_step(batch)
    return step


def test_shares_are_two_layers_over_all_that_was_said():
    gate, said, own = bound(Meta(), rows(1, 3), **KNOWN), {t: torch.randn(3, 3) for t in "abc"}, torch.randn(3, 3)
    weights = gate(ledger(rows(1, 3), [1.0] * 4), lesson(said, student=own))
    values, seen = gate.nets["logits"].values, torch.cat([*said.values(), own], dim=1)
    into, bias, out, rest = values.split([6 * 12, 6, 3 * 6, 3])
    expected = ((seen @ into.view(6, 12).T + bias).relu() @ out.view(3, 6).T + rest).softmax(dim=1)
    assert_close(weights[1:], expected.T)


@pytest.mark.parametrize("loss", [mse, spread], ids=["split", "whole"])
def test_the_networks_follow_the_gradient_through_the_step_that_is_tried(loss):
    inner = 0.3
    gate = Meta(every=2, inner=inner, hard=8, drawn=64, decay=0.0)
    distiller, batch = distilled(gate, loss)
    hard = distiller.task.unpack((torch.rand(8, 3, 2, 2), torch.randint(3, (8,))))
    steps(distiller, [hard])
    student, before = distiller.student, {path: made.values.clone() for path, made in gate.nets.items()}
    kept = gate._kept["inputs"].clone()
    assert torch.equal(kept, hard.inputs)
    lived = distiller.attend(batch), {name: teacher(batch, {}) for name, teacher in distiller.teachers.items()}

    def judged(values):
        """The cross-entropy of hard samples after the step, written with second derivatives."""
        start = dict(student.named_parameters())
        hidden = torch.tanh(F.linear(batch.inputs.flatten(1), start["1.weight"], start["1.bias"]))
        said = {"logits": F.linear(hidden, start["3.weight"], start["3.bias"]), "deep": hidden}
        total = 0.0
        for path, made in gate.nets.items():
            tap = {"logits": "", "deep": "2"}[path]
            seen = torch.cat([lived[1]["a"][""], lived[1]["b"][""], lived[0][""].detach()], dim=1)
            shares = made(seen, values[path])
            if loss is spread and path == "deep":
                shares = shares.mean(dim=0, keepdim=True).expand_as(shares)
            asked = {"logits": kl, "deep": loss}[path]
            each = torch.stack([asked(said[path], lived[1][t][tap]) for t in "ab"], dim=1)
            total = total + (shares * each).sum(dim=1).mean()
        slopes = torch.autograd.grad(total, list(start.values()), create_graph=True)
        moved = {name: p - inner * slope for (name, p), slope in zip(start.items(), slopes, strict=True)}
        return F.cross_entropy(functional_call(student, moved, (gate._kept["inputs"],)), gate._kept["target"])

    leaves = {path: values.clone().requires_grad_() for path, values in before.items()}
    expected = torch.autograd.grad(judged(leaves), list(leaves.values()))
    torch.manual_seed(0)
    distiller(batch)
    gate._kept = {name: getattr(hard, name) for name in gate._kept}  # those that judge, whatever was added
    distiller.after_step(batch)
    for (path, made), slope in zip(gate.nets.items(), expected, strict=True):
        found = made.adam.momentum / 0.1
        assert_close(found, slope, rtol=0.02, atol=float(slope.abs().max()) * 0.02)
        assert not torch.equal(made.values, before[path])


def test_a_look_ahead_leaves_no_trace_in_the_student_or_its_gradients():
    gates = Meta(every=1, hard=8, drawn=8), Meta(every=1000, hard=8, drawn=8)
    students = []
    for gate in gates:
        torch.manual_seed(0)
        distiller, batch = distilled(gate)
        gate.rate = 0.0
        steps(distiller, [batch] * 4, rate=0.1)
        students.append(distiller.student)
    assert gates[0].nets["logits"].adam.steps == 3
    assert gates[1].nets["logits"].adam.steps == 0
    for one, other in zip(*(student.parameters() for student in students), strict=True):
        assert torch.equal(one, other)


def test_both_looks_of_a_comparison_draw_alike_and_what_comes_after_draws_as_without_them():
    gate = Meta(every=1, hard=8, drawn=8)
    distiller, batch = distilled(gate)
    distiller.student.insert(3, nn.Dropout(0.5))
    steps(distiller, [batch])
    distiller(batch).loss.backward()
    states, books = [], []

    def probe(batch, params):
        states.append(torch.get_rng_state())
        books.append(distiller.measure(batch, params).losses)
        return distiller.measure(batch, params)  # as many draws again

    gate.after_step(probe)
    there, back = books
    assert_close(there, back, rtol=0.05, atol=0.01)  # at places 0.02 apart
    assert not torch.equal(there, back)
    assert torch.equal(*states)
    assert torch.equal(torch.get_rng_state(), states[0])


def test_with_dropout_looks_at_one_batch_from_one_place_agree():
    gate = Meta(every=1, hard=8, drawn=8, rate=0.0)
    distiller, batch = distilled(gate)
    distiller.student.insert(3, nn.Dropout(0.3))
    slopes = []
    gate.nets["logits"].learn = lambda seen, slope, **_: slopes.append(slope)
    steps(distiller, [batch] * 24)
    found = torch.stack(slopes)
    assert found.std(dim=0).mean() < found.mean(dim=0).abs().mean()  # from other draws, it is four times as large


def test_the_first_samples_are_kept_then_those_the_student_gets_wrong():
    gate = bound(Meta(hard=4), rows(), **KNOWN)
    said = {t: torch.randn(3, 3) for t in "ab"}
    book = ledger(rows(), [1.0] * 3)
    book.losses.requires_grad_()
    right = torch.eye(3) * 9
    for labelled in ([True, False, True], [True, True, True]):
        gate(book, lesson(said, student=right, labelled=labelled))
    assert gate._kept["target"].tolist() == [0, 2, 0, 1]
    gate(book, lesson(said, student=right))
    assert gate._kept["target"].tolist() == [0, 2, 0, 1]
    gate(book, lesson(said, student=right, target=(0, 1, 0)))
    assert sorted(gate._kept["target"].tolist()) in ([0, 0, 0, 1], [0, 0, 1, 2], [0, 0, 0, 2])
    with torch.no_grad():
        gate(book, lesson(said, student=-right))
    gate.eval()(book, lesson(said, student=-right))
    assert len(gate._kept["target"]) == 4


def test_a_resumed_rule_has_its_samples_and_goes_on_alike():
    made, states = [], None
    for _ in range(2):
        torch.manual_seed(0)
        gate = Meta(every=2, hard=8, drawn=8)
        distiller, batch = distilled(gate)
        made.append((gate, distiller))
    (gate, distiller), (twin, other) = made
    steps(distiller, [batch] * 3, rate=0.1)
    states = {name: x.clone() for name, x in distiller.state_dict().items()}
    other.load_state_dict(states)
    assert twin.step == 3
    for each in (distiller, other):
        torch.manual_seed(1)
        steps(each, [batch] * 3, rate=0.1)
    assert torch.equal(gate.nets["logits"].values, twin.nets["logits"].values)


def test_features_are_weighed_by_how_alike_samples_are_where_a_batch_is_given():
    gate, said, own = Meta(batch=4), {t: torch.randn(3, 2, 2, 2) for t in "ab"}, torch.randn(3, 5)
    taught = rows(2)
    hears = {"layer1": {"a": "deep", "b": "deep"}}
    bound(gate, taught, reads={"layer1": "mine"}, hears=hears, **KNOWN)
    meeting = lesson(student={"": torch.randn(3, 3), "mine": own})
    meeting.teachers.update({t: {"": torch.randn(3, 3), "deep": x} for t, x in said.items()})
    weights = gate(ledger(taught, [1.0] * 5), meeting)
    alike = [F.pad(x.flatten(1) @ x.flatten(1).T, (0, 1)) for x in (*said.values(), own)]
    assert_close(weights[3:], gate.nets["layer1"](torch.cat(alike, dim=1)).T)
    large = lesson(target=(0,) * 5, student={"": torch.randn(5, 3), "mine": torch.randn(5, 5)})
    large.teachers.update({t: {"": torch.randn(5, 3), "deep": torch.randn(5, 8)} for t in "ab"})
    with pytest.raises(InputError, match=r"batches of at most 4 samples \(`batch`\); found 5"):
        gate(ledger(taught, torch.ones(5, 5)), large)


def test_the_distiller_tells_where_each_teacher_is_read():
    distiller, _ = distilled(Meta(batch=8))
    assert distiller.spec.hears == {"logits": {"a": "", "b": ""}, "deep": {"a": "2", "b": "2"}}
    assert set(distiller.weighting.gates[0].nets) == {"logits", "deep"}


@pytest.mark.parametrize(
    ("gate", "known", "words"),
    [
        (Meta(), {"labelled": False}, "Meta goes by the labels"),
        (Meta(), {"student": None}, "expected a student to train; found none"),
        (Meta(), {"classes": ()}, "expected a task with one class a sample"),
        (Meta(), {"shapes": {"student": {"": (3, 8, 8)}}}, r"answers of one vector a sample; found .*\(3, 8, 8\)"),
        (Meta(batch=8), {}, "path 'layer1': Meta compares the features of one tap"),
    ],
)
def test_what_it_cannot_do_is_refused_at_build(gate, known, words):
    with pytest.raises(RecipeError, match=words):
        bound(gate, rows(2), **{**KNOWN, **known})


@pytest.mark.parametrize("wrong", [{"every": 0}, {"batch": 0}, {"hard": 0}, {"inner": 0.0}, {"rate": -1.0}])
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(InputError, match=r"expected .* found"):
        Meta(**wrong)


def test_of_two_teachers_the_one_that_helps_is_heard_more():
    torch.manual_seed(0)
    centre = torch.randn(3, 3, 2, 2)
    good, bad = net(), net()
    for network, shift in ((good, 0), (bad, 1)):
        optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
        for _ in range(100):
            target = torch.randint(3, (64,))
            loss = F.cross_entropy(network(centre[target] + torch.randn(64, 3, 2, 2)), (target + shift) % 3)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    gate = Meta(every=1, hard=64, rate=0.01)
    task = Classification(3)
    distiller = Distiller(
        net(),
        teachers={"good": Frozen(good), "bad": Frozen(bad)},
        paths={"logits": Path(kl)},
        task=task,
        weighting=weighting.Product([], [gate]),
    )
    batches = []
    for _ in range(60):
        target = torch.randint(3, (32,))
        batches.append(task.unpack((centre[target] + torch.randn(32, 3, 2, 2), target)))
    weights = steps(distiller, batches, rate=0.1).weights.mean(dim=1)
    assert weights[1] > 0.8 > 0.2 > weights[2]
