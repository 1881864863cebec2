"""A teacher made by hand: what distillation should be compared with."""

import math
from typing import Literal

import torch
from torch import Tensor

from .labels import labels, needs_labels
from .precision import full
from .shapes import positive
from .together import together


@needs_labels
@together
def virtual_teacher(
    student: Tensor,
    teacher: Tensor,
    /,
    *,
    target: Tensor,
    confidence: float = 0.99,
    temperature: float = 20.0,
    form: Literal["paper", "code"] = "paper",
) -> Tensor:
    """Divergence from a virtual teacher that is `confidence` sure of the label and indifferent to all else.

    A control: a path that helps no more than this one has taught nothing that its teacher knew.

    Args:
        student: Logits, ``[B, C]`` with C at least 2.
        teacher: Not looked at.
        target: Labels, int64 ``[B]``, outside [0, C) where unknown; or mixtures ``[B, C]``, whose largest part is
            taken.
        confidence: Probability of the label, in (1/C, 1).
        temperature: T > 0, what both log-probabilities are divided by before they are normalised again.
        form: ``"paper"`` as above, without a factor T²; ``"code"`` as the published code, see below.

    Returns:
        ``[B]``, in nats, at least 0; 0 where the student is the virtual teacher. Samples without a label have 0, and
        the others are scaled so that the batch mean is the mean over the labelled.

    Raises:
        ValueError: The shapes do not fit, or an option is out of range.

    Reference:
        Yuan et al. 2020, arXiv:1909.11723, the regulariser Tf-KD_reg. The published code softens the *probabilities*
        as if they were logits, gives the student no temperature, and divides by the number of classes:
        ``form="code"``.

    Example:
        >>> import torch
        >>> alike = torch.tensor([[0.9, 0.05, 0.05]]).log()
        >>> virtual_teacher(alike, alike, target=torch.tensor([0]), confidence=0.9).abs() < 1e-6
        tensor([True])
    """
    positive("virtual_teacher", temperature=temperature)
    logits = full(student)
    label, factor = labels("virtual_teacher", target, logits)
    others = logits.shape[1] - 1
    if not 1 / (others + 1) < confidence < 1 or form not in ("paper", "code"):
        raise ValueError(
            f"virtual_teacher: expected confidence in (1/{others + 1}, 1) and form='paper' or 'code', found "
            f"{confidence} and {form!r}."
        )
    sure, unsure = confidence, (1 - confidence) / others
    if form == "paper":
        sure, unsure = math.log(sure), math.log(unsure)
    said = torch.full_like(logits.detach(), unsure).scatter_(1, label[:, None], sure)
    log_target = (said / temperature).log_softmax(dim=1)
    log_prob = (logits / temperature if form == "paper" else logits).log_softmax(dim=1)
    divergence = (log_target.exp() * (log_target - log_prob)).sum(dim=1)
    return factor * (divergence if form == "paper" else divergence / (others + 1))
