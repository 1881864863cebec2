"""Normalised distillation: the label by the teacher's belief in it, the rest as soft labels of their own."""

import torch.nn.functional as F
from torch import Tensor

from .labels import labels, needs_labels, own_and_others
from .precision import full
from .shapes import CLASSES, positive, same_shape
from .together import together


@needs_labels
@together
def nkd(
    student: Tensor,
    teacher: Tensor,
    /,
    *,
    target: Tensor,
    temperature: float = 1.0,
    other_weight: float = 1.5,
) -> Tensor:
    """Cross-entropy of the label weighed by the teacher's probability of it, plus that of the other classes.

    The other classes' probabilities are normalised to sum to 1 among themselves, for both networks.

    Args:
        student: Logits, ``[B, C]`` with C at least 2.
        teacher: Logits of the same shape.
        target: Labels, int64 ``[B]``, outside [0, C) where unknown; or mixtures ``[B, C]``, whose largest part is
            taken.
        temperature: T > 0, what the other classes' logits are divided by; the label's term has none.
        other_weight: Weight of the other classes' term, which is also multiplied by T² (the paper's γ), 0 or more.

    Returns:
        ``[B]``, at least 0. A cross-entropy: where the two agree it is not 0. Samples without a label have 0, and
        the others are scaled so that the batch mean is the mean over the labelled.

    Raises:
        ValueError: The shapes differ, or an option is out of range.

    Reference:
        Yang et al. 2023, arXiv:2303.13005, sec. 3.1, without its first term, which is the task's own loss. As in the
        code, the temperature is that of the other classes alone. For CIFAR-100 the code has T = 3 and a
        weight of 3.5.

    Example:
        >>> import torch
        >>> s, y = torch.tensor([[0.0, 0.0, 0.0]]), torch.tensor([0])
        >>> nkd(s, s, target=y, other_weight=0), nkd(s, s, target=y, other_weight=1)
        (tensor([0.3662]), tensor([1.0594]))
    """
    same_shape("nkd", student, teacher, CLASSES)
    positive("nkd", temperature=temperature)
    if not other_weight >= 0:
        raise ValueError(f"nkd: expected other_weight of 0 or more, found {other_weight}.")
    label, factor = labels("nkd", target, full(student))
    own, others = own_and_others(full(student), label)
    teacher_own, teacher_others = own_and_others(full(teacher.detach()), label)
    belief = (teacher_own - teacher_others.logsumexp(dim=1)).sigmoid()
    right = -belief * F.logsigmoid(own - others.logsumexp(dim=1))
    share = (teacher_others / temperature).softmax(dim=1)
    rest = -(share * (others / temperature).log_softmax(dim=1)).sum(dim=1)
    return factor * (right + other_weight * temperature**2 * rest)
