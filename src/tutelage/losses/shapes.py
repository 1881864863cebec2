"""Which shapes go together, in the words of the loss that was called."""

from torch import Tensor

CLASSES = "Give both the same classes (and `connectors.Resize` to maps)."
FEATURES = "Put `connectors.Project`, `Resize` or `Regressor` in this path."


def same_shape(loss: str, student: Tensor, teacher: Tensor, advice: str) -> None:
    """Refuse two tensors of different shape, or of less than two dimensions.

    Raises:
        ValueError: They do not go together.
    """
    if student.shape != teacher.shape or student.dim() < 2:
        raise ValueError(
            f"{loss}: expected one shape [B, C, ...], found student {tuple(student.shape)} and teacher "
            f"{tuple(teacher.shape)}. {advice}"
        )


def same_batch(loss: str, student: Tensor, teacher: Tensor) -> None:
    """Refuse two batches of different size.

    Raises:
        ValueError: They do not go together.
    """
    if len(student) != len(teacher):
        raise ValueError(f"{loss}: expected one batch, found {len(student)} and {len(teacher)} samples.")


def positive(loss: str, **options: float) -> None:
    """Refuse options that are not positive and finite numbers.

    Raises:
        ValueError: An option is out of range.

    Example:
        >>> positive("kl", temperature=0.0)
        Traceback (most recent call last):
        ValueError: kl: expected temperature > 0, found 0.0.
    """
    for name, value in options.items():
        if not 0 < value < float("inf"):
            raise ValueError(f"{loss}: expected {name} > 0, found {value}.")
