import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from tutelage.engine import Settings
from tutelage.engine.optimizers import make_optimizer
from tutelage.errors import RecipeError
from tutelage.models import sr
from tutelage.schemes.channel_split import Sliced
from tutelage.taps import Taps


@pytest.fixture
def sliced():
    return Sliced(sr.rcan(groups=1, blocks=1, width=16, reduction=4), sr.rcan(groups=1, blocks=1, width=8, reduction=2))


def test_the_slice_says_what_the_released_network_says(sliced):
    pictures = torch.rand(2, 3, 6, 6)
    said = sliced(pictures)
    assert_close(sliced.release()(pictures), said)


def test_only_leading_channels_learn_from_the_slice(sliced):
    sliced(torch.rand(1, 3, 6, 6)).sum().backward()
    weight = sliced.whole.body[0].body[0].body[0].weight.grad
    assert weight[:8, :8].abs().sum() > 0
    assert weight[8:].abs().sum() == weight[:, 8:].abs().sum() == 0


def test_its_weights_are_those_of_the_wide_network_and_no_others(sliced):
    assert {id(p) for p in sliced.parameters()} == {id(p) for p in sliced.whole.parameters()}
    assert all(name.startswith("whole.") for name in sliced.state_dict())


def test_taps_are_those_of_the_narrow_network(sliced):
    read = Taps(sliced, ["body.0", "tail.0:input"])(lambda: sliced(torch.rand(1, 3, 6, 6)))
    assert read["body.0"].shape == read["tail.0:input"].shape == (1, 8, 6, 6)


def test_a_copy_has_weights_of_its_own(sliced):
    other = copy.deepcopy(sliced)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    assert sliced(torch.rand(1, 3, 6, 6)).std() > 0
    assert other(torch.rand(1, 3, 6, 6)).std(dim=(2, 3)).max() == 0


def test_parameters_that_pupils_share_are_optimised_once(sliced):
    class Pupil(nn.Module):
        def __init__(self, student):
            super().__init__()
            self.student, self.weighting = student, nn.Identity()

    optimizer = make_optimizer([Pupil(sliced), Pupil(sliced.whole)], Settings(optimizer="adamw"), 16)
    assert len(optimizer.param_groups[0]["params"]) == len(list(sliced.whole.parameters()))


def test_another_network_and_batch_normalisation_are_refused():
    with pytest.raises(RecipeError, match="fewer channels; it has other weights, such as 'body"):
        Sliced(sr.edsr(blocks=2, width=8), sr.edsr(blocks=1, width=8))
    with pytest.raises(RecipeError, match="some of its layers are wider"):
        Sliced(sr.edsr(blocks=1, width=8), sr.edsr(blocks=1, width=16))
    normalised = (
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)),
        nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)),
    )
    with pytest.raises(RecipeError, match="batch normalisation"):
        Sliced(*normalised)
