"""How often the verdict is wrong between nets that differ only by seed, and how often it finds a real difference.

    python benchmarks/verdict.py [--splits 10] [--threads 1]

Digits, 800 test samples. For each split of the data, nets of one kind are trained with seeds of their own (initial
weights and order of the data) and compared in disjoint pairs, or in disjoint groups of 2, 3 and 5 seeds a side, so that
the trials of a split are independent. *Same* compares nets of one kind: every *better* or *worse* is a false alarm.
*Planted* compares nets of two kinds. Each finished split is a line of the results; a second call does what is missing.
"""

import argparse
import datetime
import functools
import json
import pathlib
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from scipy.stats import beta
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from tutelage.cli.runfolder import hardware, versions
from tutelage.verdict import judge

TEST, BATCH, SEEDS = 800, 32, (1, 2, 3, 5)
MOST = 60  # trials of a split


@dataclass(frozen=True)
class Kind:
    """Nets that differ only by seed: the network, its training samples and steps, and how many are trained."""

    network: str
    samples: int
    steps: int
    nets: int


KINDS = {
    "mlp, 100 samples": Kind("mlp", 100, 150, 400),
    "mlp, 100 samples, stopped early": Kind("mlp", 100, 30, 600),
    "mlp, 200 samples": Kind("mlp", 200, 150, 400),
    "mlp, 900 samples": Kind("mlp", 900, 300, 300),
    "mlp, 900 samples, stopped early": Kind("mlp", 900, 30, 600),
    "cnn, 100 samples": Kind("cnn", 100, 150, 100),
    "cnn, 200 samples": Kind("cnn", 200, 150, 100),
    "cnn, 900 samples": Kind("cnn", 900, 300, 100),
    "cnn, 900 samples, stopped early": Kind("cnn", 900, 30, 200),
}
PLANTED = [
    ("mlp, 200 samples", "mlp, 100 samples"),
    ("cnn, 200 samples", "cnn, 100 samples"),
    ("mlp, 900 samples", "mlp, 100 samples"),
    ("cnn, 900 samples", "cnn, 100 samples"),
]


def network(name: str) -> nn.Module:
    """A few thousand parameters for 8x8 pictures."""
    if name == "mlp":
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    first = (nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
    second = (nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
    return nn.Sequential(*first, *second, nn.Flatten(), nn.Linear(64, 10))


@functools.cache
def digits(split: int) -> tuple[Tensor, Tensor]:
    """Pictures and labels in the order of this split: test samples first."""
    pictures, labels = (torch.tensor(array) for array in load_digits(return_X_y=True))
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(split))
    return (pictures.float() / 16).view(-1, 1, 8, 8)[order], labels[order]


@functools.cache
def answers(kind: Kind, split: int) -> Tensor:
    """Which test samples each net gets right, ``[nets, TEST]``. All nets are trained side by side."""
    pictures, labels = digits(split)
    torch.manual_seed(split)
    parameters, _ = stack_module_state([network(kind.network) for _ in range(kind.nets)])
    weights = {name: tensor.detach().requires_grad_() for name, tensor in parameters.items()}
    plan = network(kind.network).to("meta")

    def loss(own: dict[str, Tensor], inputs: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(plan, own, (inputs,)), target)

    optimizer = torch.optim.AdamW(weights.values(), lr=1e-2, weight_decay=1e-2)  # acts on each number alone
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=kind.steps)
    for _, batches in zip(range(kind.steps), orders(kind), strict=False):
        rows = TEST + batches
        vmap(loss)(weights, pictures[rows], labels[rows]).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    with torch.no_grad():
        logits = vmap(lambda own: functional_call(plan, own, (pictures[:TEST],)))(weights)
    return (logits.argmax(-1) == labels[:TEST]).double()


def orders(kind: Kind) -> Iterable[Tensor]:
    """Batches without end, ``[nets, BATCH]``: each net reads the samples in an order of its own."""
    while True:
        order = torch.rand(kind.nets, kind.samples).argsort(dim=1)
        yield from (order[:, at : at + BATCH] for at in range(0, kind.samples - BATCH + 1, BATCH))


def trials(student: Kind, baseline: Kind, split: int, seeds: int) -> dict[str, int]:
    """Judge disjoint groups of nets; count the words."""
    left, right, classes = answers(student, split), answers(baseline, split), digits(split)[1][:TEST]
    counts = dict.fromkeys(("trials", "better", "worse", "interval", "without_classes"), 0)
    starts = range(0, min(len(left), len(right)) - 2 * seeds + 1, 2 * seeds)
    for at in starts[:MOST]:
        pair = left[at : at + seeds], right[at + seeds : at + 2 * seeds]
        outcome = judge(*pair, groups=classes)
        counts["trials"] += 1
        counts["interval"] += outcome.interval[0] > 0 or outcome.interval[1] < 0
        if outcome.verdict != "no difference":
            counts[outcome.verdict] += 1
        if seeds == 1:
            counts["without_classes"] += judge(*pair).verdict != "no difference"
    return counts


def measure(names: tuple[str, str], split: int) -> dict[str, object]:
    """One line of the results."""
    began, (student, baseline) = time.perf_counter(), (KINDS[name] for name in names)
    return {
        "student": names[0],
        "baseline": names[1],
        "kinds": [asdict(student), asdict(baseline)],
        "split": split,
        "accuracy": [answers(kind, split).mean().item() for kind in (student, baseline)],
        "spread": answers(student, split).mean(1).std().item(),
        "counts": {str(seeds): trials(student, baseline, split, seeds) for seeds in SEEDS},
        "seconds": round(time.perf_counter() - began, 1),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "hardware": hardware(),
        "versions": versions(),
    }


def rate(count: int, of: int) -> str:
    """A share with its Clopper-Pearson interval at 95%, in percent."""
    low = beta.ppf(0.025, count, of - count + 1) if count else 0.0
    high = beta.ppf(0.975, count + 1, of - count) if count < of else 1.0
    return f"{100 * count / of:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def table(lines: list[dict[str, object]]) -> None:
    """Print the rates in percent, all splits together, as Markdown."""
    for title, same in (("false alarms", True), ("planted differences found", False)):
        print(f"\n{title}, % [95% interval]\n")
        print(
            "| student | baseline | accuracy, % |",
            *(f"S={s} | n |" for s in SEEDS),
            "S=1, interval | S=1, no classes |",
        )
        print("|---|---|---|" + "---|---|" * len(SEEDS) + "---|---|")
        for names in [(n, n) for n in KINDS] if same else PLANTED:
            of = [line for line in lines if (line["student"], line["baseline"]) == names]
            if not of:
                continue
            means = torch.tensor([line["accuracy"] for line in of]).mean(0) * 100
            sums = {s: {k: sum(line["counts"][str(s)][k] for line in of) for k in of[0]["counts"]["1"]} for s in SEEDS}
            cells = [
                names[0],
                "the same" if same else names[1],
                " / ".join(f"{m:.1f}" for m in means[: 1 if same else 2]),
            ]
            for s in SEEDS:
                found = sums[s]["better"] + (sums[s]["worse"] if same else 0)
                cells += [rate(found, sums[s]["trials"]), str(sums[s]["trials"])]
            cells += [rate(sums[1][key], sums[1]["trials"]) for key in ("interval", "without_classes")]
            print("| " + " | ".join(cells) + " |")


def stored(path: pathlib.Path) -> list[dict[str, object]]:
    """The lines of an earlier call; a torn last one is cut off."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole, encoding="utf-8")
    return [json.loads(line) for line in whole.splitlines()]


def main() -> None:
    """Do what is missing, then print all there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("benchmarks/results/verdict.jsonl"))
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    lines = stored(given.out)
    done = {(line["student"], line["baseline"], line["split"]) for line in lines}
    for split in range(given.splits):
        for names in [*((name, name) for name in KINDS), *PLANTED]:
            if (*names, split) in done:
                continue
            lines.append(measure(names, split))
            with given.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(lines[-1]) + "\n")
            print(f"split {split}: {' against '.join(names)}, {lines[-1]['seconds']} s", flush=True)
        answers.cache_clear()
    last = lines[-1]
    print(f"\n{last['date']}; {last['hardware']}; {last['versions']}")
    table(lines)


if __name__ == "__main__":
    main()
