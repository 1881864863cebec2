"""Fine-grained imitation: the teacher's features, where there are objects."""

from torch import Tensor

from .cells import need_boxes, under_boxes
from .labels import needs_labels
from .maps import need_maps
from .precision import full


@needs_labels
def imitation(student: Tensor, teacher: Tensor, /, *, target: Tensor, inputs: Tensor) -> Tensor:
    """Half the squared distance between features in the cells under boxes, summed over channels.

    Args:
        student: Feature maps, ``[B, C, H, W]``.
        teacher: The same shape (put `connectors.Project` or `Resize` in the path).
        target: ``[B, M, 5]``: left, top, right, bottom in pixels, class; class -1 pads.
        inputs: The pictures, for their size, ``[B, C, H, W]``.

    Returns:
        ``[B]``, at least 0; the batch mean is the mean over all cells under boxes. 0 for a picture without boxes.

    Raises:
        ValueError: The maps differ in channels or grid, or the batch holds no boxes.

    Reference:
        Wang et al. 2019, arXiv:1906.03609, eq. 5, over the cells that boxes touch, where the paper takes those
        with an anchor that overlaps a box at least half as well as its best one. Published weight: 0.01, with a 3x3
        convolution in front.

    Example:
        >>> import torch
        >>> target, picture = torch.tensor([[[0.0, 0.0, 2.0, 2.0, 1.0]]]), torch.zeros(1, 3, 4, 4)
        >>> maps = torch.tensor([[[[1.0, 5.0], [5.0, 5.0]]]])
        >>> imitation(maps, 0 * maps, target=target, inputs=picture)
        tensor([0.5000])
    """
    need_maps("imitation", student, teacher, channels=True, grid=True)
    need_boxes("imitation", target, inputs)
    cells = under_boxes(target, tuple(inputs.shape[2:]), tuple(student.shape[2:])).any(dim=1)
    distance = (full(student) - full(teacher.detach())).square().sum(dim=1)
    per_sample = (distance * cells).flatten(1).sum(dim=1) / 2
    return per_sample * len(cells) / cells.sum().clamp(min=1)
