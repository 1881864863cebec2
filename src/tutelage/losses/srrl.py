"""Softmax regression: the student's feature should mean to the teacher's classifier what the teacher's does."""

from torch import Tensor, nn

from .constant import through
from .precision import full
from .shapes import same_batch


def srrl(
    student: Tensor,
    teacher: Tensor,
    /,
    *,
    head: nn.Module,
    feature_weight: float = 1.0,
    regression_weight: float = 1.0,
) -> Tensor:
    """Squared difference of pooled features, plus that of the logits the teacher's classifier gives for them.

    Args:
        student: What the teacher's classifier can read after the positions are averaged: maps ``[B, C, H, W]``, tokens
            ``[B, T, C]`` or vectors ``[B, C]``. A learned layer brings it there: `connectors.Regressor` is the paper's.
        teacher: The feature before its classifier, as wide; the grid may differ.
        head: The teacher's classifier, from a vector to logits. It is used and not trained.
        feature_weight: Weight of the mean over the C features (the paper's α), 0 or more.
        regression_weight: Weight of the mean over the logits (the paper's β), 0 or more.

    Returns:
        ``[B]``, at least 0; 0 where the pooled features are equal.

    Raises:
        ValueError: The widths differ, or a weight is negative.

    Reference:
        Yang et al. 2021, "Knowledge distillation via softmax regression representation learning", sec. 3, with the
        squared difference of logits. As in the code, both terms see pooled features, and gradient flows through the
        classifier. Published weights: 1 and 1, elsewhere 1 and 5.

    Example:
        >>> import torch
        >>> s, t = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 0.0]])
        >>> srrl(s, t, head=nn.Identity()), srrl(s, t, head=nn.Identity(), regression_weight=0)
        (tensor([1.]), tensor([0.5000]))
    """
    same_batch("srrl", student, teacher)
    if not (feature_weight >= 0 and regression_weight >= 0):
        raise ValueError(f"srrl: expected weights of 0 or more, found {feature_weight} and {regression_weight}.")
    vector, target = _pooled(student), _pooled(teacher.detach())
    if vector.shape != target.shape:
        raise ValueError(
            f"srrl: expected features as wide as the teacher's, {target.shape[1]}, found {vector.shape[1]}. Put "
            "`connectors.Regressor` or `Project` in this path."
        )
    loss = feature_weight * (vector - target).square().mean(dim=1)
    if regression_weight == 0:
        return loss
    logits, said = (through(head, x, dtype=x.dtype) for x in (vector, target))
    regression: Tensor = (logits - said).square().mean(dim=1)
    return loss + regression_weight * regression


def _pooled(feature: Tensor) -> Tensor:
    feature = full(feature)
    if feature.dim() == 3:
        return feature.mean(dim=1)
    return feature.flatten(2).mean(dim=2) if feature.dim() > 3 else feature
