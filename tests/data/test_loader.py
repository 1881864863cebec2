import pytest
import torch

from tutelage.data import Augment, Loader, Slice
from tutelage.data.encoded import Decoded, Encoded
from tutelage.errors import DataError


def numbered(count: int, labelled: int | None = None) -> Slice:
    """Samples whose picture is their number; their index is 100 more."""
    pictures = torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 4, 4).clone()
    labels = torch.arange(count) % 2
    if labelled is not None:
        labels[labelled:] = -1
    return Slice(pictures, labels, ("a", "b"), index=torch.arange(count) + 100)


def lazy(count: int) -> Slice:
    encoded = Encoded([str(n) for n in range(count)], [b"P5 4 4 255\n" + bytes([n] * 16) for n in range(count)])
    return Slice(Decoded(encoded, (1, 4, 4)), torch.arange(count) % 2, ("a", "b"))


def same(left: dict, right: dict) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


def loader(slice_: Slice, **changed) -> Loader:
    return Loader(slice_, **{"batch_size": 4, "seed": 0, "augment": Augment(crop=1), **changed})


def test_an_epoch_shows_each_sample_once_in_an_order_of_its_own():
    batches = loader(numbered(20))
    orders = []
    for epoch in range(3):
        batches.epoch = epoch
        orders.append(torch.cat([batch["index"] for batch in batches]).tolist())
    assert all(sorted(order) == list(range(100, 120)) for order in orders)
    assert orders[0] != orders[1] != orders[2]


def test_pictures_and_labels_belong_to_their_index():
    for batch in loader(numbered(20), augment=None):
        assert (batch["inputs"][:, 0, 0, 0].long() + 100).tolist() == batch["index"].tolist()
        assert torch.equal(batch["target"], batch["index"] % 2)
        assert batch["inputs"].dtype == torch.uint8


def test_a_batch_does_not_depend_on_what_came_before():
    batches, fresh = loader(numbered(20)), loader(numbered(20))
    batches.epoch = 2
    in_order = list(batches)
    for step in (3, 0, 4):
        assert same(fresh.batch(2, step), in_order[step])


def test_resuming_in_the_middle_of_an_epoch_gives_the_rest_of_it():
    whole, rest = loader(numbered(20)), loader(numbered(20))
    whole.epoch = rest.epoch = 1
    rest.start = 3
    assert [same(a, b) for a, b in zip(list(whole)[3:], rest, strict=True)] == [True, True]


def test_workers_and_memory_change_nothing():
    batches = {}
    for name, slice_, workers in [("here", lazy(24), 0), ("workers", lazy(24), 2)]:
        one = loader(slice_, workers=workers)
        one.epoch, one.start = 1, 1
        before = torch.get_rng_state()
        batches[name] = list(one)
        assert torch.equal(before, torch.get_rng_state())
    assert len(batches["here"]) == 5
    assert all(same(a, b) for a, b in zip(batches["here"], batches["workers"], strict=True))
    held = Slice(lazy(24).gather(torch.arange(24)), torch.arange(24) % 2, ("a", "b"))
    assert same(loader(held).batch(1, 1), batches["here"][0])


def test_the_order_is_that_of_the_seed():
    first, other = loader(numbered(20)).batch(0, 0), loader(numbered(20), seed=1).batch(0, 0)
    assert not torch.equal(first["index"], other["index"])


def test_the_view_is_the_epoch():
    assert loader(numbered(20)).batch(7, 2)["view"].tolist() == [7] * 4


def test_every_view_is_seen_once_in_a_cycle():
    batches = loader(numbered(20), views=3)
    for cycle in (0, 1):
        seen = {}
        for epoch in range(3 * cycle, 3 * cycle + 3):
            batches.epoch = epoch
            for batch in batches:
                for index, view in zip(batch["index"].tolist(), batch["view"].tolist(), strict=True):
                    seen.setdefault(index, []).append(view)
        assert all(sorted(views) == [0, 1, 2] for views in seen.values())
        assert len({tuple(views) for views in seen.values()}) > 2


def test_the_picture_of_a_view_is_the_same_in_every_epoch():
    batches = loader(numbered(20), views=2, augment=Augment(crop=2))
    pictures = {}
    for epoch in range(4):
        batches.epoch = epoch
        for batch in batches:
            for index, view, picture in zip(batch["index"], batch["view"], batch["inputs"], strict=True):
                known = pictures.setdefault((int(index), int(view)), picture)
                assert torch.equal(known, picture)
    assert len(pictures) == 40


def test_evaluation_goes_once_through_the_slice_in_its_order_with_clean_pictures():
    slice_ = numbered(10)
    batches = list(loader(slice_, shuffle=False, drop_last=False, augment=None))
    assert [len(batch["index"]) for batch in batches] == [4, 4, 2]
    assert torch.equal(torch.cat([batch["index"] for batch in batches]), slice_.index)
    assert torch.equal(torch.cat([batch["inputs"] for batch in batches]), slice_.gather(torch.arange(10)))
    assert all((batch["view"] == -1).all() for batch in batches)


def test_an_empty_slice_has_no_batch_to_evaluate():
    empty = numbered(4).select(torch.empty(0, dtype=torch.int64))
    assert list(loader(empty, shuffle=False, drop_last=False, augment=None)) == []


@pytest.mark.parametrize("drop_last", [True, False])
def test_processes_together_draw_the_batch_of_one(drop_last):
    alone = loader(numbered(21), drop_last=drop_last)
    ranks = [loader(numbered(21), drop_last=drop_last, world=2, rank=rank) for rank in (0, 1)]
    for step in range(len(alone)):
        parts = [one.batch(3, step) for one in ranks]
        whole = alone.batch(3, step)
        for key, value in whole.items():
            assert torch.equal(torch.cat([part[key] for part in parts]), value)
    assert len(ranks[0].batch(3, 0)["index"]) == 2


def test_labelled_only_draws_labelled_samples_and_goes_round_again():
    batches = loader(numbered(20, labelled=6), labelled_only=True, steps_per_epoch=5)
    drawn = list(batches)
    index = torch.cat([batch["index"] for batch in drawn])
    view = torch.cat([batch["view"] for batch in drawn])
    assert len(batches) == len(drawn) == 5
    assert all(batch["labelled"].all() for batch in drawn)
    rounds = index.split([6, 6, 6, 2])
    assert all(sorted(one.tolist()) == list(range(100, 106)) for one in rounds[:3])
    assert len({tuple(one.tolist()) for one in rounds[:3]}) > 1
    assert view.tolist() == [0] * 6 + [1] * 6 + [2] * 6 + [3] * 2
    assert batches.batch(1, 0)["view"].tolist() == [4] * 4


def test_a_batch_may_hold_a_labelled_sample_twice_but_not_in_the_same_view():
    batch = loader(numbered(20, labelled=2), labelled_only=True, steps_per_epoch=5).batch(0, 0)
    assert sorted(zip(batch["index"].tolist(), batch["view"].tolist(), strict=True)) == [
        (100, 0),
        (100, 1),
        (101, 0),
        (101, 1),
    ]


def test_fewer_steps_than_the_slice_holds_cut_the_epoch_short():
    batches = loader(numbered(20), steps_per_epoch=2)
    assert len(list(batches)) == 2
    assert batches.batch(5, 1)["view"].tolist() == [5] * 4


def test_the_fingerprint_tells_what_decides_the_batches_and_no_more():
    base = loader(numbered(20)).fingerprint
    assert loader(numbered(20), workers=2).fingerprint == base
    for changed in ({"seed": 1}, {"augment": None}, {"batch_size": 2}, {"views": 3}, {"shuffle": False}):
        assert loader(numbered(20), **changed).fingerprint != base
    assert loader(numbered(19)).fingerprint != base


def test_a_batch_larger_than_the_slice_is_refused():
    with pytest.raises(DataError, match=r"full batch of 4, found 3 samples.*batch_size of 3"):
        loader(numbered(3))
    with pytest.raises(DataError, match=r"full batch of 4, found 2 labelled samples"):
        loader(numbered(20, labelled=2), labelled_only=True)
    with pytest.raises(DataError, match=r"labelled samples to draw from, found none"):
        loader(numbered(20, labelled=0), labelled_only=True, steps_per_epoch=3)


def test_a_batch_the_processes_cannot_share_is_refused():
    with pytest.raises(DataError, match=r"multiple of 3"):
        loader(numbered(20), world=3)


def test_numbers_below_one_are_refused():
    with pytest.raises(DataError, match=r"views of 1 or more, found 0"):
        loader(numbered(20), views=0)


def test_there_is_a_last_step():
    with pytest.raises(IndexError, match=r"0 to 4, found 5"):
        loader(numbered(20)).batch(0, 5)
