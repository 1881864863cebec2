"""Writes a small run folder as the engine leaves it: two teachers, two paths, a baseline."""

import json
import math
import pathlib

import torch
from safetensors.torch import save_file

CLASSES = ["aeroplane", "car", "bird", "<script>alert(1)</script>", "deer", "dog"]
SAMPLES = 240
ROWS = {"base": 1.0, "logits/big": 0.8, "logits/wide": 0.6, "layer3/big": 0.4, "layer3/wide": 0.1}
SKILL = {"teacher:big": 0.93, "teacher:wide": 0.89, "baseline": 0.80, "student": 0.86}
RECIPE = """\
task: {use: classification, num_classes: 6}
student: cifar/resnet20
teachers: {big: cifar/resnet56, wide: cifar/resnet32}
"""


def write_run(
    folder: pathlib.Path,
    *,
    baseline: bool = True,
    seeds: int = 1,
    classes: list[str] = CLASSES,
    epochs: int = 8,
) -> pathlib.Path:
    folder.mkdir(parents=True)
    models = [name for name in SKILL if baseline or name != "baseline"]
    samples = _samples(models, len(classes))
    evaluation = _evaluation(models, samples, seeds, classes)
    (folder / "recipe.yaml").write_text(RECIPE)
    write_json(folder / "manifest.json", _manifest(seeds))
    write_json(folder / "result.json", _result(evaluation["models"], seeds))
    pupils = [model for model in models if ":" not in model]
    stages = [f"{model}-seed{seed}" if seed else model for seed in range(seeds) for model in pupils]
    lines = [line for stage in stages for line in _log(stage, epochs)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_json(folder / "evaluation.json", evaluation)
    save_file(samples, folder / "evaluation.safetensors")
    return folder


def add_by_class(folder: pathlib.Path, classes: int = len(CLASSES)) -> pathlib.Path:
    """What a run adds whose weighting looks at single samples: `wide` is heard for the last class alone."""
    with (folder / "metrics.jsonl").open("a") as file:
        for epoch in (1, 2):
            rows = {"logits/big": [0.5] * classes, "layer3/big": [0.25] * classes, "base": [1.0] * classes}
            rows["logits/wide"] = [0.0] * (classes - 1) + [0.9]
            rows["logits/wide"][0] = None  # no sample of the first class was seen in that epoch
            line = {"kind": "by_class", "stage": "student", "seed": 0, "step": 50 * epoch, "epoch": epoch}
            file.write(json.dumps({**line, "weights": rows, "samples": [0, *[10 * epoch] * (classes - 1)]}) + "\n")
    return folder


def write_board(
    folder: pathlib.Path, *, seeds: int = 3, left_out: bool = True, done: int = 9, failed: int = 0
) -> pathlib.Path:
    """Writes the folder of a small bench: three methods, one of them refused, and what each part brings."""
    deltas = {"auto": (0.031, 0.02, 0.042, "better"), "kd": (0.001, -0.01, 0.012, "not resolved"), "plain": None}
    rows = []
    for method, told in deltas.items():
        against = {} if told is None else {"plain": dict(zip(("delta", "verdict"), (told[0], told[3]), strict=True))}
        for compared in against.values():
            compared |= {"interval": [told[1], told[2]], "seeds": list(range(seeds))}
        weights = {"teachers": {"big": 0.6, "<wide>": 0.4}, "paths": {"logits": 4.0}} if told else {}
        rows.append(
            {"method": method, "seeds": list(range(seeds)), "test": 0.8 + (told[0] if told else 0.0)}
            | {"spread": 0.004 if seeds > 1 else None, "validation": 0.81, "seconds": 75.0, "against": against}
            | {"teachers": {}, "paths": {}, **weights}
        )
        write_run(folder / "runs" / f"{method}-seed0")
    parts = [
        {"kind": "teacher", "name": "<wide>", "method": "auto without teacher <wide>", "seeds": [0]}
        | {"delta": -0.02, "interval": [-0.03, -0.01], "verdict": "harms"},
        {"kind": "path", "name": "pooled", "method": "auto without path pooled", "seeds": [0]}
        | {"delta": 0.001, "interval": [-0.01, 0.012], "verdict": "not resolved"},
    ]
    content = {
        "schema": 1, "task": "classification", "metric": "accuracy", "higher_is_better": True,
        "finished": done == 9, "runs_done": done, "runs": 9,
        "failed": [{"method": "<odd>", "seed": n, "reason": "step 10: loss <big> not finite."} for n in range(failed)],
        "seeds": list(range(seeds)), "against": "plain", "leaderboard": rows,
        "leave_one_out": parts if left_out else [], "whole": "auto" if left_out else None,
        "refused": {"FT": "it expects a trained <paraphraser>"},
        "notes": [{"method": "auto", "seed": n, "text": "teacher <wide> was hardly heard."} for n in range(seeds)],
        "teachers": {"big": {"validation": 0.93}, "<wide>": {"validation": 0.2}},
        "data": {"guess": "photos: 6 classes", "fingerprint": "3f9a61" * 8},
        "command": "tutelage bench --methods auto,kd", "versions": {"torch": "2.14.1"}, "hardware": {"cores": 2},
        "folders": {method: [f"runs/{method}-seed{seed}" for seed in range(seeds)] for method in deltas},
    }  # fmt: skip
    write_json(folder / "bench.json", content)
    return folder


def write_json(file: pathlib.Path, content: dict) -> None:
    file.write_text(json.dumps(content))


def change_json(file: pathlib.Path, **changes: object) -> None:
    write_json(file, json.loads(file.read_text()) | changes)


def interrupt(folder: pathlib.Path) -> pathlib.Path:
    """Leaves what is there while the run goes on: a line of metrics.jsonl is being written."""
    for name in ("result.json", "evaluation.json", "evaluation.safetensors"):
        (folder / name).unlink()
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "stage": "student", "st')
    return folder


def _manifest(seeds: int) -> dict:
    return {
        "versions": {"tutelage": "0.1.0", "torch": "2.14.1"},
        "hardware": {"cpu": "two cores", "memory_gb": 24},
        "seeds": list(range(seeds)),
        "fingerprints": {"data": "3f9a61", "teacher big": "77aa02"},
        "command": "tutelage distill --student cifar/resnet20 --teacher big=cifar/resnet56 --data photos",
        "date": "2026-11-22T10:00:00",
        "notes": ["Teacher big was scored on data it may have been trained on."],
        "macs_by": "torch.utils.flop_counter",
    }


def _result(models: dict, seeds: int) -> dict:
    test = {name: model["accuracy"] for name, model in models.items()}
    judged = "baseline" in test
    delta = test["student"] - test["baseline"] if judged else None
    return {
        "schema": 1,
        "task": "classification",
        "metric": "accuracy",
        "higher_is_better": True,
        "student": {
            "name": "cifar/resnet20",
            "params": 272474,
            "macs": 40813184,
            "validation": SKILL["student"],
            "test": test["student"],
        },
        "baseline": {"validation": SKILL["baseline"], "test": test["baseline"]} if judged else None,
        "teachers": {
            "big": {"params": 855770, "macs": 125485706, "validation": 0.93, "mean_weight": 0.6},
            "wide": {"params": 466906, "macs": 69124170, "validation": 0.89, "mean_weight": 0.35},
        },
        "paths": {
            "logits": {"loss": "kl", "mean_weight": 0.7},
            "layer3": {"loss": "attention", "mean_weight": 0.25},
        },
        "delta": delta,
        "interval": [delta - 0.05, delta + 0.05] if judged else None,
        "gap_closed": delta / (test["teacher:big"] - test["baseline"]) if judged else None,
        "verdict": "better" if judged else None,
        "shipped": "student",
        "seeds": seeds,
        "seconds": {"total": 402.0, "student": 251.0, "baseline": 120.0, "teachers": 31.0},
        "samples_per_second": 1480.0,
        "peak_memory_mb": 612.0,
    }


def _log(stage: str, epochs: int) -> list[dict]:
    model, _, seed = stage.partition("-seed")
    taught = model == "student"
    lines = []
    for step in range(10, epochs * 50 + 1, 10):
        left = math.exp(-step / (20 * epochs))
        where = {"stage": stage, "seed": int(seed or 0), "step": step, "epoch": (step - 1) // 50 + 1}
        losses = {row: loss * (0.2 + 2 * left + 0.1 * taught) for row, loss in _sizes(taught).items()}
        weights = {row: ROWS[row] * (0.4 + 0.6 * left if "wide" in row else 1) for row in losses}
        total = sum(losses[row] * weights[row] for row in losses)
        lines.append(
            {"kind": "train", **where, "loss": total, "task_loss": losses["base"], "losses": losses}
            | {"weights": weights, "lr": 0.1, "samples_per_second": 1480.0}
        )
        if step % 50 == 0:
            value = SKILL[model] * (1 - 0.5 * left) + 0.004 * int(seed or 0)
            lines.append({"kind": "validation", **where, "validation": value, "validation_loss": 1 - value})
    return lines


def _sizes(taught: bool) -> dict[str, float]:
    rows = {"base": 1.0, "logits/big": 1.4, "logits/wide": 1.1, "layer3/big": 40.0, "layer3/wide": 30.0}
    return rows if taught else {"base": 1.0}


def _samples(models: list[str], classes: int) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(7)
    target = torch.arange(SAMPLES) % classes
    samples = {"target": target, "index": torch.arange(SAMPLES) + 1000}
    for name in models:
        sure = 0.3 + 0.7 * torch.rand(SAMPLES, generator=draw).sqrt()
        right = torch.rand(SAMPLES, generator=draw) < sure * SKILL[name] / 0.77
        other = (target + torch.randint(1, classes, (SAMPLES,), generator=draw)) % classes
        samples[f"{name}/prediction"] = torch.where(right, target, other)
        samples[f"{name}/confidence"] = sure.half()
        samples[f"{name}/true_prob"] = torch.where(right, sure, 1 - sure).half()
    apart = (samples["student/prediction"] != samples["teacher:big/prediction"]).nonzero().flatten()[:8]
    samples["pictures/position"] = apart
    samples["pictures/image"] = torch.stack([_picture(int(target[at]), draw) for at in apart])
    return samples


def _picture(number: int, draw: torch.Generator) -> torch.Tensor:
    """A disc on a ground, whose colours tell the class."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 32), torch.linspace(-1, 1, 32), indexing="ij")
    disc = (x.square() + y.square()).sqrt() < 0.4 + 0.05 * number
    hue = 0.5 + 0.5 * torch.tensor([math.cos(number + phase) for phase in (0.0, 2.1, 4.2)]).view(3, 1, 1)
    picture = torch.where(disc, hue, 1 - hue) + 0.05 * torch.randn(3, 32, 32, generator=draw)
    return (255 * picture.clamp(0, 1)).byte()


def _evaluation(models: list[str], samples: dict[str, torch.Tensor], seeds: int, classes: list[str]) -> dict:
    measured = {name: _measured(name, samples, len(classes)) for name in models}
    student, baseline = measured["student"]["accuracy"], measured.get("baseline", {}).get("accuracy")
    tap = {"student": "layer3", "student_shape": [64, 8, 8], "teacher": "layer3", "teacher_shape": [64, 8, 8]}
    return {
        "classes": classes,
        "models": measured,
        "pairing": [
            {**tap, "connector": "project", "teacher_name": teacher, "path": "layer3"} for teacher in ("big", "wide")
        ],
        "seeds": [{"seed": seed, "student": student + 0.004 * seed, "baseline": baseline} for seed in range(seeds)],
    }


def _measured(name: str, samples: dict[str, torch.Tensor], classes: int) -> dict:
    target, said = samples["target"], samples[f"{name}/prediction"]
    confusion = torch.zeros(classes, classes, dtype=torch.long)
    confusion.index_put_((target, said), torch.ones_like(target), accumulate=True)
    right = (said == target).double()
    return {
        "accuracy": float(right.mean()),
        "nll": 0.42,
        "ece": abs(float(samples[f"{name}/confidence"].double().mean() - right.mean())),
        "per_class": (confusion.diag() / confusion.sum(1)).tolist(),
        "confusion": confusion.tolist() if classes <= 100 else None,
        "params": 855770 if ":" in name else 272474,
        "macs": 125485706 if ":" in name else 40813184,
        "latency_ms": 3.21,
        "agreement": float((said == samples["student/prediction"]).double().mean()),
        "validation": SKILL[name],
    }
