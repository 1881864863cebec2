import functools

import pytest
import torch
from torch import nn

from tutelage.pairing import COLUMNS, Pair, between, build, pair, stages, table, vectors
from tutelage.survey import Site, survey
from tutelage.taps import Taps

# Drawn blind from timm 1.0.31: its model files shuffled by random.Random(0), in each the first of its
# shuffled names with at most 12 million parameters, until there were twenty. Passed over for size alone
# (twelve names drawn, none small enough): metaformer, davit, volo, naflexvit, rdnet, inception_v3,
# swin_transformer_v2, vgg, convmixer, focalnet, tiny_vit, hrnet, vitamin.
DRAWN = (
    "efficientvim_m1",
    "cpubone_b0_bfrobust",
    "cs3darknet_s",
    "convnext_pico",
    "lambda_resnet26t",
    "test_vit_relpos",
    "densenet121",
    "mobilevit_xxs",
    "regnetz_b16",
    "maxvit_rmlp_pico_rw_256",
    "skresnet18",
    "repvit_m1_0",
    "edgenext_small",
    "efficientvit_b1",
    "csatv2",
    "pit_ti_224",
    "gcvit_xxtiny",
    "fbnetc_100",
    "swiftformer_s",
    "lcnetv2_large",
)
SIDE = 128


class Subject:
    """A model, what it is given, and its sites."""

    def __init__(self, model, size=(SIDE, SIDE)):
        self.model, self.given = model.eval(), torch.randn(2, 3, *size)
        self.sites = survey(model, self.run)

    def run(self):
        return self.model(self.given)

    @torch.no_grad()
    def read(self, taps):
        return Taps(self.model, taps)(self.run)


@functools.cache
def from_timm(name, side=SIDE):
    timm = pytest.importorskip("timm")
    try:
        model = timm.create_model(name, num_classes=10, img_size=side)
    except TypeError:  # takes any size
        model = timm.create_model(name, num_classes=10)
    return Subject(model, (side, side))


@functools.cache
def resnet18():
    return Subject(pytest.importorskip("torchvision").models.resnet18(num_classes=10))


def vit():
    return from_timm("vit_tiny_patch16_224")


def assert_connected(student, teacher):
    """Every pair, and the vectors, lead from what the student's tap reads to the shape of the teacher's."""
    pairs, vector = pair(student.sites, teacher.sites), vectors(student.sites, teacher.sites)
    assert pairs
    assert vector is not None
    assert len(vector.student_shape) == len(vector.teacher_shape) == 1
    said = student.read([p.student for p in (*pairs, vector)])
    taught = teacher.read([p.teacher for p in (*pairs, vector)])
    for found in (*pairs, vector):
        assert said[found.student].shape[1:] == found.student_shape
        with torch.no_grad():
            assert build(found).eval()(said[found.student]).shape == taught[found.teacher].shape


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("reference", [resnet18, vit])
def test_pairs_models_it_was_not_made_for(name, reference):
    drawn, known = from_timm(name), reference()
    assert_connected(drawn, known)
    assert_connected(known, drawn)


def test_pairs_a_cnn_with_a_vit_both_ways():
    assert_connected(resnet18(), vit())
    assert_connected(vit(), resnet18())


def names(sites):
    return [site.name for site in stages(sites)]


def test_stages_of_a_cnn_are_the_ends_of_its_resolutions():
    found = stages(resnet18().sites)
    assert [site.name for site in found] == ["relu", "layer1", "layer2", "layer3", "layer4"]
    assert [site.stride for site in found] == [2, 4, 8, 16, 32]


def test_stages_of_a_vit_are_evenly_spaced_blocks():
    assert names(vit().sites) == ["blocks.2", "blocks.5", "blocks.8", "blocks.11"]


@pytest.mark.parametrize(
    ("model", "side", "expected"),
    [
        ("resnet18", 32, ["layer1", "layer2", "layer3", "layer4"]),
        ("resnet101", 64, ["layer1", "layer2", "layer3", "layer4"]),
        ("efficientnet_b0", 64, ["blocks.1", "blocks.2", "blocks.4", "blocks.6"]),
        ("resnetv2_50x1_bit", 64, ["stages.0", "stages.1", "stages.2", "stages.3"]),
        (
            "swin_tiny_patch4_window7_224",
            64,
            ["layers.0:map", "layers.1:map", "layers.2:map", "layers.3:map"],
        ),
        ("xcit_nano_12_p16_224", 64, ["blocks.2", "blocks.5", "blocks.8", "blocks.11"]),
        ("mixer_s32_224", 64, ["blocks.1", "blocks.3", "blocks.5", "blocks.7"]),
    ],
)
def test_stages_have_the_names_people_would_give(model, side, expected):
    assert names(from_timm(model, side).sites)[-4:] == expected


def test_stages_of_layers_in_one_row_end_before_each_pooling():
    vgg = Subject(pytest.importorskip("torchvision").models.vgg11(num_classes=10), (64, 64))
    assert names(vgg.sites) == [
        "features.1",
        "features.4",
        "features.9",
        "features.14",
        "features.19",
        "features.20",
    ]


class Cifar(nn.Module):
    """Strides 1, 2 and 4, as nets for pictures of 32 pixels have them."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, 1, 1)
        self.layer1, self.layer2, self.layer3 = (
            self.layer(8, 8, 1),
            self.layer(8, 16, 2),
            self.layer(16, 32, 2),
        )
        self.fc = nn.Linear(32, 10)

    def layer(self, before, after, stride):
        return nn.Sequential(nn.Conv2d(before, after, 3, stride, 1), nn.BatchNorm2d(after), nn.ReLU(inplace=True))

    def forward(self, x):
        return self.fc(self.layer3(self.layer2(self.layer1(self.conv1(x)))).mean((2, 3)))


def test_a_net_for_small_pictures_pairs_with_its_like_by_stride():
    small = Subject(Cifar(), (32, 32))
    found = pair(small.sites, small.sites)
    assert [(p.student, p.teacher, p.connector) for p in found] == [
        (layer, layer, ()) for layer in ("layer1", "layer2", "layer3")
    ]
    assert [p.reason for p in found] == ["same stride 1", "same stride 2", "same stride 4"]


def test_a_net_for_small_pictures_pairs_its_end_with_the_end_of_a_large_one():
    small, large = Subject(Cifar(), (32, 32)), from_timm("resnet18", 64)
    found = pair(small.sites, large.sites)[-1]
    assert (found.student, found.teacher) == ("layer3", "layer4")
    assert found.connector == ("resize", "project")
    assert_connected(small, large)


def test_an_equal_stride_counts_more_than_a_near_depth():
    def sites(**depths):
        maps = {4: (8, 8), 8: (4, 4), 16: (2, 2), 32: (1, 2)}
        return {
            name: Site(name, (8, *maps[stride]), "map", float(stride), depth, maps[stride])
            for name, (stride, depth) in depths.items()
        }

    student = sites(a=(4, 0.3), b=(8, 0.6), c=(16, 0.95))
    teacher = sites(p=(4, 0.1), q=(8, 0.2), r=(16, 0.6), s=(32, 0.95))
    assert [(p.student, p.teacher) for p in pair(student, teacher)] == [("a", "p"), ("b", "q"), ("c", "r")]


def test_pairs_only_within_half_a_depth_and_never_crosswise():
    for one in (resnet18(), vit(), from_timm("lcnetv2_large")):
        for other in (resnet18(), vit(), from_timm("lcnetv2_large")):
            found = pair(one.sites, other.sites)
            depths = [(one.sites[p.student].depth, other.sites[p.teacher].depth) for p in found]
            assert depths == sorted(depths)
            assert [t for _, t in depths] == sorted({t for _, t in depths})
            assert all(abs(s - t) <= 0.5 for s, t in depths)


def test_keeps_the_deepest_pairs():
    sites = resnet18().sites
    assert [p.student for p in pair(sites, sites, most=2)] == ["layer3", "layer4"]
    assert pair(sites, sites, most=0) == []


def test_pairs_the_same_way_every_time():
    assert pair(resnet18().sites, vit().sites) == pair(resnet18().sites, vit().sites)
    again = Subject(resnet18().model)
    assert pair(again.sites, vit().sites) == pair(resnet18().sites, vit().sites)


def test_pairs_models_that_see_pictures_of_different_sizes():
    assert_connected(from_timm("resnet18", 64), vit())
    assert_connected(from_timm("vit_tiny_patch16_224", 64), resnet18())


def test_pairs_a_cnn_with_a_cnn_on_pictures_that_are_no_square():
    wide = [Subject(Cifar(), (16, 40)), Subject(Cifar(), (32, 48))]
    assert_connected(*wide)


def test_connects_tokens_whatever_stands_before_them():
    for prefix, other in ((0, 1), (1, 0), (1, 5), (5, 1)):
        for grid, its in ((4, 4), (4, 6), (6, 4)):
            student = Site("a", (grid**2 + prefix, 8), "tokens", 4.0, 1.0, (grid, grid), prefix)
            teacher = Site("b", (its**2 + other, 12), "tokens", 4.0, 1.0, (its, its), other)
            wire = build(Pair("a", "b", student.shape, teacher.shape, between(student, teacher), ""))
            assert wire(torch.randn(2, *student.shape)).shape[1:] == teacher.shape


def test_pairs_texts_by_depth_where_the_tokens_are_the_same():
    def text(width, depth):
        layers = [nn.Linear(width, width) for _ in range(depth)]
        model = nn.Sequential(nn.Embedding(10, width), nn.Sequential(*layers))
        return survey(model, lambda: model(torch.zeros(2, 7, dtype=torch.long)))

    found = pair(text(4, 4), text(6, 8))
    assert [p.connector for p in found] == [("project",)] * 4
    assert [p.teacher for p in found] == ["1.1", "1.3", "1.5", "1.7"]


def test_nothing_makes_a_map_of_a_vector():
    vector = Site("fc:input", (64,), "vector", None, 0.9, None)
    grid = Site("layer4", (64, 2, 2), "map", 8.0, 1.0, (2, 2))
    assert between(vector, grid) is None
    assert between(grid, vector) == ("pool",)


def test_there_are_no_vectors_without_a_classifier():
    model = nn.Sequential(nn.Conv2d(3, 4, 3))
    assert vectors(resnet18().sites, survey(model, lambda: model(torch.zeros(2, 3, 8, 8)))) is None


def test_the_table_says_what_people_want_to_know():
    rows = table([*pair(resnet18().sites, vit().sites), vectors(resnet18().sites, vit().sites)])
    assert rows[2] == ["layer3", "256x8x8", "tokens, project", "blocks.8", "65x192", "same stride 16"]
    assert rows[-1] == ["fc:input", "512", "project", "head:input", "192", "in front of both classifiers"]
    assert {len(row) for row in rows} == {len(COLUMNS)}
