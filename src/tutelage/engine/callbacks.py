"""What happens around the steps: metrics and log lines, checkpoints, signals, progress."""

import contextlib
import pathlib
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any

import lightning.pytorch as pl

from tutelage.errors import Interrupted, RunError

from . import processes
from .journal import Journal
from .results import settle

SIGNALS = (signal.SIGINT, signal.SIGTERM)

STUCK = 25
"""After so many steps that were all skipped the student will not learn any more."""


class Metrics(pl.Callback):
    """Writes metrics.jsonl: every few steps the means since the last line, every epoch the validation metric."""

    def __init__(self, journal: Journal, every: int, seed: int) -> None:
        self.journal = journal
        self.every = every
        self.seed = seed
        self.latest: dict[str, Any] = {}
        self._since = time.perf_counter()
        self._taken = 0
        self._skipped = 0

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        """One line every few steps; after an epoch, one with the weights by class, too."""
        self._taken += 1
        if pl_module.step % len(pl_module.loader) == 0:
            self._write_by_class(trainer, pl_module)
        if trainer.is_global_zero:
            for text in pl_module.news():
                self.journal.say(f"  {text}")
                line = {"kind": "note", "stage": pl_module.stage.name, "seed": self.seed, "step": pl_module.step}
                self.journal.write({**line, "text": text})
        if pl_module.step % self.every and pl_module.step % len(pl_module.loader):
            return
        steps, line = pl_module.tally.steps, pl_module.tally.read()
        if not line:
            return
        now = time.perf_counter()
        line = {
            "kind": "train",
            "stage": pl_module.stage.name,
            "seed": self.seed,
            "step": pl_module.step,
            "epoch": (pl_module.step - 1) // len(pl_module.loader) + 1,
            "steps": steps,
            "task_loss": _task_loss(line["losses"]),
            **line,
            "lr": trainer.optimizers[0].param_groups[0]["lr"],
            "samples_per_second": self._taken * pl_module.loader.batch_size / max(now - self._since, 1e-9),
        }
        if "not_finite" in line:
            rows = ", ".join(f"{row} ({n}x)" for row, n in line["not_finite"].items()) or "only the gradient"
            skipped = line.get("skipped_steps")
            what = f"{skipped} step(s) skipped" if skipped else "some losses were left out"
            self.journal.say(f"  step {line['step']}: {what}; not finite: {rows}")
        nothing = line.get("skipped_steps") == steps or ("not_finite" in line and not any(line["weights"].values()))
        self._skipped = self._skipped + steps if nothing else 0
        pl_module.tally.clear()
        self._since, self._taken = now, 0
        self.latest = line
        if trainer.is_global_zero:
            self.journal.write(line)
        for logger in trainer.loggers:
            flat = {f"{kind}/{row}": v for kind in ("losses", "weights") for row, v in line[kind].items()}
            logger.log_metrics({"loss": line["loss"], "lr": line["lr"], **flat}, step=pl_module.step)
        if self._skipped >= STUCK:
            raise RunError(_stuck(line, self._skipped))

    def _write_by_class(self, trainer: Any, pl_module: Any) -> None:
        found = pl_module.by_class.read()
        if found is not None and trainer.is_global_zero:
            line = {"kind": "by_class", "stage": pl_module.stage.name, "seed": self.seed, "step": pl_module.step}
            self.journal.write({**line, "epoch": pl_module.step // len(pl_module.loader), **found})

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """One line after every validation."""
        if trainer.is_global_zero:
            line = {"kind": "validation", "stage": pl_module.stage.name, "seed": self.seed, "step": pl_module.step}
            line |= {"epoch": len(pl_module.history), "validation": pl_module.history[-1]}
            self.journal.write(line)
        for logger in trainer.loggers:
            logger.log_metrics({"validation": pl_module.history[-1]}, step=pl_module.step)
        self._since = time.perf_counter()


class Checkpoints(pl.Callback):
    """Keeps last.ckpt (everything that changes) and best.ckpt; stops early; stops at once when asked to."""

    def __init__(
        self, folder: pathlib.Path, journal: Journal, every: float, patience: int | None, spent: float
    ) -> None:
        self.folder = folder
        self.journal = journal
        self.every = every
        self.patience = patience
        self.spent = spent
        self.stop: str | None = None
        self._saved = self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds this stage has been trained, over all its sittings."""
        return self.spent + time.monotonic() - self._began

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """While a trainer fits: a first Ctrl-C or SIGTERM asks for a checkpoint, a second one ends at once.

        Afterwards signals go where they went before.

        Raises:
            Interrupted: One came when nothing looked for it any more, or a second one.
        """
        before = {number: signal.getsignal(number) for number in SIGNALS}
        self._listen()
        try:
            yield
        except SystemExit as error:  # what Lightning makes of a second one, and of one that comes while it sets up
            if self.stop is None:
                raise
            raise Interrupted(f"stopped by {self.stop}") from error
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        self._leave(self.stop is not None)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Start the clock, and take SIGTERM back from Lightning."""
        self._saved = self._began = time.monotonic()
        self._listen()

    def _listen(self) -> None:
        for number in SIGNALS:
            signal.signal(number, self._asked)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        """Save when it is time, and when asked to stop; at the end of an epoch validation comes first.

        Several processes look whether it is time, or whether one was asked, where a line of the log is due.
        """
        if pl_module.step % len(pl_module.loader) == 0:
            return
        if processes.world() > 1 and pl_module.step % pl_module.settings.log_every:
            return  # all must save together, and agreeing takes time
        stop, due = processes.any_of(self.stop is not None, time.monotonic() - self._saved > self.every)
        if stop or due:
            self.save(trainer, "last.ckpt")
        self._leave(stop)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Save the best and the last; stop when patience is over."""
        if pl_module.best_epoch == len(pl_module.history) - 1:
            self.save(trainer, "best.ckpt")
        self.save(trainer, "last.ckpt")
        if self.patience is not None and len(pl_module.history) - 1 - pl_module.best_epoch >= self.patience:
            trainer.should_stop = True
        self._leave(*processes.any_of(self.stop is not None))

    def save(self, trainer: Any, name: str) -> None:
        """Write a checkpoint beside its place and move it there."""
        temporary = self.folder / f".{name}.tmp"
        try:
            trainer.save_checkpoint(temporary)
            if trainer.is_global_zero:
                settle(temporary, self.folder / name)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        self._saved = time.monotonic()

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Remember how long it took so far and where the growing files end."""
        checkpoint.setdefault("tutelage", {}).update(seconds=self.seconds, sizes=self.journal.sizes())

    def _asked(self, number: int, frame: Any) -> None:
        if self.stop is not None:
            raise KeyboardInterrupt
        self.stop = signal.Signals(number).name

    def _leave(self, stop: bool) -> None:
        if stop:
            raise Interrupted(f"stopped by {self.stop or 'another process'}; the checkpoint is written")


class Progress(pl.Callback):
    """A bar with losses, weights, validation and time left; without a terminal, one line an epoch."""

    def __init__(self, metrics: Metrics, journal: Journal) -> None:
        self.metrics = metrics
        self.journal = journal
        self._bar: Any = None
        self._task: Any = None

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Show the bar."""
        if not (trainer.is_global_zero and sys.stderr.isatty()):
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
        self._bar = Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task(self._name(pl_module), total=pl_module.steps, completed=pl_module.step)
        self._bar.start()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        """Move the bar."""
        if self._bar is not None:
            said = describe(self.metrics.latest)
            self._bar.update(self._task, completed=pl_module.step, description=f"{self._name(pl_module)}  {said}")

    def _name(self, pl_module: Any) -> str:
        return f"{self.journal.title}  {pl_module.stage.name}".strip()

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """One line an epoch."""
        if not trainer.is_global_zero:
            return
        epoch, epochs = len(pl_module.history), pl_module.settings.epochs
        text = (
            f"  {pl_module.stage.name}  epoch {epoch}/{epochs}  {describe(self.metrics.latest)}  "
            f"validation {pl_module.history[-1]:.4f}"
        )
        self.journal.say(text)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Take the bar away."""
        self._close()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Take the bar away."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _stuck(line: dict[str, Any], steps: int) -> str:
    """Why no step counts any more, and what to do."""
    rows = line["not_finite"]
    found = f"{', '.join(rows)} not finite" if rows else "losses that are finite and gradients that are not"
    sound = rows and all("/" in row for row in rows)  # the task's own loss is
    do = "Leave those paths out, or mend their losses or teachers." if sound else "Lower train.lr, or leave paths out."
    return f"step {line['step']}: expected steps that count, found none in the last {steps} steps, and {found}. {do}"


def _task_loss(losses: dict[str, float]) -> float | None:
    """The sum of the rows without a teacher."""
    own = [loss for row, loss in losses.items() if "/" not in row]
    return sum(own) if own else None


def describe(line: dict[str, Any]) -> str:
    """Losses and weights of a log line in one breath.

    Example:
        >>> describe({"losses": {"base": 1.5, "fgd/big": 231.5}, "weights": {"base": 1.0, "fgd/big": 0.00213}})
        'task 1.500  fgd/big 231.500 (x0.0021)'
    """
    parts = [
        f"{'task' if row == 'base' else row} {_figure(loss, 3)}"
        + (f" (x{_figure(line['weights'][row], 2)})" if "/" in row else "")
        for row, loss in line.get("losses", {}).items()
    ]
    return "  ".join(parts)


def _figure(value: float, places: int) -> str:
    """So many places, or two digits where those would show none: a small weight does not look like none."""
    return f"{value:.2g}" if 0 < abs(value) < 10 ** (1 - places) else f"{value:.{places}f}"
