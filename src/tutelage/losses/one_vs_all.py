"""Every class a question of its own: distillation of sigmoid scores."""

import torch.nn.functional as F
from torch import Tensor

from .positions import over_positions
from .precision import full
from .shapes import CLASSES, positive, same_shape
from .together import together


@together
def one_vs_all(
    student: Tensor,
    teacher: Tensor,
    /,
    *,
    temperature: float = 1.0,
    focus: float = 1.0,
    through_focus: bool = True,
    mask: Tensor | None = None,
    element_weight: Tensor | None = None,
) -> Tensor:
    """Binary cross-entropy with the teacher's sigmoid scores, summed over classes, times T².

    Args:
        student: Logits, ``[B, C]``, or ``[B, C, ...]`` with one prediction per position (pixels, anchors).
        teacher: Logits of the same shape.
        temperature: T > 0, what both logits are divided by.
        focus: Each class counts by ``|teacher's score - student's score| ** focus``, so that background on which
            both agree is not heard. 0 (all count alike) or at least 1.
        through_focus: Let gradient flow through that factor.
        mask: ``[B, ...]``, true where a position counts; None for all. Not used where a sample has one prediction.
        element_weight: ``[B, ...]``, what each position is multiplied by.

    Returns:
        ``[B]``, in nats times T², at least 0: the mean over a sample's positions. Where the two agree it is 0 with
        a focus, and the entropy of the teacher's scores without.

    Raises:
        ValueError: The shapes differ, or an option is out of range.

    Reference:
        Yang et al. 2023, arXiv:2308.14286, sec. 3, with the mean over positions where detectors divide by their
        number of positives. As in the code, gradient flows through the factor. The temperature is ours; the
        published value is at T = 1.

    Example:
        >>> import torch
        >>> no, yes = torch.tensor([[-2.0, 0.0]]), torch.tensor([[2.0, 0.0]])
        >>> one_vs_all(yes, yes), one_vs_all(no, yes)
        (tensor([0.]), tensor([1.4383]))
    """
    same_shape("one_vs_all", student, teacher, CLASSES)
    positive("one_vs_all", temperature=temperature)
    if not (focus == 0 or 1 <= focus < float("inf")):
        raise ValueError(f"one_vs_all: expected a focus of 0 or at least 1, found {focus}.")
    logits, target = full(student) / temperature, (full(teacher.detach()) / temperature).sigmoid()
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    if focus:
        gap = (target - logits.sigmoid()).abs() ** focus
        entropy = entropy * (gap if through_focus else gap.detach())
    values: Tensor = temperature**2 * entropy.sum(dim=1)
    return over_positions(values, mask, element_weight)
