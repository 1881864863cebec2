"""Prime-aware distillation: regress the teacher's embedding, and learn where it cannot be reached."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .learned import Learned, Sizes
from .precision import full
from .shapes import FEATURES, positive, same_shape


class PAD(Learned):
    """Squared error over a learned variance, plus the logarithm of that variance.

    A linear layer with batch normalisation reads the variance of each feature from the student's embedding: samples and
    features for which it is large are listened to less.

    Args:
        student: Shape of one sample, usually ``(D,)``; others are flattened. None to learn it in `bind`.
        teacher: The same shape (put `connectors.Project` in the path).
        eps: Added to the variance, > 0.

    Raises:
        ValueError: A shape is not known, the two differ, or `eps` is not positive.

    Reference:
        Zhang et al. 2020, arXiv:2008.01458, sec. 3, without the factor 1/2, as in torchdistill's code. Deviation: the
        normalisation always takes the statistics of the batch, and keeps none. The published schedule first trains
        with plain `mse`.

    Example:
        >>> loss = PAD(student=(4,), teacher=(4,))
        >>> loss(torch.randn(3, 4), torch.randn(3, 4)).shape
        torch.Size([3])
    """

    linear: nn.Linear
    scale: nn.Parameter
    shift: nn.Parameter

    def __init__(self, *, student: Sizes | None = None, teacher: Sizes | None = None, eps: float = 1e-6) -> None:
        super().__init__(student, teacher)
        positive("PAD", eps=eps)
        self.eps = eps
        self.settle()

    def build(self, student: tuple[int, ...], teacher: tuple[int, ...]) -> None:
        """Make the layers that read the variance.

        Raises:
            ValueError: The shapes differ.
        """
        if student != teacher:
            raise ValueError(f"PAD: expected one shape, found student {student} and teacher {teacher}. {FEATURES}")
        width = math.prod(student)
        self.linear = nn.Linear(width, width)
        self.scale, self.shift = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, student: Tensor, teacher: Tensor, /) -> Tensor:
        """The mean over the features of each sample.

        Args:
            student: ``[B, ...]``.
            teacher: The same shape (put `connectors.Project` in the path).

        Returns:
            ``[B]``: may be negative, and has no lower bound where the teacher is matched exactly.
        """
        self.need_built()
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
