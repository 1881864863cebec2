"""The LightningModule: runs a stage, sums the steps' losses, keeps the sums for the log."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from tutelage.distiller import STUDENT
from tutelage.errors import RunError
from tutelage.ledger import Batch
from tutelage.schemes.base import Stage

from . import processes
from .by_class import ByClass
from .evaluate import fresh_metrics
from .optimizers import make_optimizer, make_schedule
from .settings import Settings


class StageModule(pl.LightningModule):
    """One stage under Lightning.

    A step is a pure function of the state and of its own number: the loader gives the batch of (epoch, step), and the
    random generator is seeded from the step. So a checkpoint holds no generator state, and a run that was killed
    continues bit for bit.

    Args:
        stage: Who learns from whom.
        settings: How.
        loader: The training loader.
        selection: The loader of the selection split.
    """

    def __init__(self, stage: Stage, settings: Settings, loader: Any, selection: Any) -> None:
        super().__init__()
        self.stage = stage
        self.settings = settings
        self.loader = loader
        self.selection = selection
        self.pupils = nn.ModuleDict(stage.pupils)
        kept = stage.pupils.items() if settings.ema is not None else ()
        self.averages = nn.ModuleDict({name: _averaged(pupil.student, settings.ema) for name, pupil in kept})
        self.step = 0
        self.steps = settings.epochs * len(loader)
        self.tally = Tally()
        first = stage.pupils[self.first()]
        self.by_class = ByClass(first.weighting, len(first.task.classes))
        self.history: list[float] = []
        # Read by DistributedDataParallel, which otherwise hands all buffers round in every step, memories too.
        self._ddp_params_and_buffers_to_ignore = list(_kept_apart(self))
        self._scores: dict[str, Any] = {}

    @property
    def epoch(self) -> int:
        """The epoch of the next step."""
        return self.step // len(self.loader)

    def student(self, name: str = STUDENT) -> nn.Module:
        """The network that is validated and shipped: the average, where one is kept."""
        if name in self.averages:
            average: Any = self.averages[name]
            network: nn.Module = average.module
            return network
        return self.stage.pupils[name].student

    def first(self) -> str:
        """The pupil whose validation decides."""
        return STUDENT if STUDENT in self.stage.pupils else next(iter(self.stage.pupils))

    # -- data

    def train_dataloader(self) -> Any:
        """The rest of the current epoch."""
        return _Rest(self.loader, *divmod(self.step, len(self.loader)))

    def val_dataloader(self) -> Any:
        """The selection split."""
        return self.selection

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Pictures as floats, in the layout the convolutions want."""
        unpacked = self._task.unpack(batch)
        if self._channels_last and unpacked.inputs.dim() == 4:
            inputs = unpacked.inputs.contiguous(memory_format=torch.channels_last)
            unpacked = dataclasses.replace(unpacked, inputs=inputs)
        return unpacked

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Move the tensors of a batch."""
        return batch.each(lambda values: values.to(device, non_blocking=True))

    # -- training

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed the generator from the step, so that nothing but the state decides what follows."""
        seed = (self.settings.seed * 1_000_003 + self.step) * 4096 + self.global_rank
        # Not torch.manual_seed: where CUDA is not in use, that keeps a stack trace of each call, which takes time.
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One step of every pupil."""
        steps = self.stage(batch)
        self.tally.add(steps[self.first()])
        self.by_class.add(steps[self.first()])
        return torch.stack([step.loss for step in steps.values()]).sum()

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Hold the paths' own layers back, clip; and skip the step on the device where the gradient is not finite.

        The device is not asked.
        """
        for pupil in self.stage.pupils.values():
            pupil.before_step()
        grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = nn.utils.get_total_norm(grads)
        optimizer.found_inf = (~torch.isfinite(norm)).float()  # type: ignore[attr-defined]
        self.tally.skipped = self.tally.skipped + optimizer.found_inf  # type: ignore[attr-defined]
        if self.settings.clip is not None:
            # Learned weights of paths are a group of their own: their gradients are as large as losses.
            for group in optimizer.param_groups:
                nn.utils.clip_grad_norm_(group["params"], self.settings.clip)

    def finish_step(self, batch: Batch) -> None:
        """Memories are written, averages and weightings move on, the step counts.

        Called by the first callback: Lightning calls callbacks before the module, and a checkpoint must hold all of it.
        """
        for name, pupil in self.stage.pupils.items():
            pupil.after_step(batch)
            if name in self.averages:
                average: Any = self.averages[name]
                average.update_parameters(pupil.student)
        for after in self.stage.after_step:
            after()
        self.step += 1
        if self.step % len(self.loader) == 0:
            for pupil in self.stage.pupils.values():
                pupil.weighting.end_epoch()

    def news(self) -> list[str]:
        """What the first pupil's weighting wants people to know."""
        told: list[str] = self.stage.pupils[self.first()].weighting.news()
        return told

    # -- validation

    def on_validation_epoch_start(self) -> None:
        """Fresh metrics."""
        self._scores = {name: metric.to(self.device) for name, metric in fresh_metrics(self._task).items()}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Feed the metrics with the first pupil's predictions."""
        student = self.student(self.first())
        student.eval()
        prediction = self._task.predict(self._task.call(student, batch))
        known = batch.labelled
        for metric in self._scores.values():
            metric.update(prediction[known], batch.target[known])

    def on_validation_epoch_end(self) -> None:
        """The main metric joins the history; of several processes that of the first, whose statistics are kept."""
        self.history.append(processes.of_first(float(self._scores[self._task.metric].compute())))

    @property
    def best_epoch(self) -> int:
        """The first epoch with the best validation metric, from 0; -1 before any.

        A metric that is no number is never the best; where all are none, the last epoch is.
        """
        known = [value for value in self.history if not math.isnan(value)]
        if not known:
            return len(self.history) - 1
        return self.history.index(max(known) if self._task.higher_is_better else min(known))

    # -- set-up

    def configure_optimizers(self) -> Any:
        """One optimizer, and a schedule that moves every step."""
        optimizer = make_optimizer(
            self.stage.pupils.values(), self.settings, self.loader.batch_size, share=self.stage.lr
        )
        schedule = make_schedule(optimizer, self.settings, self.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """What Lightning does not know: where we are, and how validation went."""
        where = {"stage": self.stage.name, "step": self.step, "history": list(self.history)}
        sums = None if self.by_class.sums is None else processes.total(self.by_class.sums)
        checkpoint.setdefault("tutelage", {}).update(where, by_class=sums, tally=self.tally.state_dict())

    def restore(self, checkpoint: Mapping[str, Any]) -> None:
        """Take the weights of a checkpoint.

        Raises:
            RunError: It holds other parts than this stage has.
        """
        try:
            self.load_state_dict(checkpoint["state_dict"])
        except RuntimeError as error:
            lines = " ".join(line.strip() for line in str(error).splitlines()[1:3])
            raise RunError(
                f"{self.stage.name}: expected a checkpoint with the parts of this stage, found others ({lines}). "
                "Another version of tutelage may have begun this run: go on with it, or start anew in another folder."
            ) from error

    def resume(self, checkpoint: Mapping[str, Any]) -> None:
        """Continue from a checkpoint; to be called when optimizers exist."""
        self.restore(checkpoint)
        for optimizer, state in zip(self.trainer.optimizers, checkpoint["optimizer_states"], strict=True):
            optimizer.load_state_dict(state)
        for config, state in zip(self.trainer.lr_scheduler_configs, checkpoint["lr_schedulers"], strict=True):
            config.scheduler.load_state_dict(state)
        self.history = list(checkpoint["tutelage"]["history"])
        if processes.first():  # it has the sums of all
            self.by_class.sums = checkpoint["tutelage"].get("by_class")
        if "tally" in checkpoint["tutelage"]:  # a checkpoint of an earlier version has none
            self.tally.load_state_dict(checkpoint["tutelage"]["tally"])

    @property
    def _task(self) -> Any:
        return self.stage.pupils[self.first()].task

    @property
    def _channels_last(self) -> bool:
        return bool(self.settings.channels_last)


def _kept_apart(module: StageModule) -> Iterator[str]:
    """Buffers that every process keeps for itself: all but the students' and those of batch norms."""
    shared = {f"pupils.{pupil}.student." for pupil in module.pupils}
    norms = {name for name, part in module.named_modules() if isinstance(part, _BatchNorm)}
    for name, _ in module.named_buffers():
        if not name.startswith(tuple(shared)) and name.rpartition(".")[0] not in norms:
            yield name


def _averaged(network: nn.Module, decay: float | None) -> AveragedModel:
    make: Any = get_ema_multi_avg_fn
    averaged = AveragedModel(network, multi_avg_fn=make(decay), use_buffers=True)
    averaged.requires_grad_(False)
    return averaged


class _Rest:
    """The batches of an epoch that are still to come, with their number: Lightning validates after the last one."""

    def __init__(self, loader: Any, epoch: int, start: int) -> None:
        self.loader, self.epoch, self.start = loader, epoch, start

    def __len__(self) -> int:
        return len(self.loader) - self.start

    def __iter__(self) -> Iterator[Any]:
        self.loader.epoch, self.loader.start = self.epoch, self.start
        return iter(self.loader)


class Tally:
    """Sums over the steps since the last log line, kept on the device."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Start anew."""
        self.steps = 0
        self.rows: tuple[str, ...] = ()
        self.sums: Tensor | None = None
        self.skipped: Tensor | float = 0.0

    def add(self, step: Any) -> None:
        """Add a step: mean raw loss and mean weight of each row, the whole loss, and rows that are not finite."""
        losses = step.ledger.losses.detach()
        finite = torch.isfinite(losses)
        weights = step.weights.expand_as(losses)
        columns = torch.stack(
            [torch.where(finite, losses, 0.0).mean(dim=1), weights.float().mean(dim=1), (~finite).any(dim=1).float()]
        )
        total = step.loss.detach().reshape(1)
        sums = torch.cat([columns.flatten(), torch.nan_to_num(total)])
        self.rows = tuple(row.name for row in step.ledger.rows)
        self.sums = sums if self.sums is None else self.sums.to(sums.device) + sums
        self.steps += 1

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds of it, over all processes, each of which has to ask."""
        sums = None if self.sums is None else processes.total(self.sums)
        return {"steps": self.steps, "sums": sums, "skipped": self.skipped}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what a checkpoint holds."""
        self.steps, self.skipped = state["steps"], state["skipped"]
        self.sums = state["sums"] if processes.first() else None  # the first has the sums of all

    def read(self) -> dict[str, Any]:
        """Means over the steps, and how often each row was not finite; one transfer from the device.

        Over all processes, each of which has to ask.
        """
        if self.sums is None:
            return {}
        k, entries = len(self.rows), self.steps * processes.world()
        sums = processes.total(self.sums) / entries
        values = torch.cat([sums, torch.as_tensor(self.skipped).reshape(1).to(sums)]).tolist()
        bad = {row: round(v * entries) for row, v in zip(self.rows, values[2 * k : 3 * k], strict=True) if v > 0}
        line = {
            "loss": values[3 * k],
            "losses": dict(zip(self.rows, values[:k], strict=True)),
            "weights": dict(zip(self.rows, values[k : 2 * k], strict=True)),
        }
        if values[-1]:
            line["skipped_steps"] = round(values[-1])
        if values[-1] or bad:
            line["not_finite"] = bad
        return line
