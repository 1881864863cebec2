"""Folders for super-resolution: large pictures, with or without their small ones."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tutelage.errors import DataError

from .cut import cut
from .encoded import HELD, Encoded, from_pil, told_of_turning
from .image_folder import SUFFIXES, pictures_below
from .own import sample_of
from .pairs import Given, Pairs, PairSlice
from .slices import Splits
from .source import Source

_SPLITS = {
    "train": ("train", "training"),
    "selection": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
_SCALES = (2, 3, 4, 8)

SSIM_WINDOW = 11
"""Side of the Gaussian window of SSIM, with a deviation of 1.5: a picture without its border is as large or larger."""

Files = list[tuple[pathlib.Path, pathlib.Path | None]]
"""Large pictures, each with its small one where there is one."""

Shape = tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class Sides:
    """The pictures of one part: the large ones, and the small ones in the same order if there are any."""

    large: Encoded | Given
    small: Encoded | Given | None


def open_pairs(
    source: Any,
    *,
    scale: int | None = None,
    patch: int = 96,
    patches: int = 16,
    selection_data: str | None = None,
    test_data: str | None = None,
    seed: int = 0,
    selection: float = 0.1,
    guard: float | None = 0.0,
    test: float = 0.2,
    limit: int | float | None = None,
    in_memory: bool | None = None,
    root: str = "data",
    allow_import: Sequence[str] = (),
) -> Splits:
    """Pairs of pictures from a folder, or from a data set of your own, cut into slices.

    A folder holds large pictures; or ``HR`` and ``LR`` with pictures of the same names; or one such folder for each
    scale (``x2``, ``x3``, …); or any of these in ``train``, with ``val`` and ``test`` beside it. Where there are no
    small pictures, they are made by bicubic downscaling (`bicubic.downscale`).

    A data set gives pairs (small, large), or large pictures alone: uint8 tensors ``[C, h, w]`` or Pillow images, which
    are read once. A mapping names ``train`` and, if there are any, ``validation`` and ``test``.

    Args:
        source: The folder, or the data set.
        scale: How many times larger; None: what the pairs say, else 2.
        patch: Side of a training patch of the large picture, a multiple of the scale.
        patches: Patches of each picture in an epoch.
        selection_data: Another folder, whose training part is the selection split.
        test_data: Another folder, whose training part is the test split.
        seed: Another seed cuts other slices.
        selection: Share of the training set held out for selection, if there is no such split.
        guard: Share of the labelled training samples held out for the guard; None as for `cut`.
        test: Share of everything held out as test, if there is no such split.
        limit: Training pictures to keep; a number, or a share if a float.
        in_memory: Whether to hold the decoded pictures; by default if that takes less than `HELD` bytes.
        root: Where a relative path is looked for if it is not found as it is.
        allow_import: Not used here.

    Returns:
        The slices; `facts` hold the scale.

    Raises:
        DataError: No pictures, a small one without a large one, sizes that do not fit the scale, training pictures
            smaller than a patch, or pictures too small to be measured.
    """
    named = isinstance(source, str | pathlib.Path)
    name = f"{_folder(source, root).name}/" if named else type(source).__name__
    found = _parts(_folder(source, root), scale) if named else _own(source)
    others = {"selection": selection_data, "test": test_data}
    for part, other in others.items():
        if other is not None:
            found[part] = _parts(_folder(other, root), scale)["train"]
    scale = _scale(found, scale)
    if patch < scale or patch % scale:
        raise DataError(f"data.patch: expected a multiple of the scale, {scale}, found {patch}.")
    if patches < 1:
        raise DataError(f"data.patches: expected 1 or more, found {patches}.")
    shapes = {part: _shapes(sides.large) for part, sides in found.items()}
    small = {part: _shapes(sides.small) for part, sides in found.items() if sides.small is not None}
    kinds = {shape[0] for each in (*shapes.values(), *small.values()) for shape in each}
    channels = max(kinds)
    bytes_ = sum(channels * shape[1] * shape[2] for each in shapes.values() for shape in each)
    held = bytes_ < HELD if in_memory is None else in_memory
    options: dict[str, Any] = {"scale": scale, "channels": channels, "patch": patch, "held": held}
    for part, sides in found.items():
        if part in small:
            _refuse_unequal(sides.large, shapes[part], small[part], scale)
        _refuse_small(part, sides.large, shapes[part], patch, scale)
    parts = {part: PairSlice(Pairs(sides.large, sides.small, **options)) for part, sides in found.items()}
    layout = "HR pictures" if found["train"].small is None else "HR and LR pictures"
    splits = cut(
        Source(name, layout, parts, _notes(found, kinds, scale, patch, patches), {"scale": scale}),
        seed=seed, selection=selection, guard=guard, test=test, limit=limit,
    )  # fmt: skip
    counts = ((name, len(getattr(splits, name))) for name in ("train", "selection", "guard", "test"))
    told = " + ".join(f"{count:,} {name}" for name, count in counts if count)
    colour = "grey" if channels == 1 else "colour"
    train = splits.train
    assert isinstance(train, PairSlice)
    guess = f"{name}: {layout}, x{scale}, {sum(map(len, shapes.values())):,} {colour} pictures ({told})"
    return dataclasses.replace(splits, train=train.repeated(patches), guess=guess)


def recognised(source: Any) -> str | None:
    """What shows that a folder holds pictures for super-resolution; None if nothing.

    Args:
        source: A path, or anything else, which is none.
    """
    if not isinstance(source, str | pathlib.Path) or not pathlib.Path(source).is_dir():
        return None
    folder = pathlib.Path(source)
    train = next((f for f in _folders(folder) if f.name.lower() in _SPLITS["train"]), folder)
    below = {f.name.lower() for f in _folders(train)}
    if "hr" in below or (below and below <= {f"x{scale}" for scale in _SCALES}):
        return f"{train.name}/ holds large and small pictures"
    if not below and _pictures(train) and not _annotated(train):
        return f"{train.name}/ holds pictures without classes, masks or boxes"
    return None


def _annotated(folder: pathlib.Path) -> bool:
    """Whether annotations lie beside the pictures: XML, JSON, or a text file with a picture's name."""
    stems = {path.stem for path in _pictures(folder)}
    kinds = ((path.stem, path.suffix.lower()) for path in folder.iterdir())
    return any(kind in (".xml", ".json") or (kind == ".txt" and stem in stems) for stem, kind in kinds)


def _folder(source: Any, root: str) -> pathlib.Path:
    for place in (pathlib.Path(source), pathlib.Path(root) / source):
        if place.is_dir():
            return place
    raise DataError(f"expected a folder of pictures for super-resolution, found no folder {source}.")


def _parts(folder: pathlib.Path, scale: int | None) -> dict[str, Sides]:
    there = {path.name.lower(): path for path in _folders(folder)}
    splits = {split: there[name] for split, names in _SPLITS.items() for name in names if name in there}
    if "train" not in splits:
        splits = {"train": folder}
    return {split: _sides(_files(place, scale)) for split, place in splits.items()}


def _sides(files: Files) -> Sides:
    small = [path for _, path in files if path is not None]
    return Sides(_encoded([path for path, _ in files]), _encoded(small) if small else None)


def _own(source: Any) -> dict[str, Sides]:
    """The parts of a data set that was given as an object."""
    given = source if isinstance(source, Mapping) else {"train": source}
    words = {word: split for split, several in _SPLITS.items() for word in (split, *several)}
    if unknown := [str(part) for part in given if part not in words]:
        raise DataError(f"expected the splits train, validation and test, found {_told(unknown)}.")
    found = {words[part]: _read(str(part), dataset) for part, dataset in given.items()}
    if "train" not in found:
        raise DataError(f"expected a 'train' data set, found {_told(list(found))}.")
    return found


def _read(part: str, dataset: Any) -> Sides:
    dataset = getattr(dataset, "dataset", dataset)  # of a loader its data set is taken
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__") or not len(dataset):
        raise DataError(f"expected a {part} data set with a length and samples, found {type(dataset).__name__}.")
    small: list[Tensor] = []
    large: list[Tensor] = []
    for number in range(len(dataset)):
        sample = sample_of(dataset, number)
        pair = sample if isinstance(sample, tuple | list) else (sample,)
        *rest, last = (_picture(picture, part, number) for picture in pair[:2])
        large.append(last)
        small += rest
    if small and len(small) < len(large):
        raise DataError(f"expected (small, large) of every sample of {part}, found some without a small picture.")
    return Sides(Given(large, f"{part} large"), Given(small, f"{part} small") if small else None)


def _picture(picture: Any, part: str, number: int) -> Tensor:
    found = from_pil(picture) if hasattr(picture, "convert") else picture
    if isinstance(found, Tensor) and found.dtype == torch.uint8 and found.dim() == 3 and found.shape[0] in (1, 3):
        return found
    told = f"{found.dtype} {list(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
    raise DataError(
        f"expected pictures as uint8 [1 or 3, h, w], found {told} at sample {number} of {part}. Convert them in your "
        "data set; what is learned from and measured are steps of 8 bits."
    )


def _files(folder: pathlib.Path, scale: int | None) -> Files:
    there = {path.name.lower(): path for path in _folders(folder)}
    scales = [each for each in _SCALES if f"x{each}" in there]
    if scales and "hr" not in there:
        if scale is None and len(scales) > 1:
            each = ", ".join(map(str, scales))
            raise DataError(f"{folder} holds pictures for several scales, {each}: choose one with data.scale.")
        chosen = scales[0] if scale is None else scale
        if chosen not in scales:
            each = ", ".join(f"x{one}" for one in scales)
            raise DataError(f"data.scale: expected one of those in {folder} ({each}), found {chosen}.")
        return _files(there[f"x{chosen}"], chosen)
    if "hr" not in there:
        large = _pictures(folder)
        if not large:
            raise DataError(
                f"expected pictures in {folder}, or the folders HR and LR, found none. Pictures end in "
                f"{', '.join(sorted(SUFFIXES))}."
            )
        return [(path, None) for path in large]
    large = _pictures(there["hr"])
    if not large:
        raise DataError(f"expected pictures in {there['hr']}, found none.")
    if "lr" not in there:
        return [(path, None) for path in large]
    small = {path.stem: path for path in _pictures(there["lr"])}
    pairs = [(path, _partner(path, small)) for path in large]
    lone = [path.name for path, partner in pairs if partner is None]
    known = {partner for _, partner in pairs}
    spare = [path.name for path in small.values() if path not in known]
    if lone or spare:
        raise DataError(
            f"expected the same names in HR and LR of {folder}, found {_told(lone)} only in HR and {_told(spare)} only "
            "in LR. Rename or remove some."
        )
    return [(path, partner) for path, partner in pairs]


def _partner(large: pathlib.Path, small: Mapping[str, pathlib.Path]) -> pathlib.Path | None:
    names = (large.stem, *(f"{large.stem}x{scale}" for scale in _SCALES))
    return next((small[name] for name in names if name in small), None)


def _scale(found: Mapping[str, Sides], asked: int | None) -> int:
    """The scale that the first pair is nearest to; what was asked for, or 2, where there is none."""
    sides = next((sides for sides in found.values() if sides.small is not None), None)
    if sides is None or sides.small is None:
        scale = 2 if asked is None else asked
    else:
        large, small = (_shapes(side, first=True)[0] for side in (sides.large, sides.small))
        scale = min(_SCALES, key=lambda each: abs(large[1] - each * small[1]))
        if asked not in (None, scale):
            raise DataError(
                f"data.scale: expected {scale}, by which {sides.large.names[0]} is larger than its small picture; "
                f"found {asked}."
            )
    if scale not in _SCALES:
        raise DataError(f"data.scale: expected {', '.join(map(str, _SCALES))}, found {scale}.")
    return scale


def _shapes(encoded: Encoded | Given, *, first: bool = False) -> list[Shape]:
    """Channels, height and width of the pictures (or of the first alone), from their first bytes."""
    shapes, broken = [], []
    for number, name in enumerate(encoded.names[: 1 if first else None]):
        try:
            shapes.append(encoded.header(number))
        except Exception as error:  # a decoder may raise anything on a broken file
            broken.append(f"{name} ({str(error) or type(error).__name__})")
    if broken:
        raise DataError(f"expected readable pictures, found {_told(broken)}. Mend or remove them.")
    return shapes


def _refuse_unequal(large: Encoded | Given, shapes: Sequence[Shape], small: Sequence[Shape], scale: int) -> None:
    """A large picture without what is left over at its edges is `scale` times its small one."""
    wrong = [
        (name, of[1:], size[1:])
        for name, of, size in zip(large.names, shapes, small, strict=True)
        if (of[1] // scale, of[2] // scale) != size[1:]
    ]
    if wrong:
        told = [f"{name} ({of[0]} x {of[1]} beside {size[0]} x {size[1]})" for name, of, size in wrong]
        _, of, size = wrong[0]
        turned = told_of_turning((of[0] // scale, of[1] // scale), size)
        raise DataError(
            f"expected large pictures {scale} times as large as their small ones, found {_told(told)}. Crop the large "
            f"ones to a multiple of {scale} and make the small ones anew, or leave the small ones out: they are made "
            f"then.{turned}"
        )


def _refuse_small(part: str, large: Encoded | Given, shapes: Sequence[Shape], patch: int, scale: int) -> None:
    """Training pictures hold a patch; any may be measured, whole."""
    measured = SSIM_WINDOW + 2 * scale
    least = max(patch, measured) if part == "train" else measured
    small = [
        f"{name} ({height} x {width})"
        for name, (_, height, width) in zip(large.names, shapes, strict=True)
        if min(height - height % scale, width - width % scale) < least
    ]
    if small:
        patches = f"Take a smaller patch (--set data.patch=…, a multiple of {scale}), or remove them."
        do = patches if least > measured else f"SSIM needs {SSIM_WINDOW} beside a border of {scale}. Remove them."
        kind = "training" if part == "train" else part
        raise DataError(f"expected {kind} pictures of {least} pixels a side or more, found {_told(small)}. {do}")


def _encoded(files: Sequence[pathlib.Path]) -> Encoded:
    return Encoded([path.name for path in files], files)


def _notes(found: Mapping[str, Sides], kinds: set[int], scale: int, patch: int, each: int) -> list[str]:
    notes = [f"training: {each} patches of {patch} x {patch} of each picture in an epoch; else whole pictures."]
    if any(sides.small is None for sides in found.values()):
        notes.append(f"small pictures are made by bicubic downscaling, x{scale}, as MATLAB's imresize does it.")
    notes += _unread(found)
    if len(kinds) > 1:
        notes.append("some pictures are grey: they are taken as pictures of equal colours.")
    return notes


def _unread(found: Mapping[str, Sides]) -> list[str]:
    """A note on pictures in folders below those that are read."""
    sides = [side for each in found.values() for side in (each.large, each.small) if isinstance(side, Encoded)]
    places = {content.parent for side in sides for content in side.contents if isinstance(content, pathlib.Path)}
    below = [path.relative_to(place) for place in places for path in pictures_below(place) if path.parent not in places]
    folders = sorted({path.parts[0] for path in below})
    return [f"{len(below):,} pictures in folders below are not read: {_told(folders)}."] if below else []


def _folders(root: pathlib.Path) -> list[pathlib.Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith((".", "__")))


def _pictures(folder: pathlib.Path) -> list[pathlib.Path]:
    files = (path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith("."))
    return sorted(path for path in files if path.is_file())


def _told(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "") if names else "none"
