"""Privileged: a teacher that sees the truth is trained first; the student starts as its second half."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from tutelage.distiller import STUDENT
from tutelage.errors import RecipeError
from tutelage.ledger import Batch, Outputs
from tutelage.losses import PISR, l1
from tutelage.path import Path
from tutelage.teachers import Frozen, Teacher
from tutelage.weighting import Fixed

from .base import Cast, Stage, asks_live, brings_teacher

TEACHER = "privileged"


@brings_teacher
@asks_live
def privileged(
    cast: Cast, *, tap: str | None = None, imitation: float = 1e-4, features: float = 1e-6, epochs: int | None = None
) -> Iterator[Stage]:
    """An encoder of true pictures and a copy of the student are trained first; the student goes on from the copy.

    The encoder makes pictures of the student's size from the true ones, and may hide in them what the student's half
    needs. They have to look like the inputs (`imitation`), or everything would be hidden there. The student starts
    with its half's weights and learns from the truth and from that half's features, by `losses.PISR`. The recipe names
    no teacher and no paths: the scheme brings both. With ``features: 0`` the good start is all there is.

    ```yaml
    student: sr/fsrcnn
    scheme: privileged
    ```

    Args:
        cast: The models.
        tap: Where the student is compared with its half of the teacher; None for the features that its last layers
            enlarge (``enlarged`` of a network, as those of `sr/…` have it).
        imitation: Weight of the difference between what the encoder makes and the inputs.
        features: Weight of `losses.PISR` beside the truth. Features are divided by the largest value of a colour
            inside the net (``colours``, 1 where a network does not say).
        epochs: Of the teacher; None: as many as the student's.

    Raises:
        RecipeError: A weight is below 0, or the student has no such tap or names none.

    Reference:
        Lee, Lee, Kim & Ham 2020, "Learning with Privileged Information for Efficient Image Super-Resolution",
        arXiv:2007.07524. Deviation: on pictures of any channels where the paper takes luma alone.
    """
    if not (imitation >= 0 and features >= 0):
        raise RecipeError(f"privileged: expected weights of 0 or more, found {imitation} and {features}.")
    half = cast.model(STUDENT)
    teacher = Privileged(half)
    tap = tap or getattr(half, "enlarged", None)
    if tap is None:
        raise RecipeError(
            "privileged: expected a student that says which features its last layers enlarge, found "
            f"{type(half).__name__}. Name them: tap: LAYER."
        )
    learns = cast.distiller(
        teacher,
        {"inputs": _Inputs()},
        paths={"imitation": Path(l1, student="encoder")},
        weighting=Fixed({"imitation": imitation}),
    )
    yield Stage(f"teacher-{TEACHER}", {"teacher": learns}, epochs=epochs)
    student = cast.model(STUDENT)
    student.load_state_dict(half.state_dict())
    pupil = cast.distiller(
        student,
        {TEACHER: Frozen(teacher)},
        paths={"features": Path(PISR(unit=getattr(half, "colours", 1.0)), student=tap, teacher=f"decoder.{tap}")},
        weighting=Fixed({"features": features}),
    )
    yield Stage(STUDENT, {STUDENT: pupil})


class Privileged(nn.Module):
    """From true pictures to small ones and back: an encoder, and a student behind it.

    Args:
        decoder: A student, which enlarges by its ``scale``.

    Attributes:
        sees_truth: Tells the task to hand it the true pictures.
    """

    sees_truth = True

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        scale = getattr(decoder, "scale", None)
        if not isinstance(scale, int):
            raise RecipeError("privileged: expected a student that says by how much it enlarges (scale); take sr/….")
        preprocess: Any = decoder.__dict__["preprocess"]
        channels = len(preprocess.mean)
        self.__dict__["preprocess"] = preprocess
        self.encoder = nn.Sequential(
            *(nn.Conv2d(channels, 56, 5, padding=2), nn.PReLU()),
            *(nn.Conv2d(56, 56, 5, stride=scale, padding=2), nn.PReLU()),
            *(nn.Conv2d(56, 12, 3, padding=1), nn.PReLU()),
            nn.Conv2d(12, channels, 3, padding=1),
        )
        self.decoder = decoder

    def forward(self, truth: Tensor) -> Tensor:
        """Pictures ``[B, C, H, W]`` after they went through the small grid."""
        again: Tensor = self.decoder(self.encoder(truth))
        return again


class _Inputs(Teacher):
    """Says what the batch's inputs are."""

    def forward(self, batch: Batch, peers: Mapping[str, Outputs]) -> dict[str, Any]:
        """The inputs, as the model's output."""
        return {"": batch.inputs}
