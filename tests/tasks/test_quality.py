import math

import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from tutelage.data.bicubic import modcrop, upscale
from tutelage.data.encoded import from_pil
from tutelage.errors import DataError
from tutelage.tasks.quality import LARGEST_PSNR, luma, psnr, quantised, ssim


def test_psnr_is_that_of_the_inner_luma():
    ours, true = torch.randint(0, 256, (2, 1, 3, 20, 24)) / 255
    inner = (luma(ours) - luma(true))[0, 0, 3:-3, 3:-3]
    error = sum(float(x) ** 2 for x in inner.flatten()) / inner.numel()
    assert psnr(ours, true, shave=3).item() == pytest.approx(10 * math.log10(255**2 / error), rel=1e-6)


def test_predictions_are_clamped_and_rounded_before_they_are_measured():
    true = torch.randint(0, 256, (2, 3, 16, 16)) / 255
    assert_close(psnr(true + 0.4 / 255, true, shave=0), torch.full((2,), LARGEST_PSNR))
    bright = torch.ones(1, 3, 16, 16)
    assert psnr(bright + 5, bright, shave=2).item() == LARGEST_PSNR
    assert quantised(torch.tensor([0.5 / 255])).item() == pytest.approx(1 / 255)


def test_grey_is_measured_as_it_is():
    ours, true = torch.randint(0, 256, (2, 2, 1, 16, 16)) / 255
    error = (ours - true)[..., 1:-1, 1:-1].double().square().flatten(1).mean(1)
    assert_close(psnr(ours, true, shave=1), (-10 * error.log10()).float())


def test_ssim_matches_the_equation_at_one_place():
    ours, true = torch.randint(0, 256, (2, 1, 1, 11, 11)) / 255
    line = [math.exp(-((k - 5) ** 2) / (2 * 1.5**2)) for k in range(11)]
    window = torch.tensor([[a * b for b in line] for a in line], dtype=torch.float64)
    window /= window.sum()
    x, y = (luma(picture)[0, 0] for picture in (ours, true))
    mean_x, mean_y = ((window * z).sum() for z in (x, y))
    var_x, var_y = ((window * (z - mean) ** 2).sum() for z, mean in ((x, mean_x), (y, mean_y)))
    both = (window * (x - mean_x) * (y - mean_y)).sum()
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    expected = (2 * mean_x * mean_y + c1) * (2 * both + c2) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    assert ssim(ours, true, shave=0).item() == pytest.approx(expected.item(), rel=1e-4)


def test_what_is_shaved_does_not_count():
    ours = torch.rand(1, 3, 20, 20)
    spoiled = ours.clone()
    spoiled[..., :2, :] = 0
    spoiled[..., :, -2:] = 0
    for measure in (psnr, ssim):
        assert_close(measure(spoiled, ours, shave=2), measure(ours, ours, shave=2))
        assert measure(spoiled, ours, shave=1) < measure(ours, ours, shave=1)


def test_refuses_other_shapes_and_pictures_that_are_too_small():
    with pytest.raises(DataError, match="another scale"):
        psnr(torch.rand(1, 3, 8, 8), torch.rand(1, 3, 16, 16), shave=1)
    with pytest.raises(DataError, match="15 pixels a side"):
        ssim(torch.rand(1, 3, 14, 20), torch.rand(1, 3, 14, 20), shave=2)
    with pytest.raises(DataError, match="3 channels or 1, found 4"):
        luma(torch.rand(1, 4, 8, 8))


PUBLISHED = {("Set5", 2): (33.66, 0.9299), ("Set5", 4): (28.42, 0.8104)}


@pytest.mark.parametrize(("name", "scale"), PUBLISHED)
def test_bicubic_has_the_published_scores(shared, name, scale):
    folder = shared / "data" / "super_resolution" / name / f"x{scale}"
    found = []
    for file in sorted((folder / "HR").iterdir()):
        true, small = (from_pil(Image.open(path))[None] for path in (file, folder / "LR" / file.name))
        true, larger = modcrop(true, scale) / 255, upscale(small, scale) / 255
        found.append([psnr(larger, true, shave=scale), ssim(larger, true, shave=scale)])
    mean = torch.tensor(found).mean(dim=0).tolist()
    assert mean[0] == pytest.approx(PUBLISHED[name, scale][0], abs=0.05)
    assert mean[1] == pytest.approx(PUBLISHED[name, scale][1], abs=0.002)
