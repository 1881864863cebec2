"""A small world for the cache: noise pictures, little teachers that count what they are asked, and requests."""

import dataclasses
import os
import pathlib
import time

import torch
from torch import nn

from tutelage import Distiller, Frozen, Path
from tutelage.cache import Request, write
from tutelage.data import Augment, Loader, Slice
from tutelage.ledger import Spec
from tutelage.losses import kl, mse
from tutelage.models import Preprocess, fingerprint
from tutelage.tasks import Classification
from tutelage.teachers import Cached

CLASSES = tuple("abcde")


class Net(nn.Module):
    """Counts the samples it was asked about."""

    def __init__(self, width: int, seed: int, classes=None) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.body, self.fc = nn.Linear(3 * 6 * 6, width), nn.Linear(width, len(CLASSES))
            self.map = nn.Conv2d(3, 2, 3)
        self.asked, self.pause, self.spike, self.calm = 0, 0.0, 0.0, 0
        self.__dict__["preprocess"] = Preprocess((0.5,) * 3, (0.25,) * 3, classes=classes)

    def forward(self, x):
        self.asked += len(x)
        time.sleep(self.pause)
        self.map(x)
        vector = self.body(x.flatten(1)).relu()
        vector[3:4] += self.spike if self.asked > self.calm else 0.0
        return self.fc(vector)


class Mortal(Net):
    """Takes a worker's process with it at this batch, so often as the grave has room."""

    def __init__(self, grave: pathlib.Path, room: int = 1, batch: int = 4) -> None:
        super().__init__(8, 1)
        self.home, self.grave, self.room, self.left = os.getpid(), grave, room, batch

    def forward(self, x):
        if os.getpid() != self.home:
            self.left -= 1
            if self.left <= 0 and len(list(self.grave.iterdir())) < self.room:
                (self.grave / str(os.getpid())).touch()
                os._exit(1)
        return super().forward(x)


def pictures(samples: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (samples, 3, 6, 6), dtype=torch.uint8, generator=generator)


class World:
    def __init__(self, store: pathlib.Path, samples: int = 90, seed: int = 0) -> None:
        self.store = store
        whole = Slice(pictures(samples, seed), torch.arange(samples) % len(CLASSES), CLASSES)
        shuffled = torch.randperm(samples, generator=torch.Generator().manual_seed(seed))
        self.train, self.guard = (
            whole.select(shuffled[: samples - 20]),
            whole.select(shuffled[samples - 20 :]),
        )
        self.augment = Augment(crop=1, flip=True, seed=3)
        self.task = Classification(CLASSES)
        self.nets = {"big": Net(8, 1), "wide": Net(16, 2, classes=(1, 0, 2, 4, 3))}
        self.taps = {"big": ("fc:input",), "wide": ("fc:input",)}

    def bound(self, taps=None) -> dict[str, Frozen]:
        taps = taps or self.taps
        teachers = {name: Frozen(net) for name, net in self.nets.items()}
        for name, teacher in teachers.items():
            teacher.bind(Spec(call=self.task.call, taps=taps, classes=CLASSES), name)
        return teachers

    def request(self, **changes) -> Request:
        made = Request(
            folder=self.store,
            teachers=changes.get("teachers") or self.bound(),
            taps=self.taps,
            fingerprints={name: fingerprint(net) for name, net in self.nets.items()},
            task=self.task,
            slices={"train": self.train, "guard": self.guard},
            augment=self.augment,
            views=3,
            batch_size=16,
            rows=32,
        )
        return dataclasses.replace(made, **changes)

    def asked(self) -> dict[str, int]:
        return {name: net.asked for name, net in self.nets.items()}

    def fingerprints(self, views: int = 3) -> dict[str, str]:
        told = {f"teacher {name}": fingerprint(net) for name, net in self.nets.items()}
        return told | {
            "data": self.train.fingerprint,
            "augment": self.augment.fingerprint,
            "views": str(views),
        }

    def loader(self, **options) -> Loader:
        return Loader(self.train, **({"batch_size": 16, "seed": 0, "augment": self.augment, "views": 3} | options))

    def distiller(self, teachers=None, weighting=None, paths=None, **options) -> Distiller:
        taps = {"student": "fc:input", "teacher": "fc:input"}
        from tutelage.connectors import Project

        torch.manual_seed(0)
        given = {
            "fingerprints": self.fingerprints(),
            "example": self.task.unpack(self.loader().batch(0, 0)),
        } | options
        return Distiller(
            Net(4, 9),
            teachers=teachers or {name: Cached(self.store) for name in self.nets},
            paths=paths or {"logits": Path(kl), "pooled": Path(mse, **taps, connector=Project())},
            task=self.task,
            weighting=weighting,
            **given,
        )


def fill(store: str, pause: float = 0.0, **changes) -> None:
    """Fill a store, slowly; to be run in a process of its own."""
    torch.set_num_threads(1)
    world = World(pathlib.Path(store))
    for net in world.nets.values():
        net.pause = pause
    write(world.request(**changes))
