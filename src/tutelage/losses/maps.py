"""What losses on features compare: levels in a tuple, vectors beside maps, maps that meet on one grid."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

Shape = tuple[int, ...]
Features = Tensor | Sequence[Tensor]


def levels(loss: str, student: Features, teacher: Features, *, least: int = 1) -> list[tuple[Tensor, Tensor]]:
    """Student and teacher level by level; a tensor alone is one level.

    Raises:
        ValueError: The two have different numbers of levels, or fewer than `least`.
    """
    ours, theirs = ((x,) if isinstance(x, Tensor) else tuple(x) for x in (student, teacher))
    if len(ours) != len(theirs) or len(ours) < least:
        some = "" if least == 1 else f"at least {least} taps of each network, "
        raise ValueError(
            f"{loss}: expected {some}as many of the student as of the teacher, found {len(ours)} and {len(theirs)}. "
            "Name them in pairs, from shallow to deep: student=['layer1', 'layer2'], teacher=['layer1', 'layer2']."
        )
    return list(zip(ours, theirs, strict=True))


def as_map(loss: str, x: Tensor) -> Tensor:
    """Maps ``[B, C, H, W]`` as they are, vectors ``[B, D]`` as maps of one position.

    Raises:
        ValueError: It is neither.

    Example:
        >>> import torch
        >>> as_map("vid", torch.ones(2, 3)).shape
        torch.Size([2, 3, 1, 1])
    """
    if x.dim() not in (2, 4):
        raise ValueError(
            f"{loss}: expected maps [B, C, H, W] or vectors [B, D], found {tuple(x.shape)}. Tap a module that gives "
            "one, or put `connectors.Tokens` in this path."
        )
    return x[:, :, None, None] if x.dim() == 2 else x


def need_maps(loss: str, student: Tensor, teacher: Tensor, *, channels: bool = False, grid: bool = False) -> None:
    """Check that both are maps ``[B, C, H, W]``, with equal channels or one grid if asked.

    Raises:
        ValueError: They are not.
    """
    fit = (
        student.dim() == teacher.dim() == 4
        and (not channels or student.shape[1] == teacher.shape[1])
        and (not grid or student.shape[2:] == teacher.shape[2:])
    )
    if not fit:
        alike = " and ".join(["equal channels"] * channels + ["one grid"] * grid)
        parts = [*["`connectors.Project`"] * channels, *["`connectors.Resize`"] * grid] or ["`connectors.Tokens`"]
        raise ValueError(
            f"{loss}: expected maps [B, C, H, W]{' with ' * bool(alike)}{alike}, found student {tuple(student.shape)} "
            f"and teacher {tuple(teacher.shape)}. Put {' or '.join(parts)} in this path."
        )


def meet(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Two maps on one grid: along each axis the longer is averaged down to the shorter.

    Example:
        >>> import torch
        >>> [tuple(x.shape) for x in meet(torch.ones(1, 2, 8, 4), torch.ones(1, 3, 4, 4))]
        [(1, 2, 4, 4), (1, 3, 4, 4)]
    """
    grid = min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3])
    ours, theirs = (x if x.shape[2:] == grid else F.adaptive_avg_pool2d(x, grid) for x in (student, teacher))
    return ours, theirs
