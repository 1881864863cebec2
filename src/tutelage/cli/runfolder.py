"""The run folder: made, recognised on resume, filled at the end."""

import contextlib
import datetime
import errno
import hashlib
import importlib.metadata
import json
import os
import pathlib
import platform
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

import tutelage
from tutelage.engine import processes
from tutelage.engine.hardware import computes_bf16
from tutelage.engine.results import share, write_json, write_text
from tutelage.errors import InputError, RunError
from tutelage.models import save
from tutelage.models.sources import LIBRARIES
from tutelage.recipe import catalogue
from tutelage.recipe.schema import Recipe, parse, put, read

from .prepare import Prepared
from .show import say

if TYPE_CHECKING:
    from tutelage.engine.run import Outcome

PACKAGES = ("tutelage", "torch", "torchvision", "lightning", "torchmetrics", "timm", "transformers", "onnxruntime")


def claim(folder: pathlib.Path, resume: bool) -> None:
    """Refuse a folder that holds another run, or one that cannot be resumed.

    Raises:
        RunError: Says which, and what to do.
    """
    if folder.exists() and not folder.is_dir():
        raise RunError(f"--out {folder}: expected a folder, found a file. Choose another name.")
    begun = (folder / "recipe.yaml").exists()
    if resume and not begun:
        raise RunError(
            f"--resume: expected a run in {folder} (a recipe.yaml), found none. Leave --resume out to start one."
        )
    if begun and not resume:
        done = " finished" if (folder / "result.json").exists() else "n unfinished"
        raise RunError(f"--out {folder}: it holds a{done} run. Go on with --resume, or choose another folder.")
    if not begun and folder.is_dir() and any(folder.iterdir()):
        raise RunError(
            f"--out {folder}: expected a new or empty folder, found other files in it. Choose another folder."
        )


def create(folder: pathlib.Path, prepared: Prepared, command: Sequence[str]) -> None:
    """Write recipe and manifest: from here on the run can be resumed.

    Raises:
        RunError: The folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "manifest.json", manifest(prepared, command))
        write_text(folder / "recipe.yaml", prepared.recipe.to_yaml())
    except OSError as error:
        with contextlib.suppress(OSError):  # nothing half-written
            (folder / "manifest.json").unlink(missing_ok=True)
            folder.rmdir()
        raise RunError(
            f"--out {folder}: expected to write here, found: {error.strerror or error}. Choose another folder, or "
            "make room."
        ) from error


@contextlib.contextmanager
def writing(folder: pathlib.Path, resume: str) -> Iterator[None]:
    """Say it clearly where the disk refuses to be written in the middle of a run.

    Raises:
        RunError: With the line that goes on once there is room.
    """
    try:
        yield
    except (OSError, RunError) as error:
        reason = error.__cause__ if isinstance(error, RunError) else error
        if not isinstance(reason, OSError) or reason.errno == errno.EINVAL:  # a file that was cut off needs no room
            raise
        raise RunError(
            f"{reason.filename or folder}: expected to read or write here, found: {reason.strerror or reason}. What "
            f"was saved before is intact. Make room, then go on: {resume}"
        ) from error


def compare(folder: pathlib.Path, prepared: Prepared) -> None:
    """Refuse to resume with other data or other teachers than the run began with; say where the code is another.

    Raises:
        RunError: Names what differs; or the manifest is missing or damaged.
    """
    before = began(folder).get("fingerprints")
    if not isinstance(before, dict):
        raise RunError(
            f"--resume {folder}: expected manifest.json with the fingerprints of the run, found it missing or damaged. "
            "Restore it, or start a new run in another folder."
        )
    now = fingerprints(prepared)
    for name, value in now.items():
        if before.get(name) != value:
            raise RunError(
                f"--resume {folder}: {name} is not what the run began with (fingerprint {before.get(name)}, now "
                f"{value}). Restore it, or start a new run in another folder."
            )
    if before.get("code", code()) != code():
        say("  this is another version of tutelage than the run began with: the result may differ from a whole run's")


def began(folder: pathlib.Path) -> dict[str, Any]:
    """What manifest.json says of how a run began; empty where it is missing or damaged."""
    try:
        found = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def recipe_of(folder: pathlib.Path) -> dict[str, Any]:
    """The recipe of a run as plain data, which means the same files from any directory.

    What was named by a relative path is named by its whole path if it still lies where it lay when the run began;
    if not, the run may have been moved together with its data, and the path stays as it is.
    """
    raw = read(folder / "recipe.yaml")
    home = pathlib.Path(began(folder).get("directory", "."))
    if home.absolute() != pathlib.Path.cwd():
        for key, (prefix, path) in _paths(parse(raw)).items():
            if (home / path).exists():
                put(raw, key, f"{prefix}{home / path}")
    return raw


def _paths(recipe: Recipe) -> dict[str, tuple[str, str]]:
    """What may be a path in a recipe, by its key: what stands before the path, and the path."""
    data, train = recipe.data, recipe.train
    found = {f"data.{name}": getattr(data, name, None) for name in ("use", "selection_data", "test_data")}
    if any(str(source).startswith("torchvision/") for source in found.values()):
        found["data.root"] = data.root
    found |= {"train.cache": train.cache, "train.offload": train.offload}
    models = {"student": recipe.student} | {f"teachers.{name}": spec for name, spec in recipe.teachers.items()}
    found |= {f"{key}.weights": spec.weights for key, spec in models.items()}
    paths = {key: ("", path) for key, path in found.items() if path not in (None, "digits", "auto", "live")}
    for key, spec in models.items():
        library, _, name = spec.model.partition("/")
        if library == "hf":
            paths[f"{key}.model"] = ("hf/", name)
        elif library not in LIBRARIES:
            paths[f"{key}.model"] = ("", spec.model)
    return paths


def code() -> str:
    """A hash of this library's own source, as it was imported."""
    home = pathlib.Path(tutelage.__file__).parent
    told = hashlib.sha256()
    for file in sorted(home.rglob("*.py")):
        told.update(f"{file.relative_to(home).as_posix()}\n".encode() + file.read_bytes())
    return told.hexdigest()


def fingerprints(prepared: Prepared) -> dict[str, str]:
    """What must not change within a run: data and teachers."""
    from tutelage.models import fingerprint

    found = {"data": prepared.splits.fingerprint}
    return found | {f"teacher {name}": fingerprint(model) for name, model in prepared.teachers.items()}


def manifest(prepared: Prepared, command: Sequence[str]) -> dict[str, Any]:
    """Versions, hardware, seeds and fingerprints."""
    train = prepared.recipe.train
    return {
        "versions": versions(),
        "hardware": hardware(),
        "seeds": list(range(train.seed, train.seed + prepared.recipe.seeds)),
        "fingerprints": {**fingerprints(prepared), "code": code()},
        "command": shlex.join(command),
        "directory": os.getcwd(),
        "allow_import": list(prepared.allow_import),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "data": prepared.splits.guess,
        "notes": [*prepared.splits.notes, *(note for found in prepared.examined.values() for note in found.notes)],
        "macs_by": "torch.utils.flop_counter",
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that matter, where installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, Any]:
    """The processor, its cores, memory, accelerators, threads, processes, and whether ``precision=auto`` is bf16."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None
    return {
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "processor": torch.cpu.get_capabilities().get("cpu_name", platform.processor()),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gb": None if memory is None else round(memory / 2**30, 1),
        "processes": processes.world(),
        "accelerators": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "bf16": computes_bf16(),
    }


def fill(folder: pathlib.Path, prepared: Prepared, outcome: "Outcome") -> None:
    """Write the models and the report."""
    from tutelage.report import write

    models = {"student": outcome.student, "baseline": outcome.baseline}
    for name, model in {**models, **{f"pupils/{other}": model for other, model in outcome.others.items()}}.items():
        if model is not None:
            save(
                model,
                folder / name,
                card=card(name, prepared.recipe, outcome.result, first_seed(folder)),
                classes=prepared.splits.classes,
                input_size=prepared.splits.train.shape[1:],
                in_channels=prepared.splits.train.shape[0],
                finish=prepared.task.finish,
                any_size=prepared.task.any_size,
            )
    for file in ("best.ckpt", "last.ckpt"):
        share(folder / "checkpoints" / "stages" / "student" / file, folder / "checkpoints" / file)
    write([folder])


def first_seed(folder: pathlib.Path) -> Mapping[str, Any]:
    """The seed whose models are in the folder, and their own test scores; empty where a run has but one seed."""
    from tutelage.report import read as read_run

    seeds = read_run(folder).evaluation.get("seeds", [])
    return seeds[0] if len(seeds) > 1 else {}


def card(name: str, recipe: Recipe, result: Mapping[str, Any], first: Mapping[str, Any]) -> str:
    """The model card: what this model is, how it was made, how good it is; `first` as `first_seed` gives it."""
    if name not in ("student", "baseline"):
        return (
            f"# {name}\n\n- data: {recipe.data.use}\n- trained beside the student, by the scheme {recipe.scheme.use}\n"
        )
    metric = result["metric"]
    taught = ", ".join(recipe.teachers) or "nobody: trained from labels alone"
    student, baseline = result["student"], result["baseline"]
    lines = [
        f"# {student['name']} ({name})",
        "",
        f"- data: {recipe.data.use}",
        f"- taught by: {taught if name == 'student' else 'nobody: the same student trained alone'}",
        f"- parameters: {student['params']:,}; multiply-adds: {student['macs']:,}",
    ]
    scores = student if name == "student" else baseline
    told = f"test {metric}: {scores['test']:.4f}; validation {metric}: {scores['validation']:.4f}"
    if first:
        lines.append(f"- test {metric}: {first[name]:.4f} (this model, of seed {first['seed']})")
        told = f"mean over {result['seeds']} seeds: {told}"
    lines.append(f"- {told}")
    if result["verdict"] is not None:
        low, high = result["interval"]
        lines.append(
            f"- against the same student trained alone: {result['verdict']} "
            f"({result['delta']:+.4f}, 95% interval {low:+.4f} to {high:+.4f})"
        )
    return "\n".join(lines) + "\n"


def resume_line(folder: pathlib.Path, command: str, allow_import: Sequence[str], *, live: bool = False) -> str:
    """The line that continues a run; with objects given from Python it is one of Python."""
    if live:
        return f"tutelage.{command}(…, out={str(folder)!r}, resume=True) with the same modules and data sets"
    allowed = "".join(f" --allow-import {package}" for package in allow_import)
    return f"{processes.launcher()} {command} --out {shlex.quote(str(folder))} --resume{allowed}"


def has_teacher(raw: Mapping[str, Any], allow_import: Sequence[str]) -> bool:
    """Whether a recipe is one of `distill`: it names teachers, or its scheme makes its own."""
    if raw.get("teachers"):
        return True
    scheme = catalogue.part("schemes", parse(raw).scheme.use, allow_import=allow_import, where="scheme")
    return bool(getattr(scheme, "brings_teacher", False))


def resumed_recipe(
    folder: pathlib.Path, given: Mapping[str, Any], command: str, allow_import: Sequence[str]
) -> dict[str, Any]:
    """The recipe of a run that is resumed; other arguments would make it another run.

    Raises:
        InputError: Arguments that the recipe already holds.
        RunError: Another command made the run.
    """
    raw = recipe_of(folder)
    made = "distill" if has_teacher(raw, allow_import) else "train"
    if made != command:
        raise RunError(
            f"--resume: expected a run of {command} in {folder}, found one of {made}. To go on with it: "
            f"{resume_line(folder, made, allow_import)}"
        )
    extra = [name for name, value in given.items() if value not in (None, (), [], {})]
    if extra:
        raise InputError(
            f"--resume goes on with the recipe in {folder}; it takes no {', '.join(extra)}. "
            "Leave them out, or start a new run in another folder."
        )
    return raw


def argv() -> list[str]:
    """The command as it was typed."""
    return ["tutelage", *sys.argv[1:]] if sys.argv and "tutelage" in sys.argv[0] else ["python"]
