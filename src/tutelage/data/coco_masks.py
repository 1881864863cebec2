"""COCO for segmentation: the shapes of a JSON file, drawn into one mask for each picture."""

import json
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tutelage.errors import DataError, MissingExtra

from .augment_masks import IGNORED
from .coco import categories_of, contents, pictures_of, refuse_stranger

BACKGROUND = "background"
"""The class of pixels that no shape covers."""


@dataclass(frozen=True)
class Drawn:
    """A mask that is drawn when it is asked for.

    Args:
        size: Height and width.
        shapes: Value and shape (polygons, or runs) of each annotation, in the order in which they are drawn.
    """

    size: tuple[int, int]
    shapes: tuple[tuple[int, Any], ...]

    def read(self) -> Tensor:
        """The values, uint8 ``[h, w]``: 0 where there is no shape.

        Raises:
            ValueError: A shape is none, or of another size.
        """
        mask = torch.zeros(self.size, dtype=torch.uint8)
        for value, shape in self.shapes:
            mask[filled(shape, self.size)] = value
        return mask

    def mark(self) -> bytes:
        """What tells this mask from another."""
        return json.dumps([self.size, self.shapes]).encode()


def filled(shape: Any, size: tuple[int, int]) -> Tensor:
    """The pixels of a shape, bool ``[h, w]``.

    Args:
        shape: Polygons ``[[x, y, x, y, x, y, …], …]``, or runs ``{"size": [h, w], "counts": …}``, compressed or not.
        size: Height and width of the picture.

    Raises:
        ValueError: It is no shape, or one for a picture of another size.

    Example:
        >>> filled([[0, 0, 2, 0, 2, 1, 0, 1]], (2, 3)).int()
        tensor([[1, 1, 0],
                [0, 0, 0]], dtype=torch.int32)
    """
    from faster_coco_eval.core import mask as coder

    return torch.from_numpy(coder.decode(_runs(shape, size))).bool()


def _runs(shape: Any, size: tuple[int, int]) -> Any:
    """The same as compressed runs."""
    from faster_coco_eval.core import mask as coder

    if isinstance(shape, list):
        if not all(isinstance(polygon, list) and len(polygon) >= 6 and len(polygon) % 2 == 0 for polygon in shape):
            raise ValueError("a polygon of fewer than three points, or of half a point")
        return coder.merge(coder.frPyObjects(shape, *size))
    if isinstance(shape, dict) and list(shape.get("size", ())) == list(size):
        return coder.frPyObjects(shape, *size) if isinstance(shape["counts"], list) else shape
    told = f"runs of size {shape.get('size')}" if isinstance(shape, dict) else type(shape).__name__
    raise ValueError(f"{told} for a picture of {size[0]}x{size[1]}")


def _area(item: Mapping[str, Any], size: tuple[int, int]) -> float:
    """How many pixels a shape has: as is stated, else as it is drawn."""
    from faster_coco_eval.core import mask as coder

    if stated := float(item.get("area") or 0.0):
        return stated
    try:
        return float(coder.area(_runs(item["segmentation"], size)))
    except Exception:  # a shape that cannot be drawn is counted where masks are read
        return 0.0


def coco_masks(
    root: pathlib.Path,
) -> tuple[str, dict[str, list[tuple[str, pathlib.Path, Drawn]]], list[str]] | None:
    """A folder with JSON files in the format of COCO, or one such file, as pictures with masks.

    Files and pictures are looked for as by `coco`. Values are 0 for pixels that no shape covers, then the categories in
    the order of their ids; a category called ``background`` is 0 itself. Large shapes are drawn before small ones, so
    that what lies on something is seen; crowds come first of all and are `IGNORED`.

    Returns:
        What was recognised; name, picture and mask of each sample of each part; and the classes. None if this is
        another layout.

    Raises:
        DataError: A file is damaged, a picture is missing, an annotation names an image or category that is not there
            or has no shape, the splits have different categories, or there are too many of them.
        MissingExtra: faster-coco-eval is not installed.
    """
    read = contents(root)
    if "train" not in read:
        return None
    try:
        import faster_coco_eval.core.mask  # noqa: F401
    except ImportError as error:
        raise MissingExtra("shapes of COCO need faster-coco-eval: pip install 'tutelage[detection]'") from error
    categories = categories_of(read)
    named = [name for name in categories.values() if name.lower() != BACKGROUND]
    if len(named) >= IGNORED:
        raise DataError(
            f"{root}: expected at most {IGNORED - 1} categories beside the background, as many as a mask of 8 bits "
            f"holds; found {len(named)}. Join categories, or leave out those you do not need."
        )
    values = {number: named.index(name) + 1 if name in named else 0 for number, name in categories.items()}
    parts = {}
    for part, (file, content) in read.items():
        pictures, drawn = pictures_of(root, part, file, content), _drawn(file, content, values)
        parts[part] = [(path.stem, path, drawn[number]) for number, path in pictures.items()]
    return f"COCO JSON with {', '.join(file.name for file, _ in read.values())}", parts, [BACKGROUND, *named]


def _drawn(file: pathlib.Path, content: Mapping[str, Any], values: Mapping[int, int]) -> dict[Any, Drawn]:
    """The mask of each picture, by its id."""
    try:
        sizes = {image["id"]: (int(image["height"]), int(image["width"])) for image in content["images"]}
        found: dict[Any, list[tuple[float, int, Any]]] = {number: [] for number in sizes}
        for item in content.get("annotations", []):
            refuse_stranger(file, item, sizes, values)
            if not (shape := item.get("segmentation")):
                raise DataError(
                    f"{file}: annotation {item.get('id')} expected a segmentation (polygons or runs), found none. "
                    "Files of boxes alone are for detection: --task detection."
                )
            crowd = bool(item.get("iscrowd"))
            area = float("inf") if crowd else _area(item, sizes[item["image_id"]])
            found[item["image_id"]].append((-area, IGNORED if crowd else values[item["category_id"]], shape))
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{file}: expected images (id, file_name, height, width) and annotations (image_id, category_id, "
            f"segmentation); found something else: {error}."
        ) from error
    return {
        number: Drawn(sizes[number], tuple(shape[1:] for shape in sorted(shapes, key=lambda shape: shape[0])))
        for number, shapes in found.items()
    }
