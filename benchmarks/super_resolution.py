"""Enlarging pictures: a student of a fifth of its teacher's cost, taught in the ways of four papers.

    python benchmarks/super_resolution.py [--data ../shared/data/super_resolution] [--scales 2 4] [--seeds 3]
        [--methods plain srkd fakd pisr start csd] [--steps 1000] [--side 24] [--batch 16] [--out runs/super_resolution]

The teacher of each scale is trained first, on the same pictures, if it is not there:

    tutelage train --model sr/edsr --data DATA/train --out OUT/teacher_xR --set data.scale=R --set data.patch=24*R
      --set data.selection=0.02 --set data.test_data=DATA/Set14/xR --set 'student.arguments={blocks: 4, width: 32}'
      --set data.patches=4 --set train.lr=0.001 --set train.epochs=21

The student is the same network with 14 channels (`channel_split` asks for that). All methods of a seed share initial
weights, patches and their order. Each finished run appends a line to benchmarks/results/super_resolution.jsonl, and
what has a line there is not run again; at the end, the table: PSNR and SSIM on luma, the mean over pictures, and the
difference in PSNR from the student alone with a paired bootstrap over all test pictures (and seeds, if there are
several).

* `plain`: the student alone. `srkd`: channel statistics at three depths, weighed by `auto`. `fakd`: the teacher's
  pictures and affinities at three depths with the published weights (10 beside L1 in 0…255 is 10/255 beside L1 in 0…1).
* `pisr`: `privileged`, which has no teacher of ours; its own takes as long again. `start` is its warm start alone.
* `csd`: `channel_split` from the teacher's weights, contrast weighed 200/255, with one of the shared ResNets as the
  extractor where the paper has VGG-19.
"""

import argparse
import datetime
import itertools
import json
import os
import pathlib
import time
from typing import Any

import torch

import tutelage as tu
from tutelage.cli.runfolder import hardware, versions
from tutelage.data import Loader, open_pairs
from tutelage.data.bicubic import upscale
from tutelage.engine.evaluate import answer
from tutelage.models import load
from tutelage.tasks import SuperResolution
from tutelage.verdict import judge

SHARED = pathlib.Path(os.environ.get("TUTELAGE_SHARED", "../shared"))
RESULTS = pathlib.Path("benchmarks/results/super_resolution.jsonl")
SETS = {2: ("Set5", "Set14"), 4: ("Set5", "Set14", "Urban100")}
BLOCKS, WIDE, NARROW = 4, 32, 14
METRICS = ("psnr", "ssim")
STEPS = 98
"""Steps of an epoch; a validation follows each."""
STUDENT = ["body.0", "body.2", "tail.0:input"]
EXTRACTOR = f"cifar/resnet56@{SHARED / 'weights' / 'cifar10_resnet56.safetensors'}"

METHODS: dict[str, dict[str, Any]] = {
    "plain": {},
    "srkd": {
        "paths": {"statistics": {"loss": "channel_statistics", "student": STUDENT, "teacher": STUDENT}},
        "weighting": "auto",
    },
    "fakd": {
        "paths": {"l1": {"loss": "l1"}, "affinity": {"loss": "affinity", "student": STUDENT, "teacher": STUDENT}},
        "weighting": {"scale": {"use": "fixed", "base": 0.5, "l1": 0.5, "affinity": 10 / 255}},
    },
    "pisr": {"scheme": {"use": "privileged"}},
    "start": {"scheme": {"use": "privileged", "features": 0}},
    "csd": {
        "paths": {
            "contrast": {"loss": {"use": "csd", "extractor": EXTRACTOR, "layers": ["layer1", "layer2", "layer3"]}}
        },
        "weighting": {"scale": {"use": "fixed", "contrast": 200 / 255}},
        "scheme": "channel_split",
    },
}


def recipe(given: argparse.Namespace, scale: int, width: int, steps: int, seed: int) -> dict[str, Any]:
    """What all runs of a scale share."""
    data = given.data
    return {
        "task": "super_resolution",
        "data": {
            "use": str(data / "train"),
            "scale": scale,
            "patch": given.side * scale,
            "patches": max(1, given.batch // 4),
            "selection": 0.02,
            "test_data": str(data / "Set14" / f"x{scale}"),
            "batch_size": given.batch,
        },
        "student": {"model": "sr/edsr", "arguments": {"blocks": BLOCKS, "width": width}},
        "train": {"epochs": max(1, round(steps / STEPS)), "lr": 0.001, "seed": seed},
    }


def teacher(given: argparse.Namespace, scale: int, steps: int) -> pathlib.Path:
    """The folder of a scale's teacher, which is trained if it is not there."""
    folder = given.out / f"teacher_x{scale}_{steps}"
    if not (folder / "student" / "config.json").exists():
        begun = (folder / "recipe.yaml").exists()
        tu.train(None if begun else recipe(given, scale, WIDE, steps, 0), out=folder, resume=begun)
    return folder


def trained(method: str, given: dict[str, Any], big: pathlib.Path, folder: pathlib.Path) -> torch.nn.Module:
    """The student of a method; an unfinished run goes on."""
    begun = (folder / "recipe.yaml").exists()
    if method == "plain":
        return tu.train(None if begun else given, out=folder, resume=begun).student
    named = {} if method in ("pisr", "start") else {"teachers": {"big": str(big)}}
    whole = None if begun else {**given, **METHODS[method], **named, "baseline": False}
    return tu.distill(whole, out=folder, resume=begun).student


Scores = dict[str, dict[str, list[float]]]


def scores(model: torch.nn.Module | None, data: pathlib.Path, scale: int) -> Scores:
    """PSNR and SSIM of each picture of the test sets; without a model, of bicubic enlargement."""
    task, found = SuperResolution(scale), {}
    for name in SETS[scale]:
        # Of a set of pairs everything is test: its pictures may be smaller than a patch.
        splits = open_pairs(data / name / f"x{scale}", patch=scale, test_data=str(data / name / f"x{scale}"))
        batches = Loader(splits.test, batch_size=1, seed=0, augment=None, shuffle=False, drop_last=False)
        if model is not None:
            kept = answer(model, task, batches).kept
            found[name] = {metric: kept[metric].tolist() for metric in METRICS}
            continue
        pairs = [task.unpack(raw) for raw in batches]
        kept = [task.keep(upscale(pair.inputs, scale), pair.target) for pair in pairs]
        found[name] = {metric: [each[metric].item() for each in kept] for metric in METRICS}
    return found


def lines() -> list[dict[str, Any]]:
    """What is finished."""
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def record(key: dict[str, Any], said: Scores, seconds: float) -> None:
    line = {
        **key,
        **{
            metric: {name: round(sum(each[metric]) / len(each[metric]), 4) for name, each in said.items()}
            for metric in METRICS
        },
        "scores": {name: [round(value, 4) for value in each["psnr"]] for name, each in said.items()},
        "cpu_seconds": round(seconds, 1),
        "versions": versions(),
        "hardware": hardware(),
        "date": datetime.date.today().isoformat(),
    }
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    with RESULTS.open("a") as file:
        file.write(json.dumps(line) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, default=SHARED / "data" / "super_resolution")
    parser.add_argument("--scales", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1000, help="of the student; the teacher takes twice as many")
    parser.add_argument("--side", type=int, default=24, help="of a patch of the small picture")
    parser.add_argument("--batch", type=int, default=16, help="patches, a multiple of 4")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/super_resolution"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    for scale in given.scales:
        big, begun = None, [{"scale": scale, "method": "bicubic"}, {"scale": scale, "method": "teacher"}]
        begun += [
            {"scale": scale, "method": method, "seed": seed} for seed in range(given.seeds) for method in given.methods
        ]
        for key in begun:
            if key["method"] != "bicubic":
                key |= {"steps": given.steps * (2 if key["method"] == "teacher" else 1)}
                key |= {"side": given.side, "batch": given.batch}
            if any(key.items() <= line.items() for line in lines()):
                continue
            began = time.process_time()
            if key["method"] == "bicubic":
                record(key, scores(None, given.data, scale), time.process_time() - began)
                continue
            big = big or teacher(given, scale, 2 * given.steps)
            if key["method"] == "teacher":
                model = load(big)
            else:
                shared = recipe(given, scale, NARROW, given.steps, key["seed"])
                folder = given.out / f"x{scale}_{key['method']}_{key['seed']}_{given.steps}"
                model = trained(key["method"], shared, big, folder)
            seconds = time.process_time() - began
            record(key, scores(model, given.data, scale), seconds)
        table(given, scale)


def table(given: argparse.Namespace, scale: int) -> None:
    """Each method beside the student alone."""
    steps, budget = given.steps, {"side": given.side, "batch": given.batch}
    found = [
        line
        for line in lines()
        if line["scale"] == scale
        and (line["method"] == "bicubic" or all(line[name] == value for name, value in budget.items()))
        and line.get("steps", steps) == steps * (2 if line["method"] == "teacher" else 1)
    ]
    heads = "".join(f"{name:>16}" for name in SETS[scale])
    print(f"\nx{scale}, {steps} steps\n{'method':<10}{'seeds':>6}{heads}   minus plain, dB (95% interval)")
    for method in dict.fromkeys(line["method"] for line in found):
        ours = {line.get("seed"): line for line in found if line["method"] == method}
        plain = {line["seed"]: line for line in found if line["method"] == "plain"}
        means = [
            " / ".join(
                f"{sum(line[metric][name] for line in ours.values()) / len(ours):.{digits}f}"
                for metric, digits in zip(METRICS, (2, 4), strict=True)
            )
            for name in SETS[scale]
        ]
        told = ""
        if both := sorted(seed for seed in ours if seed in plain and method != "plain"):
            pooled = [
                torch.stack([torch.tensor([*itertools.chain(*side[seed]["scores"].values())]) for seed in both])
                for side in (ours, plain)
            ]
            judged = judge(*pooled)
            low, high = judged.interval
            told = f"   {judged.delta:+.3f} ({low:+.3f} to {high:+.3f}): {judged.verdict}"
        print(f"{method:<10}{len(ours):>6}" + "".join(f"{mean:>16}" for mean in means) + told)


if __name__ == "__main__":
    main()
