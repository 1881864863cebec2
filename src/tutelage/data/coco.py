"""COCO: JSON files of images, annotations and categories, beside folders of pictures."""

import json
import pathlib
import re
from collections import Counter
from collections.abc import Container, Mapping
from typing import Any

from tutelage.errors import DataError

from .boxes import Annotated, from_annotated
from .source import Source

WORDS = {
    "train": ("train", "training", "trainval"),
    "selection": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
"""Words in a file's name, or in its folder's, and the part it holds; the first counts for more."""


def coco(root: pathlib.Path, **options: Any) -> Source | None:
    """A folder with JSON files in the format of COCO, or one such file.

    Files are looked for in the folder, in ``annotations/`` and in the folders of splits; pictures beside the file, in
    a folder named as the split, or in ``images/``. Boxes of crowds are left out.

    Args:
        root: The folder, or the file of the training set.
        options: For `from_annotated`.

    Returns:
        The data set; None if this is another layout. Classes are in the order of their ids.

    Raises:
        DataError: A file is damaged, a picture is missing or of another size than stated, two images or categories have
            one id, an annotation names an image or category that is not there, or the splits have different categories.
    """
    read = contents(root)
    if "train" not in read:
        return None
    listed, crowds = {}, 0
    categories = categories_of(read)
    for part, (file, content) in read.items():
        listed[part], more = _part(root, part, file, content, categories)
        crowds += more
    notes = [f"{crowds:,} boxes of crowds are left out."] * bool(crowds)
    layout = f"COCO JSON with {', '.join(read[part][0].name for part in listed)}"
    name = root.name if root.is_file() else f"{root.name}/"
    return from_annotated(name, layout, listed, list(categories.values()), notes, **options)


def contents(root: pathlib.Path) -> dict[str, tuple[pathlib.Path, dict[str, Any]]]:
    """The file of each part and what it holds; none for training where this is another layout.

    A test set without annotations is left out.

    Raises:
        DataError: A file is damaged, or its name says two parts.
    """
    files = {"train": root} if root.is_file() else _files(root)
    read = {part: (file, content) for part, file in files.items() if (content := _content(file)) is not None}
    return {part: each for part, each in read.items() if part != "test" or each[1].get("annotations")}


def categories_of(read: Mapping[str, tuple[pathlib.Path, Mapping[str, Any]]]) -> dict[int, str]:
    """The categories of the training set, id -> name, in the order of the ids.

    Raises:
        DataError: They have no id or name, or another part has others.
    """
    categories = _categories(*read["train"])
    for file, content in read.values():
        if (found := _categories(file, content)) != categories:
            raise DataError(
                f"{file}: expected the categories of the training set ({', '.join(list(categories.values())[:8])}), "
                f"found {', '.join(list(found.values())[:8])}. Give all splits the same ids and names."
            )
    return categories


def pictures_of(
    root: pathlib.Path, part: str, file: pathlib.Path, content: Mapping[str, Any]
) -> dict[Any, pathlib.Path]:
    """The picture of each image, by its id.

    Raises:
        DataError: It is in none of the places where it is looked for, or two images have one id.
    """
    _refuse_twice(file, "images", [image["id"] for image in content["images"]])
    folder = root if root.is_dir() else root.parent.parent if root.parent.name == "annotations" else root.parent
    places = [file.parent, folder, *(folder / a for a in (*WORDS[part], "images"))]
    places += [folder / "images" / word for word in WORDS[part]]
    places += [path for path in sorted(folder.iterdir()) if path.is_dir() and path.name.startswith(WORDS[part])]
    found = {}
    for image in content["images"]:
        picture = next((p / image["file_name"] for p in places if (p / image["file_name"]).is_file()), None)
        if picture is None:
            raise DataError(
                f"{file}: expected the picture {image['file_name']!r} beside it, in {folder} or in "
                f"{' or '.join(WORDS[part])}/ or images/; it is in none. Move the pictures there."
            )
        found[image["id"]] = picture
    return found


def _files(root: pathlib.Path) -> dict[str, pathlib.Path]:
    """The JSON file of each part, by whole words: ``latest_train2017.json`` is no test set."""
    here = sorted({*root.glob("*.json"), *root.glob("annotations/*.json"), *root.glob("*/_annotations.coco.json")})
    if len(here) == 1:
        return {"train": here[0]}
    said = {file: re.findall("[a-z]+", (file.parent if file.name[0] == "_" else file).stem.lower()) for file in here}
    found: dict[str, pathlib.Path] = {}
    for part, words in WORDS.items():
        fitting = [file for word in words for file in here if word in said[file]]
        fitting.sort(key=lambda file: "instances" not in said[file])
        if fitting:
            twin = next((other for other, file in found.items() if file == fitting[0]), None)
            if twin is not None:
                raise DataError(
                    f"expected one part in the name of each file, found {fitting[0].name} for {twin} and {part}. "
                    "Rename it."
                )
            found[part] = fitting[0]
    return found


def _content(file: pathlib.Path) -> dict[str, Any] | None:
    if file.suffix.lower() != ".json":
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise DataError(f"{file}: expected JSON, found a damaged file ({error}). Restore it.") from error
    known = isinstance(content, dict) and {"images", "categories"} <= set(content)
    return content if known else None


def _categories(file: pathlib.Path, content: Mapping[str, Any]) -> dict[int, str]:
    try:
        found = sorted((int(c["id"]), str(c["name"])) for c in content["categories"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{file}: expected categories with an id and a name each; {error} is missing.") from error
    _refuse_twice(file, "categories", [number for number, _ in found])
    return dict(found)


def _refuse_twice(file: pathlib.Path, what: str, numbers: list[Any]) -> None:
    if twice := [number for number, count in Counter(numbers).items() if count > 1]:
        told = ", ".join(map(str, twice[:5]))
        raise DataError(
            f"{file}: expected {what} with ids of their own, found more than one with {told}. Mend the ids."
        )


def refuse_stranger(
    file: pathlib.Path, item: Mapping[str, Any], pictures: Container[Any], categories: Container[int]
) -> None:
    """Refuse an annotation of a picture or category that its file does not have.

    Raises:
        DataError: It is one.
    """
    if item["image_id"] not in pictures or item["category_id"] not in categories:
        raise DataError(
            f"{file}: annotation {item.get('id')} expected an image and a category of this file, found image "
            f"{item['image_id']} and category {item['category_id']}. Mend or remove it."
        )


def _part(
    root: pathlib.Path, part: str, file: pathlib.Path, content: Mapping[str, Any], categories: Mapping[int, str]
) -> tuple[Annotated, int]:
    found, numbers, crowds = Annotated(), {}, 0
    try:
        stated = {image["id"]: _size(image) for image in content["images"]}
        for number, picture in pictures_of(root, part, file, content).items():
            numbers[number] = len(found.files)
            found.files.append(picture)
            found.boxes.append([])
            found.sizes.append(stated[number])
        for item in content.get("annotations", []):
            if item.get("iscrowd"):
                crowds += 1
                continue
            refuse_stranger(file, item, numbers, categories)
            left, top, width, height = map(float, item["bbox"])
            box = (left, top, left + width, top + height, categories[item["category_id"]])
            found.boxes[numbers[item["image_id"]]].append(box)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{file}: expected images (id, file_name) and annotations (image_id, category_id, bbox of four numbers); "
            f"found something else: {error}."
        ) from error
    return found, crowds


def _size(image: Mapping[str, Any]) -> tuple[int, int] | None:
    """Height and width that an image states; None where it does not."""
    high, wide = (int(image.get(side) or 0) for side in ("height", "width"))
    return (high, wide) if min(high, wide) > 0 else None
