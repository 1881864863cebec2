"""Subclasses that are used: samples of a batch should fall into different ones."""

import torch
from torch import Tensor

from .precision import full
from .shapes import positive, same_batch
from .together import together
from .unit import unit


@together
def subclass_spread(student: Tensor, teacher: Tensor, /, *, temperature: float = 0.1) -> Tensor:
    """How alike the subclass logits of the samples of a batch are: lowest where all point in different directions.

    It keeps a network that divides its classes into subclasses from putting all of a class into one. Beside the
    label's loss, for a teacher in the making; the scheme `subclasses` has it.

    Args:
        student: Logits of all subclasses, ``[B, S]``; others are flattened.
        teacher: Not looked at.
        temperature: What the cosines are divided by, > 0.

    Returns:
        ``[B]``, at most 0: 0 where all samples point in one direction, and for a batch of one.

    Raises:
        ValueError: The batches differ in size, or `temperature` is not positive.

    Reference:
        Müller, Kornblith & Hinton 2020, "Subclass Distillation", arXiv:2002.03936, the auxiliary loss, with logits
        centred over the subclasses and scaled to unit length. No official code was found, and the normalisation and
        constants of the paper were not verified.

    Example:
        >>> alike, apart = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> subclass_spread(alike, alike), subclass_spread(apart, apart, temperature=1.0).round(decimals=3)
        (tensor([0., 0.]), tensor([-0.5660, -0.5660]))
    """
    same_batch("subclass_spread", student, teacher)
    positive("subclass_spread", temperature=temperature)
    logits = full(student).flatten(1)
    directions = unit(logits - logits.mean(dim=1, keepdim=True))
    with torch.autocast(student.device.type, enabled=False):  # a matrix product would drop to half precision
        alike = (directions / temperature) @ directions.T
    # Less that of the sample with itself, which is the largest there can be.
    return (alike - alike.diagonal()[:, None]).exp().mean(dim=1).log()
