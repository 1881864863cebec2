"""A stage under Lightning: it learns, stops, resumes and selects."""

import dataclasses
import itertools
import json
import math
import os
import pathlib
import signal
import time
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from tutelage import Distiller, Frozen, Path
from tutelage.connectors import Project
from tutelage.data import Loader, open_data
from tutelage.engine import Settings
from tutelage.engine.callbacks import SIGNALS, Checkpoints, Metrics
from tutelage.engine.journal import Journal
from tutelage.engine.results import mean_weights, notes_of
from tutelage.engine.train import load_checkpoint, train_stage
from tutelage.errors import Interrupted, RunError
from tutelage.losses import CRD, kl
from tutelage.schemes import Stage
from tutelage.tasks import Classification
from tutelage.weighting import IMTL, Adaptive, Auto, ByGradient, Fixed, GradNorm, Guard, Product, Trust, Weighting

DIGITS = open_data("digits", limit=320)


def network(width, seed):
    torch.manual_seed(seed)
    layers = [
        nn.Flatten(),
        nn.Linear(64, width),
        nn.BatchNorm1d(width),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Linear(width, 10),
    ]
    return nn.Sequential(*layers)


def stage(weighting=None, paths=None, **options):
    loader = loaders()[0]
    task = Classification(DIGITS.classes)
    paths = paths or {
        "logits": Path(kl),
        "contrast": Path(CRD(negatives=16, feat_dim=8), student="3", teacher="3"),
        "hidden": Path(lambda s, t: (s - t).square().mean(1), student="3", teacher="3", connector=Project()),
    }
    torch.manual_seed(1)
    pupil = Distiller(
        network(8, 0),
        teachers={"big": Frozen(network(32, 1)), "wide": Frozen(network(64, 2))},
        paths=paths,
        task=task,
        weighting=weighting or Product(Adaptive(), [Trust()]),
        example=task.unpack(loader.batch(0, 0)),
        samples=int(DIGITS.train.index.max()) + 1,
        **options,
    )
    return Stage("student", {"student": pupil})


def guarded():
    """A path that pulls towards the teachers and one that pulls away from the labels, watched on held-out samples."""

    def away(student, teacher, *, target):
        return -nn.functional.cross_entropy(student, target, reduction="none")

    held = Loader(DIGITS.selection, batch_size=64, seed=0, augment=None)
    rule = Product(Fixed(), [Guard(every=2)])
    paths = {"logits": Path(kl), "away": Path(away)}
    return stage(rule, paths, held_out=lambda n: Classification(DIGITS.classes).unpack(held.batch(n, 0)))


def loaders():
    train = Loader(DIGITS.train, batch_size=64, seed=0, augment=None)
    selection = Loader(DIGITS.selection, batch_size=64, seed=0, augment=None, shuffle=False, drop_last=False)
    return train, selection


def train(folder: pathlib.Path, made=None, **settings):
    made = made or stage()
    folder.mkdir(parents=True, exist_ok=True)
    chosen = Settings(**{"epochs": 3, "log_every": 2, "checkpoint_every": 0.0} | settings)
    trained = train_stage(made, *loaders(), chosen, folder / "checkpoints", Journal(folder), "student")
    return trained, made.pupils["student"]


def test_training_lowers_the_loss_and_keeps_the_best_epoch(tmp_path):
    trained, _ = train(tmp_path, stage(Fixed(), {"logits": Path(kl)}), epochs=8)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    losses = [line["task_loss"] for line in lines if line["kind"] == "train"]
    assert losses[-1] < 0.8 * losses[0]
    assert trained.history[trained.best_epoch] == max(trained.history) > 0.5
    assert trained.steps == 8 * len(loaders()[0])


@pytest.mark.parametrize("after", [1, 4, 5, 7])
def test_a_run_stopped_at_any_step_ends_with_the_same_weights_bit_for_bit(tmp_path, monkeypatch, after):
    whole, resumed = whole_and_resumed(tmp_path, monkeypatch, after, stage)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert (tmp_path / "cut" / "metrics.jsonl").read_text().count("\n") == (
        tmp_path / "whole" / "metrics.jsonl"
    ).read_text().count("\n")
    by_class = {name: lines_of("by_class", tmp_path / name) for name in ("cut", "whole")}
    assert len(by_class["whole"]) == 3
    assert by_class["cut"] == by_class["whole"]
    assert logged(tmp_path / "cut") == logged(tmp_path / "whole")
    weights = [mean_weights(tmp_path / name / "metrics.jsonl", "student") for name in ("cut", "whole")]
    assert weights[0] == weights[1]


def test_steps_that_were_skipped_before_a_stop_are_counted_after_it(tmp_path, monkeypatch):
    first = loaders()[0].batch(0, 0)["target"]

    def once(student, teacher, *, target):
        return (student - teacher).square().mean(1) * (torch.nan if torch.equal(target, first) else 1.0)

    whole_and_resumed(tmp_path, monkeypatch, 1, lambda: stage(Fixed(), {"logits": Path(kl), "once": Path(once)}))
    lines = logged(tmp_path / "cut")
    assert (lines[0]["steps"], lines[0]["skipped_steps"], lines[0]["not_finite"]["once/big"]) == (2, 1, 1)
    assert lines == logged(tmp_path / "whole")


def test_the_rate_after_a_stop_is_that_of_the_steps_after_it(tmp_path, monkeypatch):
    stop(tmp_path, monkeypatch, 1, stage)
    clock = itertools.count()
    monkeypatch.setattr(
        "tutelage.engine.callbacks.time", SimpleNamespace(perf_counter=lambda: next(clock), monotonic=time.monotonic)
    )
    train(tmp_path, ema=0.9)
    assert lines_of("train", tmp_path)[0]["samples_per_second"] == 64


def test_a_checkpoint_from_before_sums_were_kept_in_it_goes_on(tmp_path, monkeypatch):
    stop(tmp_path, monkeypatch, 1, stage)
    last = tmp_path / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(last, weights_only=True)
    del checkpoint["tutelage"]["tally"]
    torch.save(checkpoint, last)
    train(tmp_path, ema=0.9)
    assert [line["steps"] for line in lines_of("train", tmp_path)][:2] == [1, 2]


@pytest.mark.parametrize(
    "build",
    [lambda: ByGradient("pcgrad"), lambda: ByGradient("gradvac", every=2), lambda: IMTL(every=3), GradNorm],
    ids=["PCGrad", "GradVac", "IMTL", "GradNorm"],
)
def test_rules_over_gradients_remember_where_they_were(tmp_path, monkeypatch, build):
    whole, resumed = whole_and_resumed(tmp_path, monkeypatch, 5, lambda: stage(build(), {"logits": Path(kl)}))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_a_path_that_pulls_away_is_shut_and_named_also_after_a_stop(tmp_path, monkeypatch):
    whole, resumed = whole_and_resumed(tmp_path, monkeypatch, 5, guarded)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    told = [notes_of(tmp_path / name / "metrics.jsonl", "student") for name in ("cut", "whole")]
    assert told[0] == told[1]
    assert all(note.startswith("away/") and " shut at step " in note for note in told[0])
    assert len(told[0]) == 2


def whole_and_resumed(tmp_path, monkeypatch, after, build):
    """What a run ends with, and the same run stopped on the way."""
    _, whole = train(tmp_path / "whole", build(), ema=0.9)
    stop(tmp_path / "cut", monkeypatch, after, build)
    _, resumed = train(tmp_path / "cut", build(), ema=0.9)
    return whole, resumed


def stop(folder, monkeypatch, after, build):
    """A run that is stopped on the way."""
    leave = Checkpoints._leave
    seen = []

    def leave_early(self, stop):
        seen.append(1)
        self.stop = "a test" if len(seen) == after else self.stop
        leave(self, stop or self.stop is not None)

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoints, "_leave", leave_early)
        with pytest.raises(Interrupted):
            train(folder, build(), ema=0.9)


def logged(folder: pathlib.Path) -> list[dict]:
    """The lines of the steps, without what depends on the clock."""
    return [{**line, "samples_per_second": None} for line in lines_of("train", folder)]


def lines_of(kind: str, folder: pathlib.Path) -> list[dict]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == kind]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_last_moments_counts_and_signals_are_ours_again(tmp_path, monkeypatch, number):
    before = [signal.getsignal(each) for each in SIGNALS]
    monkeypatch.setattr(Checkpoints, "on_train_end", lambda *_: os.kill(os.getpid(), number))
    with pytest.raises(Interrupted, match=f"stopped by {number.name}; the checkpoint is written"):
        train(tmp_path)
    assert [signal.getsignal(each) for each in SIGNALS] == before
    monkeypatch.undo()
    trained, _ = train(tmp_path)
    assert len(trained.history) == 3
    assert trained.earlier == trained.seconds > 0


def test_a_second_signal_ends_at_once_and_is_an_interruption(tmp_path, monkeypatch):
    def twice(*_):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(Metrics, "on_train_batch_end", twice)
    with pytest.raises(Interrupted, match="stopped by SIGINT"):
        train(tmp_path)
    assert signal.getsignal(signal.SIGINT) is before


def test_checkpoints_and_what_a_stage_leaves_are_on_the_disk_before_they_take_their_place(tmp_path, monkeypatch):
    synced, sync = set(), os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (synced.add(os.fstat(descriptor).st_ino), sync(descriptor)))
    train(tmp_path, epochs=1)
    kept = tmp_path / "checkpoints" / "stages" / "student"
    assert [file.name for file in kept.iterdir() if file.stat().st_ino not in synced] == []


def test_a_finished_stage_is_loaded_not_trained_again(tmp_path, monkeypatch):
    trained, first = train(tmp_path)
    monkeypatch.setattr("tutelage.engine.train._train", None)
    again, second = train(tmp_path)
    assert again == trained
    assert all(torch.equal(v, second.state_dict()[k]) for k, v in first.state_dict().items())


def test_a_checkpoint_holds_what_changes_and_no_teacher(tmp_path):
    train(tmp_path)
    checkpoint = load_checkpoint(tmp_path / "checkpoints" / "stages" / "student" / "last.ckpt")
    names = set(checkpoint["state_dict"])
    assert any("memory" in name for name in names)
    assert any("log_scale" in name for name in names)
    assert not any(".teachers." in name or ".network." in name for name in names)


def test_patience_ends_a_run_that_does_not_improve(tmp_path):
    trained, _ = train(tmp_path, epochs=20, lr=0.0, patience=2)
    assert len(trained.history) == trained.best_epoch + 3 < 20


def test_a_step_that_is_not_finite_is_skipped_and_named(tmp_path, capsys):
    calls = []

    def sometimes(student, teacher):
        calls.append(1)
        return (student - teacher).square().mean(1) * (torch.nan if len(calls) == 3 else 1.0)

    made = stage(Fixed(), {"logits": Path(kl), "sometimes": Path(sometimes)})
    train(tmp_path, made, epochs=1)
    assert all(torch.isfinite(p).all() for p in made.pupils["student"].parameters())
    said = capsys.readouterr().err
    assert "skipped" in said
    assert "sometimes/big" in said or "sometimes/wide" in said


@pytest.mark.parametrize("broken", ["path", "task"])
def test_where_every_step_is_skipped_the_run_stops_and_says_why(tmp_path, broken):
    def never(student, teacher):
        return (student - teacher).square().mean(1) * torch.nan

    made = stage(Fixed(), {"logits": Path(kl)} | ({"never": Path(never)} if broken == "path" else {}))
    if broken == "task":
        task = made.pupils["student"].task
        whole = task.base_loss
        task.base_loss = lambda *given: {row: loss * torch.nan for row, loss in whole(*given).items()}
    rows, do = {"path": ("never/big, never/wide", "Leave those paths out"), "task": ("base", "Lower train.lr")}[broken]
    with pytest.raises(RunError, match=rf"found none in the last 2\d steps, and {rows} not finite\. {do}"):
        train(tmp_path, made, epochs=20)


def test_where_all_that_counts_is_silenced_the_run_stops_and_says_so(tmp_path, capsys):
    def lost(student, teacher):
        return torch.full((len(student),), torch.nan)

    with pytest.raises(RunError, match=r"found none in the last 2\d steps, and lost/big, lost/wide not finite"):
        train(tmp_path, stage(Fixed(base=0.0), {"lost": Path(lost)}), epochs=20)
    assert "some losses were left out; not finite: lost/big (" in capsys.readouterr().err


def test_a_checkpoint_of_other_parts_says_so(tmp_path):
    train(tmp_path, stage(Fixed()), epochs=1)
    kept = tmp_path / "checkpoints" / "stages" / "student" / "best.ckpt"
    checkpoint = torch.load(kept, weights_only=True)
    del checkpoint["state_dict"]["pupils.student.student.1.bias"]
    torch.save(checkpoint, kept)
    with pytest.raises(RunError, match=r'found others \(Missing key\(s\) in state_dict: "pupils'):
        train(tmp_path, stage(Fixed()), epochs=1)


def test_a_stage_may_ask_for_a_part_of_the_learning_rate():
    from tutelage.engine.module import StageModule
    from tutelage.engine.train import settled

    rates = []
    for share in (1.0, 0.1):
        made = dataclasses.replace(stage(Fixed()), lr=share)
        module = StageModule(made, settled(Settings(lr=0.5), made), *loaders())
        rates.append(module.configure_optimizers()["optimizer"].defaults["lr"])
    assert rates == [0.5, pytest.approx(0.05)]


def test_a_first_step_that_is_skipped_leaves_no_trace():
    from tutelage.engine.optimizers import make_optimizer

    made = stage(Fixed(), {"logits": Path(kl)})
    optimizer = make_optimizer(made.pupils.values(), Settings(), 128)
    parameters = optimizer.param_groups[0]["params"]
    before = [p.detach().clone() for p in parameters]
    for p in parameters:
        p.grad = torch.full_like(p, torch.nan)
    optimizer.found_inf = torch.tensor(1.0)
    optimizer.step()
    assert all(torch.equal(p, old) for p, old in zip(parameters, before, strict=True))
    assert not any(optimizer.state[p]["momentum_buffer"].any() for p in parameters)


def test_learned_weights_of_paths_have_no_decay_and_a_rate_of_their_own():
    from tutelage.engine.optimizers import make_optimizer

    made = stage()
    optimizer = make_optimizer(made.pupils.values(), Settings(weighting_lr=0.5), 128)
    own = optimizer.param_groups[1]
    assert (own["lr"], own["weight_decay"]) == (0.5, 0.0)
    learned = {id(p) for p in made.pupils["student"].weighting.parameters()}
    assert {id(p) for p in own["params"]} == learned


@pytest.mark.parametrize("schedule", ["one-cycle", "cosine", "step", "constant"])
def test_every_schedule_stays_within_the_peak_and_moves_as_it_says(schedule):
    from tutelage.engine.optimizers import learning_rate_factor

    factors = [learning_rate_factor(s, 100, Settings(schedule=schedule)) for s in range(100)]
    assert max(factors) <= 1.0 + 1e-9
    assert min(factors) >= 0.0
    assert (factors[-1] < 0.05) == (schedule != "constant")


def test_auto_trains_to_the_end(tmp_path):
    trained, _ = train(tmp_path, stage(Auto()), epochs=2)
    assert len(trained.history) == 2


class Steep(Weighting):
    """One learned weight, whose gradient is a thousand times the student's."""

    def __init__(self):
        super().__init__()
        self.learned = nn.Parameter(torch.zeros(()))

    def forward(self, ledger, lesson):
        return torch.ones_like(ledger.losses[:, :1])

    def penalty(self):
        return 1000.0 * self.learned


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_learned_weights_of_paths_do_not_clip_the_student(tmp_path, monkeypatch, precision):
    norms = {}

    def look(optimizer, *_):
        for number, group in enumerate(optimizer.param_groups):
            grads = [p.grad for p in group["params"] if p.grad is not None]
            norms.setdefault(number, []).append(float(nn.utils.get_total_norm(grads)))

    handle = register_optimizer_step_post_hook(look)
    made = stage(Steep(), {"logits": Path(kl)})
    try:
        train(tmp_path, made, epochs=1, clip=0.01, precision=precision)
    finally:
        handle.remove()
    assert norms[0] == pytest.approx([0.01] * len(norms[0]), rel=1e-3)
    assert norms[1] == pytest.approx([0.01] * len(norms[1]), rel=1e-3)


def test_a_learned_weight_without_a_finite_gradient_skips_the_step_also_where_gradients_are_clipped(tmp_path):
    made = stage(Steep(), {"logits": Path(kl)})
    rule = made.pupils["student"].weighting
    before = {name: p.detach().clone() for name, p in made.pupils["student"].student.named_parameters()}
    rule.penalty = lambda: rule.learned * torch.inf
    with pytest.raises(RunError, match="none in the last"):
        train(tmp_path, made, epochs=20, clip=1.0)
    for name, p in made.pupils["student"].student.named_parameters():
        assert torch.equal(p, before[name]), name


@pytest.mark.parametrize(
    ("history", "best"),
    [
        ([math.nan, 0.5, 0.6], 2),
        ([0.5, math.nan, 0.6], 2),
        ([0.5, 0.6, math.nan], 1),
        ([math.nan, math.nan, 0.3], 2),
        ([0.6, 0.5, 0.6], 0),
        ([math.nan, math.nan, math.nan], 2),
    ],
)
def test_an_epoch_whose_metric_is_no_number_is_not_the_best(tmp_path, monkeypatch, history, best):
    found = iter(history)
    monkeypatch.setattr("tutelage.engine.module.processes.of_first", lambda value: next(found))
    trained, _ = train(tmp_path, stage(Fixed(), {"logits": Path(kl)}))
    assert trained.best_epoch == best
    kept = load_checkpoint(tmp_path / "checkpoints" / "stages" / "student" / "best.ckpt")
    assert len(kept["tutelage"]["history"]) == best + 1


def test_of_a_metric_where_less_is_better_no_number_is_not_the_best_either():
    from tutelage.engine.module import StageModule

    module = StageModule(stage(Fixed(), {"logits": Path(kl)}), Settings(), *loaders())
    module.stage.pupils["student"].task.higher_is_better = False
    module.history = [math.nan, 0.5, 0.4, 0.6]
    assert module.best_epoch == 2


@pytest.mark.parametrize(
    "error",
    [MemoryError("no room"), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")],
)
def test_a_checkpoint_for_which_memory_is_lacking_is_not_called_damaged(tmp_path, monkeypatch, error):
    def lacking(*_, **__):
        raise error

    monkeypatch.setattr(torch, "load", lacking)
    with pytest.raises(type(error)) as caught:
        load_checkpoint(tmp_path / "last.ckpt")
    assert caught.value is error
