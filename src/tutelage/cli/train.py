"""Plain training: makes a teacher."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from . import runfolder
from .distill import Run, execute, is_live
from .gather import gather


def train(
    recipe: str | pathlib.Path | Mapping[str, Any] | None = None,
    *,
    model: Any = None,
    data: Any = None,
    out: str | pathlib.Path,
    assignments: Sequence[str] = (),
    resume: bool = False,
    allow_import: Sequence[str] = (),
    **keys: Any,
) -> Run:
    """Train a model from labels alone; the run folder can then be given as a teacher.

    Args:
        recipe: A recipe's path or content; teachers, paths and the scheme in it are left out.
        model: A model's string or module.
        data: A path or name, or a data set of ``(picture, label)``.
        out: The run folder, which is made.
        assignments: ``key.sub=value``, as after ``--set``.
        resume: Go on with the run in `out`.
        allow_import: Packages from which models and parts may be imported.
        **keys: Any top-level key of a recipe.

    Returns:
        The run; its model is `Run.student`.
    """
    out = pathlib.Path(out)
    runfolder.claim(out, resume)
    if resume:
        given = {"recipe": recipe, "--set": assignments, **keys}
        named = {} if is_live(model, data) else {"--model": model, "--data": data}
        recipe = runfolder.resumed_recipe(out, given | named, "train", allow_import)
        if not is_live(model, data):
            model, data = None, None
    raw, live = gather(recipe, student=model, data=data, assignments=assignments, keys=keys)
    raw |= {"teachers": {}, "baseline": False}
    for teaching in ("paths", "scheme"):
        raw.pop(teaching, None)
    done = execute(raw, live, out, resume=resume, allow_import=allow_import, command="train")
    assert isinstance(done, Run)
    return done
