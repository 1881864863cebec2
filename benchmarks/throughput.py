"""What teachers cost, as ratios within one run.

    python benchmarks/throughput.py [cached guard live loops linear memory whole sweep profile tasks] [--blocks 30]

Student resnet8, teachers resnet56, resnet44 and resnet32 of CIFAR-10, batch 128, default paths (KL and attention maps
of three stages) and default weighting; `tasks` has a recipe of each of the dense tasks, whose teachers are trained by
the commands in the headers of benchmarks/segmentation.yaml, detection.yaml and super_resolution.py. Reads the shared
data and weights (`TUTELAGE_SHARED`, or `../shared`).

Each thing that is timed runs in a process of its own, from start to end through the code that a run uses: loader,
augmentation, Lightning, logging. The processes take turns: one trains a few steps while the others wait. A ratio is
taken within each block of turns; its median over the blocks stands with a 95% bootstrap interval. One line a figure is
appended to benchmarks/results/throughput.jsonl.
"""

import argparse
import dataclasses
import datetime
import json
import multiprocessing
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

SHARED = pathlib.Path(os.environ.get("TUTELAGE_SHARED", "../shared"))
RESULTS = pathlib.Path("benchmarks/results/throughput.jsonl")
NETS = ("resnet56", "resnet44", "resnet32")
DATA = str(SHARED / "data" / "cifar10")


def teacher(net: str) -> str:
    """A shared teacher as the command line takes it."""
    return f"{net}=cifar/{net}@{SHARED}/weights/cifar10_{net}.safetensors"


# -- things that are timed, each in its own process


class Pace:
    """Called before each step: after every block of steps it tells how long they took and waits for its next turn."""

    def __init__(self, turn: Any, steps: int, clock: Callable[[], float] = time.perf_counter) -> None:
        self.turn, self.steps, self.clock, self.done, self.began = turn, steps, clock, 0, 0.0

    def __call__(self) -> None:
        """One step more."""
        if self.done % self.steps == 0:
            if self.done:
                self.turn.send(self.clock() - self.began)
            if self.turn.recv() == "stop":
                os._exit(0)
            self.began = self.clock()
        self.done += 1


def engine(pace: Pace, store: str, teachers: Sequence[str], options: Sequence[str]) -> None:
    """Training by the engine; `store` is where teachers answer from, ``"live"`` for live teachers."""
    from tutelage.cli.gather import gather

    assignments = [*base(), f"train.cache={store}", "train.epochs=1", *options]
    train(pace, *gather(None, student="cifar/resnet8", teachers=teachers, data=DATA, assignments=assignments))


def recipe(pace: Pace, given: dict[str, Any]) -> None:
    """Training by the engine, of a recipe."""
    from tutelage.cli.gather import gather

    train(pace, *gather(given))


def train(pace: Pace, raw: dict[str, Any], live: dict[str, Any]) -> None:
    """The first stage of a recipe, without end."""
    from tutelage.cli import cache
    from tutelage.cli.prepare import prepare
    from tutelage.data import Loader
    from tutelage.engine.journal import Journal
    from tutelage.engine.train import train_stage

    class Paced(Loader):
        """Batches without end, so that no validation comes between."""

        def __iter__(self) -> Iterator[Any]:
            for batch in super().__iter__():
                pace()
                yield batch

    out = pathlib.Path(tempfile.mkdtemp())
    prepared = cache.fill(cache.decide(prepare(raw, live, force=True), out), print)
    cast = prepared.cast(0)
    stage = next(iter(prepared.scheme(cast)))
    plain = prepared.loader("train", 0)
    options = {"batch_size": plain.batch_size, "augment": plain.augment, "views": plain.views}
    loader = Paced(plain.slice, seed=0, steps_per_epoch=100_000, **options)
    selection = prepared.loader("selection", 0)
    train_stage(stage, loader, selection, prepared.recipe.train, out / "checkpoints", Journal(out), "student")


def plain(pace: Pace, options: Sequence[str]) -> None:
    """Plain training by the engine."""
    engine(pace, "live", (), options)


def inference(pace: Pace, teachers: Sequence[str], options: Sequence[str]) -> None:
    """The teachers' forwards alone, over the same batches."""
    from tutelage.cli.gather import gather
    from tutelage.cli.prepare import prepare
    from tutelage.ledger import Spec
    from tutelage.teachers import Frozen

    raw, live = gather(
        None,
        student="cifar/resnet8",
        teachers=teachers,
        data=DATA,
        assignments=[*base(), *options],
    )
    prepared = prepare(raw, live, force=True)
    made = {name: Frozen(network, compile=prepared.recipe.train.compile) for name, network in prepared.teachers.items()}
    for name, one in made.items():
        one.bind(Spec(call=prepared.task.call, taps={name: ()}, classes=prepared.task.classes), name)
    loader, step = prepared.loader("train", 0), 0
    batches = [prepared.task.unpack(loader.batch(0, step)) for step in range(4)]
    batches = [dataclasses.replace(b, inputs=b.inputs.contiguous(memory_format=torch.channels_last)) for b in batches]
    while True:
        pace()
        for one in made.values():
            one(batches[step % len(batches)], {})
        step += 1


def loop(pace: Pace, kind: str, **options: Any) -> None:
    """A loop of `loops`."""
    import loops

    from tutelage.data import open_data

    getattr(loops, kind)(open_data(DATA, limit=5000).train, pace, **options)


def base() -> list[str]:
    """What all have in common: few pictures, since only time is measured."""
    return ["data.limit=2560", "data.selection=0.02", "data.views=4"]


CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}


def child(
    turn: Any, threads: int, steps: int, clock: str, run: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    """A process that takes turns."""
    from tutelage.cli.memory import keep_freed_memory

    torch.set_num_threads(threads)
    keep_freed_memory()
    told, sys.stderr = sys.stderr, open(os.devnull, "w")  # noqa: SIM115
    try:
        run(Pace(turn, steps, CLOCKS[clock]), *arguments)
    except BaseException:
        sys.stderr = told  # why there will be no more turns
        raise


Thing = tuple[Callable[..., None], tuple[Any, ...]]


def rounds(things: dict[str, Thing], given: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds of each block of each thing; one after the other, in an order that turns from round to round."""
    context = multiprocessing.get_context("spawn")
    turns, processes = {}, []
    for name, (run, arguments) in things.items():
        turns[name], other = context.Pipe()
        pace = other, given.threads, given.steps, given.clock
        processes.append(context.Process(target=child, args=(*pace, run, arguments)))
        processes[-1].start()
        other.close()  # so that a process that dies is an EOFError here, and nobody waits for it
    seconds: dict[str, list[float]] = {name: [] for name in things}
    names = list(things)
    for number in range(-2 * given.turns, given.blocks * given.turns):  # two rounds to warm up
        for name in (*names[number % len(names) :], *names[: number % len(names)]):
            turns[name].send("go")
            took = turns[name].recv()
            if number >= 0 and number % given.turns == 0:
                seconds[name].append(0.0)
            if number >= 0:
                seconds[name][-1] += took
    for name, process in zip(names, processes, strict=True):
        turns[name].send("go")
        turns[name].recv()
        turns[name].send("stop")
        process.join()
    return seconds


# -- figures


def interval(values: list[float], resamples: int = 4000) -> tuple[float, float]:
    """95% bootstrap interval of the median."""
    draws = torch.randint(len(values), (resamples, len(values)), generator=torch.Generator().manual_seed(0))
    medians = torch.tensor(values)[draws].median(dim=1).values
    return float(medians.quantile(0.025)), float(medians.quantile(0.975))


def report(figure: str, values: list[float], limit: float | None, given: argparse.Namespace, **more: Any) -> None:
    """Print a ratio and append it to the results."""
    from tutelage.cli.runfolder import hardware, versions

    low, high = interval(values)
    median = statistics.median(values)
    verdict = (
        ""
        if limit is None
        else f"  limit {limit}: {'met' if high < limit else 'missed' if low > limit else 'not resolved'}"
    )
    print(f"{figure}: {median:.3f} [{low:.3f}, {high:.3f}] over {len(values)}{verdict}", flush=True)
    line = {"figure": figure, "median": median, "interval": [low, high], "n": len(values), "limit": limit, **more}
    line |= {"threads": given.threads, "steps": given.steps, "turns": given.turns, "clock": given.clock}
    line |= {"date": datetime.datetime.now(datetime.UTC).date().isoformat(), "hardware": hardware()}
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    with RESULTS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line | {"versions": versions()}) + "\n")


def over(above: list[float], *below: list[float]) -> list[float]:
    """The ratio in each round."""
    return [a / sum(b) for a, b in zip(above, zip(*below, strict=True), strict=True)]


def cached(given: argparse.Namespace) -> None:
    """A step with three cached teachers beside a plain step of the same engine."""
    store, three = str(given.store / "three"), [teacher(net) for net in NETS]
    fill(store, three)
    paths = {"kl": "paths=[logits]", "pooled": "paths=[logits, pooled]"}
    found = rounds(
        {
            "plain": (plain, ([],)),
            "default": (engine, (store, three, [])),
            **{name: (engine, (store, three, [told])) for name, told in paths.items()},
        },
        given,
    )
    report("cached, default paths, 3 teachers / plain", over(found["default"], found["plain"]), 1.10, given)
    report("cached, KL + pooled, 3 teachers / plain", over(found["pooled"], found["plain"]), 1.10, given)
    report("cached, KL only, 3 teachers / plain", over(found["kl"], found["plain"]), 1.05, given)


def guard(given: argparse.Namespace) -> None:
    """A look of the guard, shared out among the steps between two of them, on top of a step; processor time."""
    from tutelage.cli import cache
    from tutelage.cli.gather import gather
    from tutelage.cli.prepare import prepare
    from tutelage.weighting import Guard

    store, three = str(given.store / "three"), [teacher(net) for net in NETS]
    fill(store, three)
    raw, live = gather(
        None, student="cifar/resnet8", teachers=three, data=DATA, assignments=[*base(), f"train.cache={store}"]
    )
    prepared = cache.fill(cache.decide(prepare(raw, live, force=True), pathlib.Path(tempfile.mkdtemp())), print)
    pupil = next(iter(prepared.scheme(prepared.cast(0)))).pupils["student"].train()
    pupil.student.to(memory_format=torch.channels_last)
    rule = next(gate for gate in pupil.weighting.gates if isinstance(gate, Guard))
    optimizer = torch.optim.SGD(pupil.parameters(), lr=0.1, fused=True)
    loader, ratios = prepared.loader("train", 0), []
    for number in range(-3, given.blocks):
        began = time.process_time()
        batch = pupil.task.unpack(loader.batch(0, number % len(loader)))
        optimizer.zero_grad()
        pupil(batch).loss.backward()
        optimizer.step()
        stepped = time.process_time()
        pupil.weighting.hears(*pupil.look(pupil.held_out(number % 5)))
        looked = time.process_time()
        if number >= 0:
            ratios.append(1 + (looked - stepped) / (rule.every * (stepped - began)))
    report("a step with its share of a look of the guard / a step", ratios, 1.05, given)


def live(given: argparse.Namespace) -> None:
    """A step with one and three live teachers beside a plain step and their forwards."""
    nets = [teacher(net) for net in NETS]
    things: dict[str, Thing] = {"plain": (plain, ([],))}
    for k in (1, 3):
        things |= {f"alone {k}": (inference, (nets[:k], [])), f"live {k}": (engine, ("live", nets[:k], []))}
    found = rounds(things, given)
    for k in (1, 3):
        ratios = over(found[f"live {k}"], found["plain"], found[f"alone {k}"])
        report(f"live, {k} teacher(s) / (plain + inference)", ratios, 1.05, given)


def loops(given: argparse.Namespace) -> None:
    """Plain training by the engine beside the two loops, as it is and compiled."""
    found = rounds(
        {
            "engine": (plain, ([],)),
            "by hand": (loop, ("by_hand",)),
            "usual": (loop, ("usual",)),
            "engine, compiled": (plain, (["train.compile=true"],)),
            "by hand, compiled": (compiled_loop, ()),
        },
        given,
    )
    report("engine / by hand", over(found["engine"], found["by hand"]), 1.05, given)
    report("engine / by hand, both compiled", over(found["engine, compiled"], found["by hand, compiled"]), 1.05, given)
    report("usual / engine (times the samples per second)", over(found["usual"], found["engine"]), None, given)
    report("usual / engine, compiled", over(found["usual"], found["engine, compiled"]), None, given)
    for name, seconds in found.items():
        print(f"  {name}: {128 * given.steps / statistics.median(seconds):.0f} samples/s")


def compiled_loop(pace: Pace) -> None:
    """The loop written by hand, compiled."""
    loop(pace, "by_hand", compile=True)


def linear(given: argparse.Namespace) -> None:
    """KL with one, three and eight cached teachers beside a plain step; and the time to fill a store."""
    from tutelage.models import find, save

    for k in range(4):  # kept: weights drawn anew would be other teachers in each process
        told: dict[str, Any] = {"card": "first weights", "classes": [str(c) for c in range(10)], "input_size": (32, 32)}
        save(find("cifar/resnet8", num_classes=10, seed=k), given.store / f"r{k}", **told)
    eight = [*(teacher(net) for net in (*NETS, "resnet20")), *(f"r{k}={given.store}/r{k}" for k in range(4))]
    store, kl = str(given.store / "eight"), ["paths=[logits]"]
    fill(store, eight)
    things: dict[str, Thing] = {"plain": (plain, ([],))}
    things |= {str(k): (engine, (store, eight[:k], kl)) for k in (1, 3, 8)}
    found = rounds(things, given)
    for k in (1, 3, 8):
        report(f"cached, KL only, {k} teachers / plain", over(found[str(k)], found["plain"]), None, given)
    each = [(b / a - 1) / 7 + 1 for a, b in zip(found["1"], found["8"], strict=True)]
    report("one teacher more (from 1 to 8) / step with 1", each, 1.02, given)
    times: dict[str, list[float]] = {}
    for _ in range(given.fills):
        for name, (samples, views, count) in FILLS.items():
            times.setdefault(name, []).append(fill_seconds(samples, views, eight[3 : 3 + count], given.threads))
    for name in list(FILLS)[1:]:
        report(
            f"filling a store: {name} / {next(iter(FILLS))}", over(times[name], times[next(iter(FILLS))]), None, given
        )


FILLS = {
    "2,000 samples, 2 views, 1 teacher": (2000, 2, 1),
    "twice the samples": (4000, 2, 1),
    "twice the views": (2000, 4, 1),
    "1,000 samples, 4 views": (1000, 4, 1),
}


def command(arguments: Sequence[str], threads: int) -> tuple[float, str]:
    """Seconds and output of a command of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    began = time.perf_counter()
    line = [sys.executable, "-m", "tutelage", *arguments]
    done = subprocess.run(
        line, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    )
    return time.perf_counter() - began, done.stdout


def sets(assignments: Sequence[str]) -> list[str]:
    """As the command line takes them."""
    return [word for assignment in assignments for word in ("--set", assignment)]


def taught(teachers: Sequence[str]) -> list[str]:
    """As the command line takes them."""
    return [word for one in teachers for word in ("--teacher", one)]


def fill(store: str, teachers: Sequence[str]) -> None:
    """Answers for the timed runs; what is there stays."""
    words = ["cache", "--student", "cifar/resnet8", "--data", DATA, "--store", store, "--force"]
    command([*words, *taught(teachers), *sets([*base(), "paths=[logits, pooled, attention]"])], 1)


def fill_seconds(samples: int, views: int, teachers: Sequence[str], threads: int) -> float:
    """Seconds in which a new store is filled, as the command tells them."""
    with tempfile.TemporaryDirectory() as folder:
        words = [
            "cache",
            "--student",
            "cifar/resnet8",
            "--data",
            DATA,
            "--store",
            f"{folder}/store",
            "--json",
            "--force",
        ]
        size = [f"data.limit={samples}", "data.selection=0.02", f"data.views={views}"]
        _, said = command([*words, *taught(teachers), *sets(size)], threads)
        return float(json.loads(said)["seconds"])


def whole(given: argparse.Namespace) -> None:
    """From nothing to a trained student: 12 epochs and V = 4, beside 12 plain epochs and 4 epochs of inference."""
    three = [teacher(net) for net in NETS]
    size = [f"data.limit={given.limit}", "data.selection=0.02", "train.epochs=12"]
    ratios = []
    for seed in range(given.runs):
        with tempfile.TemporaryDirectory() as folder:
            common = ["--data", DATA, "--json", *sets([*size, f"train.seed={seed}"])]
            _, said = command(["train", "--model", "cifar/resnet8", "--out", f"{folder}/plain", *common], given.threads)
            alone = json.loads(said)["seconds"]["student"]
            words = ["distill", "--student", "cifar/resnet8", *taught(three), "--out", f"{folder}/run", "--no-baseline"]
            _, said = command([*words, *common, *sets(["data.views=4"])], given.threads)
            seconds = json.loads(said)["seconds"]
            forwards = inference_seconds(given.limit, given.threads)
        ratios.append((seconds["student"] + seconds["teachers"]) / (alone + 4 * forwards))
        print(
            f"  {seconds['teachers']:.0f} s answers + {seconds['student']:.0f} s student; {alone:.0f} s plain, "
            f"4 x {forwards:.0f} s inference"
        )
    report("whole run, V = 4 / (12 plain epochs + 4 of inference)", ratios, 1.10, given, limit_of_pictures=given.limit)


def inference_seconds(samples: int, threads: int) -> float:
    """Seconds of one epoch of the three teachers' forwards, in a process of its own."""
    context = multiprocessing.get_context("spawn")
    turn, other = context.Pipe()
    steps = samples // 128
    process = context.Process(
        target=child, args=(other, threads, steps, "wall", inference, ([teacher(net) for net in NETS], []))
    )
    process.start()
    turn.send("go")
    seconds = turn.recv()
    turn.send("stop")
    process.join()
    return float(seconds)


def memory(given: argparse.Namespace) -> None:
    """Peak anonymous memory of a cached run beside plain training."""
    three, store = [teacher(net) for net in NETS], str(given.store / "three")
    fill(store, three)
    ratios = []
    for seed in range(given.runs):
        with tempfile.TemporaryDirectory() as folder:
            common = ["--data", DATA, *sets([*base(), "train.epochs=3", f"train.seed={seed}"])]
            alone = peak(["train", "--model", "cifar/resnet8", "--out", f"{folder}/plain", *common], given.threads)
            words = ["distill", "--student", "cifar/resnet8", *taught(three), "--out", f"{folder}/run", "--no-baseline"]
            whole_run = peak([*words, *common, *sets([f"train.cache={store}"])], given.threads)
        ratios.append(whole_run / alone)
        print(f"  plain {alone / 1e3:.0f} MB, cached {whole_run / 1e3:.0f} MB")
    report("peak anonymous memory, cached run / plain training", ratios, 1.15, given)


def peak(arguments: Sequence[str], threads: int) -> float:
    """Largest anonymous memory of a command, in kB, looked at 20 times a second."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    process = subprocess.Popen(
        [sys.executable, "-m", "tutelage", *arguments],
        env=environment,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    most = 0.0
    while process.poll() is None:
        try:
            status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
        except OSError:
            break
        most = max([most, *(float(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon"))])
        time.sleep(0.05)
    assert process.wait() == 0, arguments
    return most


SWEEP = (
    [],
    ["paths=[logits]"],
    ["paths=[logits]", "weighting.scale={use: fixed, mean: true}"],
    ["paths.logits={loss: {use: kl, temperature: 1}}"],
    ["paths.logits={loss: {use: kl, temperature: 8}}"],
    ["weighting={use: auto, response: 2.0}"],
    ["weighting={use: auto, response: 8.0}"],
    ["train.lr=0.2"],
)


def sweep(given: argparse.Namespace) -> None:
    """Eight recipes over one store beside eight live runs."""
    three = [teacher(net) for net in NETS]
    size = ["data.limit=1280", "data.selection=0.02", "train.epochs=8"]
    totals = {"cached": 0.0, "live": 0.0}
    with tempfile.TemporaryDirectory() as folder:
        common = ["--student", "cifar/resnet8", *taught(three), "--data", DATA, *sets(size)]
        seconds, _ = command(["cache", *common, "--store", f"{folder}/store", *sets(["data.views=4"])], given.threads)
        totals["cached"] += seconds
        for number, options in enumerate(SWEEP):
            for how, more in (
                ("cached", [f"train.cache={folder}/store", "data.views=4"]),
                ("live", ["train.cache=live"]),
            ):
                out = ["--out", f"{folder}/{how}{number}", "--no-baseline"]
                seconds, _ = command(["distill", *common, *out, *sets([*options, *more])], given.threads)
                totals[how] += seconds
    print(f"  one store and 8 cached runs {totals['cached']:.0f} s, 8 live runs {totals['live']:.0f} s")
    report("a sweep of 8: live / cached", [totals["live"] / totals["cached"]], None, given, seconds=totals)


PARTS = {
    "loader and augmentation": ("loader.py", "batch"),
    "student forward": ("distiller.py", "attend"),
    "teachers' answers read": ("cached.py", "forward"),
    "paths": ("path.py", "forward"),
    "weighting": ("product.py", "forward"),
    "backward": ("~", "<method 'run_backward' of 'torch._C._EngineBase' objects>"),
    "optimizer": ("~", "<built-in method torch._fused_sgd_>"),
    "figures for the log": ("module.py", "add"),
    "log lines": ("callbacks.py", "on_train_batch_end"),
}


def profile(given: argparse.Namespace) -> None:
    """Where the time of a step with three cached teachers goes, by the profiler of Python."""
    import cProfile
    import pstats

    store, three = str(given.store / "three"), [teacher(net) for net in NETS]
    fill(store, three)
    watch = cProfile.Profile()

    class Watched:
        """Turns the profiler on for the third block of steps, and prints."""

        turns = 0

        def send(self, seconds: float) -> None:
            self.seconds = seconds

        def recv(self) -> str:
            self.turns += 1
            if self.turns == 3:
                watch.enable()
            if self.turns < 4:
                return "go"
            watch.disable()
            spent = pstats.Stats(watch).stats  # type: ignore[attr-defined]
            total, told = self.seconds, 0.0
            for part, (file, name) in PARTS.items():
                took = sum(row[3] for key, row in spent.items() if key[2] == name and key[0].endswith(file))
                told += took
                print(f"  {part:26} {took / total:6.1%}")
            print(
                f"  {'the rest (Lightning, Python)':26} {1 - told / total:6.1%}  of {total / 40 * 1e3:.0f} ms",
                flush=True,
            )
            return "stop"

    engine(Pace(Watched(), 40), store, three, [])


def dense() -> dict[str, dict[str, Any]]:
    """A recipe of each dense task, by what it is called."""
    import super_resolution

    from tutelage.recipe import schema

    pictures = argparse.Namespace(data=SHARED / "data" / "super_resolution", side=24, batch=16)
    enlarging = super_resolution.recipe(pictures, 2, super_resolution.NARROW, 1000, 0)
    read = {name: schema.read(pathlib.Path(f"benchmarks/{name}.yaml")) for name in ("segmentation", "detection")}
    live = {
        name: {**raw, "teachers": {"big": raw["teachers"]["big"]}, "train": {**raw["train"], "cache": "live"}}
        for name, raw in read.items()
    }
    found = {
        "segmentation, KL and CWD, teacher live": {**live["segmentation"], "paths": ["logits", "cwd"]},
        "detection, classes of anchors, teacher live": {**live["detection"], "paths": ["logits"]},
        "super-resolution, FAKD, teacher live": {
            **enlarging,
            **super_resolution.METHODS["fakd"],
            "teachers": {"big": "runs/super_resolution/teacher_x2_2000"},
        },
    }
    return {name: {key: raw[key] for key in raw if key != "methods"} for name, raw in found.items()}


def tasks(given: argparse.Namespace) -> None:
    """A step of one recipe of each dense task beside plain training of the same student."""
    for name, raw in dense().items():
        if not all(pathlib.Path(str(place)).exists() for place in raw["teachers"].values()):
            print(f"{name}: left out, its teacher {raw['teachers']} is not there")
            continue
        alone = {key: raw[key] for key in raw if key not in ("teachers", "paths", "weighting")}
        found = rounds({"plain": (recipe, (alone,)), "taught": (recipe, (raw,))}, given)
        report(f"{name} / plain", over(found["taught"], found["plain"]), None, given)


FIGURES = {f.__name__: f for f in (cached, guard, live, loops, linear, memory, whole, sweep, profile, tasks)}


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figures", nargs="*", default=[], choices=[[], *FIGURES], help="all of them if none is named")
    parser.add_argument("--blocks", type=int, default=30, help="rounds of each comparison")
    parser.add_argument("--steps", type=int, default=5, help="steps in a turn")
    parser.add_argument("--turns", type=int, default=1, help="turns in a block: 5 for one look of the guard in each")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--clock", choices=list(CLOCKS), default="wall", help="of blocks: the processor's on a busy machine, one thread"
    )
    parser.add_argument("--fills", type=int, default=5, help="how often stores are filled")
    parser.add_argument("--runs", type=int, default=3, help="how often whole runs are compared")
    parser.add_argument("--limit", type=int, default=10_000, help="training pictures of whole runs")
    parser.add_argument("--store", type=pathlib.Path, default=pathlib.Path("caches/throughput"))
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    from tutelage.cli.runfolder import hardware

    print(", ".join(f"{name} {what}" for name, what in hardware().items()), f"threads {given.threads}", sep=", ")
    for name in given.figures or FIGURES:
        FIGURES[name](given)


if __name__ == "__main__":
    main()
