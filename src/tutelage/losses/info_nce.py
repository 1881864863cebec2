"""InfoNCE: tell which of the batch a sample is, seen by the other network. No memory."""

import torch
from torch import Tensor

from .precision import full
from .shapes import FEATURES, positive, same_shape
from .together import together
from .unit import unit


@together
def info_nce(student: Tensor, teacher: Tensor, /, *, temperature: float = 0.1, symmetric: bool = True) -> Tensor:
    """Cross-entropy of finding a sample's own teacher feature among those of the batch, by cosine.

    Args:
        student: Features, ``[B, ...]``.
        teacher: The same shape (put `connectors.Project` in the path).
        temperature: What cosines are divided by, > 0.
        symmetric: Also find the student's feature, given the teacher's, and take the mean of both.

    Returns:
        ``[B]``, in nats, at least 0 and about ``log B`` at first; with a floor above 0 even where the two agree. 0
        for a batch of one.

    Raises:
        ValueError: The shapes differ, or `temperature` is not positive.

    Reference:
        van den Oord, Li & Vinyals 2018, arXiv:1807.03748, eq. 4, between networks as in Tian, Krishnan & Isola
        2020, arXiv:1910.10699, sec. 3. Negatives are the other samples of the batch, of this process alone, those
        of the same class included. `CRD` remembers all samples instead.

    Example:
        >>> import torch
        >>> x = torch.eye(2)
        >>> info_nce(x, x, temperature=1.0), info_nce(x, x.flip(0), temperature=1.0)
        (tensor([0.3133, 0.3133]), tensor([1.3133, 1.3133]))
    """
    same_shape("info_nce", student, teacher, FEATURES)
    positive("info_nce", temperature=temperature)
    anchors, targets = unit(full(student).flatten(1)), unit(full(teacher.detach()).flatten(1))
    with torch.autocast(student.device.type, enabled=False):  # a matrix product would drop to half precision
        scores = (anchors / temperature) @ targets.T
    own = scores.diagonal()
    found = scores.logsumexp(dim=1) - own
    return (found + scores.logsumexp(dim=0) - own) / 2 if symmetric else found
