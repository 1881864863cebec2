"""Errors a user can mend.

::

    TutelageError                 anything raised on purpose
    ├── InputError                what the user gave cannot be used (exit code 2)
    │   ├── UnknownName           no part, model, key or tap of that name; closest names offered
    │   │   └── TapNotFound       no module of that name in the model
    │   ├── RecipeError           the recipe does not fit together
    │   ├── ModelError            a model cannot be built, or its weights do not fit
    │   │   └── OtherClasses      it was trained for another number of classes than the data has
    │   ├── TeacherError          a teacher that would do harm: at chance, other classes, permuted classes
    │   ├── DataError             the data cannot be read or used
    │   ├── CacheError            a store of teachers' answers does not fit, is damaged, or cannot be written
    │   └── RunError              the run folder cannot be written, or holds another run
    ├── MissingExtra              an optional dependency is not installed; the message is the install line
    └── Interrupted               stopped by a signal; the run resumes (exit code 130)

A message says what was expected, what was found and what to do.
"""

import difflib
from collections.abc import Iterable


class TutelageError(Exception):
    """Anything `tutelage` raises on purpose."""


class InputError(TutelageError, ValueError):
    """What the user gave cannot be used. The command line ends with exit code 2."""


class UnknownName(InputError):
    """There is no such name; the message offers the closest ones."""


class TapNotFound(UnknownName):
    """A model has no module of that name."""


class RecipeError(InputError):
    """The recipe does not fit together."""


class ModelError(InputError):
    """A model cannot be built, or its weights do not fit."""


class OtherClasses(ModelError):
    """A model was trained for another number of classes than the data has.

    Args:
        origin: What messages call it.
        found: Its number of classes.
        expected: That of the data.
    """

    def __init__(self, origin: str, found: int, expected: int) -> None:
        super().__init__(origin, found, expected)
        self.origin, self.found, self.expected = origin, found, expected

    def __str__(self) -> str:
        return (
            f"{self.origin} was trained for {self.found} classes, the data has {self.expected}. Take a model for these "
            "classes."
        )


class TeacherError(InputError):
    """A teacher that would do harm: at chance, with other classes, or with permuted ones."""


class DataError(InputError):
    """The data cannot be read or used."""


class CacheError(InputError):
    """A store of teachers' answers holds others than those asked for, is damaged, or cannot be written."""


class RunError(InputError):
    """The run folder cannot be written, or holds another run."""


class MissingExtra(TutelageError, ImportError):
    """An optional dependency is not installed; the message holds the install line."""


class Interrupted(TutelageError):
    """A signal stopped the run; it can be resumed (exit code 130)."""


_TRAIN = "lightning torchmetrics pydantic yaml typer rich torchvision pyarrow sklearn scipy PIL plotly jinja2"
_EXTRAS = {
    **dict.fromkeys(_TRAIN.split(), "train"),
    **{"timm": "vision", "transformers": "vision", "faster_coco_eval": "detection", "torchjd": "gradient"},
}


def missing_extra(error: ImportError) -> MissingExtra | None:
    """The line that installs what could not be imported; None if it is no package of an extra.

    Example:
        >>> print(missing_extra(ModuleNotFoundError("No module named 'typer'", name="typer")))
        this needs typer: pip install 'tutelage[train]'
    """
    package = (error.name or "").partition(".")[0]
    if package not in _EXTRAS:
        return None
    return MissingExtra(f"this needs {package}: pip install 'tutelage[{_EXTRAS[package]}]'")


def close_names(name: str, known: Iterable[str], *, most: int = 4) -> str:
    """A line such as ``close: layer4, layer4.1``, for the end of a message.

    Args:
        name: What the user wrote.
        known: All names that would have been right.
        most: How many to offer.

    Returns:
        The line; where nothing is close, the first names there are; empty if there are none.

    Example:
        >>> close_names("layer5", ["conv1", "layer4", "layer3"])
        'close: layer4, layer3'
        >>> close_names("xyz", ["kl", "mse"])
        'there are: kl, mse'
    """
    names = list(known)
    near = difflib.get_close_matches(name, names, n=most, cutoff=0.6)
    if near:
        return f"close: {', '.join(near)}"
    return f"there are: {', '.join(names[:12])}{', …' if len(names) > 12 else ''}" if names else ""
