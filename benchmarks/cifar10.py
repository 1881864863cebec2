"""CIFAR-10: resnet8 alone, with its best teacher, with three equal ones, and with `auto`.

    python benchmarks/cifar10.py [--seeds 3] [--epochs 12] [--limit 10000] [--methods plain auto …] [--compile]

Reads the shared data and weights (`TUTELAGE_SHARED`, or `../shared`). The teachers' answers to four views of each
sample are computed once, into `--store`. With `--limit` only so many training pictures are used. What fewer or more
views or fewer logits cost is told by the methods live, views1, views2, views8 and top3, which are `auto` otherwise. One
line a run is appended to benchmarks/results/cifar10.jsonl; a run that stands there is not repeated, and one that was
stopped goes on. `--table` prints the table and runs nothing.
"""

import argparse
import datetime
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
from dataclasses import dataclass

from tables import interval

from tutelage.cli.runfolder import hardware, versions

SHARED = pathlib.Path(os.environ.get("TUTELAGE_SHARED", "../shared"))
RESULTS = pathlib.Path("benchmarks/results/cifar10.jsonl")
NETS = ("resnet56", "resnet44", "resnet32")
TEACHERS = {net: f"{net}=cifar/{net}@{SHARED}/weights/cifar10_{net}.safetensors" for net in NETS}


@dataclass(frozen=True)
class Method:
    """How a student is trained: its teachers, their views on disk (None: live), their logits there, further options."""

    teachers: tuple[str, ...] = NETS
    views: int | None = 4
    top_k: int | None = None
    options: tuple[str, ...] = ()


METHODS = {
    "plain": Method(teachers=()),
    "single": Method(teachers=("resnet56",)),
    "equal": Method(options=("paths=[logits]", "weighting.scale={use: fixed, mean: true}")),
    "auto": Method(),
    "live": Method(views=None),
    "views1": Method(views=1),
    "views2": Method(views=2),
    "views8": Method(views=8),
    "top3": Method(top_k=3),
}
FIRST = ("plain", "single", "equal", "auto")


def command(name: str, seed: int, given: argparse.Namespace, out: pathlib.Path) -> list[str]:
    """The command line of one run."""
    method = METHODS[name]
    common = ["--data", f"{SHARED}/data/cifar10", "--out", str(out), "--json"]
    common += ["--set", f"train.epochs={given.epochs}", "--set", f"train.seed={seed}", *limited(given)]
    common += ["--set", "train.compile=true"] if given.compile else []
    if (out / "recipe.yaml").exists():
        return ["train" if name == "plain" else "distill", "--resume", "--out", str(out), "--json"]
    if name == "plain":
        return ["train", "--model", "cifar/resnet8", *common]
    taught = [word for net in method.teachers for word in ("--teacher", TEACHERS[net])]
    kept = ["--set", "train.cache=live"]
    if method.views is not None:
        kept = ["--set", f"data.views={method.views}", "--set", f"train.cache={store_of(method, given)}"]
    options = [word for option in method.options for word in ("--set", option)]
    return ["distill", "--student", "cifar/resnet8", *taught, *common, *kept, "--no-baseline", *options]


def store_of(method: Method, given: argparse.Namespace) -> pathlib.Path:
    """Where the answers of a method are."""
    return given.store if method.top_k is None else given.store.with_name(f"{given.store.name}-top{method.top_k}")


def tutelage(arguments: list[str]) -> str:
    """Run the command line, with one thread, and give what it printed."""
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    line = [sys.executable, "-m", "tutelage", *arguments]
    return subprocess.run(line, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout


def limited(given: argparse.Namespace) -> list[str]:
    """The option that leaves out training pictures."""
    return [] if given.limit is None else ["--set", f"data.limit={given.limit}"]


def fill(given: argparse.Namespace) -> None:
    """Compute the answers of all teachers; what is there is not computed again."""
    taught = [word for spec in TEACHERS.values() for word in ("--teacher", spec)]
    common = ["--student", "cifar/resnet8", "--data", f"{SHARED}/data/cifar10", *taught, *limited(given)]
    common += ["--set", "train.compile=true"] if given.compile else []
    kept = [METHODS[name] for name in given.methods if METHODS[name].teachers and METHODS[name].views]
    for top_k in sorted({method.top_k for method in kept}, key=str):
        those = [method for method in kept if method.top_k == top_k]
        views = max(method.views or 0 for method in those)
        few = [] if top_k is None else ["--top-k", str(top_k)]
        tutelage(["cache", *common, "--store", str(store_of(those[0], given)), "--set", f"data.views={views}", *few])


def done() -> list[dict]:
    """The runs that stand in the results."""
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def table(given: argparse.Namespace) -> None:
    """Mean and spread over seeds of each method, and paired differences with 95% t-intervals."""
    lines = [line for line in done() if told(line) == (given.epochs, given.limit, given.compile)]
    tests = {
        method: {line["seed"]: 100 * line["test"] for line in lines if line["method"] == method} for method in METHODS
    }
    for method, found in tests.items():
        if found:
            spread = statistics.stdev(found.values()) if len(found) > 1 else math.nan
            seconds = [line["seconds_per_epoch"] for line in lines if line["method"] == method]
            print(
                f"{method:8} n={len(found)}  {statistics.mean(found.values()):.2f} ± {spread:.2f}"
                f"  - plain {paired(found, tests['plain']):24}  - auto {paired(found, tests['auto']):24}"
                f"  {statistics.median(seconds):.1f} s/epoch"
            )


def told(line: dict) -> tuple:
    """The protocol of a line."""
    return line["epochs"], line["limit"], line.get("compile", False)


def paired(one: dict[int, float], other: dict[int, float]) -> str:
    """Mean difference over the seeds that both have, with its t-interval."""
    gains = [one[seed] - other[seed] for seed in one if seed in other]
    if one is other or len(gains) < 2:
        return ""
    return interval(gains)


def main() -> None:
    """Run what is missing, one seed after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--limit", type=int, default=None)
    parser.add_argument("--methods", nargs="+", default=list(FIRST), choices=list(METHODS))
    parser.add_argument(
        "--store", type=pathlib.Path, default=pathlib.Path("caches/cifar10"), help="folder of the answers"
    )
    parser.add_argument("--compile", action="store_true", help="run the student through torch.compile")
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    if given.table:
        table(given)
        return
    fill(given)
    for seed in range(given.seeds):
        for method in given.methods:
            key = {"method": method, "seed": seed, "epochs": given.epochs, "limit": given.limit}
            key |= {"compile": given.compile}
            if any(key.items() <= line.items() for line in done()):
                continue
            out = pathlib.Path("runs/cifar10") / f"{method}-{given.limit or 'all'}-{given.epochs}-{seed}"
            arguments = command(method, seed, given, out)
            result = json.loads(tutelage(arguments))
            line = {**key, "test": result["student"]["test"], "validation": result["student"]["validation"]}
            line |= {"seconds_per_epoch": result["seconds"]["student"] / given.epochs, "command": " ".join(arguments)}
            line |= {"date": datetime.datetime.now(datetime.UTC).date().isoformat()}
            line |= {"hardware": hardware(), "versions": versions()}
            RESULTS.parent.mkdir(parents=True, exist_ok=True)
            with RESULTS.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
    table(given)


if __name__ == "__main__":
    main()
