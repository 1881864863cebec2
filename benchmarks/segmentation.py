"""CamVid at 96 x 128: a small student alone, with its teacher by several paths, with two teachers, with bad ones.

    python benchmarks/segmentation.py [--seeds 3] [--epochs 20] [--limit 100] [--methods plain kd …]

Reads the shared data and the ImageNet weights of the encoder (`TUTELAGE_SHARED`, or `../shared`). The teacher,
smp/unet:tf_efficientnet_lite0 (5.2 M parameters), is trained once, into --teacher:

    tutelage train --model smp/unet:tf_efficientnet_lite0@SHARED/weights/imagenet_tf_efficientnet_lite0.safetensors \
      --data SHARED/data/camvid --set 'data.image_size=[96, 128]' --set data.batch_size=8 --set train.epochs=10 \
      --set train.optimizer=adamw --set train.lr=0.001 --set 'data.class_names=[sky, …]' --out TEACHER

The student, smp/linknet:mobilenetv3_small_050, has 0.38 M parameters and starts from nothing. Methods of one seed
share initial weights, order and views. One line a run is appended to benchmarks/results/segmentation.jsonl; a run
that stands there is not repeated, one that was stopped goes on. `--table` prints the table and runs nothing.

In *bad* a second teacher is heard whose answers are those of the good one with the classes in another order; in
*harm* a path matches the student's first features to the teacher's last ones (`nst`). Both are weighed by `auto`; in
*bad_equal* and *harm_equal* all teachers and paths count alike.
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
RESULTS = pathlib.Path("benchmarks/results/segmentation.jsonl")
CLASSES = ["sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist"]
STUDENT = "smp/linknet:mobilenetv3_small_050"
BIG = "smp/unet:tf_efficientnet_lite0"
KD = "logits: {loss: {use: kl, temperature: 1}}"
CWD = "channels: {loss: cwd}"
HARM = "harm: {loss: nst, student: encoder.model.conv_stem, teacher: encoder.model.blocks.4, connector: null}"
TURNED = [*range(1, len(CLASSES)), 0]

METHODS: dict[str, tuple[str, ...]] = {
    "plain": (),
    "kd": (f"paths={{{KD}}}", "weighting={scale: {use: fixed, mean: true}}"),
    "cwd": (f"paths={{{CWD}}}", "weighting={scale: {use: fixed, mean: true, channels: 3}}"),
    "multi": ("paths=[logits, cwd, pairwise, ifvd]", "weighting={scale: {use: fixed, mean: true}}"),
    "auto": (f"paths={{{KD}, {CWD}}}",),
    "two": (f"paths={{{KD}, {CWD}}}",),
    "harm": (f"paths={{{KD}, {CWD}, {HARM}}}",),
    "harm_equal": (f"paths={{{KD}, {CWD}, {HARM}}}", "weighting={scale: {use: fixed, mean: true, harm: 100}}"),
    "bad": (f"paths={{{KD}, {CWD}}}",),
    "bad_equal": (f"paths={{{KD}, {CWD}}}", "weighting={scale: {use: fixed, mean: true}}"),
}
"""Method -> options; those without a word on the weighting have `auto`."""


def data(given: argparse.Namespace) -> list[str]:
    """Options of the data."""
    options = [f"data.class_names=[{', '.join(CLASSES)}]", "data.image_size=[96, 128]", "data.batch_size=8"]
    options += [] if given.limit is None else [f"data.limit={given.limit}"]
    return ["--data", f"{SHARED}/data/camvid", *(part for option in options for part in ("--set", option))]


def teachers(name: str, given: argparse.Namespace) -> list[str]:
    """Options that name the teachers of a method."""
    told = {"two": [f"second={given.second}"], "bad": [f"bad={given.teacher}"], "bad_equal": [f"bad={given.teacher}"]}
    options = ["--teacher", f"big={given.teacher}"]
    for other in told.get(name, []):
        options += ["--teacher", other]
    return options + (["--set", f"teachers.bad.classes={TURNED}", "--force"] if name.startswith("bad") else [])


def command(name: str, seed: int, given: argparse.Namespace, out: pathlib.Path) -> list[str]:
    """The command line of one run."""
    common = [*data(given), "--out", str(out), "--json", "--set", f"train.seed={seed}"]
    common += ["--set", f"train.epochs={given.epochs}"]
    if (out / "recipe.yaml").exists():
        return ["distill" if name != "plain" else "train", "--out", str(out), "--resume", "--json"]
    if name == "plain":
        return ["train", "--model", STUDENT, *common]
    options = [part for option in METHODS[name] for part in ("--set", option)]
    return ["distill", "--student", STUDENT, *teachers(name, given), *common, "--no-baseline", *options]


def run(name: str, seed: int, given: argparse.Namespace) -> None:
    """One run, and its line."""
    out = given.runs / f"{name}-seed{seed}-{given.epochs}-{given.limit or 'all'}"
    typed = command(name, seed, given, out)
    done = subprocess.run([sys.executable, "-m", "tutelage", *typed], stdout=subprocess.PIPE, check=False)
    if done.returncode:
        sys.exit(f"{name}, seed {seed}: tutelage {' '.join(typed)} ended with {done.returncode}")
    result = json.loads((out / "result.json").read_text())
    line = {
        "method": name,
        "seed": seed,
        "epochs": given.epochs,
        "limit": given.limit,
        "test_miou": result["student"]["test"],
        "validation_miou": result["student"]["validation"],
        "params": result["student"]["params"],
        "teachers": {teacher: told["mean_weight"] for teacher, told in result["teachers"].items()},
        "teacher_validation": {teacher: told["validation"] for teacher, told in result["teachers"].items()},
        "seconds": result["seconds"],
        "command": " ".join(["tutelage", *typed]),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "hardware": hardware(),
    }
    with RESULTS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def lines(given: argparse.Namespace) -> list[dict]:
    """What stands in the results for this length and this much data."""
    stored = RESULTS.read_text(encoding="utf-8").splitlines() if RESULTS.exists() else []
    found = [json.loads(line) for line in stored]
    return [line for line in found if (line["epochs"], line["limit"]) == (given.epochs, given.limit)]


def table(given: argparse.Namespace) -> str:
    """Methods with their mean IoU and the paired difference to plain training."""
    by_method: dict[str, dict[int, float]] = {}
    for line in lines(given):
        by_method.setdefault(line["method"], {})[line["seed"]] = line["test_miou"]
    rows = ["method      seeds  test mIoU  against plain (same seeds)"]
    for name, scores in sorted(by_method.items(), key=lambda item: -statistics.mean(item[1].values())):
        plain = by_method.get("plain", {})
        each = [scores[seed] - plain[seed] for seed in scores if seed in plain]
        told = f"{100 * statistics.mean(each):+.2f}" if each and name != "plain" else ""
        told += f" ± {100 * statistics.stdev(each):.2f}" if told and len(each) > 1 else ""
        rows.append(f"{name:<11} {len(scores):>5}  {100 * statistics.mean(scores.values()):>8.2f}%  {told}")
    return "\n".join(rows)


def make_teacher(folder: pathlib.Path, model: str, given: argparse.Namespace) -> None:
    """Train a teacher, or go on with one."""
    if (folder / "result.json").exists():
        return
    options = ["--set", "train.epochs=10", "--set", "train.optimizer=adamw", "--set", "train.lr=0.001"]
    whole = argparse.Namespace(**{**vars(given), "limit": None})
    typed = ["train", "--model", model, *data(whole), "--out", str(folder), *options]
    if (folder / "recipe.yaml").exists():
        typed = ["train", "--out", str(folder), "--resume"]
    subprocess.run([sys.executable, "-m", "tutelage", *typed], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=[*METHODS], choices=[*METHODS])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--limit", type=int, help="so many training pictures of the student")
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs/segmentation"))
    parser.add_argument("--teacher", type=pathlib.Path, default=pathlib.Path("runs/camvid/teacher"))
    parser.add_argument("--second", type=pathlib.Path, default=pathlib.Path("runs/camvid/second"))
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    if not given.table:
        weights = SHARED / "weights" / "imagenet_tf_efficientnet_lite0.safetensors"
        if set(given.methods) - {"plain"}:
            make_teacher(given.teacher, f"{BIG}@{weights}", given)
        if "two" in given.methods:
            make_teacher(given.second, f"smp/deeplabv3plus:tf_efficientnet_lite0@{weights}", given)
        found = {(line["method"], line["seed"]) for line in lines(given)}
        for seed in range(given.seeds):
            for name in given.methods:
                if (name, seed) not in found:
                    run(name, seed, given)
    print(table(given))


if __name__ == "__main__":
    main()
