import math

import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from tutelage.data.bicubic import downscale, modcrop, upscale
from tutelage.data.encoded import from_pil


def keys(x):
    x = abs(x)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


def line(values, scale, *, up):
    """One row of pixels with MATLAB's rule, written with loops."""
    n = len(values)
    factor = scale if up else 1 / scale
    out = []
    for place in range(n * scale if up else n // scale):
        centre = (place + 0.5) / factor - 0.5
        stretch = min(factor, 1.0)
        reach = math.ceil(2 / stretch) + 1
        total, weights = 0.0, 0.0
        for there in range(math.floor(centre) - reach, math.floor(centre) + reach + 1):
            weight = keys((there - centre) * stretch)
            mirrored = there % (2 * n)
            total += weight * values[mirrored if mirrored < n else 2 * n - 1 - mirrored]
            weights += weight
        out.append(total / weights)
    return out


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("up", [False, True])
def test_matches_the_rule_written_with_loops(scale, up):
    row = torch.rand(24, dtype=torch.float64)
    expected = torch.tensor(line(row.tolist(), scale, up=up), dtype=torch.float64)
    resize = upscale if up else downscale
    assert_close(resize(row.expand(1, 1, 12, 24), scale)[0, 0, 1], expected)
    assert_close(resize(row[:, None].expand(1, 24, 12), scale)[0, :, 1], expected)


def test_uint8_is_rounded_half_up_and_stays_in_range():
    checks = torch.tensor([[0, 1], [1, 0]], dtype=torch.uint8).repeat(8, 8)[None]
    assert downscale(checks, 2)[0, 3:-3, 3:-3].unique().tolist() == [1]  # 0.5 each
    steps = torch.tensor([0, 0, 0, 255, 255, 255], dtype=torch.uint8).expand(1, 6, 6)
    larger = upscale(steps, 2)
    assert (larger.dtype, larger.min().item(), larger.max().item()) == (torch.uint8, 0, 255)
    assert upscale(steps.double(), 2).max() > 255


def test_small_pictures_are_mirrored_as_often_as_needed():
    assert_close(downscale(torch.full((1, 2, 2), 0.5), 2), torch.full((1, 1, 1), 0.5))
    assert_close(upscale(torch.full((1, 1, 1), 0.5), 4), torch.full((1, 4, 4), 0.5))


def test_sides_that_do_not_fit_are_refused_and_can_be_cut():
    picture = torch.rand(3, 9, 7)
    with pytest.raises(ValueError, match=r"multiples of scale=2, found 9 x 7.*modcrop"):
        downscale(picture, 2)
    assert downscale(modcrop(picture, 2), 2).shape == (3, 4, 3)


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("name", ["Set5", "Set14"])
def test_gives_the_files_that_matlab_made(shared, name, scale):
    folder = shared / "data" / "super_resolution" / name / f"x{scale}"
    off = []
    for file in sorted((folder / "HR").iterdir()):
        large, small = (from_pil(Image.open(path)) for path in (file, folder / "LR" / file.name))
        off.append((downscale(modcrop(large, scale), scale).float() - small.float()).abs().mean())
    assert torch.stack(off).mean() < 0.2
    assert torch.stack(off).max() < 0.25
