import copy
import functools

import pytest
import torch
from torch import nn

from tutelage.errors import RecipeError
from tutelage.pairing import COLUMNS, Pair, build, connect, pair, stages, table, vectors
from tutelage.taps import Site, Taps, survey

# Drawn blind: timm's model files shuffled by random.Random(0), in each the first of its shuffled names with at most
# 12 million parameters, until there were twenty. Passed over for size alone (twelve names drawn, none small enough):
# metaformer, davit, volo, naflexvit, rdnet, inception_v3, swin_transformer_v2, vgg, convmixer, focalnet, tiny_vit,
# hrnet, vitamin.
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
    """Every pair, and the vectors, lead from what the student's tap reads to the shape the teacher's reads."""
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
