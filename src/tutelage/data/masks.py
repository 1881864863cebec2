"""Pictures with masks: one class for each pixel, in two folders side by side, or as Pascal VOC or COCO have them."""

import hashlib
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tutelage.errors import DataError

from .augment_masks import IGNORED, AugmentMasks
from .coco_masks import Drawn, coco_masks
from .cut import cut
from .encoded import Encoded, Shape, in_threads, open_encoded, told_of_turning
from .frames import blocks_of
from .mask_files import LAYOUTS, Pair, any_mask, find_pairs, some_of
from .own import PARTS, picture_of, refuse_shape, sample_of
from .slices import UNLABELLED, Slice, Splits
from .source import Source, refuse_shared


class Masks:
    """Masks in memory or read when they are asked for, brought to the shape of their pictures.

    Args:
        files: Of each mask, or what to draw.
        shape: Channels, height and width of the pictures.
        table: Class of each value, uint8 ``[256]``.
        held: All of them, uint8 ``[N, H, W]``; None reads them when they are asked for.
    """

    augmentation = AugmentMasks

    def __init__(
        self, files: Sequence[pathlib.Path | Drawn | None], shape: Shape, table: Tensor, held: Tensor | None = None
    ) -> None:
        self._files, self._shape, self._table, self._held = files, shape, table, held

    def __len__(self) -> int:
        return len(self._files)

    def gather(self, positions: Tensor) -> Tensor:
        """The masks at these positions, uint8 ``[n, H, W]``: classes, and `IGNORED`."""
        if self._held is not None:
            return self._held[positions]
        masks = torch.full((len(positions), *self._shape[1:]), IGNORED, dtype=torch.uint8)
        for row, number in enumerate(positions.tolist()):
            if (file := self._files[number]) is not None:
                masks[row] = fit_mask(self._table[read_mask(file).long()], self._shape)
        return masks

    def digest(self, positions: Tensor) -> bytes:
        """A hash of the masks in memory; of names and sizes of the files, and of the values' classes, else."""
        told = hashlib.sha256(str(self._shape).encode() + bytes(self._table.tolist()))
        if self._held is not None:
            for some in torch.split(positions, 1024):
                told.update(self._held[some].numpy().data)
            return told.digest()
        for number in positions.tolist():
            file = self._files[number]
            if isinstance(file, Drawn):
                told.update(file.mark())
            else:
                told.update(b"none" if file is None else f"{file.name} {file.stat().st_size}\n".encode())
        return told.digest()


def open_masks(
    source: str | os.PathLike[str] | Any,
    *,
    class_names: Sequence[str] | None = None,
    ignore_index: int | None = None,
    frames: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    seed: int = 0,
    selection: float = 0.1,
    guard: float | None = 0.0,
    test: float = 0.2,
    limit: int | float | None = None,
    labels: int | float | None = None,
    max_bad: int | float = 0.01,
    in_memory: bool | None = None,
    allow_import: Sequence[str] = (),
) -> Splits:
    """Open pictures with masks, whose values are numbers of classes.

    Args:
        source: A folder in one of the `LAYOUTS`, or a JSON file of COCO; or your own `Dataset` of (picture, mask), or
            a mapping with ``"train"`` and, if there are any, ``"validation"`` and ``"test"``. A mask is a tensor, an
            array or a Pillow image ``[H, W]`` of whole numbers; your own are read once, into memory.
        class_names: The classes, in the order of the masks' values; by default ``classes.txt`` in the folder (one a
            line), else as many as there are values. Of COCO, the background and the categories.
        ignore_index: The value of pixels that belong to no class. By default 255, and, where the classes are named, a
            single value beyond them.
        frames: Frames of a video that follow each other and count as one, 0 for none; by default
            `FRAMES` where the names look like frames and there are enough of them.
        image_size: Height and width to bring pictures and masks to, as for `open_data`.
        seed: Another seed cuts other slices.
        selection: Share of the training set held out for selection, if there is no validation split.
        guard: Share of the labelled training samples held out for the guard; None as for `cut`.
        test: Share of everything held out as test, if there is no test split.
        limit: Training samples to keep: a number, or a share if a float.
        labels: Training samples that keep their mask.
        max_bad: How many pictures may be unreadable, or without a readable mask: a number, or a share if a float.
        in_memory: Whether to hold all of them decoded; by default if the pictures take less than 2 GB.
        allow_import: Not used: nothing is imported.

    Returns:
        The slices. Targets are uint8 ``[n, H, W]``, `IGNORED` where a pixel has no class.

    Raises:
        DataError: The folder cannot be read or used; the message says what to do.
    """
    sizes: dict[str, Any] = {"seed": seed, "selection": selection, "guard": guard, "test": test}
    if not isinstance(source, str | os.PathLike):
        own = _own(source, class_names, ignore_index, image_size)
        return cut(own, limit=limit, labels=labels, **sizes)
    root, notes = pathlib.Path(source), list[str]()
    found = find_pairs(root)
    if found is None and (drawn := coco_masks(root)) is not None:
        layout, parts, names = drawn
        found = layout, {part: [Pair(*each) for each in members] for part, members in parts.items()}
        class_names = class_names or names[int(ignore_index == 0) :]
        if ignore_index != 0:
            notes = [f"pixels that no shape covers are {names[0]!r}; data.ignore_index=0 leaves them out."]
    if found is None:
        raise DataError(
            f"expected pictures with masks in {root}, found none. Known are: "
            + "; ".join(f"{name}: {what}" for name, what in LAYOUTS.items())
        )
    layout, pairs = found
    options = {"image_size": image_size, "in_memory": in_memory, "max_bad": max_bad}
    opened = _open(root, layout, pairs, class_names, ignore_index, frames, test, notes, **options)
    return cut(opened, limit=limit, labels=labels, **sizes)


def read_mask(file: pathlib.Path | Drawn) -> Tensor:
    """The values of a mask, uint8 ``[h, w]``; of a palette its numbers, not its colours.

    Raises:
        ValueError: It holds colours, numbers beyond 255, or what cannot be drawn.
    """
    if isinstance(file, Drawn):
        return file.read()
    from PIL import Image

    with Image.open(file) as image:
        return _values(image)


def _values(image: Any) -> Tensor:
    """The same of a Pillow image."""
    if image.mode.startswith("I"):
        wide = torch.frombuffer(bytearray(image.convert("I").tobytes()), dtype=torch.int32)
        if wide.numel() and int(wide.max()) > 255:
            raise ValueError(f"values up to {int(wide.max())}: at most 255 classes are known")
        return wide.to(torch.uint8).view(image.height, image.width)
    if image.mode not in ("L", "P", "1"):
        raise ValueError(f"{image.mode} pixels: a mask holds one number for each pixel")
    pixels = torch.frombuffer(
        bytearray((image.convert("L") if image.mode == "1" else image).tobytes()), dtype=torch.uint8
    )
    return pixels.view(image.height, image.width) // (255 if image.mode == "1" else 1)


def fit_mask(mask: Tensor, shape: Shape) -> Tensor:
    """The mask scaled and cropped as `encoded.fit` does with its picture; every pixel keeps the class of the nearest.

    Args:
        mask: uint8 ``[h, w]``.
        shape: Channels, height and width of the pictures.
    """
    from PIL import Image

    _, height, width = shape
    if mask.shape == (height, width):
        return mask
    image = Image.frombytes("L", (mask.shape[1], mask.shape[0]), mask.contiguous().numpy().tobytes())
    scale = max(height / image.height, width / image.width)
    size = (max(width, round(image.width * scale)), max(height, round(image.height * scale)))
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    scaled = image.resize(size, Image.Resampling.NEAREST).crop((left, top, left + width, top + height))
    return torch.frombuffer(bytearray(scaled.tobytes()), dtype=torch.uint8).view(height, width)


def _open(
    root: pathlib.Path,
    layout: str,
    pairs: Mapping[str, list[Pair]],
    class_names: Sequence[str] | None,
    ignore_index: int | None,
    frames: int | None,
    test: float,
    notes: Sequence[str] = (),
    **options: Any,
) -> Source:
    if not pairs["train"]:
        raise DataError(f"expected pictures in the training set of {root}, found none.")
    bare = [part for part, members in pairs.items() if part != "train" and not any_mask({part: members})]
    pairs = {part: members for part, members in pairs.items() if part not in bare}
    refuse_shared({part: [pair.picture for pair in members] for part, members in pairs.items()})
    every = [pair for part in pairs.values() for pair in part]
    encoded = Encoded([pair.name for pair in every], [pair.picture for pair in every])
    opened = open_encoded(encoded, **options)
    shape, notes = opened.pictures.shape, [*opened.notes, *notes]
    notes += [f"the {part} split has no masks and is left out." for part in bare]
    usable, seen, bad = _look(every, encoded, opened.readable)
    notes += _refuse_many(root, every, bad, options["max_bad"])
    classes, table, told = _classes(root, every, seen, class_names, ignore_index)
    files = [pair.mask if number in usable else None for number, pair in enumerate(every)]
    masks = Masks(files, shape, table)
    if opened.pictures.in_memory:
        masks = Masks(files, shape, table, masks.gather(torch.arange(len(every))))
    known = torch.tensor([bool((table[seen[n]] != IGNORED).any()) if n in seen else False for n in range(len(every))])
    if empty := [every[number].name for number in sorted(usable) if not known[number]]:
        notes.append(f"{len(empty):,} pictures have no pixel of any class and count as unlabelled: {some_of(empty)}.")
    if not known.any():
        raise DataError(f"expected masks with pixels of a class in {root}, found none: all are ignored.")
    labels = torch.where(known, 0, UNLABELLED)
    index = torch.cat([torch.arange(len(part)) for part in pairs.values()])
    blocks, said = blocks_of({part: [pair.name for pair in members] for part, members in pairs.items()}, frames, test)
    whole = Slice(opened.pictures, labels, classes, truth=masks, index=index, blocks=blocks)
    parts, first = {}, 0
    keep = torch.tensor([number in usable for number in range(len(every))])
    for part, members in pairs.items():
        here = torch.arange(first, first + len(members))
        parts[part], first = whole.select(here[keep[here]]), first + len(here)
    return Source(root.name if root.is_file() else f"{root.name}/", layout, parts, [*notes, *told, *said])


def _own(
    given: Any, class_names: Sequence[str] | None, ignore_index: int | None, image_size: int | tuple[int, int] | None
) -> Source:
    """A data set of (picture, mask) of the user's, or one for each split."""
    sets = given if isinstance(given, Mapping) else {"train": given}
    if unknown := [part for part in sets if part not in PARTS]:
        raise DataError(f"expected the splits train, validation and test, found {unknown[0]!r}.")
    if not len(sets.get("train", ())):
        raise DataError("expected samples (picture, mask) in a 'train' data set, found none.")
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    pictures: dict[str, list[Tensor]] = {}
    masks: dict[str, list[Tensor]] = {}
    every: list[Pair] = []
    first: Shape | None = None
    for part, dataset in sets.items():
        for number in range(len(dataset)):
            name, sample = f"{part} {number}", sample_of(dataset, number)
            whole, mask = picture_of(sample, number, None), _whole_numbers(sample[1], name)
            if whole.shape[1:] != mask.shape:
                raise DataError(
                    f"expected masks of the size of their pictures, found {tuple(mask.shape)} beside a picture of "
                    f"{tuple(whole.shape[1:])} at sample {name}. Make them alike; they are scaled together."
                )
            seen = picture_of(sample, number, size)  # floats keep their size
            shape = (seen.shape[0], seen.shape[1], seen.shape[2])
            first = shape if first is None else first
            refuse_shape(seen, number, first)
            pictures.setdefault(PARTS[part], []).append(seen)
            masks.setdefault(PARTS[part], []).append(fit_mask(mask, shape))
            every.append(Pair(name, pathlib.Path(), None))
    read = [mask for part in masks.values() for mask in part]
    seen_values = {number: mask.flatten().bincount().nonzero().flatten() for number, mask in enumerate(read)}
    named = class_names or getattr(sets["train"], "classes", None)
    classes, table, notes = _classes(pathlib.Path("your data set"), every, seen_values, named, ignore_index)
    assert first is not None
    parts = {}
    for part, members in pictures.items():
        held = table[torch.stack(masks[part]).long()]
        labels = torch.where((held != IGNORED).flatten(1).any(dim=1), 0, UNLABELLED)
        truth = Masks([None] * len(held), first, table, held)
        parts[part] = Slice(torch.stack(members), labels, classes, truth=truth)
    return Source(type(sets["train"]).__name__, "your own pictures with masks", parts, notes)


def _whole_numbers(given: Any, name: str) -> Tensor:
    """A mask of the user's as uint8 ``[h, w]``."""
    expected = f"expected a mask [H, W] of whole numbers up to 255 at sample {name}, found"
    try:
        mask = _values(given) if hasattr(given, "convert") else torch.as_tensor(given)
    except ValueError as error:
        raise DataError(f"{expected} {error}. Convert it in your data set.") from error
    whole = mask.ndim == 2 and not mask.is_floating_point()
    values = mask.long() if whole else mask  # unsigned numbers of 16 bits have no minimum in torch
    if not whole or (values.numel() and not -1 <= int(values.min()) <= int(values.max()) <= 255):
        raise DataError(f"{expected} {mask.dtype} {list(mask.shape)}. Convert it in your data set.")
    return values.where(values >= 0, IGNORED).to(torch.uint8)


def _look(
    every: Sequence[Pair], encoded: Encoded, readable: Tensor
) -> tuple[set[int], dict[int, Tensor], dict[int, str]]:
    """Which pairs can be used, the values in each mask, and what is wrong with the others.

    Raises:
        DataError: A mask has another size than its picture.
    """
    there = [number for number in range(len(every)) if readable[number]]
    bad = {number: "no mask" for number in there if every[number].mask is None}

    def one(number: int) -> tuple[Tensor, tuple[int, int], tuple[int, int]]:
        mask = every[number].mask
        assert mask is not None
        values = read_mask(mask)
        return (
            values.flatten().bincount().nonzero().flatten(),
            (values.shape[0], values.shape[1]),
            encoded.header(number)[1:],
        )

    found, broken = in_threads(one, [number for number in there if number not in bad])
    bad |= {number: f"mask: {what}" for number, what in broken.items()}
    differ = [(every[n], size, of) for n, (_, size, of) in found.items() if size != of]
    if differ:
        pair, size, of = differ[0]
        raise DataError(
            f"expected masks of the size of their pictures, found {len(differ):,} that are not: the mask of "
            f"{pair.name} is {size[0]}x{size[1]}, its picture {of[0]}x{of[1]}. Make them alike: they are "
            f"scaled together.{told_of_turning(size, of)}"
        )
    return set(found), {number: values for number, (values, *_) in found.items()}, bad


def _refuse_many(root: pathlib.Path, every: Sequence[Pair], bad: Mapping[int, str], max_bad: int | float) -> list[str]:
    """A note on the pairs that are left out, unless there are too many."""
    if not bad:
        return []
    some = some_of([f"{every[number].name} ({what})" for number, what in sorted(bad.items())])
    allowed = int(max_bad * len(every)) if isinstance(max_bad, float) else max_bad
    if len(bad) > allowed:
        raise DataError(
            f"expected a readable mask for each picture in {root}, found {len(bad):,} of {len(every):,} without: "
            f"{some}. Add or mend the masks, remove the pictures, or raise max_bad: --set data.max_bad=NUMBER."
        )
    return [f"{len(bad):,} pictures without a readable mask are left out: {some}."]


def _classes(
    root: pathlib.Path,
    every: Sequence[Pair],
    seen: Mapping[int, Tensor],
    class_names: Sequence[str] | None,
    ignore_index: int | None,
) -> tuple[tuple[str, ...], Tensor, list[str]]:
    """Names of the classes, the class of each value (uint8 ``[256]``), and what was guessed."""
    listed = root / "classes.txt"
    notes: list[str] = []
    if class_names is None and listed.is_file():
        class_names = [line.strip() for line in listed.read_text(encoding="utf-8").splitlines() if line.strip()]
        notes.append(f"{len(class_names)} classes are named in {listed.name}.")
    if ignore_index is not None and not 0 <= ignore_index <= 255:
        raise DataError(f"expected ignore_index from 0 to 255, found {ignore_index}.")
    present = torch.zeros(256, dtype=torch.bool)
    for inside in seen.values():
        present[inside] = True
    ignored = {IGNORED} | ({ignore_index} if ignore_index is not None else set())
    found = [value for value in present.nonzero().flatten().tolist() if value not in ignored]
    if present.nonzero().flatten().tolist() == [0, IGNORED]:
        raise DataError(
            f"expected masks with the numbers of classes in {root}, found only the values 0 and {IGNORED}, and "
            f"{IGNORED} stands for pixels without a class. Save the masks with 0 and 1."
        )
    if class_names is None:
        names = tuple(str(value) for value in range(max(found, default=-1) + 1) if value not in ignored)
        notes.append(
            f"no list of classes: the masks' values 0 to {max(found, default=0)} are taken for {len(names)} classes, "
            f"{', '.join(map(str, sorted(ignored)))} for pixels without one. To change that: "
            "--set 'data.class_names=[…]' --set data.ignore_index=VALUE."
        )
    else:
        names = tuple(map(str, class_names))
    if not 2 <= len(names) <= IGNORED:
        raise DataError(f"expected 2 to {IGNORED} classes in {root}, found {len(names)}.")
    values = [value for value in range(256) if value not in ignored][: len(names)]
    beyond = [value for value in found if value not in values]
    if ignore_index is None and len(beyond) == 1:
        notes.append(f"the value {beyond[0]} is beyond the {len(names)} classes and is taken for pixels without one.")
        beyond = []
    if beyond:
        wrong = next(number for number, inside in seen.items() if bool((inside == beyond[0]).any()))
        raise DataError(
            f"expected masks with values {values[0]} to {values[-1]} (a class each) and "
            f"{', '.join(map(str, sorted(ignored)))} for pixels without one; found {', '.join(map(str, beyond[:6]))}, "
            f"the first in the mask of {every[wrong].name}. Name all classes (data.class_names), or say which value is "
            "ignored (data.ignore_index)."
        )
    if nowhere := [name for name, value in zip(names, values, strict=True) if not present[value]]:
        notes.append(f"no mask has a pixel of {len(nowhere)} of the classes: {some_of(nowhere)}.")
    table = torch.full((256,), IGNORED, dtype=torch.uint8)
    table[values] = torch.arange(len(names), dtype=torch.uint8)
    return names, table, notes
