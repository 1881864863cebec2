"""Whatever happens to a store, a student is never taught a wrong row."""

import contextlib
import dataclasses
import json
import multiprocessing
import os
import pathlib
import random
import shutil
import subprocess
import time

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch.testing import assert_close
from world import Net, World, fill

from tutelage.cache import Record, Store, estimate, write
from tutelage.data import Augment
from tutelage.errors import CacheError
from tutelage.ledger import Batch
from tutelage.models import fingerprint
from tutelage.teachers import Cached


@pytest.fixture(scope="module")
def processes():
    """New processes that need not load torch again: forked from one that has."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["world"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(pathlib.Path(__file__).parent))  # the server imports before it knows our path
        warm = context.Process(target=time.sleep, args=(0,))
        warm.start()
        warm.join()
    return context


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("whole") / "store")
    write(world.request())
    return world


@pytest.fixture
def copy(whole, tmp_path):
    """A world with a full store of its own."""
    shutil.copytree(whole.store, tmp_path / "copy")
    return World(tmp_path / "copy")


def everything(world, record: Record) -> dict[str, torch.Tensor]:
    views = torch.arange(3).repeat_interleave(len(world.train))
    index = torch.cat([world.train.index.repeat(3), world.guard.index])
    return record.rows(index, torch.cat([views, torch.full((len(world.guard),), -1)]))


def shards(world) -> list:
    return sorted(path for path in world.store.glob("*/*/*.safetensors"))


def _open_all(world):
    for name in world.nets:
        record = Store(world.store).record(name)
        assert record.head is not None
        everything(world, record)


def assert_equal_stores(world, other):
    assert Store(world.store).verify() == []
    assert [p.relative_to(world.store) for p in shards(world)] == [p.relative_to(other.store) for p in shards(other)]
    for name in world.nets:
        found, expected = (everything(w, Store(w.store).record(name)) for w in (world, other))
        for tap in found:
            assert_close(found[tap], expected[tap], rtol=1e-3, atol=1e-3)


# -- killed, twice, full


@pytest.mark.parametrize("moment", range(10))
def test_a_writer_killed_at_any_moment_leaves_a_store_that_goes_on(processes, whole, tmp_path, moment):
    world = World(tmp_path / "store")
    writer = processes.Process(target=fill, args=(str(world.store), 0.005))
    writer.start()
    while not list(world.store.glob("*/*/*.part" if moment else "*")) and writer.is_alive():
        time.sleep(0.001)
    time.sleep(random.Random(moment).uniform(0, 0.25))
    writer.kill()
    writer.join()
    if (world.store / "manifest.json").exists():
        assert Store(world.store).verify() == []
    write(world.request())
    assert_equal_stores(world, whole)


def test_what_a_killed_writer_had_done_is_not_done_again(world):
    class Killed(BaseException):
        pass

    def progress(done, of):
        if done > 120:
            raise Killed

    with pytest.raises(Killed):
        write(world.request(), progress=progress)
    left = estimate(world.request()).forwards
    before = world.asked()
    write(world.request())
    assert left == 2 * (3 * 70 + 20) - 128
    spent = sum(world.asked().values()) - sum(before.values())
    assert left <= spent <= left + 4 * 16, "the rest, and two batches for each teacher, of which one is timed"


def test_two_writers_at_once_make_one_store(processes, whole, tmp_path):
    world = World(tmp_path / "store")
    writers = [processes.Process(target=fill, args=(str(world.store), 0.003)) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert_equal_stores(world, whole)
    assert not list(world.store.rglob("*.part"))


@pytest.fixture
def small_disk(tmp_path):
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", place], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("needs the right to mount a small file system")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_a_full_disk_is_said_and_the_store_stays_valid(small_disk):
    world = World(small_disk / "store")
    write(world.request(views=1))
    filler = small_disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb") as file:
        while True:
            file.write(b"x" * 4096)
            file.flush()
    with pytest.raises(CacheError, match="disk"):
        write(world.request())
    with pytest.raises(CacheError, match="disk is full"):  # the same without looking at the free space first
        _write_blindly(world)
    assert Store(world.store).verify() == []
    assert Store(world.store).record("big").views() == (0,)
    filler.unlink()
    write(world.request())
    assert Store(world.store).record("big").views() == (0, 1, 2)


def _write_blindly(world):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda place: shutil._ntuple_diskusage(1 << 40, 0, 1 << 40))
        write(world.request())


def test_a_store_above_the_limit_is_refused_before_the_work(world):
    said = []
    with pytest.raises(CacheError, match="at most 1e-05 GB"):
        write(world.request(limit=1e4), say=said.append)
    assert said[0].startswith("teachers' answers: 460 forwards")
    assert "kB to write" in said[0]
    assert not world.store.joinpath("manifest.json").exists()


# -- damaged


@pytest.mark.parametrize("keep", [0, 7, 200, -1])
def test_a_truncated_shard_is_named_and_mended(copy, whole, keep):
    shard = shards(copy)[2]
    os.truncate(shard, shard.stat().st_size - 1 if keep < 0 else keep)
    with pytest.raises(CacheError, match=f"{shard.name}: expected .* bytes, found"):
        _open_all(copy)
    assert len(Store(copy.store).verify()) == 1
    before, said = copy.asked(), []
    write(copy.request(), say=said.append)
    assert shard.name in said[0]
    assert "mended" in said[0]
    assert sum(copy.asked().values()) - sum(before.values()) <= 2 * 32, "one shard and one timed batch"
    assert_equal_stores(copy, whole)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_flipped_bit_is_found_before_a_student_learns_from_it(whole, tmp_path_factory, data):
    world = World(tmp_path_factory.mktemp("flip") / "store")
    shutil.copytree(whole.store, world.store)
    shard = data.draw(st.sampled_from(shards(world)))
    content = bytearray(shard.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    shard.write_bytes(content)
    with pytest.raises(CacheError, match=shard.name):
        _open_all(world)
    assert len(Store(world.store).verify()) == 1


def test_only_the_damaged_rows_are_computed_again(copy, whole):
    shard = shards(copy)[1]
    content = bytearray(shard.read_bytes())
    content[-5] ^= 64
    shard.write_bytes(content)
    assert estimate(copy.request()).forwards == 1
    write(copy.request())
    assert_equal_stores(copy, whole)


def test_a_planted_row_is_caught_in_training(copy):
    """A row of another sample, with its own index and seal, in the place of the right one."""
    for shard in (path for path in shards(copy) if "train" in str(path)):
        kept = load_file(shard)
        _keep_layout(shard, {name: column.roll(1, 0) for name, column in kept.items()})
    with pytest.raises(CacheError, match=r"teacher 'big', sample \d+, view \d: the row holds sample \d+"):
        copy.distiller()


def test_a_row_of_another_view_or_teacher_is_caught(copy):
    folder = next(copy.store.glob("big*")) / "train"
    first, second = folder / "view-0000-0000.safetensors", folder / "view-0001-0000.safetensors"
    shutil.copy(second, first)
    record = Store(copy.store).record("big")
    with pytest.raises(CacheError, match="view 0: the row is damaged"):
        record.rows(copy.train.index[:4], torch.zeros(4, dtype=torch.long))


def _keep_layout(shard, columns):
    """Change values and nothing else of a file."""
    content = bytearray(shard.read_bytes())
    size = int.from_bytes(content[:8], "little")
    for name, told in json.loads(content[8 : 8 + size]).items():
        begin, end = (8 + size + offset for offset in told["data_offsets"])
        content[begin:end] = columns[name].contiguous().numpy().tobytes()
    shard.write_bytes(content)


def test_a_damaged_classifier_and_a_damaged_list_of_samples_are_refused_and_mended(copy, whole):
    for path in (
        next(copy.store.glob("big*/head.safetensors")),
        copy.store / "samples" / "train.safetensors",
    ):
        content = bytearray(path.read_bytes())
        content[-3] ^= 1
        path.write_bytes(content)
        with pytest.raises(CacheError, match=path.name):
            _open_all(copy)
        write(copy.request())
        assert_equal_stores(copy, whole)


# -- of something else


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"teacher big": "0" * 16},
            r"the teacher \(weights, normalisation or class order\): stored .*, now 0000",
        ),
        ({"data": "f" * 64}, "the training slice: stored .*, now ffff"),
        ({"augment": "e" * 64}, "the augmentation: stored .*, now eeee"),
        ({"views": "4"}, r"views: stored \[0, 1, 2\], lacking \[3\]"),
    ],
)
def test_what_differs_is_said_when_the_distiller_is_built(whole, change, message):
    record = Store(whole.store).record("big")
    with pytest.raises(CacheError, match=message):
        whole.distiller({"big": Cached(record)}, fingerprints=whole.fingerprints() | change)


def test_without_fingerprints_a_cached_teacher_is_refused(whole):
    with pytest.raises(CacheError, match="none for data and augment"):
        whole.distiller(fingerprints={})


def test_changed_weights_make_another_teacher(copy):
    copy.nets["big"].fc.weight.data[0, 0] += 1e-3
    with pytest.raises(CacheError, match="expected answers of teacher"):
        copy.distiller()
    before = copy.asked()
    write(copy.request())
    assert copy.asked()["wide"] == before["wide"]
    assert copy.distiller()(copy.task.unpack(copy.loader().batch(0, 0))).loss.isfinite()
    with pytest.raises(CacheError, match="2 different teachers were written as 'big'"):
        Store(copy.store).record("big")


def test_a_changed_normalisation_makes_another_teacher(copy):
    net = copy.nets["big"]
    net.__dict__["preprocess"] = dataclasses.replace(net.preprocess, mean=(0.4,) * 3)
    with pytest.raises(CacheError, match="another normalisation make another teacher"):
        copy.distiller()


def test_other_data_is_refused_by_the_writer(copy):
    other = World(copy.store, seed=1)
    with pytest.raises(CacheError, match="made for another slice 'train'") as said:
        write(other.request())
    assert "augmentation" not in str(said.value)


def test_another_augmentation_is_refused_by_the_writer(copy):
    with pytest.raises(CacheError, match=r"another augmentation .*crop=1.* now crop=2"):
        write(copy.request(augment=Augment(crop=2, flip=True, seed=3)))


def test_an_augmentation_that_came_to_mean_other_pictures_is_refused(copy, monkeypatch):
    monkeypatch.setattr(Augment, "__call__", lambda self, pictures, index, view: pictures.flip(2))
    with pytest.raises(CacheError, match=r"another augmentation \(crop=1.* has come to mean other pictures\)"):
        write(copy.request())


@pytest.mark.parametrize("content", ['{"schema": 99, "versions": {"tutelage": "9.9"}}', '{"schema": 1}', "[]", "{", ""])
def test_a_store_of_another_version_is_refused(copy, content):
    (copy.store / "manifest.json").write_text(content)
    for use in (lambda: Store(copy.store), lambda: write(copy.request())):
        with pytest.raises(CacheError, match=r"schema|JSON|damaged"):
            use()


def test_a_mixed_batch_is_refused_by_name(whole):
    batch = whole.task.unpack(whole.loader().batch(0, 0))
    mixed = Batch(**{**batch.__dict__, "extras": {"mixed": "CutMix"}})
    with pytest.raises(CacheError, match="CutMix"):
        whole.distiller()(mixed)


def test_a_tap_that_was_not_kept_is_named(whole):
    with pytest.raises(CacheError, match=r"expected teacher .* at the output, 'body', found the output, 'fc:input'"):
        Store(whole.store).record("big", ["body"])


# -- grown


def test_a_teacher_and_views_are_added_without_computing_the_rest_again(copy):
    before = copy.asked()
    copy.nets["new"], copy.taps = Net(4, 7), copy.taps | {"new": ("fc:input",)}
    write(copy.request(teachers=copy.bound(), taps=copy.taps))
    assert copy.asked() == before | {"new": 3 * 16 + 3 * 70 + 20}
    before = copy.asked()
    write(copy.request(views=5))
    grown = {name: count - before[name] for name, count in copy.asked().items()}
    assert grown == dict.fromkeys(copy.nets, 2 * 16 + 2 * 70)
    assert Store(copy.store).verify() == []
    assert Store(copy.store).record("new").views() == (0, 1, 2, 3, 4)


def test_a_full_store_asks_no_teacher_anything(copy):
    said, before = [], copy.asked()
    write(copy.request(), say=said.append)
    assert copy.asked() == before
    assert said == ["teachers' answers: all are in the store"]


def test_a_teacher_under_another_name_is_the_same_teacher(copy):
    told = copy.fingerprints() | {"teacher other": fingerprint(copy.nets["big"])}
    step = copy.distiller({"other": Cached(copy.store)}, fingerprints=told)(copy.task.unpack(copy.loader().batch(0, 0)))
    assert step.loss.isfinite()
