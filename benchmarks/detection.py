"""Distillation of detectors on BCCD (blood cells, Pascal VOC): methods at equal epochs, and two families.

    python benchmarks/detection.py [--data ../shared/data/bccd] [--out runs/detection] [--seeds 1] [METHOD ...]

The teacher is FCOS on EfficientNet-Lite0, trained here on the same data (its backbone starts from ImageNet); the
student FCOS on half a MobileNetV3 with narrow heads, from scratch, or, for the rows that end in `ssdlite`,
torchvision's SSDLite. Every run is a run folder: what was stopped goes on, what is finished is not trained again.
Appends a line a run to benchmarks/results/detection.jsonl: mAP and mAP50 on the test split (read once), mAP on the
selection split, parameters and seconds.
"""

import argparse
import datetime
import json
import os
import pathlib
from typing import Any

import torch

from tutelage.cli.distill import distill
from tutelage.cli.runfolder import hardware, versions
from tutelage.cli.train import train

SHARED = pathlib.Path(os.environ.get("TUTELAGE_SHARED", "../shared"))
RESULTS = pathlib.Path(__file__).parent / "results" / "detection.jsonl"
BACKBONE = SHARED / "weights" / "imagenet_tf_efficientnet_lite0.safetensors"
BIG = f"detector/fcos-tf_efficientnet_lite0@{BACKBONE}"
SMALL: dict[str, Any] = {"model": "detector/fcos-mobilenetv3_small_050", "arguments": {"channels": 32}}
LITE: dict[str, Any] = {"model": "torchvision/ssdlite320_mobilenet_v3_large"}

TRAIN = {"optimizer": "adamw", "clip": 10.0, "cache": "live", "log_every": 10}
TEACHER = {**TRAIN, "epochs": 14, "lr": 0.0005}
STUDENT = {**TRAIN, "epochs": 20, "lr": 0.002}
LITE_TRAIN = {**TRAIN, "epochs": 8, "lr": 0.001}

FIXED = {"scale": {"use": "calibrate", "target": 1.0}, "gates": [{"use": "warmup", "steps": 50}]}

METHODS: dict[str, dict[str, Any]] = {
    "plain": {},
    "features": {"paths": ["features"], "weighting": FIXED},
    "fgd": {"paths": ["fgd"], "weighting": FIXED},
    "logits": {"paths": ["logits"], "weighting": FIXED},
    "auto": {"paths": ["logits", "offsets", "fgd"]},
    "plain, ssdlite": {"student": LITE, "train": LITE_TRAIN},
    "pseudo-labels and fgd, ssdlite": {
        "student": LITE,
        "train": LITE_TRAIN,
        "paths": ["fgd"],
        "scheme": {"use": "pseudo_labels", "score": 0.3},
    },
}
"""What differs from run to run; `auto` is the default weighting with the default paths."""


def data(folder: pathlib.Path, size: int) -> dict[str, Any]:
    return {"use": str(folder), "image_size": size, "batch_size": 8}


def run(name: str, folder: pathlib.Path, out: pathlib.Path, size: int, seed: int, epochs: int | None) -> None:
    """One method, trained or gone on with, and its line."""
    options = {**METHODS[name]}
    settings = {**STUDENT, **options.pop("train", {}), "seed": seed}
    settings |= {} if epochs is None else {"epochs": epochs}
    place = out / f"{name.replace(', ', '-').replace(' ', '-')}-{seed}"
    if (place / "result.json").exists():
        return
    resume = (place / "recipe.yaml").exists()
    recipe: dict[str, Any] = {"task": "detection", "data": data(folder, size), "train": settings}
    recipe |= {"student": SMALL, **options}
    if "paths" not in options:
        train(None if resume else recipe, out=place, resume=resume)
    else:
        recipe |= {"teachers": {"big": str(out / "teacher")}, "baseline": False}
        distill(None if resume else recipe, out=place, resume=resume)
    result = json.loads((place / "result.json").read_text())
    models = json.loads((place / "evaluation.json").read_text())["models"]
    line = {
        "method": name,
        "seed": seed,
        "epochs": settings["epochs"],
        "size": size,
        "params": result["student"]["params"],
        "map": result["student"]["test"],
        "map50": models["student"]["mAP50"],
        "selection": result["student"]["validation"],
        "teacher": next((m["mAP"] for n, m in models.items() if n.startswith("teacher:")), None),
        "seconds": result["seconds"]["student"],
        "date": datetime.date.today().isoformat(),
        "hardware": hardware(),
        "versions": versions(),
    }
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    with RESULTS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    print(f"{name}, seed {seed}: mAP {line['map']:.4f}, mAP50 {line['map50']:.4f}, {line['seconds']:.0f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", default=list(METHODS), help=", ".join(METHODS))
    parser.add_argument("--data", type=pathlib.Path, default=SHARED / "data" / "bccd")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/detection"))
    parser.add_argument("--size", type=int, default=160, help="longest side of the pictures")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, help="of the students; by default 20, and 8 of SSDLite")
    parser.add_argument("--teacher-epochs", type=int, default=TEACHER["epochs"])
    given = parser.parse_args()
    torch.set_num_threads(1)
    teacher = given.out / "teacher"
    if any("paths" in METHODS[name] for name in given.methods) and not (teacher / "result.json").exists():
        resume = (teacher / "recipe.yaml").exists()
        settings = {**TEACHER, "epochs": given.teacher_epochs}
        recipe = {"task": "detection", "data": data(given.data, given.size), "student": BIG, "train": settings}
        train(None if resume else recipe, out=teacher, resume=resume)
    for seed in range(given.seeds):
        for name in given.methods:
            run(name, given.data, given.out, given.size, seed, given.epochs)


if __name__ == "__main__":
    main()
