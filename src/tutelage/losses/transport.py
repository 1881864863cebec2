"""Optimal transport between label sets: a teacher of other classes, and what it costs to turn one into another."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .precision import full
from .shapes import positive, same_batch
from .together import together


@together
def transport(
    student: Tensor,
    teacher: Tensor,
    /,
    *,
    cost: Tensor | Sequence[Sequence[float]] | None = None,
    temperature: float = 1.0,
    regularisation: float = 0.1,
    steps: int = 50,
) -> Tensor:
    """Regularised cost of moving the teacher's class probabilities onto the student's.

    The plan is found by Sinkhorn's iteration, in logarithms and without gradient; the gradient for the student is the
    plan's potential, by the envelope theorem.

    Args:
        student: Logits, ``[B, C_s]``.
        teacher: Logits, ``[B, C_t]``: the classes may be others.
        cost: What it costs to turn a teacher's class into a student's, ``[C_t, C_s]``, 0 or more, in units of its
            largest entry. None: 1 between any two different classes, which needs one set of classes.
        temperature: What both logits are divided by, > 0.
        regularisation: Weight of the plan's mutual information, at least 0.02. Smaller values are closer to the cost
            itself and take more steps.
        steps: Iterations, at least 1.

    Returns:
        ``[B]``, at least 0: the largest cost is 1. Not 0 where the two agree, unless both are sure: regularised plans
        are blurred.

    Raises:
        ValueError: `cost` does not fit the classes, or an option is out of range.

    Reference:
        After Lu et al. 2022, arXiv:2204.11526, of which no code was found; how costs are made is left to the
        caller. Cuturi 2013, arXiv:1306.0895 for the iteration; the regulariser is relative to independence, so
        that the value is not negative.

    Example:
        >>> import torch
        >>> cat_dog, pets = torch.tensor([[50.0, 0.0]]), torch.tensor([[0.0, 50.0, 0.0]])
        >>> transport(cat_dog, pets, cost=[[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]])
        tensor([0.5000])
    """
    same_batch("transport", student, teacher)
    positive("transport", temperature=temperature)
    if not (regularisation >= 0.02 and steps >= 1):
        raise ValueError(
            f"transport: expected regularisation >= 0.02 and steps >= 1, found {regularisation} and {steps}."
        )
    log_prob = (full(student) / temperature).log_softmax(dim=1)
    target = (full(teacher.detach()) / temperature).log_softmax(dim=1)
    costs = _costs(cost, log_prob, target)
    with torch.autocast(student.device.type, enabled=False):
        sent, received = _potentials((-costs / regularisation).exp(), target, log_prob.detach(), steps)
    return regularisation * ((target.exp() * sent).sum(dim=1) + (log_prob.exp() * received).sum(dim=1))


def _costs(cost: Tensor | Sequence[Sequence[float]] | None, student: Tensor, teacher: Tensor) -> Tensor:
    """Costs ``[C_t, C_s]``, the largest being 1."""
    classes = teacher.shape[1], student.shape[1]
    if cost is None and classes[0] == classes[1]:
        return 1 - torch.eye(classes[0], dtype=student.dtype, device=student.device)
    costs = None if cost is None else torch.as_tensor(cost, dtype=student.dtype, device=student.device)
    if costs is None or costs.shape != classes:
        found = "none" if costs is None else tuple(costs.shape)
        raise ValueError(
            f"transport: expected costs for {classes[0]} classes of the teacher and {classes[1]} of the student, "
            f"found {found}. Give `cost` as rows of the teacher's classes."
        )
    if not ((costs >= 0) & costs.isfinite()).all() or not costs.any():
        raise ValueError("transport: expected costs that are finite, 0 or more and not all 0.")
    return costs / costs.max()


@torch.no_grad()
def _potentials(kernel: Tensor, target: Tensor, log_prob: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Both potentials over the regularisation, relative to the probabilities, ``[B, C_t]`` and ``[B, C_s]``."""
    received = torch.zeros_like(log_prob)
    sent = torch.zeros_like(target)
    for _ in range(steps):
        sent = -_log_product(received + log_prob, kernel.T)
        received = -_log_product(sent + target, kernel)
    return sent, received


def _log_product(x: Tensor, kernel: Tensor) -> Tensor:
    """``log(exp(x) @ kernel)``. No entry of the kernel is below ``exp(-50)``, so that nothing is lost."""
    largest = x.amax(dim=1, keepdim=True)
    return ((x - largest).exp() @ kernel).log() + largest
