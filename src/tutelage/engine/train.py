"""Train one stage under Lightning, from the start or from where it was stopped."""

import errno
import hashlib
import json
import logging
import os
import pathlib
import shutil
import warnings
from dataclasses import dataclass, field
from typing import Any

import lightning.pytorch as pl
import torch
from torch import nn

from tutelage.errors import RunError
from tutelage.schemes.base import Stage

from . import processes
from .callbacks import Checkpoints, Metrics, Progress
from .hardware import decided
from .journal import Journal
from .module import StageModule
from .results import share, write_json
from .settings import Settings


def load_checkpoint(path: pathlib.Path) -> dict[str, Any]:
    """A checkpoint of ours; nothing in it is executed.

    Raises:
        RunError: The file is damaged.
    """
    try:
        loaded: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file fails in many ways, one that was cut off often with EINVAL
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        if isinstance(error, MemoryError) or "can't allocate memory" in str(error):  # as torch's allocator says it
            raise
        raise RunError(
            f"{path}: expected a whole checkpoint, found a damaged file. Restore it, or start a new run in another "
            "folder."
        ) from error
    return loaded


@dataclass(frozen=True)
class Trained:
    """What a finished stage leaves.

    Args:
        history: The validation metric after each epoch.
        best_epoch: The epoch that was kept, from 0.
        seconds: Training and validation, over all sittings.
        steps: Optimizer steps taken.
        epochs: How many there were to be; patience may have ended them earlier.
        start: A hash of the weights the first pupil started from.
        earlier: Of the seconds, those of earlier sittings.
    """

    history: list[float]
    best_epoch: int
    seconds: float
    steps: int
    epochs: int
    start: str
    earlier: float = field(default=0.0, compare=False)


def train_stage(
    stage: Stage, loader: Any, selection: Any, settings: Settings, folder: pathlib.Path, journal: Journal, name: str
) -> Trained:
    """Train a stage and leave its pupils with the weights of the best epoch.

    A finished stage is loaded instead of trained; an unfinished one goes on from its last checkpoint.

    Args:
        stage: The stage.
        loader: Training loader, a function of (epoch, step).
        selection: Loader of the selection split.
        settings: How to train.
        folder: Where checkpoints go.
        journal: Metrics and log.
        name: Unique name of this stage in this run.

    Raises:
        Interrupted: A signal asked to stop; the checkpoint is written.
        RunError: The folder cannot be written, or what is in it is damaged.
    """
    settings = settled(settings, stage)
    module = StageModule(Stage(**{**stage.__dict__, "name": name}), settings, loader, selection)
    start = _hash(module.stage.pupils[module.first()].student)
    if settings.channels_last:
        for pupil in stage.pupils.values():
            pupil.student.to(memory_format=torch.channels_last)
    kept = folder / "stages" / name
    earlier = None
    try:
        if not (kept / "done.json").exists():
            earlier = _train(module, settings, folder, journal, name)
            if processes.first():
                _keep(folder, kept, module, journal)
            processes.wait()
    except OSError as error:
        raise RunError(
            f"{folder}: expected to write checkpoints here, found: {error.strerror or error}. Make room or choose "
            "another folder; what was saved before is intact, and --resume goes on from it."
        ) from error
    module.restore(load_checkpoint(kept / "best.ckpt"))
    done = _read_done(kept)
    spent = done["seconds"] if earlier is None else earlier  # where nothing was trained now
    trained = Trained(**done, epochs=settings.epochs, start=start, earlier=spent)
    for name_, distiller in stage.pupils.items():
        if name_ in module.averages:
            distiller.student.load_state_dict(module.student(name_).state_dict())
        # The layout that training liked is nobody else's business.
        distiller.student.to(memory_format=torch.contiguous_format)
    return trained


def settled(settings: Settings, stage: Stage) -> Settings:
    """The settings with ``auto`` decided for this stage and this hardware."""
    convolves = any(isinstance(m, nn.Conv2d) for p in stage.pupils.values() for m in p.student.modules())
    last = settings.channels_last if settings.channels_last is not None else convolves
    precision = decided(settings.precision, settings.accelerator)
    epochs = settings.epochs if stage.epochs is None else stage.epochs
    return Settings(**{**settings.__dict__, "channels_last": last, "precision": precision, "epochs": epochs})


def _train(module: StageModule, settings: Settings, folder: pathlib.Path, journal: Journal, name: str) -> float:
    """Train; gives the seconds of earlier sittings."""
    folder.mkdir(parents=True, exist_ok=True)
    last = folder / "last.ckpt"
    checkpoint = load_checkpoint(last) if last.exists() else None
    if checkpoint is not None and checkpoint["tutelage"]["stage"] != name:
        checkpoint = None
    progress: dict[str, Any] = checkpoint["tutelage"] if checkpoint else {"seconds": 0.0, "step": 0, "history": []}
    if checkpoint is not None:
        journal.cut(progress["sizes"])
        journal.say(f"  {name}: resumed at step {progress['step']} of {module.steps}")
    module.step, module.history = progress["step"], list(progress["history"])
    epochs = settings.epochs - module.epoch
    tired = settings.patience is not None and len(module.history) - 1 - module.best_epoch >= settings.patience
    earlier: float = progress["seconds"]
    if epochs <= 0 or tired:
        return earlier
    metrics = Metrics(journal, settings.log_every, settings.seed)
    checkpoints = Checkpoints(folder, journal, settings.checkpoint_every, settings.patience, earlier)
    callbacks = [_Steps(checkpoint), metrics, Progress(metrics, journal), checkpoints]
    with warnings.catch_warnings():
        # Lightning's advice on loader workers and logging intervals does not fit loaders of tensors in memory.
        warnings.filterwarnings("ignore", category=UserWarning, module=r"lightning.*")
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"lightning.*")
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
        trainer = pl.Trainer(
            accelerator=settings.accelerator,
            **_devices(),
            precision="bf16-mixed" if settings.precision == "bf16" else "32-true",
            max_epochs=epochs,
            reload_dataloaders_every_n_epochs=1,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            logger=_loggers(folder.parent),
            callbacks=callbacks,
            default_root_dir=folder,
        )
        with checkpoints.listening():
            trainer.fit(module)
    module.cpu()
    return earlier


def _devices() -> dict[str, Any]:
    """What Lightning should know of the processes that share this run."""
    if processes.world() == 1:
        return {"devices": 1}
    from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
    from lightning.pytorch.strategies import DDPStrategy

    return {
        "devices": processes.here(),
        "num_nodes": processes.world() // processes.here(),
        # A student may have parameters that take no part in a step, such as heads nobody reads.
        "strategy": DDPStrategy(find_unused_parameters=True),
        "plugins": [TorchElasticEnvironment()],
    }


class _Steps(pl.Callback):
    """Loads a checkpoint when model and optimizers stand, and finishes every step before the other callbacks see it."""

    def __init__(self, checkpoint: dict[str, Any] | None) -> None:
        self.checkpoint = checkpoint

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        if self.checkpoint is not None:
            pl_module.resume(self.checkpoint)
            self.checkpoint = None

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        pl_module.finish_step(batch)


def _loggers(run: pathlib.Path) -> Any:
    """TensorBoard where it is installed."""
    try:
        import tensorboard  # noqa: F401
        from lightning.pytorch.loggers import TensorBoardLogger
    except ImportError:
        return False
    return TensorBoardLogger(run, name="tensorboard", version="")


def _keep(folder: pathlib.Path, kept: pathlib.Path, module: StageModule, journal: Journal) -> None:
    """Move a finished stage's checkpoints under its name: the folder appears whole."""
    temporary = kept.with_name(f".{kept.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    last = load_checkpoint(folder / "last.ckpt")["tutelage"]
    for file in ("best.ckpt", "last.ckpt"):
        share(folder / file, temporary / file)
    done = {"history": module.history, "best_epoch": module.best_epoch, "steps": module.step}
    done |= {"seconds": last["seconds"], "sizes": journal.sizes()}
    write_json(temporary / "done.json", done)
    os.replace(temporary, kept)


def _read_done(kept: pathlib.Path) -> dict[str, Any]:
    """What a finished stage left."""
    try:
        done = json.loads((kept / "done.json").read_text(encoding="utf-8"))
        return {name: done[name] for name in ("history", "best_epoch", "seconds", "steps")}
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{kept / 'done.json'}: expected what a finished stage left, found a damaged file. Remove the folder "
            f"{kept} and --resume trains this stage again, or start a new run in another folder."
        ) from error


def _hash(network: nn.Module) -> str:
    """A hash of a network's parameters, whatever their type; statistics are none."""
    digest = hashlib.sha256()
    for name, value in network.named_parameters():
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
