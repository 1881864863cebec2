"""Factor transfer with its networks: a paraphraser trained on the teacher, a translator for the student."""

from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from .factor import factor
from .learned import Learned, Sizes, norm
from .maps import Shape
from .precision import full


class Paraphraser(nn.Module):
    """An autoencoder of the teacher's feature maps; its code, the factor, has fewer channels.

    Train it on the teacher's features with `reconstruction` before any student, then hand it to `FT`.

    Args:
        channels: Channels of the teacher's maps.
        rate: Channels of the factor over those of the map.

    Example:
        >>> paraphraser = Paraphraser(6, rate=0.5)
        >>> maps = torch.randn(2, 6, 4, 4)
        >>> paraphraser(maps).shape, paraphraser.reconstruction(maps).shape
        (torch.Size([2, 3, 4, 4]), torch.Size([2]))
    """

    def __init__(self, channels: int, *, rate: float = 0.5) -> None:
        super().__init__()
        self.channels, self.factors = channels, int(channels * rate)
        if self.factors < 1:
            raise ValueError(f"Paraphraser: expected a rate that leaves a channel of {channels}, found {rate}.")
        self.encoder = _layers(nn.Conv2d, (channels, channels, self.factors, self.factors), normed=False)
        self.decoder = _layers(nn.ConvTranspose2d, (self.factors, self.factors, channels, channels), normed=False)

    def forward(self, teacher: Tensor) -> Tensor:
        """The factor, ``[B, C * rate, H, W]``."""
        code: Tensor = self.encoder(full(teacher))
        return code

    def reconstruction(self, teacher: Tensor, *, distance: Literal["l1", "squared"] = "l1") -> Tensor:
        """The loss to train it with: mean difference of maps and what is decoded from their factors.

        Args:
            teacher: Feature maps, ``[B, C, H, W]``.
            distance: ``"l1"`` absolute, as in the authors' code, or ``"squared"``, as in RepDistiller.

        Returns:
            ``[B]``, at least 0. The decoder ends in a leaky ReLU: features far below 0 are hard to reach.
        """
        with torch.autocast(teacher.device.type, enabled=False):
            target = full(teacher.detach())
            off = self.decoder(self.encoder(target)) - target
            value: Tensor = (off.abs() if distance == "l1" else off.square()).flatten(1).mean(dim=1)
            return value


class FT(Learned):
    """Factor transfer: a learned translator of the student's maps is compared with a trained paraphraser's factor.

    The paraphraser is frozen and kept in eval mode.

    Args:
        paraphraser: Trained on the features of the teacher's tap. None: one is made, and has to be trained first; the
            scheme `paraphrased` does so.
        rate: Channels of the factor over those of the teacher's maps, for the paraphraser that is made.
        student: Shape of one sample, ``(C, H, W)``; None to learn it in `bind`.
        teacher: Shape of one sample of the teacher; None to learn it in `bind`.
        norm: Batch normalisation in the translator.
        form: Of `factor`.
        distance: Of `factor`.
        power: Of `factor`.

    Raises:
        ValueError: The paraphraser is not trained, or was made for another width.

    Reference:
        Kim, Park & Kwak 2018, "Paraphrasing Complex Network", arXiv:1802.04977. Networks and distance are those of
        the authors' code; its weight is 500. RepDistiller has ``form="channels"``, ``norm=True`` and a
        paraphraser trained with the squared distance; normalisation here always takes the batch's statistics.

    Example:
        >>> loss = FT(paraphraser=Paraphraser(6), student=(4, 8, 8), teacher=(6, 8, 8))
        >>> loss(torch.randn(2, 4, 8, 8), torch.randn(2, 6, 8, 8)).shape
        torch.Size([2])
    """

    translator: nn.Sequential
    paraphraser: Paraphraser

    def __init__(
        self,
        *,
        paraphraser: Paraphraser | None = None,
        student: Sizes | None = None,
        teacher: Sizes | None = None,
        rate: float = 0.5,
        norm: bool = False,
        form: Literal["whole", "channels"] = "whole",
        distance: Literal["l1", "l2", "squared"] = "l1",
        power: float = 2.0,
    ) -> None:
        super().__init__(student, teacher)
        if paraphraser is not None and not isinstance(paraphraser, Paraphraser):
            raise ValueError(f"FT: expected a losses.ft.Paraphraser, found {paraphraser!r}.")
        self.trained = paraphraser is not None
        self.rate = rate
        if paraphraser is not None:
            self.paraphraser = paraphraser.eval().requires_grad_(False)
        self.with_norm = norm
        self.options: dict[str, Any] = {"form": form, "distance": distance, "power": power}
        self.settle()

    def build(self, student: Shape, teacher: Shape) -> None:
        """Make the translator."""
        made_for = self.paraphraser.channels if self.trained else teacher[0]
        if len(student) != 3 or len(teacher) != 3 or teacher[0] != made_for:
            raise ValueError(
                f"FT: expected maps (C, H, W), the teacher's with the {made_for} channels its paraphraser was made "
                f"for; found student {student} and teacher {teacher}."
            )
        if not self.trained:
            self.paraphraser = Paraphraser(teacher[0], rate=self.rate).eval().requires_grad_(False)
        widths = student[0], student[0], self.paraphraser.factors, self.paraphraser.factors
        self.translator = _layers(nn.Conv2d, widths, normed=self.with_norm)

    def forward(self, student: Tensor, teacher: Tensor, /) -> Tensor:
        """The loss.

        Args:
            student: Feature maps, ``[B, C_s, H, W]``.
            teacher: Feature maps, ``[B, C_t, H', W']``.

        Returns:
            ``[B]``, at least 0; 0 where the factors have one direction.
        """
        self.need_built()
        if not self.trained:
            raise ValueError(
                "FT: expected a trained paraphraser, found a fresh one. Train it first: scheme: {use: paraphrased} in "
                "a recipe; from Python, give a `losses.ft.Paraphraser` trained with its `reconstruction`."
            )
        with torch.autocast(student.device.type, enabled=False):
            return factor(self.translator(full(student)), self.paraphraser(teacher.detach()), **self.options)

    def freeze(self) -> None:
        """The paraphraser is trained now, and stays as it is."""
        self.paraphraser.eval().requires_grad_(False)
        self.trained = True

    def train(self, mode: bool = True) -> Self:
        """The paraphraser stays in eval mode."""
        super().train(mode)
        if self.built:
            self.paraphraser.eval()
        return self


def _layers(kind: Any, widths: tuple[int, int, int, int], *, normed: bool) -> nn.Sequential:
    """Three 3x3 convolutions that keep the grid, each with normalisation or none and a leaky ReLU."""
    layers: list[nn.Module] = []
    for i in range(3):
        convolution = kind(widths[i], widths[i + 1], 3, padding=1)
        layers += [convolution, norm(widths[i + 1]) if normed else nn.Identity(), nn.LeakyReLU(0.1)]
    return nn.Sequential(*layers)
