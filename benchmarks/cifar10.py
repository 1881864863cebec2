"""CIFAR-10: resnet8 alone, with its best teacher, with three equal ones, and with `auto`.

    python benchmarks/cifar10.py [--seeds 3] [--epochs 12] [--limit 10000] [--methods plain auto …] [--compile]

Reads the shared data and weights (`TUTELAGE_SHARED`, or `../shared`). The teachers' answers to four views of each
sample are computed once, into `--store`. With `--limit` only so many training pictures are used. One line a run is
appended to benchmarks/results/cifar10.jsonl; a run that stands there is not repeated, and one that was stopped goes on.
`--table` prints the table and runs nothing.
"""

import argparse
import datetime
import json
import os
import pathlib
import statistics
import subprocess
import sys

from tutelage.cli.runfolder import hardware, versions

SHARED = pathlib.Path(os.environ.get("TUTELAGE_SHARED", "../shared"))
RESULTS = pathlib.Path("benchmarks/results/cifar10.jsonl")
NETS = ("resnet56", "resnet44", "resnet32")
TEACHERS = {net: f"{net}=cifar/{net}@{SHARED}/weights/cifar10_{net}.safetensors" for net in NETS}
LOGITS = ["--set", "paths=[logits]"]
METHODS: dict[str, tuple[list[str], list[str]]] = {
    "plain": ([], []),
    "single": (["resnet56"], []),
    "equal": (list(NETS), [*LOGITS, "--set", "weighting.scale={use: fixed, mean: true}"]),
    "auto": (list(NETS), []),
}


def command(method: str, seed: int, given: argparse.Namespace, out: pathlib.Path) -> list[str]:
    """The command line of one run."""
    teachers, options = METHODS[method]
    common = ["--data", f"{SHARED}/data/cifar10", "--out", str(out), "--json"]
    common += ["--set", f"train.epochs={given.epochs}", "--set", f"train.seed={seed}", *limited(given)]
    common += ["--set", "train.compile=true"] if given.compile else []
    if (out / "recipe.yaml").exists():
        return ["train" if method == "plain" else "distill", "--resume", "--out", str(out), "--json"]
    if method == "plain":
        return ["train", "--model", "cifar/resnet8", *common]
    taught = [word for name in teachers for word in ("--teacher", TEACHERS[name])]
    cached = ["--set", "data.views=4", "--set", f"train.cache={given.store}", "--no-baseline"]
    return ["distill", "--student", "cifar/resnet8", *taught, *common, *cached, *options]


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
    common = ["--student", "cifar/resnet8", "--data", f"{SHARED}/data/cifar10", "--store", str(given.store)]
    tutelage(["cache", *common, *taught, "--set", "data.views=4", *limited(given)])


def done() -> list[dict]:
    """The runs that stand in the results."""
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def table(given: argparse.Namespace) -> None:
    """Mean and spread over seeds of each method."""
    lines = [line for line in done() if (line["epochs"], line["limit"]) == (given.epochs, given.limit)]
    plain = {line["seed"]: line["test"] for line in lines if line["method"] == "plain"}
    for method in METHODS:
        runs = {line["seed"]: line for line in lines if line["method"] == method}
        if not runs:
            continue
        tests = [100 * run["test"] for run in runs.values()]
        spread = statistics.stdev(tests) if len(tests) > 1 else float("nan")
        gains = [100 * (run["test"] - plain[seed]) for seed, run in runs.items() if seed in plain]
        gain = f"{statistics.mean(gains):+.2f}" if gains else ""
        seconds = statistics.median(run["seconds_per_epoch"] for run in runs.values())
        print(
            f"{method:8} n={len(tests)}  {statistics.mean(tests):.2f} ± {spread:.2f}  {gain:>6}  {seconds:.1f} s/epoch"
        )


def main() -> None:
    """Run what is missing, one seed after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--limit", type=int, default=None)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument(
        "--store", type=pathlib.Path, default=pathlib.Path("caches/cifar10"), help="folder of the answers"
    )
    parser.add_argument("--compile", action="store_true", help="run the student through torch.compile")
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    if given.table:
        table(given)
        return
    if set(given.methods) != {"plain"}:
        fill(given)
    for seed in range(given.seeds):
        for method in given.methods:
            key = {"method": method, "seed": seed, "epochs": given.epochs, "limit": given.limit}
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
