"""Settings: how a stage is trained. The `train:` section of a recipe, written once, here."""

import dataclasses
from dataclasses import dataclass
from typing import Literal

from tutelage.errors import RecipeError


@dataclass(frozen=True)
class Settings:
    """How a stage is trained; the student and its baseline share all of it.

    Args:
        epochs: Passes over the training set.
        lr: Peak learning rate; None: 0.1 for SGD and 0.001 for AdamW, per 128 samples of a batch.
        optimizer: ``auto`` is AdamW for networks with layer norm, SGD with Nesterov momentum for the others.
        momentum: Of SGD.
        weight_decay: On the student and the connectors, never on learned weights of paths; None: 5e-4 for SGD,
            0.05 for AdamW.
        schedule: ``one-cycle``, ``cosine`` (with warm-up), ``step`` (times 0.1 at 50%, 75% and 90%) or ``constant``.
        warmup: Share of the steps in which the learning rate rises.
        clip: Largest gradient norm; None for no clipping. Learned weights of paths are clipped by themselves, to the
            same norm.
        weighting_lr: Learning rate of learned weights of paths, which follow no schedule.
        ema: Decay of an exponential moving average of the student, which is then validated and shipped; None for none.
        patience: Epochs without a better validation metric after which training stops; None for never.
        precision: ``auto`` is bf16 where the hardware gains by it (GPUs that have it, CPUs with AMX), else float32.
        compile: Run student and teachers through `torch.compile`: half a minute at the start, faster afterwards
            (see the benchmarks). Needs a C++ compiler on CPUs.
        channels_last: Memory layout of pictures and convolutions; None: yes for convolutional networks.
        seed: Of initial weights, order of samples and augmentation; further seeds count up from it.
        log_every: Steps between two lines of metrics.jsonl.
        checkpoint_every: Seconds between two checkpoints within an epoch.
        cache: ``auto`` keeps the teachers' answers to a few views of each sample on disk where that saves forwards
            (in the run folder); ``live`` never does; anything else is the folder of a store, filled where it lacks.
        offload: A folder on a disk into which teachers' weights are moved, to be read page by page when they are used
            (and on a GPU, to be there for a teacher's own forward alone): for teachers larger than memory.
        workers: Processes that decode pictures; 0 for none. In-memory data needs none.
        accelerator: ``auto``, ``cpu``, ``gpu``, ``cuda`` or ``mps``; one device for each process.
    """

    epochs: int = 30
    lr: float | None = None
    optimizer: Literal["auto", "sgd", "adamw"] = "auto"
    momentum: float = 0.9
    weight_decay: float | None = None
    schedule: Literal["one-cycle", "cosine", "step", "constant"] = "one-cycle"
    warmup: float = 0.2
    clip: float | None = None
    weighting_lr: float = 0.01
    ema: float | None = None
    patience: int | None = None
    precision: Literal["auto", "float32", "bf16"] = "auto"
    compile: bool = False
    channels_last: bool | None = None
    seed: int = 0
    log_every: int = 20
    checkpoint_every: float = 60.0
    cache: str = "auto"
    offload: str | None = None
    workers: int = 0
    accelerator: str = "auto"

    def __post_init__(self) -> None:
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise RecipeError(f"train.{name}: expected {low:g} to {high:g}, found {value}.")

    def with_seed(self, seed: int) -> "Settings":
        """The same settings with another seed."""
        return dataclasses.replace(self, seed=seed)


_RANGES: tuple[tuple[str, float, float], ...] = (
    ("epochs", 1, 1e6),
    ("lr", 0, 1e3),
    ("momentum", 0, 1),
    ("weight_decay", 0, 1e3),
    ("warmup", 0, 1),
    ("clip", 0, 1e9),
    ("ema", 0, 1),
    ("patience", 1, 1e6),
    ("seed", -2.2e9, 2.2e9),  # a step's own seed, about 4e9 times as large, has 64 bits
    ("log_every", 1, 1e9),
    ("workers", 0, 1024),
)
