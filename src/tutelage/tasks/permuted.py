"""Whether a model's classes look as if they came in another order."""

import torch
from torch import Tensor


def permuted(name: str, table: Tensor) -> str | None:
    """A message where another order of classes would fit much better.

    Args:
        name: The teacher's.
        table: How often each class (rows) is taken for each (columns), int64 ``[C, C]``.
    """
    from scipy.optimize import linear_sum_assignment

    n, numbers = float(table.sum()), torch.arange(len(table))
    _, columns = linear_sum_assignment(-table.numpy())
    order = torch.as_tensor(columns)
    accuracy, mended = float(table.diag().sum()) / n, float(table[numbers, order].sum()) / n
    moved = int((order != numbers).sum())
    if moved < 2 or mended < 0.5 or mended - accuracy < 0.25:
        return None
    return (
        f"teacher {name!r}: its accuracy here is {accuracy:.3f}, but {mended:.3f} with its classes in another "
        f"order: they look permuted. To mend it: --set 'teachers.{name}.classes={order.tolist()}'."
    )
