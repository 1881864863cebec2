"""What a distillation step costs beside a plain step and the teachers' own inference.

    python benchmarks/step.py [--blocks 30] [--threads 1]

Student resnet8, teachers resnet56, resnet44 and resnet32, batch 128 of 32x32 pictures, default paths and weighting.
Each block times, one after the other, a distillation step, a plain step and the teachers' inference alone; the ratio of
the first to the sum of the others is the median over blocks, with a bootstrap interval.
"""

import argparse
import datetime
import json
import pathlib
import statistics
import time
from collections.abc import Callable

import torch

import tutelage as tu
from tutelage.cli.runfolder import hardware, versions
from tutelage.connectors import Project
from tutelage.engine import Settings
from tutelage.engine.optimizers import make_optimizer
from tutelage.losses import kl, mse
from tutelage.models import find

TEACHERS = ("resnet56", "resnet44", "resnet32")


def standardised(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """The loss of the default pooled path."""
    return mse(student, teacher, standardise=True)


def pupil(teachers: dict[str, torch.nn.Module], example: tu.Batch) -> tu.Distiller:
    """A distiller with the default paths to these teachers; plain training without any."""
    pooled = tu.Path(standardised, student="linear:input", teacher="linear:input", connector=Project())
    return tu.Distiller(
        find("cifar/resnet8", num_classes=10, seed=0).to(memory_format=torch.channels_last),
        teachers={name: tu.Frozen(model) for name, model in teachers.items()},
        paths={"logits": tu.Path(kl), "pooled": pooled} if teachers else {},
        task=tu.tasks.Classification(10),
        example=example,
    )


def stepper(distiller: tu.Distiller, batch: tu.Batch) -> Callable[[], None]:
    """One training step as a function."""
    optimizer = make_optimizer([distiller], Settings(), len(batch))

    def step() -> None:
        optimizer.zero_grad()
        distiller(batch).loss.backward()
        optimizer.step()
        distiller.after_step(batch)

    return step


def timed(run: Callable[[], None]) -> float:
    """Seconds of one call."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def interval(values: list[float], resamples: int = 2000) -> tuple[float, float]:
    """95% bootstrap interval of the median."""
    draws = torch.randint(len(values), (resamples, len(values)), generator=torch.Generator().manual_seed(0))
    medians = torch.tensor(values)[draws].median(dim=1).values
    return float(medians.quantile(0.025)), float(medians.quantile(0.975))


def main() -> None:
    """Measure, print, append a line to the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("benchmarks/results/step.jsonl"))
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    task = tu.tasks.Classification(10)
    inputs = torch.rand(128, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    batch = task.unpack((inputs, torch.randint(0, 10, (128,))))
    networks = {
        name: find(f"cifar/{name}", num_classes=10, seed=1).to(memory_format=torch.channels_last).eval()
        for name in TEACHERS
    }
    plain = stepper(pupil({}, batch), batch)
    steps = {k: stepper(pupil(dict(list(networks.items())[:k]), batch), batch) for k in (1, 3)}

    def infer(k: int) -> None:
        with torch.no_grad():
            for model in list(networks.values())[:k]:
                task.call(model, batch)

    ratios: dict[int, list[float]] = {k: [] for k in steps}
    for block in range(-2, given.blocks):  # two blocks to warm up
        for k, step in steps.items():
            whole, alone, taught = timed(step), timed(plain), timed(lambda k=k: infer(k))  # type: ignore[misc]
            if block >= 0:
                ratios[k].append(whole / (alone + taught))
    about = {"date": datetime.datetime.now(datetime.UTC).date().isoformat(), "threads": given.threads}
    about |= {"hardware": hardware(), "versions": versions()}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    for k, values in ratios.items():
        low, high = interval(values)
        median = statistics.median(values)
        line = {"benchmark": "step", "teachers": k, "ratio": median, "interval": [low, high], "blocks": len(values)}
        with given.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line | about) + "\n")
        print(f"{k} live teacher(s): step / (plain step + inference) = {median:.3f}  [{low:.3f}, {high:.3f}]")


if __name__ == "__main__":
    main()
