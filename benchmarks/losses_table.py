"""Every loss alone: resnet8 taught by resnet56 through one loss, against the same student without a teacher.

    python benchmarks/losses_table.py [--seeds 3] [--epochs 12] [--limit 5000] [--methods plain kl CRD …]
    python benchmarks/losses_table.py --temperatures     # soft targets at several temperatures
    python benchmarks/losses_table.py --full             # ten losses on all pictures
    python benchmarks/losses_table.py --table [--full]   # prints the table as Markdown and runs nothing

Reads the shared data and weights (`TUTELAGE_SHARED`, or `../shared`). Each loss stands where the house's pairing puts
it: on the answers, on the vectors before both classifiers, on the deepest stage, or on all stages together; its weight
is the default's (`auto`). The teacher's answers to four views of each picture are computed once for each of these
places, into `--store`; on all pictures the maps of all stages would be too large, and the teacher is asked live, which
the line says. One line a run is appended to benchmarks/results/losses.jsonl; a run that stands there is not repeated,
and one that was stopped goes on.
"""

import argparse
import datetime
import json
import pathlib
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from cifar10 import SHARED, TEACHERS, tutelage
from safetensors.torch import load_file

from tutelage import verdict
from tutelage.bench.results import pack, unpack
from tutelage.cli.runfolder import hardware, versions
from tutelage.models import find
from tutelage.pairing import pair, vectors
from tutelage.taps import survey

RESULTS = pathlib.Path("benchmarks/results/losses.jsonl")
TEACHER = "resnet56"
VIEWS = 4
LOG_EVERY = 5
BATCH = 128
SHORT = 5000
"""Training pictures of the short protocol."""
SELECTION = 0.02
"""Share of the training set that is held out for selection where pictures are limited: validation costs time, too."""

ELSEWHERE = ("ifvd", "l1", "affinity", "channel_statistics", "PISR", "CSD")
"""Losses for other tasks than classification."""

STORES = {"vector": ("vector",), "deepest": ("deepest", "branch"), "stages": ("stages",)}
"""Store -> the places whose taps it has beside the answers."""


@dataclass(frozen=True)
class Method:
    """What teaches the student: a loss with its options, where it reads, and more for the command line.

    `place` is None for training without a teacher. "branch" is the last normalisation of the deepest stage, "stages"
    one path that reads all stages, "each stage" one path a stage, "parts" the subclasses of divided classifiers.
    """

    place: str | None
    loss: dict[str, Any] = field(default_factory=dict)
    options: tuple[str, ...] = ()


def _on(place: str, *names: str, **options: Any) -> dict[str, Method]:
    return {name: Method(place, {"use": name.lower(), **options}) for name in names}


SMOOTHED = "task={use: classification, label_smoothing: 0.1}"
REUSED = ("scheme={use: reused_classifier, path: taught}", "weighting={scale: {use: fixed, base: 0}}")
SUBCLASSES = ("scheme={use: subclasses, epochs: 3}",)
TEMPERATURES = {f"kl_t{t}": Method("answers", {"use": "kl", "temperature": t}) for t in (1, 2, 4, 8)}
METHODS = {
    "plain": Method(None),
    "label_smoothing": Method(None, options=(SMOOTHED,)),
    **_on("answers", "virtual_teacher", "kl", "soft_cross_entropy", "dkd", "nkd", "dist", "spherical", "one_vs_all"),
    **_on("answers", "comparative", "transport"),
    **_on("vector", "mse", standardise=True),
    **_on("vector", "srrl", "PAD", "rkd_distance", "rkd_angle", "pkt", "correlation", "CC", "info_nce", "CRD", "CRCD"),
    **_on("deepest", "similarity", "cwd", "pairwise", "nst", "factor", "VID", "MGD", "DPK"),
    "FT": Method("deepest", {"use": "ft"}, ("scheme={use: paraphrased, epochs: 2}",)),
    "reused_classifier": Method("deepest", {"use": "mse"}, REUSED),
    **_on("branch", "activation_boundary", "OFD"),
    **_on("stages", "fsp", "kdsvd", "irg", "hierarchical_context", "ReviewKD"),
    **_on("stages", "SemCKD", batch_size=BATCH),
    **_on("each stage", "attention"),
    "subclass_spread": Method("parts", {"use": "kl"}, SUBCLASSES),
    **TEMPERATURES,
    "kl_guide": Method("answers", {"use": "kl"}),
}
USUAL = tuple(name for name in METHODS if name not in (*TEMPERATURES, "kl_guide", "subclass_spread"))
"""Without the temperatures, and without the one that trains the teacher anew, which takes minutes: name it."""
FULL = ("plain", "kl", "dkd", "nkd", "dist", "mse", "CRD", "pkt", "rkd_distance", "similarity", "attention")
"""Ten losses, and what they are compared with."""


@cache
def taps() -> dict[str, tuple[list[str], list[str]]]:
    """Place -> the student's taps and the teacher's, as the house pairs them."""
    models = [find(f"cifar/{net}", num_classes=10).eval() for net in ("resnet8", TEACHER)]
    ours, theirs = (survey(model, lambda model=model: model(torch.rand(2, 3, 32, 32))) for model in models)
    stages, vector = pair(ours, theirs), vectors(ours, theirs)
    assert vector is not None
    last = stages[-1]
    branches = [
        next(tap for tap in reversed(sites) if tap.startswith(f"{stage}.") and tap.endswith("bn2"))
        for sites, stage in ((list(ours), last.student), (list(theirs), last.teacher))
    ]
    all_stages = [each.student for each in stages], [each.teacher for each in stages]
    return {
        "answers": ([""], [""]),
        "vector": ([vector.student], [vector.teacher]),
        "deepest": ([last.student], [last.teacher]),
        "branch": ([branches[0]], [branches[1]]),
        "parts": (["linear.split"], ["linear.split"]),
        "stages": all_stages,
        "each stage": all_stages,
    }


def paths(name: str) -> dict[str, Any]:
    """The paths of a recipe."""
    method = METHODS[name]
    assert method.place is not None
    ours, theirs = taps()[method.place]
    if method.place == "stages":
        return {"taught": {"loss": method.loss, "student": ours, "teacher": theirs}}
    pairs = list(zip(ours, theirs, strict=True))
    names = ["taught"] if len(pairs) == 1 else [f"taught_{ours}" for ours, _ in pairs]
    return {path: {"loss": method.loss, "student": s, "teacher": t} for path, (s, t) in zip(names, pairs, strict=True)}


def store_of(name: str, given: argparse.Namespace) -> pathlib.Path | None:
    """Where the teacher's answers for a method are; None where it is asked live."""
    kind = _kind(name)
    live = METHODS[name].place == "parts" or (kind == "stages" and (given.limit is None or given.limit > 2 * SHORT))
    return None if live else given.store / f"{kind}-{given.limit or 'all'}"


def _kind(name: str) -> str:
    place = METHODS[name].place
    return next(
        (store for store, places in STORES.items() if place in places), "stages" if place == "each stage" else "vector"
    )


def common(given: argparse.Namespace) -> list[str]:
    """Arguments of every command."""
    limited = [] if given.limit is None else _set([f"data.limit={given.limit}", f"data.selection={SELECTION}"])
    compiled = [] if given.eager else ["--set", "train.compile=true"]
    return ["--data", f"{SHARED}/data/cifar10", *limited, *compiled]


def command(name: str, seed: int, given: argparse.Namespace, out: pathlib.Path) -> list[str]:
    """The command line of one run."""
    method = METHODS[name]
    if (out / "recipe.yaml").exists():
        return ["train" if method.place is None else "distill", "--resume", "--out", str(out), "--json"]
    settings = [f"train.epochs={given.epochs}", f"train.seed={seed}", f"train.log_every={LOG_EVERY}", *method.options]
    words = [*common(given), "--out", str(out), "--json", *_set(settings)]
    if method.place is None:
        return ["train", "--model", "cifar/resnet8", *words]
    store = store_of(name, given)
    kept = ["train.cache=live"] if store is None else [f"data.views={VIEWS}", f"train.cache={store}"]
    kept += [f"paths={json.dumps(paths(name))}"]
    if name == "kl_guide":
        kept += [f"paths.taught.loss.temperature={guided(given)}"]
    taught = ["--student", "cifar/resnet8", "--teacher", TEACHERS[TEACHER], "--no-baseline"]
    return ["distill", *taught, *words, *_set(kept)]


@cache
def _guide(words: tuple[str, ...]) -> float:
    found = json.loads(tutelage(["check", *words, "--json"]))["temperatures"]
    return float(found["logits"][TEACHER])


def guided(given: argparse.Namespace) -> float:
    """The temperature that `tutelage check` suggests."""
    words = ("--student", "cifar/resnet8", "--teacher", TEACHERS[TEACHER], *common(given))
    return _guide((*words, *_set(["paths=[logits]"])))


def _set(assignments: list[str]) -> list[str]:
    return [word for assignment in assignments for word in ("--set", assignment)]


def fill(given: argparse.Namespace) -> None:
    """Compute the teacher's answers for the places that are asked for; what is there is not computed again."""
    taught = [name for name in given.methods if METHODS[name].place]
    for store, kind in {store_of(name, given): _kind(name) for name in taught}.items():
        if store is None:
            continue
        wires = [wire for place in STORES[kind] for wire in zip(*taps()[place], strict=True)]
        every = {
            f"path{k}": {"loss": {"use": "mse"}, "student": ours, "teacher": theirs}
            for k, (ours, theirs) in enumerate(wires)
        }
        told = ["--student", "cifar/resnet8", "--teacher", TEACHERS[TEACHER], *common(given), "--store", str(store)]
        tutelage(["cache", *told, "--maps", *_set([f"data.views={VIEWS}", f"paths={json.dumps(every)}"])])


def measured(out: pathlib.Path, result: dict[str, Any], epochs: int) -> dict[str, Any]:
    """What a finished run left: scores, weights, speed, and which test pictures it had right (one bit each)."""
    said = load_file(out / "evaluation.safetensors")
    right = said["student/prediction"] == said["target"]
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["kind"] == "train" and line["stage"] == "student"]
    speed = statistics.median(line["samples_per_second"] for line in steps)
    return {
        "test": result["student"]["test"],
        "validation": result["student"]["validation"],
        "weights": {path: found["mean_weight"] for path, found in result["paths"].items()},
        "seconds_per_epoch": BATCH * steps[-1]["step"] / epochs / speed,
        "right": pack(right),
    }


def done(results: pathlib.Path) -> list[dict[str, Any]]:
    """The runs that stand in the results."""
    return [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []


def table(given: argparse.Namespace) -> None:
    """Each method's test accuracy, what it gains over plain training by seed, its weight and its speed, as Markdown."""
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for line in done(given.results):
        if all(line[key] == value for key, value in protocol(given).items()):
            found.setdefault(line["method"], {})[line["seed"]] = line
    print("| loss | reads | seeds | test, % | minus plain, points | verdict | weight | s an epoch |")
    print("|---|---|---|---|---|---|---|---|")
    for method in (name for name in METHODS if name in found):
        lines = found[method]
        tests = [100 * line["test"] for line in lines.values()]
        spread = f" ± {statistics.stdev(tests):.2f}" if len(tests) > 1 else ""
        seconds = statistics.median(line["seconds_per_epoch"] for line in lines.values())
        place = (METHODS[method].place or "-") + (", live" if any(line["live"] for line in lines.values()) else "")
        cells = (
            method,
            place,
            len(lines),
            f"{statistics.mean(tests):.2f}{spread}",
            *gain(lines, found.get("plain", {})),
        )
        print("| " + " | ".join(map(str, (*cells, weight(lines), f"{seconds:.1f}"))) + " |")


def gain(lines: dict[int, dict[str, Any]], plain: dict[int, dict[str, Any]]) -> tuple[str, str]:
    """The paired difference in points with the verdict's interval, and the verdict."""
    seeds = sorted(lines.keys() & plain.keys())
    if not seeds or lines is plain:
        return "", ""
    ours, alone = (torch.stack([unpack(side[seed]["right"]) for seed in seeds]) for side in (lines, plain))
    found = verdict.judge(ours, alone)
    low, high = (100 * end for end in found.interval)
    return f"{100 * found.delta:+.2f} [{low:+.2f}, {high:+.2f}]", found.verdict


def weight(lines: dict[int, dict[str, Any]]) -> str:
    """The mean weight of each path over training and seeds."""
    every = [line["weights"] for line in lines.values()]
    means = [statistics.mean(weights[path] for weights in every) for path in every[0]]
    return ", ".join(f"{mean:.3g}" for mean in means) or "-"


def protocol(given: argparse.Namespace) -> dict[str, Any]:
    """What runs must share to be compared."""
    return {"epochs": given.epochs, "limit": given.limit, "compile": not given.eager}


def run(name: str, seed: int, given: argparse.Namespace) -> None:
    """One run, and its line."""
    key = {"method": name, "seed": seed, **protocol(given)}
    if any(key.items() <= line.items() for line in done(given.results)):
        return
    eager = "-eager" if given.eager else ""
    out = pathlib.Path("runs/losses") / f"{name}-{given.limit or 'all'}-{given.epochs}{eager}-{seed}"
    arguments = command(name, seed, given, out)
    finished = out / "result.json"  # a run that ended just before its line was written
    result = json.loads(finished.read_text() if finished.exists() else tutelage(arguments))
    line = {**key, "live": METHODS[name].place is not None and store_of(name, given) is None}
    line |= measured(out, result, given.epochs) | {"command": " ".join(arguments)}
    line |= {"date": datetime.datetime.now(datetime.UTC).date().isoformat()}
    line |= {"hardware": hardware(), "versions": versions()}
    given.results.parent.mkdir(parents=True, exist_ok=True)
    with given.results.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def main() -> int:
    """Run what is missing, one seed after the other; a method that stops with an error is named at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--limit", type=int, default=SHORT, help="training pictures")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS))
    parser.add_argument("--full", action="store_true", help="on all pictures, ten losses unless --methods says others")
    parser.add_argument("--temperatures", action="store_true", help="plain and soft targets at several temperatures")
    parser.add_argument("--store", type=pathlib.Path, default=pathlib.Path("caches/losses"), help="folder of stores")
    parser.add_argument("--results", type=pathlib.Path, default=RESULTS)
    parser.add_argument("--eager", action="store_true", help="without torch.compile")
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    given.limit = None if given.full else given.limit
    usual = ("plain", *TEMPERATURES, "kl_guide") if given.temperatures else FULL if given.full else USUAL
    given.methods = given.methods or usual
    if given.table:
        table(given)
        return 0
    fill(given)
    stopped = []
    for seed in range(given.seeds):
        for name in given.methods:
            try:
                run(name, seed, given)
            except subprocess.CalledProcessError as error:
                stopped.append(f"{name}, seed {seed}: exit code {error.returncode}")
    table(given)
    print(*stopped, sep="\n", file=sys.stderr)
    return int(bool(stopped))


if __name__ == "__main__":
    sys.exit(main())
