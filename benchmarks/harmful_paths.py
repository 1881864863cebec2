"""Harmful paths, for recipes that name them with `--allow-import harmful_paths` (PYTHONPATH=benchmarks).

A shallow layer that is to be a deep one needs no loss of its own: it is a path from the one tap to the other with a
weight of 100.
"""

import torch
from torch import Tensor

from tutelage import losses


def flipped_kl(student: Tensor, teacher: Tensor) -> Tensor:
    """Away from the teacher's answers: grows without bound below 0."""
    return -losses.kl(student, teacher, temperature=4.0)


def flipped_mse(student: Tensor, teacher: Tensor) -> Tensor:
    """Away from the teacher's features, however far: through layers of its own it can fall without bound."""
    return -(student - teacher).square().flatten(1).mean(dim=1)


def shuffled_info_nce(student: Tensor, teacher: Tensor) -> Tensor:
    """Contrast with the teacher's features of other samples."""
    return losses.info_nce(student, teacher[torch.randperm(len(teacher), device=teacher.device)])
