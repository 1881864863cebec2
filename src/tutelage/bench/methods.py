"""Methods by name: ``PATHS/WEIGHTING@TEACHERS`` and what it changes in a recipe."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tutelage.errors import InputError, RecipeError, UnknownName, close_names
from tutelage.recipe import catalogue, schema
from tutelage.recipe.build import build_weighting
from tutelage.recipe.wires import SHORT

PLAIN = "plain"
ALONE: dict[str, dict[str, Any]] = {PLAIN: {}, "label_smoothing": {"task.label_smoothing": 0.1}}
"""Methods without a teacher, and what they change."""

ALIASES = {"kd": "kl"}
"""Other names for paths."""

EQUAL: dict[str, Any] = {"use": "auto", "share": "equal", "guard": False}
OPEN = ("guard", "warmup")
"""Gates that do not share a path among its teachers: the default's trust does that beside them."""

FREE = ("teachers", "paths", "weighting", "scheme", "task", "train.weighting_lr")
"""What a method may change. All else is the budget, and the same for every method."""

TEACHING = ("paths", "weighting", "scheme")
"""What a recipe says of how teachers teach."""

Raw = Mapping[str, Any]


@dataclass(frozen=True)
class Method:
    """One way to train the student.

    Args:
        name: As it was written.
        changes: Keys of the recipe, dotted, and their values for this method.
        teachers: The teachers it hears; None for all.
        alone: Whether it hears none. It takes none of the recipe's paths, weighting and scheme, but may name a scheme
            of its own, which may bring a teacher.
    """

    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    teachers: tuple[str, ...] | None = None
    alone: bool = False

    def recipe(self, raw: Raw) -> dict[str, Any]:
        """The recipe of this method, from the one that all share."""
        changed = {key: copy.deepcopy(value) for key, value in raw.items() if key != "methods"}
        changed |= {"baseline": False, "seeds": 1}
        changed.setdefault("task", schema.Recipe.model_fields["task"].default.use)
        for key, value in self.changes.items():
            schema.put(changed, key, copy.deepcopy(value))
        if self.alone:
            named = {key.partition(".")[0] for key in self.changes}
            changed["teachers"] = {}
            for key in {*TEACHING} - named if "scheme" in named else TEACHING:
                changed.pop(key, None)
        return changed if self.teachers is None else _hearing(changed, self.teachers)


def read_method(name: str, raw: Raw) -> Method:
    """What a name means.

    ``PATHS/WEIGHTING@TEACHERS``, of which all but one part may be left out. PATHS are short names of paths or losses,
    joined by ``+``; WEIGHTING is a rule, and gates joined by ``+``; TEACHERS are names joined by ``+``. A rule alone
    weighs the recipe's paths, paths alone are weighed as the recipe says. A gate without a rule works on the default's
    scale. ``equal`` is the default scale with teachers that share equally; ``kd`` is ``kl``. ``plain`` and
    ``label_smoothing`` hear no teacher. Names under ``methods:`` in the recipe come first.

    Args:
        name: The method.
        raw: The recipe that all methods share.

    Raises:
        UnknownName: A part of the name is unknown; the closest names are offered.
        RecipeError: A method of the recipe changes what all methods must share.

    Example:
        >>> read_method("kl+attention/adaptive", {}).changes
        {'paths': ['kl', 'attention'], 'weighting': {'use': 'adaptive'}}
        >>> read_method("dist@big", {"teachers": {"big": "cifar/resnet14"}}).teachers
        ('big',)
        >>> read_method("adpt", {})
        Traceback (most recent call last):
        tutelage.errors.UnknownName: method 'adpt': there is no method, path, loss or weighting 'adpt'; close: adaptive.
    """
    own = raw.get("methods") or {}
    if name in own:
        return Method(name, _allowed(name, own[name]), alone=own[name].get("teachers") == {})
    if name in ALONE:
        return Method(name, ALONE[name], alone=True)
    body, at, told = name.partition("@")
    teachers = _teachers(name, told, raw) if at else None
    paths, slash, weighting = body.partition("/")
    if body in own and at:
        return Method(name, _allowed(body, own[body]), teachers)
    if not slash and _is_rule(body.partition("+")[0]):
        paths, weighting = "", body
    changes: dict[str, Any] = {}
    if paths:
        changes["paths"] = [_path(name, path, own) for path in paths.split("+")]
    if weighting or slash:
        changes["weighting"] = _weighting(name, weighting)
    if not changes and not (at and body == ""):
        raise UnknownName(_unknown(name, body, own))
    return Method(name, changes, teachers)


def without(method: Method, resolved: schema.Recipe) -> Iterator[tuple[str, str, Method]]:
    """A method without each of its teachers and without each of its paths, where others are left.

    Args:
        method: The whole method.
        resolved: Its recipe with all paths written out.

    Returns:
        What was left out: ``teacher`` or ``path``, and its name; and the method without it.
    """
    assert isinstance(resolved.paths, dict)
    paths = {name: spec.model_dump(mode="json") for name, spec in resolved.paths.items()}
    teachers = tuple(resolved.teachers)
    changes = {**method.changes, "paths": paths}
    if len(teachers) > 1:
        for left in teachers:
            name = f"{method.name} without teacher {left}"
            yield "teacher", left, Method(name, changes, tuple(teacher for teacher in teachers if teacher != left))
    if len(paths) > 1:
        for left in paths:
            rest = {name: spec for name, spec in paths.items() if name != left}
            name = f"{method.name} without path {left}"
            yield "path", left, Method(name, {**changes, "paths": rest}, method.teachers)


def _allowed(name: str, changes: Any) -> dict[str, Any]:
    if not isinstance(changes, Mapping):
        raise RecipeError(f"methods.{name}: expected keys of a recipe and values, found {changes!r}.")
    for key, value in changes.items():
        keys = [f"{key}.{below}" for below in value] if key == "train" and isinstance(value, Mapping) else [key]
        for changed in keys:
            if not any(changed == free or changed.startswith(f"{free}.") for free in FREE):
                raise RecipeError(
                    f"methods.{name}: expected only {', '.join(FREE)} to differ between methods, found {changed!r}: "
                    "the budget would not be equal. Set it for all methods, outside `methods:`."
                )
    return dict(changes)


def _teachers(name: str, told: str, raw: Raw) -> tuple[str, ...]:
    known = list(raw.get("teachers") or {})
    wanted = told.split("+")
    for teacher in wanted:
        if teacher not in known:
            raise UnknownName(f"method {name!r}: there is no teacher {teacher!r}; {close_names(teacher, known)}.")
    return tuple(teacher for teacher in known if teacher in wanted)


def _path(name: str, path: str, own: Raw) -> str:
    path = ALIASES.get(path, path)
    if path in SHORT or path.lower() in catalogue.names("losses"):
        return path
    if _is_rule(path):
        raise RecipeError(
            f"method {name!r}: expected paths or losses before the weighting, found the weighting {path!r}. Write "
            "PATHS/WEIGHTING, and join gates to a weighting by '+'."
        )
    raise UnknownName(_unknown(name, path, own))


def _unknown(name: str, part: str, own: Raw) -> str:
    known = [*own, *ALONE, "equal", *ALIASES, *_rules(), *SHORT, *catalogue.names("losses")]
    return (
        f"method {name!r}: there is no method, path, loss or weighting {part!r}; "
        f"{close_names(part, dict.fromkeys(known))}."
    )


def _rules() -> list[str]:
    return [*catalogue.names("weighting"), *catalogue.solvers()]


def _is_rule(word: str) -> bool:
    return word == "equal" or _kind(word) is not None


def _weighting(name: str, text: str) -> dict[str, Any]:
    rule, *gates = text.split("+")
    for word in (rule, *gates):
        if not _is_rule(word):
            known = ["equal", *_rules()]
            raise UnknownName(f"method {name!r}: there is no weighting {word!r}; {close_names(word, known)}.")
    for gate in gates:
        if _kind(gate) != "gate":
            raise RecipeError(f"method {name!r}: expected gates after the first '+', found {gate!r}, which is a scale.")
    if _kind(rule) == "gate":
        gates.insert(0, rule)
        share = "trust" if set(map(str.lower, gates)) <= set(OPEN) else "whole"
        return {
            "scale": {"use": "auto", "share": share, "guard": False},
            "gates": [{"use": gate.lower()} for gate in gates],
        }
    scale = EQUAL if rule == "equal" else {"use": rule.lower()}
    return {"scale": dict(scale), "gates": [{"use": gate.lower()} for gate in gates]} if gates else dict(scale)


def _kind(word: str) -> str | None:
    """Whether a word names a scale or a gate; None if it names no weighting. Rules that have several names count."""
    if ":" in word or not word:
        return None
    try:
        return str(getattr(catalogue.part("weighting", word), "kind", "scale"))
    except UnknownName:
        pass
    try:
        build_weighting(schema.WeightingSpec(use=word.lower()), ())
    except InputError:
        return None
    return "scale"


def _hearing(raw: dict[str, Any], teachers: Sequence[str]) -> dict[str, Any]:
    """The recipe with these teachers alone; paths that only heard others are gone."""
    raw["teachers"] = {name: model for name, model in raw["teachers"].items() if name in teachers}
    if not isinstance(raw.get("paths"), Mapping):
        return raw
    paths = {}
    for name, spec in raw["paths"].items():
        kept = dict(spec)
        if kept.get("teachers") is not None:
            kept["teachers"] = [teacher for teacher in kept["teachers"] if teacher in teachers]
        for key in ("teacher", "connector"):
            if isinstance(kept.get(key), Mapping):
                kept[key] = {teacher: value for teacher, value in kept[key].items() if teacher in teachers} or None
        if kept.get("teachers") == [] or (isinstance(spec.get("teacher"), Mapping) and kept["teacher"] is None):
            continue
        paths[name] = kept
    return raw | {"paths": paths}
