"""Pictures as files or bytes: checked, brought to one shape, and held decoded or decoded when asked for."""

import hashlib
import io
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from tutelage.errors import DataError, MissingExtra

from .slices import Held, Pictures

if TYPE_CHECKING:
    from PIL.Image import Image

HELD = 2 * 10**9
"""Pictures that take fewer bytes than this when decoded are held in memory."""
CROPPED = 0.98
"""A picture of which less is kept is said to be cropped; the rest is rounding."""
CHECKED = 100_000
"""Up to this many pictures that are not held are decoded once at opening; of more only headers are read."""

ORIENTATION = 0x0112
"""The tag of EXIF that says how a camera was held."""
_TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
"""What Pillow calls the turn that makes up for it; from 5 on sides are exchanged."""

Shape = tuple[int, int, int]
Bring = Callable[[Tensor, Shape], Tensor]
"""How a picture uint8 ``[1 or 3, h, w]`` is brought to a shape: `fit` or `inside`."""
_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class Encoded:
    """Pictures that are not decoded yet.

    Args:
        names: What people call each.
        contents: The bytes of each, or its file.
    """

    names: Sequence[str]
    contents: Sequence[bytes | pathlib.Path]

    def __len__(self) -> int:
        return len(self.contents)

    def read(self, number: int) -> Tensor:
        """One picture as it is, uint8 ``[1 or 3, h, w]``."""
        return decode(self._bytes(number))

    def header(self, number: int) -> Shape:
        """The shape of one picture, from its first bytes."""
        with _open(self._bytes(number)) as image:
            return (1 if _is_grey(image) else 3, *_size(image))

    def mark(self, number: int) -> bytes:
        """What tells this picture from another: its bytes, or its file's name and size."""
        content = self.contents[number]
        if isinstance(content, bytes):
            return content
        return f"{self.names[number]} {content.stat().st_size}\n".encode()

    def _bytes(self, number: int) -> bytes:
        content = self.contents[number]
        return content if isinstance(content, bytes) else content.read_bytes()


class Decoded:
    """Pictures decoded when they are asked for.

    Args:
        encoded: Where they come from.
        shape: Channels, height and width they are brought to.
        bring: How they are brought to it.
    """

    in_memory = False

    def __init__(self, encoded: Encoded, shape: Shape, bring: "Bring | None" = None) -> None:
        self._encoded, self.shape, self._bring = encoded, shape, bring or fit

    def __len__(self) -> int:
        return len(self._encoded)

    def gather(self, positions: Tensor) -> Tensor:
        """The pictures at these positions, uint8."""
        pictures = torch.empty(len(positions), *self.shape, dtype=torch.uint8)
        for row, number in enumerate(positions.tolist()):
            try:
                pictures[row] = self._bring(self._encoded.read(number), self.shape)
            except Exception as error:
                name = self._encoded.names[number]
                raise DataError(
                    f"expected a readable picture, found {name}: {error}. Mend it, or remove it."
                ) from error
        return pictures

    def digest(self, positions: Tensor) -> bytes:
        """A hash of the shape and of each picture's bytes, or file name and size where it is a file."""
        told = hashlib.sha256(str(self.shape).encode())
        for number in positions.tolist():
            told.update(self._encoded.mark(number))
        return told.digest()


@dataclass(frozen=True)
class Opened:
    """Pictures that were opened.

    Args:
        pictures: One for each that was encoded; nothing sensible stands for an unreadable one.
        readable: Which could be read, bool ``[N]``.
        notes: What people should know, a line each.
    """

    pictures: Pictures
    readable: Tensor
    notes: list[str]


def open_encoded(
    encoded: Encoded,
    *,
    image_size: int | tuple[int, int] | None,
    in_memory: bool | None,
    max_bad: int | float,
    bring: Bring | None = None,
) -> Opened:
    """Check the pictures, choose a shape, and decode them where memory allows.

    Args:
        encoded: The pictures; at least one.
        image_size: Height and width to bring them to. By default the size they have; where sizes differ, 64
            if the median of the shorter sides is below 100, else 224.
        in_memory: Whether to hold them decoded; by default if that takes less than `HELD` bytes.
        max_bad: How many may be unreadable: a number, or a share if a float.
        bring: How a picture is brought to the shape; by default `fit`.

    Returns:
        The pictures, and which of them can be read.

    Raises:
        DataError: More than `max_bad` cannot be read.
        MissingExtra: Pillow is not installed.
    """
    _require_pillow()
    # Most sets have one shape: decode at once and look at all headers only if that turns out to be wrong.
    some = range(0, len(encoded), max(1, len(encoded) // 64))
    shapes, bad = in_threads(encoded.header, some)
    first = next(iter(shapes.values()), None)
    if image_size is None and first and set(shapes.values()) == {first} and _held(first, len(encoded), in_memory):
        pictures, bad, other = _decode(encoded, first, fit, exact=True)
        if not other:
            return _opened(Held(pictures), encoded, bad, max_bad, [])

    shapes, bad = in_threads(encoded.header, range(len(encoded)))
    _refuse(encoded, bad, max_bad)
    bring = bring or fit
    shape, notes = _choose(shapes, image_size)
    if image_size is not None and bring is fit:
        notes = _cropped(shapes, shape)
    good = [number for number in range(len(encoded)) if number not in bad]
    if _held(shape, len(encoded), in_memory):
        pictures, bad, _ = _decode(encoded, shape, bring, exact=False)
        return _opened(Held(pictures), encoded, bad, max_bad, notes)
    if len(good) <= CHECKED:
        bad |= in_threads(lambda number: encoded.read(number).shape, good)[1]
    else:
        notes.append(f"{len(good):,} pictures: only their headers were checked.")
    return _opened(Decoded(encoded, shape, bring), encoded, bad, max_bad, notes)


def decode(content: bytes) -> Tensor:
    """A picture from the bytes of a JPEG, PNG or any other file that Pillow reads.

    Args:
        content: The bytes of the file.

    Returns:
        uint8 ``[1, h, w]`` if it is grey, else ``[3, h, w]``, turned as its EXIF tag says. Of 16-bit grey the upper
        8 bits are kept; transparency is dropped.

    Raises:
        Exception: The picture cannot be read; Pillow has many names for it.
    """
    with _open(content) as image:
        return from_pil(_upright(image))


def fit(picture: Tensor, shape: Shape) -> Tensor:
    """The picture brought to a shape: scaled until the shorter side fits, then cropped at the centre.

    Args:
        picture: uint8 ``[1 or 3, h, w]``.
        shape: Channels (1 only for a grey picture), height and width.

    Returns:
        uint8 of that shape.
    """
    channels, height, width = shape
    if picture.shape[1:] != (height, width):
        picture = _resize(picture, height, width)
    return picture.expand(channels, -1, -1)


def inside(picture: Tensor, shape: Shape) -> Tensor:
    """The picture brought to a shape whole: scaled until it fits, with black at the right and below.

    Args:
        picture: uint8 or float, ``[1 or 3, h, w]``.
        shape: Channels (1 only for a grey picture), height and width.

    Returns:
        The same type in that shape.
    """
    channels, height, width = shape
    scale = min(height / picture.shape[1], width / picture.shape[2])
    high, wide = (max(1, round(side * scale)) for side in picture.shape[1:])
    if (high, wide) != tuple(picture.shape[1:]):
        if picture.is_floating_point():
            picture = F.interpolate(picture[None], (high, wide), mode="bilinear", antialias=True)[0]
        else:
            from PIL import Image

            picture = from_pil(_as_pil(picture).resize((wide, high), Image.Resampling.BILINEAR))
    padded = torch.zeros(channels, height, width, dtype=picture.dtype)
    padded[:, :high, :wide] = picture
    return padded


def size_of(file: pathlib.Path) -> tuple[int, int]:
    """Height and width of a picture as it is seen, from the head of its file."""
    from PIL import Image

    with Image.open(file) as image:
        return _size(image)


def told_of_turning(size: tuple[int, int], other: tuple[int, int] | None) -> str:
    """What to do where one size is the other with its sides exchanged, as cameras do; else empty."""
    if size == other or size[::-1] != other:
        return ""
    return (
        " Pictures are turned as their EXIF tag says; where that was not done before, turn what was made of them, or "
        "remove the tag Orientation."
    )


def _as_pil(picture: Tensor) -> "Image":
    from PIL import Image

    size = (picture.shape[2], picture.shape[1])
    return Image.frombytes("L" if len(picture) == 1 else "RGB", size, picture.permute(1, 2, 0).numpy().tobytes())


def _resize(picture: Tensor, height: int, width: int) -> Tensor:
    from PIL import Image

    image = _as_pil(picture)
    scale = max(height / image.height, width / image.width)
    size = (max(width, round(image.width * scale)), max(height, round(image.height * scale)))
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    scaled = image.resize(size, Image.Resampling.BILINEAR)
    return from_pil(scaled.crop((left, top, left + width, top + height)))


def from_pil(image: "Image") -> Tensor:
    """A Pillow image as uint8 ``[1, h, w]`` if it is grey, else ``[3, h, w]``."""
    if image.mode.startswith("I;16"):
        pixels = torch.frombuffer(bytearray(image.convert("I").tobytes()), dtype=torch.int32)
        return (pixels >> 8).to(torch.uint8).view(1, image.height, image.width)
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode} have no known range; store them as 8 or 16 bits")
    mode = "L" if _is_grey(image) else "RGB"
    if "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode != mode:
        image = image.convert(mode)
    pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return pixels.view(image.height, image.width, -1).permute(2, 0, 1)


def _open(content: bytes) -> "Image":
    from PIL import Image, UnidentifiedImageError

    try:
        return Image.open(io.BytesIO(content))
    except UnidentifiedImageError:
        raise ValueError("no picture file" if content else "empty") from None


def _orientation(image: "Image") -> int:
    """How EXIF says that the camera was held, 1 to 8; 1, upright, where it says nothing."""
    if "exif" not in image.info:  # Pillow would decode the whole picture to look for it behind the pixels
        return 1
    try:
        tag = image.getexif().get(ORIENTATION)
    except Exception:  # damaged EXIF does not make a picture unreadable
        return 1
    return int(tag) if tag in _TURNS else 1


def _upright(image: "Image") -> "Image":
    """The picture as it is seen: cameras store it as they were held."""
    from PIL.Image import Transpose

    held = _orientation(image)
    return image if held == 1 else image.transpose(Transpose[_TURNS[held]])


def _size(image: "Image") -> tuple[int, int]:
    """Height and width of the picture as it is seen."""
    return (image.height, image.width) if _orientation(image) < 5 else (image.width, image.height)


def _is_grey(image: "Image") -> bool:
    return image.mode in ("1", "L", "LA") or image.mode.startswith("I;16")


def _choose(shapes: Mapping[int, Shape], image_size: int | tuple[int, int] | None) -> tuple[Shape, list[str]]:
    channels = max(shape[0] for shape in shapes.values())
    sizes = {shape[1:] for shape in shapes.values()}
    if image_size is not None:
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        return (channels, height, width), []
    if len(sizes) == 1:
        return (channels, *sizes.pop()), []
    middle = median(min(shape[1:]) for shape in shapes.values())
    side = 64 if middle < 100 else 224
    note = (
        f"pictures have {len(sizes):,} sizes (median shorter side {middle:g}): each is scaled and cropped to "
        f"{side}x{side}; image_size sets another size."
    )
    return (channels, side, side), [note]


def _cropped(shapes: Mapping[int, Shape], shape: Shape) -> list[str]:
    """A note where pictures of other proportions are cropped."""
    _, height, width = shape
    kept = [min(high * width, wide * height) / max(high * width, wide * height) for _, high, wide in shapes.values()]
    if min(kept) > CROPPED:
        return []
    return [
        f"image_size {height}x{width} cuts up to {1 - min(kept):.0%} off pictures of other proportions: they are "
        "scaled until the shorter side fits, then cropped at the centre."
    ]


def _held(shape: Shape, count: int, in_memory: bool | None) -> bool:
    if in_memory is not None:
        return in_memory
    return count * shape[0] * shape[1] * shape[2] < HELD


def _decode(encoded: Encoded, shape: Shape, bring: Bring, *, exact: bool) -> tuple[Tensor, dict[int, str], bool]:
    """All pictures, what is wrong with the unreadable, and whether some had another shape (if `exact`)."""
    pictures = torch.zeros(len(encoded), *shape, dtype=torch.uint8)

    def one(number: int) -> bool:
        picture = encoded.read(number)
        if exact and picture.shape != shape:
            return False
        pictures[number] = bring(picture, shape)
        return True

    done, bad = in_threads(one, range(len(encoded)))
    return pictures, bad, not all(done.values())


def in_threads(work: Callable[[int], _Answer], numbers: Sequence[int]) -> tuple[dict[int, _Answer], dict[int, str]]:
    """What `work` answers to each number, or raises, in threads: decoders let go of the interpreter."""

    def some(first: int) -> list[tuple[int, _Answer | None, str | None]]:
        told: list[tuple[int, _Answer | None, str | None]] = []
        for number in numbers[first : first + 256]:
            try:
                told.append((number, work(number), None))
            except Exception as error:  # a decoder may raise anything on a broken file
                told.append((number, None, str(error) or type(error).__name__))
        return told

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        told = [one for chunk in threads.map(some, range(0, len(numbers), 256)) for one in chunk]
    answers: dict[int, Any] = {number: answer for number, answer, error in told if error is None}
    return answers, {number: error for number, _, error in told if error is not None}


def _opened(
    pictures: Pictures, encoded: Encoded, bad: Mapping[int, str], max_bad: int | float, notes: list[str]
) -> Opened:
    _refuse(encoded, bad, max_bad)
    readable = torch.ones(len(encoded), dtype=torch.bool)
    readable[list(bad)] = False
    if bad:
        notes = [*notes, f"{_count(bad)} could not be read and left out: {_some(encoded, bad)}."]
    return Opened(pictures, readable, notes)


def _refuse(encoded: Encoded, bad: Mapping[int, str], max_bad: int | float) -> None:
    allowed = int(max_bad * len(encoded)) if isinstance(max_bad, float) else max_bad
    if len(bad) > allowed or len(bad) == len(encoded):
        raise DataError(
            f"expected at most {allowed:,} unreadable of {len(encoded):,} pictures, found {len(bad):,}: "
            f"{_some(encoded, bad)}. Mend or remove them, or raise max_bad: --set data.max_bad=NUMBER."
        )


def _count(bad: Mapping[int, str]) -> str:
    return "1 picture" if len(bad) == 1 else f"{len(bad):,} pictures"


def _some(encoded: Encoded, bad: Mapping[int, str]) -> str:
    first = [f"{encoded.names[number]} ({what})" for number, what in sorted(bad.items())[:5]]
    return "; ".join(first) + ("; …" if len(bad) > 5 else "")


def _require_pillow() -> None:
    try:
        import PIL.Image  # noqa: F401
    except ImportError as error:
        raise MissingExtra("reading pictures needs Pillow: pip install 'tutelage[train]'") from error
