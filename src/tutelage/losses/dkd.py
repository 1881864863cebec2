"""Decoupled distillation: how sure of the label, and how the rest is shared, weighed apart."""

import torch.nn.functional as F
from torch import Tensor

from .labels import labels, needs_labels, own_and_others
from .precision import full
from .shapes import CLASSES, positive, same_shape
from .standardise import Spread, standardised
from .together import together


@needs_labels
@together
def dkd(
    student: Tensor,
    teacher: Tensor,
    /,
    *,
    target: Tensor,
    temperature: float = 4.0,
    target_weight: float = 1.0,
    other_weight: float = 8.0,
    standardise: Spread | None = None,
) -> Tensor:
    """Divergence of the label's probability, plus that of the other classes among themselves, times T².

    Args:
        student: Logits, ``[B, C]`` with C at least 2.
        teacher: Logits of the same shape.
        target: Labels, int64 ``[B]``, outside [0, C) where unknown; or mixtures ``[B, C]``, whose largest part is
            taken.
        temperature: T > 0, what both logits are divided by.
        target_weight: Weight of the two-way divergence, label against the rest (TCKD; the paper's α), 0 or more.
        other_weight: Weight of the divergence among the other classes (NCKD; the paper's β), 0 or more. The
            paper takes 2 where student and teacher are close in size, 6 to 8 where they are not.
        standardise: First bring both logits to mean 0 and deviation 1, as in `kl`.

    Returns:
        ``[B]``, at least 0; 0 where the two agree. Samples without a label have 0, and the others are scaled so
        that the batch mean is the mean over the labelled.

    Raises:
        ValueError: The shapes differ, or an option is out of range.

    Reference:
        Zhao et al. 2022, arXiv:2203.08679, eq. 7. The label is left out of the other classes exactly, where the
        code subtracts 1000 from its logit, and everything is computed from log-probabilities. The code eases the
        loss in over 20 epochs: `weighting.Warmup` does.

    Example:
        >>> import torch
        >>> s, t, y = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[2.0, 0.0, 1.0]]), torch.tensor([0])
        >>> dkd(s, t, target=y, target_weight=1, other_weight=0).abs() < 1e-6, dkd(s, t, target=y) > 0
        (tensor([True]), tensor([True]))
    """
    same_shape("dkd", student, teacher, CLASSES)
    positive("dkd", temperature=temperature)
    if not (target_weight >= 0 and other_weight >= 0):
        raise ValueError(f"dkd: expected weights of 0 or more, found {target_weight} and {other_weight}.")
    label, factor = labels("dkd", target, full(student))
    (own, others), (teacher_own, teacher_others) = (
        own_and_others(standardised("dkd", full(logits), standardise) / temperature, label)
        for logits in (student, teacher.detach())
    )
    # The probability of the label is the sigmoid of its distance to the log-sum-exp of all others.
    lead, teacher_lead = own - others.logsumexp(dim=1), teacher_own - teacher_others.logsumexp(dim=1)
    sure = teacher_lead.sigmoid() * (F.logsigmoid(teacher_lead) - F.logsigmoid(lead))
    unsure = (-teacher_lead).sigmoid() * (F.logsigmoid(-teacher_lead) - F.logsigmoid(-lead))
    log_prob, log_target = others.log_softmax(dim=1), teacher_others.log_softmax(dim=1)
    shared = (log_target.exp() * (log_target - log_prob)).sum(dim=1)
    return factor * temperature**2 * (target_weight * (sure + unsure) + other_weight * shared)
