"""What one of two processes does: train with every weighting on its half of each batch, under plain DDP.

    python halves.py RANK STORE OUT

The first process trains alone, on whole batches, before it meets the other. Both write what they saw to ``OUT``.
"""

import sys
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from tutelage import Distiller, Frozen, Path, weighting
from tutelage.connectors import Project
from tutelage.losses import kl, mse
from tutelage.tasks import Classification
from tutelage.weighting.by_gradient import rules

STEPS, SIZE = 4, 8
OPTIONS = {
    "ByGradient": [
        *({"rule": name} for name in rules() if name != "torchjd"),
        {"rule": {"use": "fair_grad", "fairness": 0.5}},
        {"rule": "mgda", "wrt": "1"},
        {"rule": "upgrad", "by": "path", "every": 2},
        {"rule": "mgda", "exact": False},
    ],
    "Calibrate": [{}, {"steps": 1}],
    "Decay": [{"steps": 2, "after": 1}],
    "Guard": [{"every": 1, "memory": 3, "doubt": 0.0}],
    "Learned": [{}, {"at": "1", "init": 0.1, "decay": 0.01}],
    "Route": [{"to": {"0": "a", "1": ["b"]}}],
    "Warmup": [{"steps": 3}],
}
"""Weighting -> the options it is tried with, where it needs some or has several ways."""


def cases():
    """Name -> how to build it."""
    for name in weighting.__all__:
        for options in OPTIONS.get(name, [{}]):
            if name not in ("Weighting", "Product"):
                words = " ".join(f"{key}={value}" for key, value in options.items())
                yield f"{name} {words}".strip(), lambda name=name, options=options: getattr(weighting, name)(**options)


def net(width):
    return nn.Sequential(nn.Flatten(), nn.Linear(12, width), nn.Tanh(), nn.Linear(width, 3))


def batches(task):
    """The same few batches everywhere; the last one is so large that losses run away."""
    generator = torch.Generator().manual_seed(1)
    for step in range(STEPS):
        pictures = torch.rand(SIZE, 3, 2, 2, generator=generator) * (8.0 if step == STEPS - 1 else 1.0)
        yield pictures, torch.randint(3, (SIZE,), generator=generator)


def trained(build, rank, world):
    """The weights of every step, and the student at the end."""
    torch.manual_seed(0)
    task = Classification(3)
    teachers = {name: Frozen(net(width)) for name, width in (("a", 8), ("b", 6))}
    paths = {"logits": Path(kl), "deep": Path(mse, student="1", teacher="1", connector=Project())}
    student = net(5)
    rule = build()
    rule = weighting.Product((), [rule]) if rule.kind == "gate" else rule
    first = task.unpack(next(batches(task)))
    share = SIZE // world
    mine = slice(rank * share, (rank + 1) * share)

    def held_out(number):
        generator = torch.Generator().manual_seed(number)
        pictures = torch.rand(SIZE, 3, 2, 2, generator=generator)
        return task.unpack((pictures[mine], torch.randint(3, (SIZE,), generator=generator)[mine]))

    distiller = Distiller(
        student, teachers=teachers, paths=paths, task=task, weighting=rule, example=first, held_out=held_out
    )
    whole = DistributedDataParallel(distiller) if world > 1 else distiller
    optimizer = torch.optim.SGD(distiller.parameters(), lr=0.1)
    seen = []
    for pictures, labels in batches(task):
        batch = task.unpack((pictures[mine], labels[mine]))
        step = whole(batch)
        optimizer.zero_grad()
        step.loss.backward()
        optimizer.step()
        distiller.after_step(batch)
        seen.append(step.weights.expand(-1, share).clone())
    return seen, [p.detach().clone() for p in student.parameters()]


def tried(build, rank, world):
    """What came of it, or what it was refused with."""
    try:
        return trained(build, rank, world)
    except Exception as error:  # told to the test, by name
        return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    torch.set_num_threads(1)
    rank, store, out = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    alone = {name: tried(build, 0, 1) for name, build in cases()} if rank == 0 else {}
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=2, timeout=timedelta(seconds=120)
    )
    together = {name: tried(build, rank, 2) for name, build in cases()}
    torch.save({"alone": alone, "together": together}, out)
    dist.destroy_process_group()
