"""The recipe: what may stand in it, and messages for people where it is wrong."""

import dataclasses
import pathlib
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pydantic
import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from tutelage.engine.settings import Settings
from tutelage.errors import RecipeError, UnknownName, close_names


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PartSpec(BaseModel):
    """A part by name, with its options: ``{use: kl, temperature: 4}``."""

    model_config = ConfigDict(extra="allow", frozen=True)
    use: str

    def as_dict(self) -> dict[str, Any]:
        """Name and options in one mapping."""
        return self.model_dump()


def _part(value: Any) -> Any:
    return {"use": value} if isinstance(value, str) else value


def _task(value: Any) -> Any:
    return {"use": "auto", **value} if isinstance(value, dict) else _part(value)


Part = Annotated[PartSpec, pydantic.BeforeValidator(_part)]


class ModelSpec(_Strict):
    """A model, its weights, and what is special about it."""

    model: str
    weights: str | None = None
    arguments: dict[str, Any] = {}
    classes: list[int] | None = None


def _model(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    model, _, weights = value.partition("@")
    return {"model": model, "weights": weights or None}


Model = Annotated[ModelSpec, pydantic.BeforeValidator(_model)]


_Side = Annotated[int, Field(ge=1)]


class DataSpec(BaseModel):
    """Where the data is and how it is cut into slices; the task's reader may take further keys."""

    model_config = ConfigDict(extra="allow", frozen=True)

    use: str
    batch_size: int = Field(default=128, ge=1)
    image_size: _Side | tuple[_Side, _Side] | None = None
    selection: float = Field(default=0.1, gt=0, lt=1)
    guard: float | None = Field(default=None, ge=0, lt=1)
    test: float = Field(default=0.2, gt=0, lt=1)
    limit: int | float | None = Field(default=None, gt=0)
    labels: int | float | None = Field(default=None, ge=0)
    max_bad: int | float = Field(default=0.01, ge=0)
    in_memory: bool | None = None
    root: str = "data"
    views: int | None = Field(default=None, ge=1)
    augment: dict[str, Any] | Literal["auto", "none"] = "auto"
    seed: int = 0


class PathSpec(_Strict):
    """One wire between student and teachers."""

    loss: Part
    student: str | list[str] = ""
    teacher: str | list[str] | dict[str, str | list[str]] = ""
    teachers: list[str] | None = None
    connector: str | list[Part] | dict[str, list[Part]] | None = "auto"


class WeightingSpec(BaseModel):
    """A scale and gates, or one weighting by name with its options."""

    model_config = ConfigDict(extra="allow", frozen=True)

    scale: Part | None = None
    gates: list[Part] = []
    use: str | None = None


def _weighting(value: Any) -> Any:
    return {"use": value} if isinstance(value, str) else value


def _teachers(value: dict[str, ModelSpec]) -> dict[str, ModelSpec]:
    for name in value:
        if name in ("student", "baseline") or not re.fullmatch(r"[\w-]+", name):
            raise RecipeError(
                "teachers: expected names of letters, digits, _ and -, other than student and baseline; found "
                f"{name!r}. Give that teacher another name: NAME=MODEL."
            )
    return value


class Recipe(_Strict):
    """One run as data. Parsing it runs nothing and imports nothing."""

    task: Annotated[PartSpec, pydantic.BeforeValidator(_task)] = PartSpec(use="auto")
    data: Annotated[DataSpec, pydantic.BeforeValidator(_part)]
    student: Model
    teachers: Annotated[dict[str, Model], pydantic.AfterValidator(_teachers)] = {}
    paths: list[str] | dict[str, PathSpec] = ["logits", "attention"]
    weighting: Annotated[WeightingSpec, pydantic.BeforeValidator(_weighting)] = WeightingSpec(use="auto")
    scheme: Part = PartSpec(use="offline")
    train: Settings = Settings()
    seeds: int = Field(default=1, ge=1)
    baseline: bool = True
    methods: dict[str, dict[str, Any]] = {}

    def to_yaml(self) -> str:
        """The recipe as text; reading it back gives the same recipe, whatever the task's own defaults."""
        told = _told(self) | {"train": dataclasses.asdict(self.train)}  # a task may have another default than null
        written: str = yaml.dump(told, Dumper=_Dumper, sort_keys=False, width=110, allow_unicode=True)
        return written


def _told(value: Any) -> Any:
    """A value as plain data, without keys that are empty where nothing was said."""
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        bare = {name for name, own in value if own in (None, {}, []) and name in fields}
        return {name: _told(own) for name, own in value if name not in bare or own != fields[name].get_default()}
    if isinstance(value, Mapping):
        return {key: _told(own) for key, own in value.items()}
    return [_told(own) for own in value] if isinstance(value, list | tuple) else value


def beside(raw: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's content with a task's defaults where it says nothing.

    Example:
        >>> raw = {"data": "photos", "train": {"lr": 1}}
        >>> beside(raw, {"data": {"batch_size": 16}, "train": {"lr": 2}, "paths": ["l1"]})
        {'data': {'batch_size': 16, 'use': 'photos'}, 'train': {'lr': 1}, 'paths': ['l1']}
    """
    merged = dict(raw)
    for key, default in defaults.items():
        given = raw.get(key)
        if given is None:
            merged[key] = default
        elif key in ("data", "train"):
            merged[key] = {**default, **_part(given)}
    return merged


def parse(raw: Mapping[str, Any]) -> Recipe:
    """A recipe from plain data.

    Raises:
        UnknownName: A key that does not exist; the closest ones are offered.
        RecipeError: A value that does not fit.

    Example:
        >>> parse({"data": "digits", "student": "cifar/resnet8", "trian": {"epochs": 3}})
        Traceback (most recent call last):
        tutelage.errors.UnknownName: recipe: there is no key 'trian'; close: train.
    """
    try:
        return TypeAdapter(Recipe).validate_python(dict(raw))
    except pydantic.ValidationError as error:
        raise _for_people(error, raw) from None


class _Loader(yaml.SafeLoader):
    """Plain data, with ``1e-3`` a number as YAML 1.2 has it: to PyYAML it is text."""


class _Dumper(yaml.SafeDumper):
    """The way back: text that looks like such a number is quoted."""


_EXPONENT = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+$")
for _side in (_Loader, _Dumper):
    _side.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+.0123456789"))


def read(path: pathlib.Path) -> dict[str, Any]:
    """The plain data of a YAML file."""
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise RecipeError(f"recipe {path}: cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"recipe {path}: expected YAML in UTF-8, found something else.") from error
    except yaml.YAMLError as error:
        raise RecipeError(f"recipe {path}: expected YAML, found: {error}") from error
    if not isinstance(raw, dict):
        raise RecipeError(f"recipe {path}: expected keys such as data, student, teachers; found {type(raw).__name__}.")
    return raw


def assign(raw: dict[str, Any], assignment: str) -> None:
    """Apply ``key.sub=value``; the value is read as YAML.

    Example:
        >>> raw = {"train": {"lr": 0.1}}
        >>> assign(raw, "train.lr=1e-3"); assign(raw, "paths=[logits]"); raw
        {'train': {'lr': 0.001}, 'paths': ['logits']}
    """
    key, equals, text = assignment.partition("=")
    if not equals or not key:
        raise RecipeError(f"--set {assignment!r}: expected key.sub=value.")
    try:
        value = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise RecipeError(f"--set {assignment!r}: the value is not YAML: {error}") from error
    put(raw, key, value)


def put(raw: dict[str, Any], key: str, value: Any) -> None:
    """Set ``key.sub`` to a value; mappings on the way are copied, not changed.

    Raises:
        RecipeError: There is a list on the way, which would be lost.

    Example:
        >>> raw = {"data": "digits"}
        >>> put(raw, "data.batch_size", 64); raw
        {'data': {'use': 'digits', 'batch_size': 64}}
    """
    *parents, last = keys = key.split(".")
    place = raw
    for depth, parent in enumerate(parents):
        below = place.get(parent)
        if isinstance(below, str):
            below = _model(below) if parents[0] in ("student", "teachers") else {"use": below}
        elif isinstance(below, list) and below not in ([], [keys[depth + 1]]):
            raise _in_a_list(key, ".".join(keys[: depth + 1]), below)
        place[parent] = below = dict(below) if isinstance(below, Mapping) else {}
        place = below
    place[last] = value


def _in_a_list(key: str, place: str, found: list[Any]) -> RecipeError:
    """What to write in place of a key below a list."""
    written = f"[{', '.join(str(each) for each in found)}]"
    said = f"{key}: expected a mapping at {place!r} to set a key in, found the list {written}. Write all of it anew"
    if place != "paths":
        return RecipeError(f"{said}: --set '{place}=…'.")
    return RecipeError(
        f"{said}: a list of short names and losses, such as --set 'paths=[kl, attention]', or a mapping, such as "
        "--set 'paths={logits: {loss: kl}, deep: {loss: mse, student: TAP, teacher: TAP}}' (see tutelage inspect)."
    )


def _for_people(error: pydantic.ValidationError, raw: Mapping[str, Any]) -> RecipeError | UnknownName:
    # Of a union's branches, the one that got farthest is the one that was meant.
    problem = max(error.errors(include_url=False), key=lambda p: (len(p["loc"]), p["type"] in _UNKNOWN))
    if isinstance(problem.get("ctx", {}).get("error"), RecipeError):
        return problem["ctx"]["error"]  # type: ignore[no-any-return]
    place = [str(part) for part in problem["loc"] if not _is_branch(part)]
    if problem["type"] in _UNKNOWN:
        known = _keys_at(place[:-1])
        where = ".".join(place[:-1]) or "recipe"
        return UnknownName(f"{where}: there is no key {place[-1]!r}; {close_names(place[-1], known)}.")
    where = ".".join(place)
    if problem["type"] in ("missing", "missing_argument"):
        others = [name for name in raw.get(place[0], ()) if name != place[1]] if len(place) == 3 else []
        if others:  # a teacher or a path that may be misspelt
            return UnknownName(f"recipe: {where!r} is missing; {close_names(place[1], others)}.")
        return RecipeError(f"recipe: {where!r} is missing. Give it on the command line or in the recipe.")
    return RecipeError(f"{where}: {problem['msg'][0].lower()}{problem['msg'][1:]}; found {problem['input']!r}.")


_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")


def _is_branch(part: str | int) -> bool:
    """Whether pydantic names a branch of a union here, not a key."""
    return isinstance(part, str) and ("[" in part or part in _BRANCHES)


_BRANCHES = ("str", "int", "float", "constrained-int", "PartSpec", "Settings")

_KEYS: dict[str, Any] = {
    "": Recipe,
    "data": DataSpec,
    "student": ModelSpec,
    "teachers": ModelSpec,
    "paths": PathSpec,
    "weighting": WeightingSpec,
    "train": Settings,
}


def _keys_at(place: list[str]) -> list[str]:
    holder = _KEYS.get(place[0] if place else "", Recipe)
    if dataclasses.is_dataclass(holder):
        return [field.name for field in dataclasses.fields(holder)]
    return list(holder.model_fields)
