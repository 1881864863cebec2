import pytest
import torch
from torch.testing import assert_close

from tutelage.errors import ModelError
from tutelage.models import find, load, parameters, save, sr
from tutelage.taps import Taps

SMALL = {
    "edsr": {"blocks": 2, "width": 8},
    "rcan": {"groups": 2, "blocks": 2, "width": 8, "reduction": 4},
    "fsrcnn": {"width": 8, "narrow": 4, "depth": 2},
    "srresnet": {"blocks": 2, "width": 8},
}
DEEP = {"edsr": "body.1", "rcan": "body.1", "fsrcnn": "mid_part", "srresnet": "body.1"}


def small(name, **arguments):
    return getattr(sr, name)(**{**SMALL[name], **arguments})


def test_every_net_has_a_small_one_here():
    assert set(SMALL) == set(sr.__all__) == set(DEEP)


@pytest.mark.parametrize("name", sr.__all__)
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_enlarges_pictures_of_any_size_and_channels(name, scale):
    for channels in (1, 3):
        net = small(name, scale=scale, in_channels=channels)
        assert net(torch.rand(2, channels, 7, 10)).shape == (2, channels, 7 * scale, 10 * scale)


# Counts of the published nets, without the mean that is not learned.
PUBLISHED = [
    (sr.edsr, {"scale": 2}, 1_369_859),
    (sr.edsr, {"scale": 3}, 1_554_499),
    (sr.edsr, {"scale": 4}, 1_517_571),
    (sr.edsr, {"scale": 2, "blocks": 32, "width": 256, "res_scale": 0.1}, 40_729_603),
    (sr.rcan, {"scale": 4}, 15_592_355),
    (sr.rcan, {"scale": 4, "blocks": 6}, 5_171_315),
    (sr.fsrcnn, {"scale": 2, "in_channels": 1}, 12_637 + 172),
    (sr.fsrcnn, {"scale": 4, "in_channels": 1}, 12_637 + 172),
    (sr.srresnet, {"scale": 4}, 1_517_571),
]


@pytest.mark.parametrize(("net", "arguments", "count"), PUBLISHED)
def test_has_as_many_parameters_as_published(net, arguments, count):
    with torch.device("meta"):
        assert parameters(net(**arguments)) == count


# One name of each part of the published state dicts.
NAMES = {
    "edsr": {
        "sub_mean.weight",
        "head.0.weight",
        "body.0.body.2.bias",
        "body.2.weight",
        "tail.0.2.weight",
        "tail.1.bias",
    },
    "rcan": {"head.0.weight", "body.0.body.1.body.3.conv_du.2.weight", "body.0.body.2.weight", "body.2.bias"},
    "fsrcnn": {"first_part.0.weight", "first_part.1.weight", "mid_part.6.weight", "last_part.bias"},
    "srresnet": {"conv_first.weight", "body.1.conv2.bias", "upconv1.weight", "upconv2.weight", "conv_hr.bias"},
}


@pytest.mark.parametrize("name", sr.__all__)
def test_names_of_weights_are_those_of_the_published_files(name):
    assert NAMES[name] <= set(small(name, scale=4).state_dict())


@pytest.mark.parametrize("name", sr.__all__)
def test_features_can_be_tapped_on_the_small_grid(name):
    net = small(name, scale=2).eval()
    read = Taps(net, [DEEP[name]])(lambda: net(torch.rand(1, 3, 6, 5)))
    assert read[DEEP[name]].shape == (1, 8, 6, 5)


def test_edsr_without_its_body_shows_the_mean_colour():
    net = small("edsr")
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        assert_close(net(torch.rand(1, 3, 2, 2))[0, :, 0, 0], torch.tensor([0.4488, 0.4371, 0.4040]))


def test_found_by_name_kept_and_loaded(tmp_path):
    net = find("sr/edsr", arguments={**SMALL["edsr"], "scale": 4}, seed=0).eval()
    save(net, tmp_path, card="", classes=(), input_size=(8, 8))
    again = load(tmp_path).eval()
    picture = torch.rand(1, 3, 5, 9)
    assert again.scale == 4
    assert torch.equal(again(picture), net(picture))


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("edsr", {"scale": 5}, "scale of 2, 3, 4 or 8, found 5"),
        ("edsr", {"blocks": 0}, "blocks of 1 or more, found 0"),
        ("rcan", {"width": 8, "reduction": 16}, "reduction of at most width=8, found 16"),
    ],
)
def test_sizes_that_make_no_net_are_refused(name, arguments, told):
    with pytest.raises(ModelError, match=told):
        small(name, **arguments)


def test_a_classifier_is_not_to_be_had_here():
    with pytest.raises(ModelError, match=r"expected logits.*found \[1, 3, 16, 16\]"):
        find("sr/edsr", num_classes=10, input_size=(8, 8))
