"""Numbers as people read them: with a unit, and a dash where there is none."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

NONE = "–"
"""Stands where a number is not known."""


def _known(value: float | None) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


@dataclass(frozen=True)
class Metric:
    """How the values of a metric are written: shares as per cent, PSNR in dB, others as they are.

    Args:
        key: The metric's name in ``result.json``.

    Example:
        >>> Metric("accuracy").value(0.9134), Metric("psnr").difference(-0.21)
        ('91.34%', '−0.21 dB')
    """

    key: str

    @property
    def name(self) -> str:
        """The name as papers write it."""
        return {"psnr": "PSNR", "ssim": "SSIM", "miou": "mIoU", "map": "mAP"}.get(self.key.lower(), self.key)

    @property
    def unit(self) -> str:
        """``%``, ``dB`` or nothing."""
        name = self.key.lower()
        if "psnr" in name:
            return "dB"
        return "%" if any(share in name for share in ("accuracy", "iou", "map", "f1", "top")) else ""

    @property
    def scale(self) -> float:
        """What a value is multiplied with before it is shown: 100 for shares."""
        return 100.0 if self.unit == "%" else 1.0

    @property
    def axis(self) -> str:
        """The metric with its unit, for the title of an axis or a column."""
        return f"{self.name} ({self.unit})" if self.unit else self.name

    def value(self, value: float | None) -> str:
        """One value with its unit."""
        if not _known(value) or value is None:
            return NONE
        gap = " " if self.unit == "dB" else ""
        return f"{value * self.scale:.2f}{gap}{self.unit}"

    def difference(self, value: float | None) -> str:
        """A signed difference: of shares in percentage points."""
        if not _known(value) or value is None:
            return NONE
        unit = {"%": " points", "dB": " dB"}.get(self.unit, "")
        return f"{signed(value * self.scale)}{unit}"

    @property
    def step(self) -> str:
        """The unit of a difference: shares differ by percentage points."""
        return {"%": "percentage points", "dB": "dB"}.get(self.unit, "")

    def interval(self, ends: Sequence[float] | None) -> str:
        """An interval of differences, without its unit."""
        if not ends or not all(_known(end) for end in ends):
            return NONE
        return " to ".join(signed(end * self.scale) for end in ends)


def signed(value: float) -> str:
    """A number with its sign and two decimals; a true minus, so that columns line up.

    Example:
        >>> signed(1.5), signed(-0.25), signed(-0.001)
        ('+1.50', '−0.25', '0.00')
    """
    if round(value, 2) == 0:
        return "0.00"
    return f"{value:+.2f}".replace("-", "−")


def share(value: float | None, digits: int = 1) -> str:
    """A fraction as per cent.

    Example:
        >>> share(0.584), share(-0.1, 0), share(None)
        ('58.4%', '−10%', '–')
    """
    return f"{100 * value:.{digits}f}%".replace("-", "−") if _known(value) and value is not None else NONE


def count(value: float | None) -> str:
    """A large number in thousands (k), millions (M) or (G), three digits long.

    Example:
        >>> count(272474), count(40_813_184), count(64), count(999_950)
        ('272 k', '40.8 M', '64', '1.00 M')
    """
    if not _known(value) or value is None:
        return NONE
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size * 0.9995:
            return f"{_three(value / size)} {letter}"
    return str(round(value))


def number(value: float | None) -> str:
    """A number of no unit, three digits long.

    Example:
        >>> number(0.03456), number(3.21), number(12.34), number(1234.5)
        ('0.035', '3.21', '12.3', '1234')
    """
    return _three(value, most=3) if _known(value) and value is not None else NONE


def weight(value: float | None) -> str:
    """A weight: three decimals below 10, so that those of a table line up.

    Example:
        >>> weight(0.8), weight(123.4)
        ('0.800', '123')
    """
    return f"{value:.3f}" if value is not None and _known(value) and abs(value) < 10 else number(value)


def seconds(value: float | None) -> str:
    """A length of time in its two largest units.

    Example:
        >>> seconds(4.21), seconds(75), seconds(7384)
        ('4.2 s', '1 min 15 s', '2 h 3 min')
    """
    if not _known(value) or value is None:
        return NONE
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _three(value: float, most: int = 2) -> str:
    """Three digits, with at most `most` decimals."""
    size = abs(value)
    decimals = 0 if size >= 99.95 else 1 if size >= 9.995 else 2 if size >= 0.9995 else most
    return f"{value:.{decimals}f}".replace("-", "−")
