"""GLS: the gradient of the geometric mean."""

import importlib.util
import pathlib
import sys

import torch
from torch.testing import assert_close

from tutelage.ledger import Ledger
from tutelage.weighting import GLS

_spec = importlib.util.spec_from_file_location("meetings", pathlib.Path(__file__).with_name("meetings.py"))
meetings = sys.modules["meetings"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(meetings)
bound, ledger, lesson, rows = meetings.bound, meetings.ledger, meetings.lesson, meetings.rows


def test_loss_and_gradient_are_those_of_the_geometric_mean():
    taught = rows(1, 3)
    losses = torch.rand(4, 5).add(0.1).requires_grad_()
    loss = (bound(GLS(), taught)(Ledger(taught, losses), lesson()) * losses).sum(dim=0).mean()
    geometric = losses.mean(dim=1).prod() ** 0.25
    assert_close(loss, geometric)
    assert_close(torch.autograd.grad(loss, losses)[0], torch.autograd.grad(geometric, losses)[0])


def test_many_small_losses_do_not_leave_the_range_of_numbers():
    taught = rows(7, 7)
    weights = bound(GLS(), taught)(ledger(taught, [1e-20] * 50), lesson())
    assert_close(weights, torch.full((50, 3), 1 / 50))


def test_a_row_without_a_logarithm_is_left_out_of_the_step():
    taught = rows(1, 4)
    weights = bound(GLS(), taught)(ledger(taught, [1.0, 4.0, 0.0, -2.0, torch.nan]), lesson())[:, 0]
    assert_close(weights, torch.tensor([1.0, 0.25, 0.0, 0.0, 0.0]))


def test_a_task_loss_that_is_not_finite_is_not_hidden():
    weights = bound(GLS(), rows())(ledger(rows(), [torch.nan, 1.0, 4.0]), lesson())[:, 0]
    assert_close(weights, torch.tensor([1.0, 1.0, 0.25]))


def test_a_batch_without_labels_leaves_the_task_out():
    assert_close(bound(GLS(), rows())(ledger(rows(), [0.0, 1.0, 4.0]), lesson())[:, 0], torch.tensor([0.0, 1.0, 0.25]))
