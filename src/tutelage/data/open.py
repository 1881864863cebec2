"""Open a data set for classification: recognise it, check it, cut it into slices that share no sample."""

import difflib
import os
import pathlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from torch.utils.data import Dataset

from tutelage.errors import DataError
from tutelage.foreign import called, load

from .cut import cut
from .digits import digits
from .image_folder import image_folder
from .own import own
from .parquet import parquet
from .slices import Splits
from .source import Source
from .torchvision_set import PREFIX, torchvision_set


def names() -> dict[str, str]:
    """The data sources there are: how each is written, and what it is."""
    return {
        "digits": "scikit-learn's handwritten digits: 1,797 grey pictures of 8x8, 10 classes; needs no file",
        "FOLDER (ImageFolder)": "CLASS/PICTURE, or train/CLASS/PICTURE with val/ and test/ beside it",
        "FOLDER (parquet)": "Hugging Face parquet with the columns image and label, split by file name",
        "FOLDER (masks)": "segmentation: SPLIT/images/NAME.jpg with SPLIT/masks/NAME.png, or as Pascal VOC or COCO",
        "FOLDER (boxes)": "detection: the folders of Pascal VOC, COCO or YOLO, or a JSON file of COCO",
        "FOLDER (pictures)": "super-resolution: large pictures alone, or HR/NAME.png with LR/NAME.png",
        "torchvision/NAME": "a data set of torchvision.datasets that lies under root; nothing is downloaded",
        "PACKAGE.MODULE:NAME": "your function that returns a Dataset, or a mapping of splits to Datasets",
    }


def open_data(
    source: str | os.PathLike[str] | Dataset[Any] | Mapping[str, Dataset[Any]],
    *,
    image_size: int | tuple[int, int] | None = None,
    seed: int = 0,
    selection: float = 0.1,
    guard: float | None = 0.0,
    test: float = 0.2,
    limit: int | float | None = None,
    labels: int | float | None = None,
    max_bad: int | float = 0.01,
    in_memory: bool | None = None,
    root: str | os.PathLike[str] = "data",
    allow_import: Sequence[str] = (),
) -> Splits:
    """Open a data set.

    A validation split the source brings is the selection slice. What it does not bring is cut from the
    training set, each class in proportion. Pictures that cannot be read are in no slice.

    Args:
        source: What to open, as listed by `names`; or your own `Dataset` of (picture, label), or a mapping
            with ``"train"`` and, if there are any, ``"validation"`` and ``"test"``.
        image_size: Height and width to bring all pictures to; by default the size they have, and where sizes
            differ 64 (median of the shorter sides below 100) or 224.
        seed: Another seed cuts other slices.
        selection: Share of the training set held out for selection, if the source brings no validation split.
        guard: Share of the labelled training samples, of those that are kept, held out for the guard; None: 2%, at
            least 128 and at most 5%, and none at all where that makes fewer than 32.
        test: Share of everything held out as test, if the source brings no test split.
        limit: Training samples to keep, each class in proportion; a number, or a share if a float.
        labels: Training samples that keep their label, each class in proportion; the others lose theirs.
        max_bad: How many pictures may be unreadable: a number, or a share if a float.
        in_memory: Whether to hold all pictures decoded; by default if that takes less than 2 GB.
        root: Where torchvision keeps its data sets.
        allow_import: Packages that may be imported for a source written ``package.module:name``.

    Returns:
        The slices, with the guess and the notes to show to people.

    Raises:
        DataError: The data cannot be read or used; the message says what to do.

    Example:
        >>> splits = open_data("digits")
        >>> len(splits.train), len(splits.selection), len(splits.test), splits.train.shape
        (1294, 144, 359, (1, 8, 8))
    """
    options = {"image_size": image_size, "in_memory": in_memory}
    found = _find(source, root=root, allow_import=allow_import, max_bad=max_bad, options=options)
    _refuse_one_class(found)
    return cut(found, seed=seed, selection=selection, guard=guard, test=test, limit=limit, labels=labels)


def _find(
    source: Any,
    *,
    root: str | os.PathLike[str],
    allow_import: Sequence[str],
    max_bad: int | float,
    options: Mapping[str, Any],
) -> Source:
    if isinstance(source, Mapping) or not isinstance(source, (str, os.PathLike)):
        return own(source, **options)
    written = os.fspath(source)
    path = pathlib.Path(written)
    if written == "digits":
        return digits()
    if path.exists():
        return _folder(path, max_bad=max_bad, **options)
    if written.startswith(PREFIX):
        return torchvision_set(written, root, **options)
    if re.fullmatch(r"\w+(\.\w+)*:\w+", written):
        made = load(written, allow_import, where="data")
        return own(called(f"{written}()", made, DataError), name=written, **options)
    close = f" close: {', '.join(near)}." if (near := difflib.get_close_matches(written, ["digits"])) else ""
    raise DataError(f"expected a folder that exists, or one of {', '.join(names())}; found {written!r}.{close}")


def _folder(path: pathlib.Path, **options: Any) -> Source:
    if path.is_dir() and not any(path.iterdir()):
        raise DataError(f"expected a data set in {path}, found an empty folder.")
    found = parquet(path, **options) if path.is_dir() or path.suffix == ".parquet" else None
    if found is None and path.is_dir():
        found = image_folder(path, **options)
    if found is None:
        raise DataError(
            f"expected a known layout in {path}, found {_contents(path)}. Known are: "
            + "; ".join(f"{name}: {what}" for name, what in names().items() if name.startswith("FOLDER"))
        )
    return found


def _contents(path: pathlib.Path) -> str:
    """What lies in a folder, in a few words."""
    if path.is_file():
        return f"a file of type {path.suffix or 'unknown'}"
    folders = sorted(entry.name for entry in path.iterdir() if entry.is_dir())
    kinds = Counter(entry.suffix or "no suffix" for entry in path.rglob("*") if entry.is_file())
    told = [f"{count:,} files {kind}" for kind, count in kinds.most_common(4)] or ["no files"]
    return ", ".join(told) + (f" and the folders {', '.join(folders[:6])}" if folders else "")


def _refuse_one_class(found: Source) -> None:
    train = found.parts["train"]
    present = sorted(set(train.labels[train.labelled].tolist()))
    if not train.classes:
        raise DataError(
            f"expected at least two classes in {found.name}, found none, for no sample has a label. Name the classes: "
            "give the data set the attribute `classes`, a list of their names."
        )
    if len(train.classes) < 2 or len(present) == 1:
        only = [train.classes[label] for label in present]
        raise DataError(
            f"expected at least two classes in {found.name}, found {', '.join(map(repr, only)) or 'none'}. "
            f"Classification needs something to tell apart."
        )
