"""Subclasses: teachers divide their classes first; the student then learns the parts."""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from tutelage.distiller import STUDENT
from tutelage.errors import RecipeError
from tutelage.losses import subclass_spread
from tutelage.path import Path
from tutelage.taps import classifier, inner
from tutelage.teachers import Frozen
from tutelage.weighting import Fixed

from .base import Cast, Stage, asks_live, origin_of_changed


@asks_live
def subclasses(cast: Cast, *, parts: int = 5, spread: float = 0.1, epochs: int | None = None) -> Iterator[Stage]:
    """Every teacher's classifier is divided into subclasses and trained on; the student gets as many, and learns them.

    A class is as likely as its subclasses together. Their logits are read at the classifier's ``split``, so that few
    classes have more to say:

    ```yaml
    paths: {subclasses: {loss: {use: kl, temperature: 4}, student: linear.split, teacher: linear.split}}
    scheme: {use: subclasses, parts: 10, epochs: 5}
    ```

    The stage of a teacher is called ``teacher-NAME``: it starts from the teacher's weights, with the label's loss and
    `losses.subclass_spread`. The student is shipped with its divided classifier, and answers with logits of classes.

    Args:
        cast: The models. Teachers are asked live, whatever `train.cache` says.
        parts: Subclasses of each class, at least 2.
        spread: Weight of `losses.subclass_spread`, 0 or more.
        epochs: Of each teacher; None: as many as the student's.

    Raises:
        RecipeError: Options are out of range, or a classifier is no linear layer.

    Reference:
        Müller, Kornblith & Hinton 2020, "Subclass Distillation", arXiv:2002.03936, as it is recalled: no official code
        was found. Deviation: the teacher goes on from its weights, where the paper trains it with subclasses from the
        start; what it knew of whole classes is kept by giving all parts of a class its weights and a little noise.
    """
    if parts < 2 or not spread >= 0:
        raise RecipeError(f"subclasses: expected at least 2 parts and a spread of 0 or more, found {parts}, {spread}.")
    taught = {}
    for name, network in cast.networks.items():
        # A frozen network is left as it is: examination, baseline and further seeds ask it, too.
        divided, tap = divide(copy.deepcopy(network).requires_grad_(), parts)
        divided.train()
        learns = cast.distiller(
            divided,
            {name: cast.teachers()[name]},
            paths={"spread": Path(subclass_spread, student=tap)},
            weighting=Fixed({"spread": spread}, base=1.0),
        )
        yield Stage(f"teacher-{name}", {"teacher": learns}, epochs=epochs)
        taught[name] = Frozen(divided)
    student = cast.model(STUDENT)
    origin = origin_of_changed(student, "subclasses", parts=parts)
    divide(student, parts)
    student.__dict__["origin"] = origin
    yield Stage(STUDENT, {STUDENT: cast.distiller(student, taught)})


class Divided(nn.Module):
    """A linear classifier of subclasses that answers with the logits of whole classes.

    Args:
        width: Of the features.
        classes: Whole classes.
        parts: Subclasses of each.
        bias: Whether the layer has a bias.

    Example:
        >>> head = Divided(4, 3, 2)
        >>> head(torch.randn(5, 4)).shape, head.split.out_features
        (torch.Size([5, 3]), 6)
    """

    def __init__(self, width: int, classes: int, parts: int, *, bias: bool = True) -> None:
        super().__init__()
        self.parts = parts
        self.split = nn.Linear(width, classes * parts, bias=bias)

    def forward(self, features: Tensor) -> Tensor:
        """``[B, width]`` to ``[B, classes]``; the parts of a class stand together in `split`."""
        whole: Tensor = self.split(features).unflatten(-1, (-1, self.parts)).logsumexp(dim=-1)
        return whole


def divide(model: nn.Module, parts: int) -> tuple[nn.Module, str]:
    """Put a divided classifier in the place of the model's own, and name the tap of the subclasses.

    Raises:
        RecipeError: It has no linear classifier.
    """
    place, found = inner(model), classifier(model)
    head = place.get_submodule(found) if found else None
    if found is None or not isinstance(head, nn.Linear):
        raise RecipeError(f"subclasses: expected a linear classifier to divide, found {type(head).__name__}.")
    divided = Divided(head.in_features, head.out_features, parts, bias=head.bias is not None)
    with torch.no_grad():
        noise = 0.1 * divided.split.weight
        divided.split.weight.copy_(head.weight.repeat_interleave(parts, dim=0) + noise)
        if head.bias is not None:
            divided.split.bias.copy_(head.bias.repeat_interleave(parts))
    above, _, own = found.rpartition(".")
    setattr(place.get_submodule(above), own, divided.to(head.weight.device))
    return model, f"{found}.split"
