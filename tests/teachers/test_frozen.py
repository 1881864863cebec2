"""A frozen teacher answers the same however it is run."""

import dataclasses
import pickle

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from tutelage import Distiller, Frozen, Path
from tutelage.ledger import Spec
from tutelage.losses import kl
from tutelage.tasks import Classification
from tutelage.teachers.frozen import visiting

TASK = Classification(3)


def network(width: int) -> nn.Module:
    torch.manual_seed(width)
    layers = nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Flatten(), nn.Linear(4 * width, 3)
    return nn.Sequential(*layers)


def batch(size: int):
    given = TASK.unpack((torch.rand(size, 3, 4, 4), torch.arange(size) % 3))
    return dataclasses.replace(given, inputs=given.inputs.contiguous(memory_format=torch.channels_last))


@pytest.mark.slow
def test_a_compiled_teacher_answers_as_the_plain_one_and_is_compiled_once_for_smaller_batches():
    net = network(4)
    plain, compiled = Frozen(net), Frozen(net, compile=True)
    for teacher in (plain, compiled):
        teacher.bind(Spec(call=TASK.call, taps={"big": ("2",)}, classes=TASK.classes), "big")
    torch._dynamo.utils.counters.clear()
    for size in (6, 6, 4, 1):
        given = batch(size)
        for tap, said in plain(given, {}).items():
            assert_close(compiled(given, {})[tap], said)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    assert not compiled.state_dict()
    assert not list(compiled.modules())[1:]


@pytest.mark.slow
def test_a_compiled_student_gets_the_gradients_of_the_plain_one():
    given, grads = batch(6), []
    for compiled in (False, True):
        student = network(2)
        made = Distiller(
            student,
            teachers={"big": Frozen(network(4))},
            paths={"logits": Path(kl)},
            task=TASK,
            compile=compiled,
        )
        made(given).loss.backward()
        grads.append({name: parameter.grad for name, parameter in made.named_parameters()})
        assert made.state_dict().keys() == Distiller(network(2), teachers={}, paths={}, task=TASK).state_dict().keys()
    assert_close(grads[0], grads[1])


@pytest.mark.parametrize("compiled", [False, True])
def test_a_teacher_travels_to_another_process(compiled):
    teacher = pickle.loads(pickle.dumps(Frozen(network(2), compile=compiled)))
    assert (teacher.__dict__["runs"] is not teacher.network) == compiled
    assert_close(teacher.network.state_dict(), network(2).state_dict())


def test_an_offloaded_teacher_stays_at_home_but_for_its_forward():
    net = network(4)
    plain, away = Frozen(net), Frozen(network(4), offload=True)
    for teacher in (plain, away):
        teacher.bind(Spec(call=TASK.call, taps={"big": ("2",)}, classes=TASK.classes), "big")
    given, home = batch(3), [x.data_ptr() for x in away.network.parameters()]
    away.double()  # what moves the distiller does not move it
    assert next(away.network.parameters()).dtype == torch.float32
    assert away.head.classifier.weight.dtype == torch.float64
    for tap, said in plain(given, {}).items():
        assert_close(away(given, {})[tap], said)
    assert [x.data_ptr() for x in away.network.parameters()] == home


def test_a_visit_ends_even_where_the_forward_fails():
    net = network(2)
    home = [x.data_ptr() for x in net.parameters()]

    def fails():
        with visiting(net, torch.device("cpu")):
            for x in net.parameters():
                x.data = x.data.clone()  # as on another device
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        fails()
    assert [x.data_ptr() for x in net.parameters()] == home


def test_a_teacher_stays_in_eval_mode_in_a_module_of_the_users():
    torch.manual_seed(0)
    big = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(12), nn.Dropout(0.5), nn.Linear(12, 3))
    task = Classification(3)
    outer = nn.ModuleDict(
        {"big": big, "distiller": Distiller(nn.Linear(12, 3), teachers={"big": Frozen(big)}, paths={}, task=task)}
    )
    before = big[1].running_mean.clone()
    batch = task.unpack((torch.rand(5, 12), torch.zeros(5, dtype=torch.int64)))
    teacher = outer.train()["distiller"].teachers["big"]
    said = [teacher(batch, {})[""] for _ in range(2)]
    assert_close(said[0], said[1], rtol=0, atol=0)
    assert_close(big[1].running_mean, before, rtol=0, atol=0)


def test_layers_that_a_teacher_shares_with_the_student_stay_in_the_students_mode():
    shared = nn.Dropout(0.5)
    teacher, student = nn.Sequential(shared, nn.Linear(12, 3)), nn.Sequential(shared, nn.Linear(12, 3))
    made = Distiller(student, teachers={"big": teacher}, paths={"logits": Path(kl)}, task=Classification(3)).train()
    made((torch.rand(5, 12), torch.zeros(5, dtype=torch.int64)))
    assert shared.training
