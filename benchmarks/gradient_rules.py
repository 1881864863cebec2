"""What rules over gradients cost: the time of a step as a multiple of one with fixed weights, within one process.

    python benchmarks/gradient_rules.py [--rounds 12] [--batch 64]

Student resnet8 on random pictures of 32x32, three teachers whose random answers are at hand, two paths (KL on the
output, pooled features): seven rows with the task's. The rules take turns, one step each a round, in an order drawn
anew; a ratio is taken within each round, and its median stands with the quartiles. One line a rule is appended to
benchmarks/results/gradient_rules.jsonl.
"""

import argparse
import json
import pathlib
import platform
import random
import statistics
import time

import torch

from tutelage import Distiller, Path
from tutelage.connectors import Project
from tutelage.losses import kl, mse
from tutelage.models import find
from tutelage.tasks import Classification
from tutelage.teachers import Teacher
from tutelage.weighting import AEKD, IMTL, ByGradient, Fixed, GradNorm, Product

RESULTS = pathlib.Path("benchmarks/results/gradient_rules.jsonl")
RULES = {
    "fixed": Fixed,
    "aekd": lambda: Product((), [AEKD()]),
    "gradnorm": GradNorm,
    "imtl": IMTL,
    **{
        name: (lambda name=name: ByGradient(name))
        for name in (
            *("mgda", "upgrad", "dualproj", "pcgrad", "agem", "gradvac"),
            *("cagrad", "imtl_g", "aligned_mtl", "nash_mtl", "fair_grad"),
        )
    },
    "mgda, by path": lambda: ByGradient("mgda", by="path"),
    "mgda, every 4 steps": lambda: ByGradient("mgda", every=4),
    "mgda, at the last block": lambda: ByGradient("mgda", wrt="layer3"),
}


class Stored(Teacher):
    """A teacher whose answers are at hand."""

    def __init__(self, batch: int) -> None:
        super().__init__()
        self.said = {"": torch.randn(batch, 10), "linear:input": torch.randn(batch, 64)}

    def forward(self, batch, peers):
        return self.said


def steps(build, size: int):
    """One training step at each `next`."""
    task = Classification(10)
    batch = task.unpack((torch.rand(size, 3, 32, 32), torch.randint(10, (size,))))
    distiller = Distiller(
        find("cifar/resnet8", num_classes=10, seed=0).train(),
        teachers={name: Stored(size) for name in "abc"},
        paths={
            "logits": Path(kl),
            "pooled": Path(mse, student="linear:input", teacher="linear:input", connector=Project()),
        },
        task=task,
        weighting=build(),
        example=batch,
    )
    optimizer = torch.optim.SGD(distiller.parameters(), lr=0.01)
    while True:
        optimizer.zero_grad()
        distiller(batch).loss.backward()
        optimizer.step()
        distiller.after_step(batch)
        yield


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--batch", type=int, default=64)
    given = parser.parse_args()
    running = {name: steps(build, given.batch) for name, build in RULES.items()}
    seconds = {name: [] for name in RULES}
    for turn in range(given.rounds + 1):
        for name in random.Random(turn).sample(list(RULES), len(RULES)):
            # Four steps, so that a rule that decides every fourth pays once.
            began = time.perf_counter()
            for _ in range(4):
                next(running[name])
            if turn:  # the first round warms up
                seconds[name].append((time.perf_counter() - began) / 4)
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("a") as file:
        for name, own in seconds.items():
            ratios = [a / b for a, b in zip(own, seconds["fixed"], strict=True)]
            low, middle, high = statistics.quantiles(ratios, n=4)
            line = {
                "rule": name,
                "ratio": round(middle, 2),
                "quartiles": [round(low, 2), round(high, 2)],
                "milliseconds": round(1e3 * statistics.median(own), 1),
                "rounds": given.rounds,
                "batch": given.batch,
                "threads": torch.get_num_threads(),
                "torch": torch.__version__,
                "machine": platform.machine(),
            }
            file.write(json.dumps(line) + "\n")
            print(f"{name:<26}{middle:6.2f}  [{low:.2f}, {high:.2f}]  {line['milliseconds']:8.1f} ms")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
