"""Channel split: the student is the first channels of every layer of the teacher, and both go on learning."""

import copy
from collections.abc import Callable, Iterator
from typing import Any, Self

import torch
from torch import Tensor, nn

from tutelage.distiller import STUDENT
from tutelage.errors import RecipeError
from tutelage.teachers import Peer

from .base import Cast, Stage, asks_live

TEACHER = "teacher"


@asks_live
def channel_split(cast: Cast) -> Iterator[Stage]:
    """One set of weights, two widths: the student's tensors are the leading parts of the teacher's.

    The student of the recipe has to be the teacher with fewer channels. It starts as the slice of the trained teacher,
    and both learn together: the teacher from the truth alone, the student also from the paths, in which the teacher is
    heard without gradient. Two plain models come out of it: the student, and under ``teacher`` what became of the
    teacher.

    ```yaml
    student: {model: sr/edsr, arguments: {width: 16}}
    teachers: {big: {model: runs/big}}         # sr/edsr of width 64
    paths: {contrast: {loss: {use: csd, extractor: EXTRACTOR}}}
    weighting: {scale: {use: fixed, contrast: 200}}
    scheme: channel_split
    ```

    Args:
        cast: The models; one teacher.

    Raises:
        RecipeError: There are several teachers, the student is no narrower teacher, or one of them has batch
            normalisation, whose statistics two widths cannot share.

    Reference:
        Wang, Lin, Qu, Wu, Zhang, Xie & Yao 2021, "Towards Compact Single Image Super-Resolution via Contrastive
        Self-distillation", arXiv:2105.11683, with `losses.CSD`.
    """
    if len(cast.networks) != 1:
        raise RecipeError(f"channel_split: expected one teacher, found {', '.join(cast.networks) or 'none'}.")
    name, network = next(iter(cast.networks.items()))
    # A frozen network is left as it is: examination, baseline and further seeds ask it, too.
    whole = copy.deepcopy(network).requires_grad_().train()
    student = Sliced(whole, cast.model(STUDENT))
    pupils = {
        STUDENT: cast.distiller(student, {name: Peer(whole, TEACHER)}),
        TEACHER: cast.distiller(whole, {}),
    }
    yield Stage(STUDENT, pupils)


class Sliced(nn.Module):
    """A narrow network whose weights are the leading parts of a wide one's.

    Args:
        whole: The wide network, whose parameters are trained.
        narrow: The same with fewer channels; it lends its shapes and its modules, not its weights.

    Raises:
        RecipeError: It is not the same with fewer channels.

    Example:
        >>> wide, narrow = nn.Linear(3, 4), nn.Linear(3, 2)
        >>> student = Sliced(wide, narrow)
        >>> torch.equal(student(torch.eye(3)), wide(torch.eye(3))[:, :2]), student.release() is narrow
        (True, True)
    """

    def __init__(self, whole: nn.Module, narrow: nn.Module) -> None:
        super().__init__()
        self.whole = whole
        _refuse_others(whole, narrow)
        # Under the name by which taps look into a wrapper: they are those of the narrow network.
        self.__dict__["_orig_mod"] = narrow
        self.__dict__["preprocess"] = getattr(narrow, "preprocess", None)
        self.__dict__["origin"] = getattr(narrow, "origin", {})

    def forward(self, inputs: Tensor) -> Any:
        """What the narrow network says with the wide one's weights."""
        return torch.func.functional_call(self.__dict__["_orig_mod"], self.slices(), (inputs,))

    def slices(self) -> dict[str, Tensor]:
        """The weights of the narrow network, as parts of the wide one's, with gradient."""
        narrow: nn.Module = self.__dict__["_orig_mod"]
        theirs = dict(self.whole.named_parameters())
        return {
            name: theirs[name][tuple(slice(0, side) for side in ours.shape)] for name, ours in narrow.named_parameters()
        }

    @torch.no_grad()
    def release(self) -> nn.Module:
        """The narrow network with weights of its own."""
        narrow: nn.Module = self.__dict__["_orig_mod"]
        for name, slice_ in self.slices().items():
            narrow.get_parameter(name).copy_(slice_)
        return narrow

    def train(self, mode: bool = True) -> Self:
        """Both are in one mode."""
        self.__dict__["_orig_mod"].train(mode)
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self.__dict__["_orig_mod"]._apply(fn, recurse)
        moved: Any = super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        assert isinstance(moved, torch.nn.Module)
        return self


def _refuse_others(whole: nn.Module, narrow: nn.Module) -> None:
    theirs, ours = ({name: tuple(x.shape) for name, x in net.named_parameters()} for net in (whole, narrow))
    fits = theirs.keys() == ours.keys() and all(
        len(mine) == len(theirs[name]) and all(a <= b for a, b in zip(mine, theirs[name], strict=True))
        for name, mine in ours.items()
    )
    if not fits:
        names = sorted(theirs.keys() ^ ours.keys())
        found = f"it has other weights, such as {names[0]!r}" if names else "some of its layers are wider"
        raise RecipeError(
            f"channel_split: expected a student that is the teacher with fewer channels; {found}. Take the same model "
            "with a smaller width."
        )
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in whole.modules()):
        raise RecipeError(
            "channel_split: expected networks without batch normalisation, whose statistics two widths cannot share. "
            "Take another architecture."
        )
