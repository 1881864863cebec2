import numpy as np
import pytest
import torch
from PIL import Image

from tutelage.data import Loader, Patches
from tutelage.data.bicubic import downscale, modcrop
from tutelage.data.hr_folder import open_pairs, recognised
from tutelage.errors import DataError
from tutelage.tasks import SuperResolution


def picture(path, height, width, *, grey=False, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width) if grey else (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return torch.from_numpy(pixels.copy().reshape(height, width, -1)).permute(2, 0, 1)


def as_file(pixels, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.permute(1, 2, 0).squeeze(2).numpy()).save(path)


@pytest.fixture
def flat(tmp_path):
    """Ten large pictures of three sizes, one of them with an odd side."""
    sizes = [(24, 32), (32, 24), (25, 28)]
    return tmp_path / "flat", [picture(tmp_path / "flat" / f"p{n}.png", *sizes[n % 3], seed=n) for n in range(10)]


@pytest.fixture
def paired(tmp_path):
    """Pairs whose small pictures are not bicubic."""
    for n in range(8):
        large = picture(tmp_path / "HR" / f"p{n}.png", 24, 36, seed=n)
        as_file(large[:, ::3, ::3], tmp_path / "LR" / f"p{n}x3.png")
    return tmp_path


def opened(folder, **options):
    return open_pairs(folder, **{"patch": 16, "patches": 3, **options})


def test_small_pictures_are_made_where_there_are_none(flat):
    folder, pictures = flat
    splits = opened(folder, test=0.2, selection=0.2)
    assert splits.facts == {"scale": 2}
    assert "7 train" not in splits.guess
    for part in (splits.selection, splits.test):
        for n in range(len(part)):
            sample = part[n]
            large = modcrop(pictures[int(sample["index"])], 2)
            assert torch.equal(sample["target"], large)
            assert torch.equal(sample["inputs"], downscale(large, 2))


def test_given_small_pictures_are_taken_and_tell_the_scale(paired):
    splits = opened(paired, patch=18)
    assert splits.facts == {"scale": 3}
    sample = splits.test[0]
    assert torch.equal(sample["inputs"], sample["target"][:, ::3, ::3])


def test_patches_lie_on_each_other_in_every_view(paired):
    splits = opened(paired, patch=18)
    train, augment = splits.train, Patches()
    positions = torch.arange(len(train))
    for view in range(4):
        batch = train.batch(positions, augment, torch.full_like(positions, view))
        assert batch["inputs"].shape == (len(train), 3, 6, 6)
        assert batch["target"].shape == (len(train), 3, 18, 18)
        # Of the nearest pixel, a mirrored or turned patch shows another one of each 3 x 3.
        corners = [batch["target"][:, :, i::3, j::3] for i in (0, 2) for j in (0, 2)]
        near = torch.stack([(batch["inputs"] == c).flatten(1).all(1) for c in corners]).any(0)
        assert near.all()


def test_a_patch_depends_on_number_and_view_alone(flat):
    train, augment = opened(flat[0]).train, Patches(seed=3)
    positions = torch.arange(len(train))
    whole = train.batch(positions, augment, positions % 3)
    order = torch.randperm(len(train))
    moved = train.batch(order, augment, order % 3)
    assert torch.equal(moved["target"], whole["target"][order])
    assert torch.equal(moved["inputs"], whole["inputs"][order])
    other = train.batch(positions, augment, positions % 3 + 1)
    assert not torch.equal(other["target"], whole["target"])


def test_each_patch_of_a_picture_is_a_sample_of_its_own(flat):
    splits = opened(flat[0], patches=5)
    whole = opened(flat[0], patches=1)
    assert len(splits.train) == 5 * len(whole.train)
    assert splits.train.index.unique().shape == splits.train.index.shape
    assert splits.train.whole().index.tolist() == (5 * whole.train.index).tolist()
    assert len(splits.test.whole()) == len(splits.test)
    view = torch.zeros(5, dtype=torch.int64)
    batch = splits.train.batch(torch.arange(5), Patches(), view)
    assert batch["target"].flatten(1).unique(dim=0).shape[0] > 1


def test_every_place_of_a_picture_can_be_drawn():
    corner = Patches().corner(torch.arange(500), torch.zeros(500, dtype=torch.int64), *[torch.tensor([4] * 500)] * 2)
    assert [sorted(side.unique().tolist()) for side in corner] == [[0, 1, 2, 3]] * 2


def test_patches_are_mirrored_and_turned_in_all_eight_ways():
    square = torch.arange(4.0).view(1, 1, 2, 2).expand(200, -1, -1, -1)
    index = torch.arange(200)
    turned, target = Patches().pair(square, square, index, index)
    assert torch.equal(turned, target)
    assert len(turned.flatten(1).unique(dim=0)) == 8
    assert len(Patches(turn=False).pair(square, square, index, index)[0].flatten(1).unique(dim=0)) == 4
    still, _ = Patches().pair(square, square, index, torch.full_like(index, -1))
    assert torch.equal(still, square)


def test_batches_are_a_function_of_epoch_and_step(flat):
    train = opened(flat[0]).train
    loader = Loader(train, batch_size=4, seed=1, augment=Patches(seed=1))
    again = Loader(opened(flat[0]).train, batch_size=4, seed=1, augment=Patches(seed=1))
    assert torch.equal(loader.batch(2, 1)["target"], again.batch(2, 1)["target"])
    assert loader.fingerprint == again.fingerprint


def test_pictures_that_are_not_held_are_the_same(flat):
    held, asked = opened(flat[0], in_memory=True), opened(flat[0], in_memory=False)
    assert (held.train.in_memory, asked.train.in_memory) == (True, False)
    for name in ("inputs", "target"):
        assert torch.equal(held.test[0][name], asked.test[0][name])
    assert held.fingerprint == asked.fingerprint


def test_grey_pictures_stay_grey_and_a_mixture_is_coloured(tmp_path):
    for n in range(6):
        picture(tmp_path / "grey" / f"{n}.png", 20, 20, grey=True, seed=n)
        picture(tmp_path / "both" / f"{n}.png", 20, 20, grey=n % 2 == 0, seed=n)
    assert opened(tmp_path / "grey").train.shape == (1, 8, 8)
    both = opened(tmp_path / "both")
    assert both.train.shape == (3, 8, 8)
    assert any("equal colours" in note for note in both.notes)


@pytest.mark.parametrize("grey", ["HR", "LR"])
@pytest.mark.parametrize("in_memory", [True, False])
def test_of_a_grey_and_a_coloured_picture_both_are_taken_as_coloured(tmp_path, grey, in_memory):
    for n in range(6):
        for side, size in (("HR", 24), ("LR", 12)):
            picture(tmp_path / side / f"{n}.png", size, size, grey=side == grey, seed=n)
    splits = opened(tmp_path, in_memory=in_memory)
    sample = splits.test[0]
    assert (sample["inputs"].shape, sample["target"].shape) == ((3, 12, 12), (3, 24, 24))
    assert any("equal colours" in note for note in splits.notes)


def test_of_16_bit_pictures_the_upper_8_bits_are_kept(tmp_path):
    high = np.random.default_rng(0).integers(0, 65536, (20, 20), np.uint16)
    for n in range(6):
        Image.fromarray(high).save(tmp_path / f"{n}.png")
    sample = opened(tmp_path).test[0]
    assert torch.equal(sample["target"][0], torch.from_numpy((high >> 8).astype(np.uint8)))


def test_splits_and_scales_are_found_by_their_names(tmp_path):
    for split, count in (("train", 6), ("val", 2), ("test", 3)):
        for n in range(count):
            picture(tmp_path / split / f"{n}.png", 20, 24, seed=n)
    splits = opened(tmp_path, scale=4)
    assert [len(part) for part in (splits.train, splits.selection, splits.test)] == [18, 2, 3]
    assert splits.facts == {"scale": 4}


def test_other_folders_can_be_selection_and_test(flat, tmp_path):
    for n in range(3):
        large = picture(tmp_path / "set" / "x2" / "HR" / f"{n}.png", 40, 20, seed=n)
        as_file(downscale(large, 2), tmp_path / "set" / "x2" / "LR" / f"{n}.png")
    splits = opened(flat[0], test_data=str(tmp_path / "set"))
    assert len(splits.test) == 3
    assert splits.test[0]["target"].shape == (3, 40, 20)


def test_a_folder_tells_what_it_is(flat, paired, tmp_path):
    assert "without classes" in recognised(flat[0])
    assert "large and small" in recognised(str(paired))
    (tmp_path / "cats" / "a").mkdir(parents=True)
    picture(tmp_path / "cats" / "a" / "1.png", 8, 8)
    assert recognised(tmp_path / "cats") is None
    assert recognised("digits") is None


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"patch": 40}, r"40 pixels a side or more, found p0\.png \(24 x 32\)"),
        ({"patch": 15}, "multiple of the scale, 2, found 15"),
        ({"scale": 5}, "2, 3, 4, 8, found 5"),
        ({"patches": 0}, "1 or more, found 0"),
        ({"test_data": "nowhere"}, "no folder nowhere"),
    ],
)
def test_what_cannot_be_is_refused(flat, options, told):
    with pytest.raises(DataError, match=told):
        opened(flat[0], **options)


@pytest.mark.parametrize("part", ["selection", "test"])
def test_pictures_too_small_to_be_measured_are_refused_before_anything_is_trained(flat, tmp_path, part):
    small = tmp_path / "small"
    picture(small / "fits.png", 16, 16)
    assert len(getattr(opened(flat[0], **{f"{part}_data": str(small)}), part)) == 1
    picture(small / "tiny.png", 15, 20)
    with pytest.raises(
        DataError, match=rf"expected {part} pictures of 15 pixels.*tiny\.png \(15 x 20\).*SSIM needs 11"
    ):
        opened(flat[0], **{f"{part}_data": str(small)})


def test_the_smallest_picture_there_may_be_can_be_measured():
    large = torch.rand(1, 3, 15, 15)
    assert SuperResolution(2).keep(large, large)["ssim"].item() == pytest.approx(1.0, abs=1e-4)
    with pytest.raises(DataError, match="15 pixels a side"):
        SuperResolution(2).keep(large[..., 1:], large[..., 1:])


def test_pairs_that_do_not_fit_are_refused_by_name(paired):
    picture(paired / "LR" / "p3x3.png", 9, 12)
    for in_memory in (True, False):
        with pytest.raises(DataError, match=r"3 times as large.*found p3\.png \(24 x 36 beside 9 x 12\)\. Crop"):
            opened(paired, patch=18, in_memory=in_memory)
    (paired / "LR" / "p3x3.png").unlink()
    with pytest.raises(DataError, match=r"p3\.png only in HR"):
        opened(paired, patch=18)
    picture(paired / "LR" / "p3x3.png", 8, 12)
    with pytest.raises(DataError, match=r"expected 3.*found 2"):
        opened(paired, patch=18, scale=2)


def test_broken_and_missing_pictures_are_named(flat, tmp_path):
    (flat[0] / "p4.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"p4\.png \(no picture file\)"):
        opened(flat[0])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="expected pictures in"):
        opened(tmp_path / "empty")


def test_several_scales_have_to_be_chosen_from(tmp_path):
    for scale in (2, 4):
        for n in range(6):
            large = picture(tmp_path / f"x{scale}" / "HR" / f"{n}.png", 24, 24, seed=n)
            as_file(downscale(large, scale), tmp_path / f"x{scale}" / "LR" / f"{n}.png")
    with pytest.raises(DataError, match=r"several scales, 2, 4: choose one with data\.scale"):
        opened(tmp_path)
    assert opened(tmp_path, scale=4).facts == {"scale": 4}
    with pytest.raises(DataError, match=r"\(x2, x4\), found 3"):
        opened(tmp_path, scale=3)


def test_whole_pictures_of_several_sizes_come_one_by_one(flat):
    test = opened(flat[0], test=0.5).test
    with pytest.raises(DataError, match="one by one"):
        test.batch(torch.arange(len(test)))


def test_a_data_set_of_ones_own_gives_pairs_or_large_pictures():
    large = [torch.randint(0, 256, (3, 20, 24 + n), dtype=torch.uint8) for n in range(6)]
    small = [picture[:, ::2, ::2] for picture in (modcrop(one, 2) for one in large)]
    pairs = opened(list(zip(small, large, strict=True)), in_memory=False)
    sample = pairs.test[0]
    assert pairs.facts == {"scale": 2}
    assert torch.equal(sample["inputs"], sample["target"][:, ::2, ::2])
    alone = opened({"train": large, "validation": large[:2], "test": large[:3]})
    assert [len(part) for part in (alone.train, alone.selection, alone.test)] == [18, 2, 3]
    assert torch.equal(alone.test[0]["inputs"], downscale(modcrop(large[0], 2), 2))


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ([torch.rand(3, 20, 20)] * 6, "uint8.*found torch.float32"),
        ([], "with a length and samples"),
        ({"training": [torch.zeros(3, 20, 20, dtype=torch.uint8)] * 6, "other": []}, "found other"),
        ({"test": [torch.zeros(3, 20, 20, dtype=torch.uint8)] * 6}, "expected a 'train' data set"),
    ],
)
def test_data_sets_that_are_none_are_refused(source, told):
    with pytest.raises(DataError, match=told):
        opened(source)


def test_small_pictures_that_were_rounded_up_are_named_with_a_remedy(tmp_path):
    for n in range(6):
        picture(tmp_path / "HR" / f"p{n}.png", 33, 41, seed=n)
        picture(tmp_path / "LR" / f"p{n}.png", 17, 21, seed=n)
    with pytest.raises(
        DataError, match=r"2 times as large.*p0\.png \(33 x 41 beside 17 x 21\).*multiple of 2.*leave the small"
    ):
        opened(tmp_path)


def test_pictures_in_folders_below_are_counted(flat):
    folder, _ = flat
    picture(folder / "more" / "deep" / "p.png", 24, 24)
    assert any("1 pictures in folders below are not read: more" in note for note in opened(folder).notes)
