"""The table of a bench as Markdown: mean and spread over seeds, paired differences, weights, seconds.

    python benchmarks/tables.py benchmarks/results/losses [--against plain] [--methods kl,dkd] [--pool A,B,C]
        [--judged accuracy|mAP]

Differences are paired by seed, in points of a hundred, with a 95% t-interval over the seeds that both have. With
`--judged` intervals are those of the verdict, for which test samples are drawn again, too (mAP is computed anew from
each draw). With `--pool` these methods count together: the mean of their differences in each seed, which all must have.
"""

import argparse
import json
import math
import pathlib
import statistics
from typing import Any

from scipy.stats import t

from tutelage.bench.leaderboard import compare
from tutelage.tasks.average_precision import average_precision

Runs = dict[int, dict[str, Any]]
PARTS = {"accuracy": None, "mAP": average_precision}
"""Metric -> how it follows from the parts that samples have; None: it is their mean."""


def read(folder: pathlib.Path) -> dict[str, Runs]:
    """The finished runs of each method, by seed; of two with the same name and seed the last."""
    found: dict[str, Runs] = {}
    for line in (folder / "results.jsonl").read_text(encoding="utf-8").splitlines():
        run = json.loads(line)
        found.setdefault(run["method"], {})[run["seed"]] = run
    return found


def interval(gains: list[float]) -> str:
    """Mean and 95% t-interval."""
    mean = statistics.mean(gains)
    if len(gains) < 2:
        return f"{mean:+.2f}"
    half = float(t.ppf(0.975, len(gains) - 1)) * statistics.stdev(gains) / math.sqrt(len(gains))
    return f"{mean:+.2f} [{mean - half:+.2f}, {mean + half:+.2f}]"


def gains(runs: Runs, reference: Runs) -> dict[int, float]:
    """Differences in points, by seed."""
    return {seed: 100 * (runs[seed]["test"] - reference[seed]["test"]) for seed in runs if seed in reference}


def judged(name: str, against: str, found: dict[str, Runs], metric: str) -> str:
    """The difference and the interval of the verdict."""
    flat = {(method, seed): run for method, runs in found.items() for seed, run in runs.items()}
    said = compare(flat, name, against, parts=PARTS[metric])
    if said is None:
        return ""
    low, high = said["interval"]
    return f"{100 * said['delta']:+.2f} [{100 * low:+.2f}, {100 * high:+.2f}], {said['verdict']}"


def row(name: str, runs: Runs, against: str) -> str:
    """One line of the table."""
    tests = [100 * run["test"] for run in runs.values()]
    spread = f" ± {statistics.stdev(tests):.2f}" if len(tests) > 1 else ""
    paths = [run["weights"]["paths"] for run in runs.values()]
    means = {path: statistics.mean(each.get(path, 0.0) for each in paths) for path in paths[0]}
    weights = ", ".join(f"{mean:.3g}" for mean in means.values())
    epoch = statistics.median(run["seconds"] / run["epochs"] for run in runs.values())
    return f"| `{name}` | {len(tests)} | {statistics.mean(tests):.2f}{spread} | {against} | {weights} | {epoch:.1f} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--against", default="plain")
    parser.add_argument("--methods", type=lambda names: names.split(","), help="which, in this order; all, best first")
    parser.add_argument("--judged", choices=PARTS, help="take the intervals of the verdict; this is the metric")
    parser.add_argument("--pool", type=lambda names: names.split(","), help="methods that count together")
    given = parser.parse_args()
    found = read(given.folder)
    best = sorted(found, key=lambda name: -statistics.mean(run["test"] for run in found[name].values()))
    reference = found[given.against]
    print(f"| method | seeds | test | minus `{given.against}` | weight | seconds an epoch |")
    print("|---|---|---|---|---|---|")
    for name in given.methods or best:
        if name == given.against:
            gained = ""
        elif given.judged:
            gained = judged(name, given.against, found, given.judged)
        else:
            both = list(gains(found[name], reference).values())
            gained = interval(both) if both else ""
        print(row(name, found[name], gained))
    if given.pool:
        each = [gains(found[name], reference) for name in given.pool]
        seeds = [seed for seed in reference if all(seed in one for one in each)]
        pooled = [statistics.mean(one[seed] for one in each) for seed in seeds]
        print(f"\n{len(given.pool)} methods together, {len(seeds)} seeds: {interval(pooled)}")


if __name__ == "__main__":
    main()
