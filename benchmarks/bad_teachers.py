"""Five bad teachers for CIFAR-10, each bad in its own way, made from the shared ResNets.

    python benchmarks/bad_teachers.py [--out runs/bad_teachers]
    python benchmarks/bad_teachers.py --detector runs/bccd/big --out runs/bccd   # writes runs/bccd/bad

| name | what is wrong with it |
|---|---|
| permuted | resnet32 whose classes are shifted by one: confident and wrong |
| untrained | resnet20 with its first weights |
| few | resnet20 after 3 epochs on 1,000 pictures |
| normalised | resnet44 that is handed pictures with another mean and std than it was trained with |
| flat | resnet32 whose logits are divided by 30: hardly more than equal probabilities |

Each is a folder that the command line takes as it is, `--teacher flat=runs/bad_teachers/flat`; all but `normalised`,
whose fault is in its config.json, also as `flat=cifar/resnet32@runs/bad_teachers/flat/model.safetensors`. What
stands is not made again. Prints accuracy and cross-entropy of each on the test split and appends a line to
benchmarks/results/bad_teachers.jsonl.

With `--detector`, the only one made is `bad`: that detector, sure of the class after the true one.
"""

import argparse
import datetime
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable

import torch
from torch import nn

from tutelage.cli.evaluate import evaluate
from tutelage.cli.runfolder import hardware, versions
from tutelage.models import Preprocess, find, load, save

SHARED = pathlib.Path(os.environ.get("TUTELAGE_SHARED", "../shared"))
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
RESULTS = pathlib.Path("benchmarks/results/bad_teachers.jsonl")
WRONG = Preprocess(mean=(0.0,) * 3, std=(0.7,) * 3)


def trained(net: str) -> nn.Module:
    """One of the shared networks."""
    return find(f"cifar/{net}", num_classes=10, weights=SHARED / "weights" / f"cifar10_{net}.safetensors")


@torch.no_grad()
def permuted() -> nn.Module:
    """Sure of the class after the true one."""
    model = trained("resnet32")
    model.linear.weight.copy_(model.linear.weight.roll(1, dims=0))
    model.linear.bias.copy_(model.linear.bias.roll(1, dims=0))
    return model


def untrained() -> nn.Module:
    """As it was initialised."""
    return find("cifar/resnet20", num_classes=10, seed=0)


def normalised() -> nn.Module:
    """Right weights, wrong terms."""
    model = trained("resnet44")
    model.__dict__["preprocess"] = WRONG
    return model


@torch.no_grad()
def flat() -> nn.Module:
    """Right, but hardly says so."""
    model = trained("resnet32")
    for parameter in model.linear.parameters():
        parameter.div_(30)
    return model


@torch.no_grad()
def shifted(folder: pathlib.Path) -> nn.Module:
    """A detector of sigmoids that is sure of the class after the true one; its first column is the background."""
    model = load(folder)
    last = model.head.classification_head.cls_logits
    for parameter in last.parameters():
        columns = parameter.view(model.head.classification_head.num_anchors, -1, *parameter.shape[1:])
        columns[:, 1:] = columns[:, 1:].roll(1, dims=1)
    return model


MADE: dict[str, Callable[[], nn.Module]] = {
    "permuted": permuted,
    "untrained": untrained,
    "normalised": normalised,
    "flat": flat,
}


def train_on_few(out: pathlib.Path) -> None:
    """The one that saw too little; one that was stopped goes on."""
    if (out / "result.json").exists():
        return
    new = ["--model", "cifar/resnet20", "--data", f"{SHARED}/data/cifar10"]
    new += ["--set", "data.limit=1000", "--set", "train.epochs=3"]
    line = [sys.executable, "-m", "tutelage", "train", "--out", str(out)]
    subprocess.run([*line, *(["--resume"] if (out / "recipe.yaml").exists() else new)], check=True)


def main() -> None:
    """Make, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/bad_teachers"))
    parser.add_argument("--detector", type=pathlib.Path, help="run folder of a detector to make a bad one of")
    given = parser.parse_args()
    if given.detector:
        config = json.loads((given.detector / "student" / "config.json").read_text())
        facts = {"classes": config["classes"], "input_size": tuple(config["input_size"])}
        save(shifted(given.detector), given.out / "bad", card="# bad\n\nMade by benchmarks/bad_teachers.py.", **facts)
        return
    for name, make in MADE.items():
        if not (given.out / name / "config.json").exists():
            card = f"# {name}\n\nA bad teacher, made by benchmarks/bad_teachers.py."
            save(make(), given.out / name, card=card, classes=CLASSES, input_size=(32, 32))
    train_on_few(given.out / "few")
    print("| name | test accuracy | cross-entropy |\n|---|---|---|")
    for name in (*MADE, "few"):
        found = evaluate(given.out / name, data=f"{SHARED}/data/cifar10")
        line = {"name": name, "accuracy": found["accuracy"], "cross_entropy": found["nll"], "samples": found["samples"]}
        line |= {"date": datetime.datetime.now(datetime.UTC).date().isoformat()}
        line |= {"hardware": hardware(), "versions": versions()}
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(f"| {name} | {found['accuracy']:.4f} | {found['nll']:.3f} |", flush=True)


if __name__ == "__main__":
    main()
