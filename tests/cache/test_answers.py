"""What is read is what the teachers say."""

import dataclasses

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.testing import assert_close
from world import CLASSES, World

from tutelage.cache import Store, write
from tutelage.cache.coding import Coding
from tutelage.errors import CacheError
from tutelage.ledger import Batch
from tutelage.losses import similarity
from tutelage.path import Path
from tutelage.weighting import Auto, Trust


def test_a_step_with_cached_teachers_is_a_step_with_live_ones(world):
    write(world.request())
    live, cached = world.distiller(world.bound()), world.distiller()
    before = world.asked()
    for epoch in (0, 2, 5):
        batch = world.task.unpack(world.loader().batch(epoch, 1))
        expected, found = live(batch), cached(batch)
        assert_close(found.ledger.losses, expected.ledger.losses, rtol=2e-3, atol=2e-4)
        assert_close(found.loss, expected.loss, rtol=2e-3, atol=2e-4)
    assert world.asked()["big"] - before["big"] == 3 * 16


def test_a_path_of_several_taps_reads_all_of_them_from_the_store(world):
    taps = dict.fromkeys(world.nets, ("body", "fc:input"))
    teachers = world.bound(taps)
    write(world.request(taps=taps, teachers=teachers))
    both = ["body", "fc:input"]

    def paths():
        return {
            "two": Path(
                lambda s, t: sum(similarity(*pair) for pair in zip(s, t, strict=True)), student=both, teacher=both
            )
        }

    live, cached = world.distiller(teachers, paths=paths()), world.distiller(paths=paths())
    batch = world.task.unpack(world.loader().batch(0, 0))
    assert_close(cached(batch).ledger.losses, live(batch).ledger.losses, rtol=2e-3, atol=2e-4)
    assert cached.spec.taps["big"] == ("body", "fc:input")


@pytest.mark.parametrize("weighting", [Auto, Trust])
def test_weights_with_cached_teachers_are_those_with_live_ones(world, weighting):
    write(world.request())
    batch = world.task.unpack(world.loader().batch(0, 0))
    expected, found = (world.distiller(teachers, weighting())(batch) for teachers in (world.bound(), None))
    assert_close(found.weights, expected.weights, rtol=2e-3, atol=2e-3)


def test_the_classifier_is_kept_in_the_users_class_order(world):
    write(world.request())
    vectors = torch.randn(7, 16)
    expected = world.nets["wide"].preprocess.arrange(world.nets["wide"].fc(vectors))
    head = Store(world.store).record("wide").head
    assert_close(head(vectors), expected)
    assert not any(parameter.requires_grad for parameter in head.parameters())


def test_a_cached_teacher_is_in_no_checkpoint_and_no_optimizer(world):
    write(world.request())
    cached = world.distiller()
    assert not any(name.startswith("teachers") for name in cached.state_dict())
    assert not [name for name, _ in cached.named_parameters() if "teachers" in name]


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("filled") / "store")
    write(world.request())
    return world, Store(world.store).record("wide"), world.bound()["wide"]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_samples_and_views_in_any_order_are_those_of_the_live_teacher(filled, data):
    world, record, live = filled
    size = data.draw(st.integers(1, 40))
    positions = torch.tensor(data.draw(st.lists(st.integers(0, len(world.train) - 1), min_size=size, max_size=size)))
    view = torch.tensor(data.draw(st.lists(st.integers(0, 2), min_size=size, max_size=size)))
    index = world.train.index[positions]
    inputs = world.augment(world.train.gather(positions), index, view).float() / 255
    batch = Batch(inputs, world.train.labels[positions], index, view, torch.ones(size, dtype=torch.bool))
    expected, found = live(batch, {}), record.rows(index, view)
    assert set(found) == {"", "fc:input"}
    for tap in found:
        assert_close(found[tap], expected[tap], rtol=1e-3, atol=2e-3)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sample=st.integers(-5, 200), view=st.integers(-2, 5))
def test_a_miss_names_sample_and_view(filled, sample, view):
    world, record, _ = filled
    part = world.guard if view == -1 else world.train
    index = torch.tensor([int(part.index[0]), sample])
    views = torch.tensor([view, view])
    there = sample in part.index.tolist() and view in (-1, 0, 1, 2)
    if there:
        assert len(record.rows(index, views)[""]) == 2
        return
    missed = sample if view in (-1, 0, 1, 2) else int(part.index[0])
    with pytest.raises(CacheError, match=rf"sample {missed}, view {view}:"):
        record.rows(index, views)


def test_clean_pictures_of_the_guard_slice_are_there(filled):
    world, record, live = filled
    index = world.guard.index
    inputs, view = world.guard.gather(torch.arange(20)).float() / 255, torch.full((20,), -1)
    batch = Batch(inputs, world.guard.labels, index, view, world.guard.labelled)
    assert_close(record.rows(index, batch.view)[""], live(batch, {})[""], rtol=1e-3, atol=2e-3)


def test_without_augmentation_there_is_one_clean_view(world):
    records = write(world.request(augment=None, slices={"train": world.train}))
    assert records["big"].views() == (-1,)
    loader = world.loader(augment=None, views=None)
    told = world.fingerprints(0) | {"augment": "none"}
    distiller = world.distiller(fingerprints=told, example=world.task.unpack(loader.batch(0, 0)))
    assert distiller(world.task.unpack(loader.batch(3, 1))).loss.isfinite()


def test_two_slices_may_not_share_a_clean_sample(world):
    with pytest.raises(CacheError, match=r"sample .* is in slice 'guard' and in slice 'again'"):
        write(world.request(slices={"train": world.train, "guard": world.guard, "again": world.guard}))


def test_the_largest_logits_are_kept_and_the_rest_share_what_is_missing():
    logits = torch.randn(6, 30) * 4
    kept = Coding("", (30,), top_k=5)
    found, expected = kept.decode(kept.encode(logits)).softmax(1), logits.softmax(1)
    for b in range(6):
        top = expected[b].topk(5).indices.tolist()
        missing = 1 - sum(expected[b, c] for c in top)
        for c in range(30):
            assert_close(found[b, c], expected[b, c] if c in top else missing / 25, rtol=4e-3, atol=1e-6)


def test_top_k_answers_are_read_as_dense_logits(world):
    write(world.request(top_k=2))
    batch = world.task.unpack(world.loader().batch(0, 0))
    found = Store(world.store).record("big").rows(batch.index, batch.view)[""]
    expected = world.bound()["big"](batch, {})[""]
    assert found.shape == (16, len(CLASSES))
    assert_close(found.topk(2).values, expected.topk(2).values, rtol=1e-3, atol=2e-3)
    assert_close(found.logsumexp(1), expected.logsumexp(1), rtol=1e-3, atol=2e-3)


def test_logits_of_ten_thousand_are_kept_in_float16_and_larger_ones_in_float32(world):
    batch = world.task.unpack(world.loader().batch(0, 0))
    for factor, dtype in ((1e4, "float16"), (1e2, "float32")):
        world.nets["big"].fc.weight.data.mul_(factor)
        record = write(world.request())["big"]
        expected, found = world.bound()["big"](batch, {})[""], record.rows(batch.index, batch.view)[""]
        assert [coding.dtype for coding in record.entry.codings] == [dtype, "float16"]
        assert expected.abs().max() > 1e3
        assert_close(found.softmax(1), expected.softmax(1), atol=1e-3, rtol=0)


def test_an_answer_beyond_float16_is_refused_by_name_and_float32_keeps_it(world):
    def spike(done, of):  # the first batch, which decides how answers are kept, is tame
        world.nets["wide"].spike = 1e5

    with pytest.raises(CacheError, match=r"teacher 'wide', sample \d+, view 0: [\d.]+e\+05 is beyond float16"):
        write(world.request(), progress=spike)
    record = write(world.request(dtype="float32"))["wide"]
    index = world.train.index[:16]
    assert record.rows(index, torch.zeros_like(index))["fc:input"].max() > 9e4


def test_maps_are_kept_only_when_asked_for_and_their_size_is_named(world):
    taps = {"big": ("map",)}
    asked = world.request(taps=taps, teachers={"big": world.bound(taps | {"wide": ()})["big"]})
    with pytest.raises(CacheError, match=r"map \[2, 4, 4\] \([\d.]+ kB\)"):
        write(asked)
    said = []
    record = write(dataclasses.replace(asked, maps=True), say=said.append)["big"]
    batch = world.task.unpack(world.loader().batch(0, 0))
    assert record.rows(batch.index, batch.view)["map"].shape == (16, 2, 4, 4)
    assert "map 1" in said[0]
