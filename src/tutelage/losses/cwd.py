"""Channel-wise distillation: where each channel looks, as a distribution over positions."""

from torch import Tensor

from .precision import full
from .shapes import FEATURES, positive, same_shape
from .together import together


@together
def cwd(student: Tensor, teacher: Tensor, /, *, temperature: float = 4.0) -> Tensor:
    """Divergence between the two networks' distributions over positions, averaged over channels, times T².

    Args:
        student: Maps of logits or features, ``[B, C, H, W]``, or ``[B, C, ...]`` with any positions.
        teacher: The same shape (put `connectors.Project` or `Resize` in the path).
        temperature: T > 0, what the maps are divided by; larger values take in more of each channel.

    Returns:
        ``[B]``, in nats times T², at least 0; 0 where the two agree up to a constant in each channel.

    Raises:
        ValueError: The shapes differ, there are no positions, or `temperature` is not positive.

    Reference:
        Shu et al. 2021, arXiv:2011.13256, sec. 3.2. Everything is computed from log-probabilities, where the
        authors' code takes the logarithm of a softmax. Published weights: 3 for logits, 50 for features, with
        T = 4; other code has T = 1.

    Example:
        >>> import torch
        >>> left, right = torch.tensor([[[[2.0, 0.0]]]]), torch.tensor([[[[0.0, 2.0]]]])
        >>> cwd(left, left + 5), cwd(left, right, temperature=1.0)
        (tensor([0.]), tensor([1.5232]))
    """
    same_shape("cwd", student, teacher, FEATURES)
    if student.dim() < 3:
        raise ValueError(f"cwd: expected maps [B, C, H, W], found {tuple(student.shape)}. For vectors take `kl`.")
    positive("cwd", temperature=temperature)
    log_prob, target = ((full(x).flatten(2) / temperature).log_softmax(dim=2) for x in (student, teacher.detach()))
    return temperature**2 * (target.exp() * (target - log_prob)).sum(dim=2).mean(dim=1)
