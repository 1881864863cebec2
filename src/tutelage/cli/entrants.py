"""Entrants: methods that were built and rehearsed, and what is known of them before the first is trained."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import nn

from tutelage.bench import Method, key, read_method, without
from tutelage.bench.methods import TEACHING
from tutelage.engine.hardware import decided
from tutelage.errors import InputError, RecipeError
from tutelage.models import fingerprint
from tutelage.models.fingerprint import layers
from tutelage.models.sources import LIBRARIES
from tutelage.recipe import schema
from tutelage.taps import evaluating

from . import runfolder
from .prepare import Prepared, vary
from .show import say


@dataclass(frozen=True)
class Entrant:
    """A method that was built and rehearsed.

    Args:
        method: The method.
        prepared: Its recipe, with all paths written out.
        step: Seconds of one step, without teachers whose answers are kept.
        forward: Seconds of one forward of the student on a batch.
        part: What was left out of the first method (teacher or path, and its name); None for methods of their own.
    """

    method: Method
    prepared: Prepared
    step: float
    forward: float
    part: tuple[str, str] | None = None

    @property
    def name(self) -> str:
        """The method's name."""
        return self.method.name

    @cached_property
    def key(self) -> str:
        """What tells what it computes from all else, but for seed and data.

        In another precision it computes something else: a table that goes on on other hardware must not mix them.
        """
        prints = {
            name: _told(self.prepared, name, network, self.prepared.fingerprints[f"teacher {name}"])
            for name, network in self.prepared.teachers.items()
        }
        recipe = self.prepared.recipe
        train = replace(recipe.train, precision=decided(recipe.train.precision, recipe.train.accelerator))
        return key(recipe.model_copy(update={"train": train}), _student(self.prepared), prints)

    @property
    def taught(self) -> bool:
        """Whether somebody teaches: a teacher of the recipe's, or one that its scheme brings."""
        return runfolder.has_teacher(self.prepared.recipe.model_dump(mode="json"), self.prepared.allow_import)

    def run(self, seed: int) -> Prepared:
        """The run of one seed."""
        recipe = self.prepared.recipe
        train = recipe.train.with_seed(seed)
        return replace(self.prepared, recipe=recipe.model_copy(update={"train": train, "seeds": 1, "methods": {}}))

    def seconds(self) -> float:
        """How long one run takes, by the estimate."""
        train, splits = self.prepared.recipe.train, self.prepared.splits
        size = self.prepared.recipe.data.batch_size
        looked = train.epochs * len(splits.selection) + len(splits.test)
        steps = train.epochs * len(self.prepared.loader("train", 0, baseline=not self.taught))
        return steps * self.step + looked / size * self.forward


def build(
    first: Prepared, raw: Mapping[str, Any], names: Sequence[str], *, leave_one_out: bool
) -> tuple[list[Entrant], dict[str, str]]:
    """Build and rehearse every method; the refused ones with their reason."""
    read = [read_method(name, raw) for name in names]  # misspelt names are no matter of skipping
    built: list[Entrant] = []
    refused: dict[str, str] = {}

    def enter(method: Method, part: tuple[str, str] | None = None) -> None:
        try:
            method = _checked(method, raw, first.allow_import)
            prepared = vary(first, method.recipe(raw))
            built.append(Entrant(method, prepared, *_rehearsed(prepared), part))
        except InputError as error:
            refused[method.name] = str(error)

    for method in read:
        enter(method)
    whole = next((entrant for entrant in built if not entrant.method.alone), None)
    if leave_one_out and whole is not None:
        parts = list(without(whole.method, whole.prepared.recipe))
        if not parts:
            say(f"  {whole.name} has one teacher and one path: nothing can be left out")
        for kind, name, method in parts:
            enter(method, (kind, name))
    if not built:
        raise RecipeError("no method can be built:\n" + lines(refused))
    return built, refused


def _checked(method: Method, raw: Mapping[str, Any], allow_import: Sequence[str]) -> Method:
    """The method, if somebody teaches where somebody must; where the scheme alone does, it hears nobody else.

    Raises:
        RecipeError: Nobody does, by the rule of `distill`.
    """
    recipe = method.recipe(raw)
    if runfolder.has_teacher(recipe, allow_import):
        if recipe.get("teachers"):
            return method
        own = {key: recipe[key] for key in TEACHING if key in recipe}
        return replace(method, alone=True, changes={**method.changes, **own})
    if not method.alone:
        raise RecipeError("it needs a teacher, and none was given. Give --teacher MODEL[@WEIGHTS].")
    scheme, usual = schema.parse(recipe).scheme, schema.Recipe.model_fields["scheme"].default
    if scheme != usual:
        raise RecipeError(
            f"the scheme {scheme.use!r} brings no teacher, and none is heard (teachers: {{}}). Leave out the scheme, "
            "or 'teachers: {}'."
        )
    return method


def _rehearsed(prepared: Prepared) -> tuple[float, float]:
    """One whole step on a training batch, twice: its seconds, and those of a forward of the student.

    Raises:
        RecipeError: It cannot be computed.
    """
    with torch.random.fork_rng(devices=[]):
        pupil = next(iter(prepared.first_stage().pupils.values()))
        batch = prepared.example
        pupil.train()
        try:
            steps = []
            for _ in range(2):
                began = time.perf_counter()
                step = pupil(batch)
                step.loss.backward()
                steps.append(time.perf_counter() - began)
        except InputError:
            raise
        except (TypeError, ValueError, RuntimeError) as error:
            raise RecipeError(
                f"one step cannot be computed: {str(error).partition(chr(10))[0].rstrip('.')}."
            ) from error
        with torch.no_grad():
            began = time.perf_counter()
            pupil.attend(batch)
            forward = time.perf_counter() - began
    return min(steps), forward


def heard(prepared: Prepared) -> float:
    """Seconds in which the teachers answer a batch."""
    pupil = next(iter(prepared.first_stage().pupils.values()))
    began = time.perf_counter()
    for teacher in pupil.teachers.values():
        teacher(prepared.example, {})
    return time.perf_counter() - began


def _student(prepared: Prepared) -> str:
    """What the student starts from: how it is built, or the fingerprint of weights that it was given."""
    spec = prepared.recipe.student
    if spec.model.partition("/")[0] in LIBRARIES and spec.weights is None and "student" not in prepared.live:
        return json.dumps([spec.model, spec.arguments, spec.classes])
    model = prepared.cast(0).model("student")
    return _told(prepared, "student", model, fingerprint(model))


def _told(prepared: Prepared, role: str, model: nn.Module, weights: str) -> str:
    """The fingerprint of a model's weights; where the user's own code builds it, also its layers and answers."""
    spec = prepared.recipe.student if role == "student" else prepared.recipe.teachers[role]
    origin = model.__dict__["origin"]
    if role not in prepared.live and (origin["library"], origin["name"]) != ("factory", spec.model):
        return weights
    return json.dumps([weights, layers(model), _answered(prepared, model)])


@torch.no_grad()
def _answered(prepared: Prepared, model: nn.Module) -> list[float | str]:
    """What a model says of two fixed pictures: how large its answer is, and the first numbers of it.

    Coarse, for other hardware rounds in another way.
    """
    batch = prepared.example.each(lambda values: values[:2])
    with evaluating(model), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pictures = torch.rand(batch.inputs.shape)
        said = prepared.task.call(model, replace(batch, inputs=pictures)).flatten().double()
    size = said.abs().mean()
    return [f"{size:.2e}", *((said[:16] / size).round(decimals=1) + 0.0).tolist()]


def lines(refused: Mapping[str, str]) -> str:
    """One line for each method that cannot be built, with the reason."""
    return "\n".join(f"  {name}: {reason}" for name, reason in refused.items())
