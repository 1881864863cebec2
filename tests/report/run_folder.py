"""Writes a small run folder as the engine leaves it: two teachers, two paths, a baseline."""

import json
import math
import pathlib

import torch
from safetensors.torch import save_file

CLASSES = ["aeroplane", "car", "bird", "<script>alert(1)</script>", "deer", "dog"]
SAMPLES = 240
ROWS = {"base": 1.0, "logits/big": 0.8, "logits/wide": 0.6, "layer3/big": 0.4, "layer3/wide": 0.1}
SKILL = {"student": 0.86, "baseline": 0.80, "teacher:big": 0.93, "teacher:wide": 0.89}
RECIPE = "task: {use: classification, num_classes: 6}\nstudent: cifar/resnet20\nteachers: {big: cifar/resnet56, wide: cifar/resnet32}\n"


def write_run(
    folder: pathlib.Path, *, baseline: bool = True, seeds: int = 1, epochs: int = 8
) -> pathlib.Path:
    folder.mkdir(parents=True)
    models = [name for name in SKILL if baseline or name != "baseline"]
    (folder / "recipe.yaml").write_text(RECIPE)
    _json(folder / "manifest.json", _manifest(seeds))
    _json(folder / "result.json", _result(baseline, seeds))
    stages = [
        f"{model}-seed{seed}" if seed else model
        for seed in range(seeds)
        for model in models
        if ":" not in model
    ]
    lines = [line for stage in stages for line in _log(stage, epochs)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    samples = _samples(models)
    save_file(samples, folder / "evaluation.safetensors")
    _json(folder / "evaluation.json", _evaluation(models, samples, seeds))
    return folder


def _json(file: pathlib.Path, content: dict) -> None:
    file.write_text(json.dumps(content))


def _manifest(seeds: int) -> dict:
    return {
        "versions": {"tutelage": "0.1.0", "torch": "2.14.1"},
        "hardware": {"cpu": "two cores", "memory_gb": 24},
        "seeds": list(range(seeds)),
        "fingerprints": {"data": "3f9a61", "teacher big": "77aa02"},
        "command": "tutelage distill --student cifar/resnet20 --teacher big=cifar/resnet56 --data photos --out runs/a",
        "date": "2026-11-22T10:00:00",
        "notes": ["Teacher big was scored on data it may have been trained on."],
        "macs_by": "torch.utils.flop_counter",
    }


def _result(baseline: bool, seeds: int) -> dict:
    return {
        "schema": 1, "task": "classification", "metric": "accuracy", "higher_is_better": True,
        "student": {"name": "cifar/resnet20", "params": 272474, "macs": 40813184, "validation": 0.861, "test": 0.8583},
        "baseline": {"validation": 0.80, "test": 0.8042} if baseline else None,
        "teachers": {
            "big": {"params": 855770, "macs": 125485706, "validation": 0.94, "mean_weight": 0.6},
            "wide": {"params": 466906, "macs": 69124170, "validation": 0.90, "mean_weight": 0.35},
        },
        "paths": {"logits": {"loss": "kl", "mean_weight": 0.7}, "layer3": {"loss": "attention", "mean_weight": 0.25}},
        "delta": 0.0541 if baseline else None, "interval": [0.0125, 0.0958] if baseline else None,
        "gap_closed": 0.43 if baseline else None, "verdict": "better" if baseline else None,
        "shipped": "student", "seeds": seeds,
        "seconds": {"total": 402.0, "student": 251.0, "baseline": 120.0, "teachers": 31.0},
        "samples_per_second": 1480.0, "peak_memory_mb": 612.0,
    }  # fmt: skip


def _log(stage: str, epochs: int) -> list[dict]:
    model, _, seed = stage.partition("-seed")
    rows = ROWS if model == "student" else {"base": 1.0}
    lines = []
    for step in range(10, epochs * 50 + 1, 10):
        left = math.exp(-step / (20 * epochs))
        losses = {
            row: (0.2 + 2 * left + 0.1 * (model == "student")) * (40 if "layer3" in row else 1)
            for row in rows
        }
        weights = {
            row: weight * (0.4 + 0.6 * left) if "wide" in row else weight for row, weight in rows.items()
        }
        lines.append(
            {"kind": "train", "stage": stage, "seed": int(seed or 0), "step": step, "epoch": (step - 1) // 50 + 1,
             "loss": sum(losses.values()), "task_loss": losses["base"], "losses": losses, "weights": weights,
             "lr": 0.1, "samples_per_second": 1480.0}
        )  # fmt: skip
        if step % 50 == 0:
            value = SKILL[model] * (1 - 0.5 * left) + 0.004 * int(seed or 0)
            lines.append(
                {"kind": "validation", "stage": stage, "seed": int(seed or 0), "step": step, "epoch": step // 50,
                 "validation": value, "validation_loss": 1 - value}
            )  # fmt: skip
    return lines


def _samples(models: list[str]) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(7)
    target = torch.arange(SAMPLES) % len(CLASSES)
    samples = {"target": target, "index": torch.arange(SAMPLES) + 1000}
    for name in models:
        right = torch.rand(SAMPLES, generator=draw) < SKILL[name]
        other = (target + torch.randint(1, len(CLASSES), (SAMPLES,), generator=draw)) % len(CLASSES)
        sure = (0.45 + 0.5 * torch.rand(SAMPLES, generator=draw) + 0.05 * right).half()
        samples[f"{name}/prediction"] = torch.where(right, target, other)
        samples[f"{name}/confidence"] = sure
        samples[f"{name}/true_prob"] = torch.where(right, sure, 1 - sure)
    apart = (samples["student/prediction"] != samples["teacher:big/prediction"]).nonzero().flatten()[:8]
    samples["pictures/position"] = apart
    samples["pictures/image"] = torch.randint(
        0, 256, (len(apart), 3, 32, 32), dtype=torch.uint8, generator=draw
    )
    return samples


def _evaluation(models: list[str], samples: dict[str, torch.Tensor], seeds: int) -> dict:
    target, student = samples["target"], samples["student/prediction"]
    return {
        "classes": CLASSES,
        "models": {name: _measured(name, samples[f"{name}/prediction"], target, student) for name in models},
        "pairing": [
            {"student": tap, "student_shape": [64, 8, 8], "connector": "project", "teacher": tap,
             "teacher_shape": [64, 8, 8], "teacher_name": teacher, "path": "layer3"}
            for teacher in ("big", "wide") for tap in ("layer3",)
        ],
        "verdict_method": "Paired bootstrap, 10,000 resamples.",
        "seeds": [{"seed": seed, "student": 0.858 + 0.004 * seed, "baseline": 0.804} for seed in range(seeds)],
    }  # fmt: skip


def _measured(name: str, said: torch.Tensor, target: torch.Tensor, student: torch.Tensor) -> dict:
    confusion = torch.zeros(len(CLASSES), len(CLASSES), dtype=torch.long)
    confusion.index_put_((target, said), torch.ones_like(target), accumulate=True)
    return {
        "accuracy": float((said == target).double().mean()), "nll": 0.42, "ece": 0.031,
        "per_class": (confusion.diag() / confusion.sum(1)).tolist(), "confusion": confusion.tolist(),
        "params": 855770 if ":" in name else 272474, "macs": 125485706 if ":" in name else 40813184,
        "latency_ms": 3.21, "agreement": float((said == student).double().mean()), "validation": SKILL[name],
    }  # fmt: skip
