import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from tapped import Answers, Named, X, layers
from tutelage.survey import Site, survey
from tutelage.taps import Taps


@pytest.fixture
def model():
    return layers()


def shape_of(model, x):
    return survey(model, lambda: model(x))


def test_survey_tells_shape_stride_grid_and_depth_of_every_module():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1),
        nn.Conv2d(8, 6, 3, 2, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 5),
    )
    sites = shape_of(model, torch.zeros(2, 3, 16, 24))
    assert sites["0"] == Site("0", (8, 8, 12), "map", 2.0, 0.2, (8, 12))
    assert sites["1"] == Site("1", (6, 4, 6), "map", 4.0, 0.4, (4, 6))
    assert sites["4:input"] == Site("4:input", (6,), "vector", None, 0.8, None)
    assert sites["4"] == Site("4", (5,), "vector", None, 1.0, None)


def test_survey_leaves_the_model_as_it_was(model):
    model.train()
    model[1].eval()
    before = copy.deepcopy(model.state_dict())
    shape_of(model, X)
    assert [m.training for m in model] == [True, False, True, True, True]
    assert_close(dict(model.state_dict()), dict(before))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_survey_puts_a_module_that_runs_twice_at_its_last_run():
    model = Named(lambda me, x: me.first(me.second(me.first(x))))
    assert list(shape_of(model, torch.ones(2, 2))) == ["second:input", "second", "first"]


def test_survey_tells_the_shape_of_each_run_where_they_differ():
    named = Named(lambda m, x: (m.first(x), m.first(x[:, ::2]))[1])
    site = survey(named, lambda: named(torch.randn(3, 4, 2)))["first"]
    assert [(run.name, run.shape) for run in site.runs] == [("first:0", (4, 2)), ("first:1", (2, 2))]
    assert site.shape == (2, 2)
    assert survey(named, lambda: named(torch.randn(3, 1, 2)))["first"].runs == ()


@pytest.mark.parametrize(("tokens", "prefix"), [(16, 0), (17, 1), (18, 2), (20, 4), (21, 5)])
def test_survey_finds_grid_and_prefix_of_tokens(tokens, prefix):
    model = nn.Sequential(Answers(lambda x: torch.zeros(len(x), tokens, 7)))
    site = shape_of(model, torch.zeros(2, 3, 32, 32))["0"]
    assert site == Site("0", (tokens, 7), "tokens", 8.0, 1.0, (4, 4), prefix)


def test_survey_believes_a_model_that_tells_its_prefix():
    model = nn.Sequential(Answers(lambda x: torch.zeros(len(x), 25, 7)))
    assert shape_of(model, torch.zeros(2, 3, 32, 32))["0"].prefix == 0
    model.num_prefix_tokens = 9
    assert shape_of(model, torch.zeros(2, 3, 32, 32))["0"].grid == (4, 4)


def test_survey_knows_tokens_of_pictures_that_are_no_square():
    model = nn.Sequential(Answers(lambda x: torch.zeros(len(x), 4 * 6 + 1, 7)))
    assert shape_of(model, torch.zeros(2, 3, 32, 48))["0"].grid == (4, 6)


def test_survey_calls_windows_and_attention_other():
    model = nn.Sequential(Answers(lambda x: torch.zeros(8, 4, 7)), Answers(lambda x: torch.zeros(2, 3, 7, 5)))
    assert [site.kind for site in shape_of(model, torch.zeros(2, 3, 32, 32)).values()] == ["other", "other"]


def test_survey_knows_tokens_of_a_text():
    model = nn.Sequential(nn.Embedding(10, 6))
    site = shape_of(model, torch.zeros(2, 9, dtype=torch.long))["0"]
    assert (site.kind, site.shape, site.grid) == ("tokens", (9, 6), None)


class Turned(Answers):
    pass


def test_survey_asks_other_modules_of_the_class_where_channels_could_be_first_or_last():
    layers = [
        Turned(lambda x: torch.zeros(2, 16, 16, 8)),
        Answers(lambda x: torch.zeros(2, 4, 8, 8)),
        Turned(lambda x: torch.zeros(2, 8, 8, 8)),
        Answers(lambda x: torch.zeros(2, 8, 8, 8)),
    ]
    sites = shape_of(nn.Sequential(*layers), torch.zeros(2, 3, 32, 32))
    assert list(sites) == ["0:map", "1", "2:map", "3"]
    assert sites["0:map"].shape == (8, 16, 16)


def test_survey_names_a_map_in_front_of_the_classifier_by_its_mean():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    sites = shape_of(model, X)
    assert sites["1:pooled"].shape == (8,)
    assert Taps(model, ["1:pooled"])(lambda: model(X))["1:pooled"].shape == (2, 8)


def test_every_site_of_a_survey_can_be_tapped_and_has_the_shape_it_says():
    timm = pytest.importorskip("timm")
    model = timm.create_model("swin_tiny_patch4_window7_224", img_size=64, depths=(1, 1, 1, 1)).eval()
    x = torch.randn(2, 3, 64, 64)
    sites = survey(model, lambda: model(x))
    with torch.no_grad():
        read = Taps(model, sites)(lambda: model(x))
    assert {name: site.shape for name, site in sites.items()} == {
        name: tuple(tensor.shape[1:]) for name, tensor in read.items() if name
    }
    assert sites["layers.3:map"].stride == 32
