import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from tutelage.losses import MGD


def test_matches_the_equation_written_with_loops():
    loss, s, t = MGD(student=(2, 4, 4), teacher=(3, 4, 4)), torch.randn(2, 2, 4, 4), torch.randn(2, 3, 4, 4)
    mask = (torch.rand(2, 1, 4, 4) > 0.3).float()
    loss.draw = lambda x: mask
    first, second = loss.generator[0], loss.generator[2]
    for b in range(2):
        aligned = torch.zeros(3, 4, 4)
        for i in range(4):
            for j in range(4):
                aligned[:, i, j] = loss.align.weight[:, :, 0, 0] @ s[b, :, i, j] + loss.align.bias
        hidden = F.conv2d((aligned * mask[b])[None], first.weight, first.bias, padding=1).relu()
        made = F.conv2d(hidden, second.weight, second.bias, padding=1)[0]
        assert_close(loss(s, t)[b], sum((made[c] - t[b, c]).square().sum() for c in range(3)))


@pytest.mark.parametrize("hide", ["places", "channels"])
def test_a_mask_hides_whole_places_or_whole_channels_of_each_sample(hide):
    loss = MGD(student=(40, 8, 8), teacher=(40, 8, 8), ratio=0.3, hide=hide)
    mask = loss.draw(torch.ones(30, 40, 8, 8))
    assert mask.shape == ((30, 1, 8, 8) if hide == "places" else (30, 40, 1, 1))
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    assert_close(mask.mean().item(), 0.7, atol=0.05, rtol=0)
    assert not torch.equal(mask[0], mask[1])


def test_nothing_is_hidden_with_a_ratio_of_0():
    loss = MGD(student=(3, 4, 4), teacher=(3, 4, 4), ratio=0.0)
    s, t = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    assert isinstance(loss.align, torch.nn.Identity)
    assert_close(loss(s, t), (loss.generator(s) - t).square().sum(dim=(1, 2, 3)))


def test_what_is_hidden_does_not_matter():
    loss, t = MGD(student=(2, 4, 4), teacher=(3, 4, 4)), torch.randn(1, 3, 4, 4)
    loss.draw = lambda x: (torch.arange(16).view(1, 1, 4, 4) != 6).float()
    s = torch.randn(1, 2, 4, 4)
    changed = s.clone()
    changed[:, :, 1, 2] += 5
    assert_close(loss(changed, t), loss(s, t))


def test_refuses_other_grids_and_options_out_of_range():
    with pytest.raises(ValueError, match=r"one grid.*\(2, 4, 4\).*\(3, 2, 2\).*Resize"):
        MGD(student=(2, 4, 4), teacher=(3, 2, 2))
    with pytest.raises(ValueError, match=r"one grid.*\(1, 2, 4, 4\).*\(1, 3, 2, 2\)"):
        MGD(student=(2, 4, 4), teacher=(3, 4, 4))(torch.ones(1, 2, 4, 4), torch.ones(1, 3, 2, 2))
    for wrong in ({"ratio": 1.0}, {"hide": "all"}):
        with pytest.raises(ValueError, match="expected ratio"):
            MGD(**wrong)
