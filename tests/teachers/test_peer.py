import torch
from torch import nn
from torch.testing import assert_close

from tutelage import Distiller, Path
from tutelage.losses import mse
from tutelage.schemes import Stage
from tutelage.tasks import Classification
from tutelage.teachers import Peer


def net():
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))


def pupils(**path):
    ours, theirs = net(), net()
    task = Classification(3)
    student = Distiller(ours, teachers={"big": Peer(theirs, "big")}, paths={"said": Path(mse, **path)}, task=task)
    return Stage("both", {"student": student, "big": Distiller(theirs, teachers={}, paths={}, task=task)})


def batch():
    return Classification(3).unpack((torch.randn(6, 4), torch.tensor([0, 1, 2, 0, 1, 2])))


def test_a_peer_is_heard_without_gradient_and_without_a_second_forward():
    stage, forwards = pupils(), []
    theirs = stage.pupils["big"].student
    theirs.register_forward_hook(lambda *_: forwards.append(1))
    steps = stage(batch())
    assert len(forwards) == 1
    said = steps["student"].ledger
    assert_close(said.losses[1], mse(steps["student"].lesson.student[""], steps["big"].lesson.student[""]))
    said.losses[1].sum().backward()
    assert all(p.grad is None for p in theirs.parameters())


def test_taps_that_a_peer_did_not_read_cost_a_forward():
    stage, forwards = pupils(student="0", teacher="0"), []
    stage.pupils["big"].student.register_forward_hook(lambda *_: forwards.append(1))
    steps = stage(batch())
    assert len(forwards) == 2
    assert steps["student"].ledger.losses[1].min() > 0


def test_a_peer_is_no_part_of_the_pupil_that_hears_it():
    student = pupils().pupils["student"]
    assert {name.split(".")[0] for name, _ in student.named_parameters()} == {"student"}
    assert all(p.requires_grad for p in student.teachers["big"].__dict__["peer"].parameters())
