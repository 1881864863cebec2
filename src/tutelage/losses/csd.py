"""CSD: near the teacher's picture, and away from plainly enlarged ones, in the eyes of a third model."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .precision import full
from .shapes import same_shape


class CSD(nn.Module):
    """Contrastive loss on pictures: distance to the teacher's over distance to bicubic enlargements of the batch.

    Distances are taken between the features of an extractor, which is neither trained nor kept in checkpoints. A
    picture that is far from all enlargements has little to lose.

    Args:
        extractor: Any model of pictures; one with a ``preprocess`` of its own is given it.
        layers: Modules of the extractor to compare at, by name; none: what it returns, a tensor or several.
        weights: Of each layer; None: 1 for the last, halved with each one before.
        negatives: Samples of the batch whose enlargements are kept away from, the first ones.
        through_teacher: Let gradient into the teacher's picture, where the two share weights.

    Raises:
        ValueError: There is no extractor, it lacks a layer, or an option is out of range.

    Reference:
        Wang, Lin, Qu, Wu, Zhang, Xie & Yao 2021, "Towards Compact Single Image Super-Resolution via Contrastive
        Self-distillation", arXiv:2105.11683, eq. 4, as in the authors' code: the distances to the negatives are
        summed, not averaged. They take five layers of VGG-19 with weights from 1/32 to 1/4 and 1, on pictures that
        are not normalised, weigh this loss 200 beside `l1` in 0…255, and enlarge with torch's plain bicubic; ours has
        a = -0.5.

    Example:
        >>> loss = CSD(extractor=nn.Conv2d(3, 4, 3))
        >>> small, larger = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 8, 8)
        >>> loss(larger.flip(0), larger, inputs=small).shape
        torch.Size([2])
    """

    def __init__(
        self,
        *,
        extractor: nn.Module | None = None,
        layers: Sequence[str] = (),
        weights: Sequence[float] | None = None,
        negatives: int = 10,
        through_teacher: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(extractor, nn.Module):
            raise ValueError(f"CSD: expected an extractor, any model of pictures, found {extractor!r}.")
        known = dict(extractor.named_modules())
        if missing := [name for name in layers if name not in known]:
            raise ValueError(f"CSD: the extractor has no module {', '.join(map(repr, missing))}.")
        if negatives < 1 or (weights is not None and layers and len(weights) != len(layers)):
            raise ValueError(
                f"CSD: expected 1 negative or more and a weight for each layer, found {negatives} and {weights} for "
                f"{len(layers)} layers."
            )
        # In the instance's dict: it is not trained, and in no checkpoint.
        self.__dict__["extractor"] = extractor.eval().requires_grad_(False)
        self.layers, self.weights = tuple(layers), None if weights is None else tuple(weights)
        self.negatives, self.through_teacher = negatives, through_teacher

    def forward(self, student: Tensor, teacher: Tensor, /, *, inputs: Tensor) -> Tensor:
        """The loss.

        Args:
            student: The student's pictures, ``[B, C, H, W]`` in [0, 1].
            teacher: The teacher's, the same shape.
            inputs: The small pictures of the batch, ``[B, C, h, w]``.

        Returns:
            ``[B]``, at least 0: distances to the negatives are those of the whole batch.
        """
        size = list(student.shape[-2:])
        plain = F.interpolate(full(inputs[: self.negatives]), size, mode="bicubic", antialias=True, align_corners=False)
        return self.contrast(student, teacher, plain)

    def contrast(self, student: Tensor, teacher: Tensor, negatives: Tensor) -> Tensor:
        """The loss, with the pictures to keep away from named: ``[M, C, H, W]``."""
        same_shape("CSD", student, teacher, "Both have to enlarge by one scale.")
        value = torch.zeros((), device=student.device)
        for weight, near, far in self.distances(student, teacher, negatives):
            value = value + weight * near / (far.mean() + 1e-7)
        return value

    def distances(self, student: Tensor, teacher: Tensor, negatives: Tensor) -> list[tuple[float, Tensor, Tensor]]:
        """Weight, distance to the teacher and summed distance to the negatives, ``[B]`` each, for every layer."""
        found = []
        with torch.autocast(student.device.type, enabled=False):
            ours = self._features(full(student))
            with torch.set_grad_enabled(self.through_teacher and torch.is_grad_enabled()):
                theirs = self._features(full(teacher if self.through_teacher else teacher.detach()))
            with torch.no_grad():
                plain = self._features(negatives.to(student.dtype if student.dtype == torch.float64 else torch.float32))
            weights = self.weights or tuple(0.5**k for k in reversed(range(len(ours))))
            for weight, here, there, away in zip(weights, ours, theirs, plain, strict=True):
                near = (here - there).abs().flatten(1).mean(dim=1)
                far = torch.stack([(here - one).abs().flatten(1).mean(dim=1) for one in away])
                found.append((weight, near, far.sum(dim=0)))
        return found

    def _features(self, pictures: Tensor) -> list[Tensor]:
        extractor: nn.Module = self.__dict__["extractor"]
        preprocess: Callable[[Tensor], Tensor] = getattr(extractor, "preprocess", None) or nn.Identity()
        read: dict[str, Tensor] = {}

        def keep(name: str) -> Callable[..., None]:
            return lambda module, given, said: read.__setitem__(name, said)

        handles = [extractor.get_submodule(name).register_forward_hook(keep(name)) for name in self.layers]
        try:
            said = extractor(preprocess(pictures))
        finally:
            for handle in handles:
                handle.remove()
        if self.layers:
            return [read[name] for name in self.layers]
        several = said.values() if isinstance(said, Mapping) else said
        return [said] if isinstance(said, Tensor) else list(several)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self.__dict__["extractor"]._apply(fn, recurse)
        moved: Any = super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        assert isinstance(moved, torch.nn.Module)
        return self
