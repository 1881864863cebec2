import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from tutelage.data import Augment, defaults
from tutelage.data.draws import uniform

EVERYTHING = Augment(crop=2, flip=True, rotate=20, cutout=3, brightness=0.3)


@pytest.fixture
def pictures():
    return torch.randint(0, 256, (16, 3, 8, 8), dtype=torch.uint8)


INDEX = torch.arange(100, 116)


@pytest.mark.parametrize("kind", [torch.uint8, torch.float32])
def test_a_picture_does_not_depend_on_its_batch(pictures, kind):
    pictures = pictures if kind == torch.uint8 else pictures / 255
    view = torch.arange(16) % 3
    whole = EVERYTHING(pictures, INDEX, view)
    order = torch.randperm(16)
    assert_close(EVERYTHING(pictures[order], INDEX[order], view[order]), whole[order])
    for n in (0, 7):
        assert_close(EVERYTHING(pictures[n : n + 1], INDEX[n : n + 1], view[n : n + 1]), whole[n : n + 1])


def test_type_and_shape_stay(pictures):
    for given in (pictures, pictures / 255):
        out = EVERYTHING(given, INDEX, torch.zeros_like(INDEX))
        assert (out.shape, out.dtype) == (given.shape, given.dtype)


def test_view_minus_one_is_the_clean_picture(pictures):
    view = torch.arange(16) % 2 - 1
    out = EVERYTHING(pictures, INDEX, view)
    assert torch.equal(out[view == -1], pictures[view == -1])
    assert not torch.equal(out[view == 0], pictures[view == 0])
    assert torch.equal(EVERYTHING(pictures, INDEX, torch.full((16,), -1)), pictures)


def test_views_seeds_and_samples_differ(pictures):
    same = pictures[:1].expand(16, -1, -1, -1)
    augment = Augment(crop=3)
    assert augment(same, INDEX, torch.zeros_like(INDEX)).unique(dim=0).shape[0] > 8
    assert augment(same, INDEX[:1].expand(16), torch.arange(16)).unique(dim=0).shape[0] > 8
    other = Augment(crop=3, seed=1)
    assert not torch.equal(augment(same, INDEX, INDEX), other(same, INDEX, INDEX))


def test_global_random_numbers_neither_matter_nor_move(pictures):
    first = EVERYTHING(pictures, INDEX, INDEX)
    before = torch.get_rng_state()
    torch.rand(3)
    torch.set_rng_state(before)
    torch.manual_seed(5)
    here = torch.get_rng_state()
    assert torch.equal(EVERYTHING(pictures, INDEX, INDEX), first)
    assert torch.equal(torch.get_rng_state(), here)


def test_a_crop_is_a_window_of_the_padded_picture_found_with_loops(pictures):
    out = Augment(crop=2)(pictures, INDEX, INDEX)
    places = set()
    for n in range(16):
        padded = F.pad(pictures[n], [2] * 4)
        found = [(y, x) for y in range(5) for x in range(5) if torch.equal(padded[:, y : y + 8, x : x + 8], out[n])]
        assert len(found) == 1
        places.update(found)
    assert len({y for y, _ in places}) >= 4
    assert len({x for _, x in places}) >= 4


def test_about_half_are_flipped():
    pictures = torch.arange(4, dtype=torch.uint8).expand(1000, 1, 4, 4)
    index = torch.arange(1000)
    flipped = Augment(flip=True)(pictures, index, index)[:, 0, 0, 0] == 3
    assert 440 < int(flipped.sum()) < 560


def test_one_operation_does_not_move_the_draws_of_another(pictures):
    crop, both = Augment(crop=2)(pictures, INDEX, INDEX), Augment(crop=2, flip=True)(pictures, INDEX, INDEX)
    for alone, flipped in zip(crop, both, strict=True):
        assert torch.equal(alone, flipped) or torch.equal(alone.flip(2), flipped)


def test_cutout_blackens_one_square():
    out = Augment(cutout=3)(torch.full((50, 1, 9, 9), 200, dtype=torch.uint8), torch.arange(50), torch.zeros(50).long())
    for picture in out[:, 0]:
        hole = (picture == 0).nonzero()
        height, width = (hole.max(0).values - hole.min(0).values + 1).tolist()
        assert 1 <= height <= 3
        assert 1 <= width <= 3
        assert len(hole) == height * width


def test_brightness_multiplies_the_whole_picture_and_stays_in_range():
    augment = Augment(brightness=0.5)
    index = torch.arange(200)
    dim = augment(torch.full((200, 1, 2, 2), 0.4), index, index)
    assert_close(dim, dim[:, :, :1, :1].expand_as(dim))
    assert 0.2 <= dim.min() < 0.25
    assert 0.55 < dim.max() <= 0.6
    assert augment(torch.full((200, 1, 2, 2), 250, dtype=torch.uint8), index, index).max() == 255
    assert augment(torch.ones(200, 1, 2, 2), index, index).max() == 1


def test_a_rotation_turns_by_the_drawn_angle():
    # A bright spot right of the centre ends where the drawn angle says, on an oblong picture too.
    pictures = torch.zeros(20, 1, 41, 61)
    pictures[:, :, 19:22, 44:47] = 1.0
    index = torch.arange(20)
    out = Augment(rotate=40)(pictures, index, index)[:, 0]
    y, x = torch.meshgrid(torch.arange(41.0) - 20, torch.arange(61.0) - 30, indexing="ij")
    mass = out.sum((1, 2))
    angle = torch.atan2((out * y).sum((1, 2)) / mass, (out * x).sum((1, 2)) / mass).rad2deg()
    radius = ((out * y).sum((1, 2)) / mass).hypot((out * x).sum((1, 2)) / mass)
    drawn = (2 * uniform(0, index, index, 3) - 1) * 40
    assert_close(angle.abs(), drawn.abs().float(), atol=1.0, rtol=0)
    assert_close((angle * drawn).sign().unique().numel(), 1)
    assert_close(radius, torch.full((20,), 15.0), atol=0.3, rtol=0)


def test_arguments_can_be_written_down_and_read_back():
    assert Augment(**EVERYTHING.to_dict()) == EVERYTHING
    assert EVERYTHING.fingerprint != Augment(crop=2, flip=True, rotate=20, cutout=3, brightness=0.3, seed=1).fingerprint


def test_a_negative_amount_is_refused():
    with pytest.raises(ValueError, match="crop of 0 or more, found -1"):
        Augment(crop=-1)


@pytest.mark.parametrize(
    ("shape", "crop", "flip"),
    [((3, 32, 32), 4, True), ((1, 8, 8), 1, False), ((3, 224, 224), 28, True), ((1, 28, 28), 3, False)],
)
def test_defaults_follow_the_shape(shape, crop, flip):
    assert defaults(shape) == Augment(crop=crop, flip=flip)
