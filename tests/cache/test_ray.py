"""Answers computed on a cluster are those computed here, and no worker's death costs more than its place.

One cluster of this machine, two workers. What only several machines can show (a folder that one of them does not
see) is shown on the functions that find it out.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import secrets
import signal
import sys
import threading
import time

import numpy as np
import pytest
import torch
from world import Mortal, World

from tutelage.cache import OnRay, Store, on_ray, write
from tutelage.cache.fill import Block
from tutelage.cache.shard import Shard
from tutelage.cli.__main__ import _terminated, main
from tutelage.cli.cache import cache
from tutelage.errors import CacheError, MissingExtra

ray = pytest.importorskip("ray")


@pytest.fixture(scope="module")
def settings():
    """A key of the tests' own, so that Ray leaves none in the home folder, and no cluster but ours."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RAY_ADDRESS", "RAY_AUTH_MODE"):  # set, so that what Ray makes of it is undone
            patch.setenv(name, "")
            patch.delenv(name)
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def cluster(settings):
    """Two workers of this machine."""
    with contextlib.ExitStack() as after:
        after.callback(ray.shutdown)
        ray.init(
            num_cpus=2,
            num_gpus=0,
            include_dashboard=False,
            log_to_driver=False,
            object_store_memory=100 << 20,
            logging_level="WARNING",
        )
        yield


def contents(store: pathlib.Path) -> dict[str, bytes]:
    """Every file but those that name the moment; an interrupted writer leaves no other."""
    found = {path.relative_to(store): path for path in sorted(store.rglob("*")) if path.is_file()}
    return {str(name): path.read_bytes() for name, path in found.items() if name.name != ".lock"}


@pytest.mark.slow
def test_the_command_starts_a_cluster_of_its_own_and_leaves_none_behind(settings, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)  # the store is given by a relative path
    line = ["cache", "--engine", "ray", "--workers", "1", "--json", "--store", "store"]
    line += ["--student", "cifar/resnet8", "--teacher", "big=cifar/resnet8", "--data", "digits", "--force"]
    line += ["--set", "data.views=1", "--set", "data.limit=64", "--set", "data.batch_size=32"]
    handler, before = signal.getsignal(signal.SIGTERM), _children()
    try:
        assert main(line) == 0
        assert signal.getsignal(signal.SIGTERM) is _terminated, "not Ray's"
    finally:
        signal.signal(signal.SIGTERM, handler)
    out, err = capsys.readouterr()
    assert json.loads(out)["teachers"]["big"]["views"]["train"] == [0]
    assert "Ray: 1 workers" in err
    assert Store("store").verify() == []
    assert not ray.is_initialized()
    assert _children() <= before


def _children() -> set[int]:
    """The processes that this one has started and that still run."""
    found = set()
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, parent, *_ = (process / "stat").read_text().rpartition(") ")[2].split()
            if int(parent) == os.getpid() and state != "Z":
                found.add(int(process.name))
    return found


def test_answers_are_those_of_a_local_run_bit_for_bit(cluster, tmp_path):
    local, spread = World(tmp_path / "local"), World(tmp_path / "spread")
    write(local.request())
    said, steps = [], []
    records = write(spread.request(), engine=OnRay(say=said.append), progress=lambda done, of: steps.append(done / of))
    assert contents(spread.store) == contents(local.store)
    assert len(contents(spread.store)) > 20
    assert Store(spread.store).verify() == []
    assert records["wide"].views() == (0, 1, 2)
    assert said[0] == "Ray: 2 workers; the time above is for one alone"
    assert all("no worker yet" in line for line in said[1:]), "on a busy machine workers start late, and that is said"
    assert steps == sorted(steps)
    assert steps[-1] == 1
    before = spread.asked()
    write(spread.request(), engine=OnRay(say=said.append))
    assert spread.asked() == before, "what is there is not computed again"


def test_a_worker_that_dies_is_replaced_and_what_it_did_is_kept(cluster, tmp_path):
    local, spread = World(tmp_path / "local"), World(tmp_path / "spread")
    (tmp_path / "grave").mkdir()
    spread.nets["big"] = Mortal(tmp_path / "grave")
    write(local.request(rows=1024))
    said, steps = [], []
    engine = OnRay(1, say=said.append)
    write(spread.request(rows=1024), engine=engine, progress=lambda done, of: steps.append((done, of)))
    assert len(list((tmp_path / "grave").iterdir())) == 1
    assert [line for line in said if "lost a worker on" in line and "at samples 0… of train" in line]
    assert steps[0] == (2 * 48, 460), "three batches of two teachers, told when the worker was found dead"
    assert steps[-1] == (460, 460)
    assert contents(spread.store) == contents(local.store)


def test_a_block_that_kills_every_worker_ends_the_work_and_keeps_the_rest(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(on_ray, "DEATHS", 0)
    world = World(tmp_path / "store")
    (tmp_path / "grave").mkdir()
    world.nets["big"] = Mortal(tmp_path / "grave", batch=1)
    with pytest.raises(CacheError, match="1 workers died at samples"):
        write(world.request(), engine=OnRay(1))
    assert Store(world.store).verify() == []
    assert not list(world.store.glob(".probe-*"))
    write(world.request())
    assert Store(world.store).record("big").views() == (0, 1, 2)


def test_a_killed_driver_goes_on_where_it_was(cluster, tmp_path):
    class Killed(BaseException):
        pass

    def progress(done, of):
        if done > 120:
            raise Killed

    local, spread = World(tmp_path / "local"), World(tmp_path / "spread")
    write(local.request())
    with pytest.raises(Killed):
        write(spread.request(), engine=OnRay(1), progress=progress)
    assert Store(spread.store).verify() == []
    steps = []
    write(spread.request(), progress=lambda done, of: steps.append(of))
    assert steps[0] < 460 - 100, "either engine takes up what the other left"
    assert contents(spread.store) == contents(local.store)


def test_what_a_worker_refuses_is_said_as_if_it_had_happened_here(cluster, tmp_path):
    world = World(tmp_path / "store")
    world.nets["wide"].spike, world.nets["wide"].calm = 1e5, 3 * 16  # the batches asked here beforehand are tame
    with pytest.raises(CacheError, match=r"teacher 'wide', sample \d+, view \d: [\d.]+e\+05 is beyond float16"):
        write(world.request(), engine=OnRay(1))


# -- without a cluster


@pytest.mark.parametrize(
    ("workers", "samples", "rows"),
    [(2, 90, 4096), (64, 1_281_167, 20_224), (64, 40_000_000, 625_152), (1000, 1_000_000_000, 1_000_192)],
)
def test_a_new_store_has_blocks_for_all_workers_and_no_tiny_shards(tmp_path, workers, samples, rows):
    world = World(tmp_path / "store")
    engine = OnRay(workers)
    train = type("Slice", (), {"__len__": lambda self: samples})()
    asked = world.request(slices={"train": train}, views=4, batch_size=256, rows=1 << 20)
    assert engine.suited(asked).rows == rows
    assert rows % 256 == 0
    assert (
        engine.suited(dataclasses.replace(asked, folder=pathlib.Path("store"))).folder == pathlib.Path.cwd() / "store"
    )


@pytest.mark.parametrize(("workers", "gpus", "share"), [(None, 8, 1), (4, 8, 1), (16, 8, 0.5), (12, 8, 0.5), (3, 0, 0)])
def test_workers_beyond_the_gpus_share_them(monkeypatch, workers, gpus, share):
    engine = OnRay(workers)
    monkeypatch.setattr(engine, "_has", {"GPU": gpus, "CPU": 96}.get)
    assert (engine.gpu_share, engine.workers) == (share, workers or gpus)
    assert OnRay(workers or 2, gpu=False).gpu_share == 0


def test_a_store_that_is_there_keeps_its_rows(world):
    write(world.request(views=1))
    assert OnRay(1000).suited(world.request()).rows == 32


def test_a_folder_that_the_workers_do_not_share_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(on_ray, "VISIBLE", 0.1)
    world = World(tmp_path / "store")
    crew = on_ray._Crew.__new__(on_ray._Crew)
    crew._request = world.request()
    with pytest.raises(CacheError, match="the worker on node7 share, found: what it wrote does not appear here"):
        crew._check_seen(".probe-1", "node7")
    shard = Shard(tmp_path / "a.part", (), 3)
    block = Block("train", 0, 0, (on_ray.Piece(None, shard, tmp_path / "a", np.zeros(3, bool)),))
    with pytest.raises(CacheError, match=r"a.part, which it filled, cannot be read: No such file"):
        crew._check_filled(on_ray._Hand(None, "", "node7", block))


def test_a_worker_that_cannot_write_or_open_says_on_which_machine(world):
    worker = on_ray.Worker()
    order = on_ray._packed(ray, world.request(), None, "cpu")
    with pytest.raises(CacheError, match="it cannot write: No such file"):
        worker.open(order, os.getcwd(), [], "probe")
    with pytest.raises(CacheError, match=r"found on .*: No module named 'nowhere'"):
        worker.open(b"cnowhere\nthing\n.", os.getcwd(), [], "probe")


def test_a_teacher_that_cannot_be_sent_is_refused(world):
    world.nets["big"].lock = threading.Lock()
    with pytest.raises(CacheError, match="can be sent to other machines, found: cannot pickle"):
        on_ray._packed(ray, world.request(), None, "cpu")


def test_without_ray_the_message_is_the_line_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    began = time.perf_counter()
    with pytest.raises(MissingExtra, match=r"pip install 'tutelage\[ray\]'"):
        cache(student="cifar/resnet8", teachers=["cifar/resnet8"], data="digits", store=tmp_path / "s", engine="ray")
    assert time.perf_counter() - began < 1, "before anything else is done"


def test_an_engine_that_there_is_not_is_refused(tmp_path):
    for options, message in (({"engine": "rays"}, "'local' or 'ray', found 'rays'"), ({"workers": 3}, "--engine ray")):
        with pytest.raises(CacheError, match=message):
            cache(student="cifar/resnet8", data="digits", store=tmp_path / "s", **options)


def test_a_shard_that_was_read_is_sent_without_its_rows(tmp_path):
    world = World(tmp_path / "store")
    write(world.request())
    shard = Store(world.store).record("big")._shards[0]
    assert shard.mapped
    assert len(torch.serialization.pickle.dumps(shard)) < 1000
