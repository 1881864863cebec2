"""Prime-aware distillation: regress the teacher's embedding, and learn where it cannot be reached."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .precision import full
from .shapes import FEATURES, same_shape


class PAD(nn.Module):
    """Squared error over a learned variance, plus the logarithm of that variance.

    A linear layer with batch normalisation reads the variance of each feature from the student's embedding: samples and
    features for which it is large are listened to less.

    Args:
        student: Shape of one sample, usually ``(D,)``; others are flattened. None to learn it in `bind`.
        eps: Added to the variance, > 0.

    Raises:
        ValueError: The size is not known, or `eps` is not positive.

    Reference:
        Zhang et al. 2020, arXiv:2008.01458, sec. 3, without the factor 1/2, as in torchdistill's code. Deviation: the
        normalisation always takes the statistics of the batch, and keeps none. The published schedule first trains
        with plain `mse`.

    Example:
        >>> loss = PAD(student=(4,))
        >>> loss(torch.randn(3, 4), torch.randn(3, 4)).shape
        torch.Size([3])
    """

    linear: nn.Linear
    scale: nn.Parameter
    shift: nn.Parameter

    def __init__(self, *, student: Sequence[int] | None = None, eps: float = 1e-6) -> None:
        super().__init__()
        if not eps > 0:
            raise ValueError(f"PAD: expected eps > 0, found {eps}.")
        self.eps, self.bound = eps, False
        if student is not None:
            self.bind(tuple(student), None, None)

    def bind(self, student: tuple[int, ...] | None, teacher: tuple[int, ...] | None, samples: int | None) -> None:
        """Build the variance's layers, once, for this shape of one sample.

        Raises:
            ValueError: The shape is unknown.
        """
        if self.bound:
            return
        if student is None:
            raise ValueError(
                "PAD: needs to know the shape of the student's embedding. Give the constructor the shape of one "
                "sample, e.g. student=(256,); or the distiller `example`."
            )
        width = math.prod(student)
        self.linear = nn.Linear(width, width)
        self.scale, self.shift = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.bound = True

    def forward(self, student: Tensor, teacher: Tensor, /) -> Tensor:
        """The mean over the features of each sample.

        Args:
            student: ``[B, ...]``.
            teacher: The same shape (put `connectors.Project` in the path).

        Returns:
            ``[B]``: may be negative, and has no lower bound where the teacher is matched exactly.
        """
        if not self.bound:
            raise ValueError("PAD: not bound. Give student= the shape of one sample, or call bind() first.")
        same_shape("PAD", student, teacher, FEATURES)
        student, teacher = full(student).flatten(1), full(teacher.detach()).flatten(1)
        with torch.autocast(student.device.type, enabled=False):
            log_variance = self.log_variance(student)
        return ((teacher - student).square() / (self.eps + log_variance.exp()) + log_variance).mean(dim=1)

    def log_variance(self, student: Tensor) -> Tensor:
        """Logarithm of the variance of each feature, ``[B, D]``."""
        weight, bias, scale, shift = (
            x.to(student.dtype) for x in (self.linear.weight, self.linear.bias, self.scale, self.shift)
        )
        raw = F.linear(student, weight, bias)
        variance, mean = torch.var_mean(raw, dim=0, correction=0)
        return (raw - mean) / (variance + 1e-5).sqrt() * scale + shift
