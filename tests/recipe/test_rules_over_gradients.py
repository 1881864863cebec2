"""Rules over gradients in recipes: by their own names, or written out."""

import pytest

from tutelage.cli.list import list as listed
from tutelage.errors import InputError, UnknownName
from tutelage.recipe import catalogue
from tutelage.recipe.build import build_weighting
from tutelage.recipe.schema import WeightingSpec
from tutelage.weighting import ByGradient, GradNorm, Product
from tutelage.weighting.solvers import MGDA, AlignedMTL


def built(**spec):
    return build_weighting(WeightingSpec(**spec), [])


@pytest.mark.parametrize(
    "spec",
    [
        {"use": "mgda", "normaliser": "l2", "every": 4},
        {"use": "by_gradient", "rule": {"use": "mgda", "normaliser": "l2"}, "every": 4},
    ],
    ids=["by its name", "written out"],
)
def test_a_solver_and_its_options_are_found(spec):
    for rule in (built(**spec), next(iter(built(scale=spec, gates=["trust"]).scales))):
        assert isinstance(rule, ByGradient)
        assert isinstance(rule.rule, MGDA)
        assert (rule.rule.normaliser, rule.every) == ("l2", 4)


@pytest.mark.parametrize("name", ["aligned_mtl", "alignedmtl", "AlignedMTL"])
def test_capitals_and_underscores_do_not_count(name):
    assert isinstance(built(use=name).rule, AlignedMTL)
    assert isinstance(built(scale={"use": "gradnorm"}), Product)
    assert isinstance(built(use="grad_norm"), GradNorm)


def test_every_solver_can_be_named():
    for name in catalogue.solvers():
        options = {"name": "MGDA"} if name == "torchjd" else {}
        if name == "torchjd":
            pytest.importorskip("torchjd")
        assert isinstance(built(use=name, **options), ByGradient)


@pytest.mark.parametrize(
    ("spec", "error", "words"),
    [
        ({"use": "mgad"}, UnknownName, "there is no weighting 'mgad'; close: mgda"),
        ({"use": "mgda", "normalizer": "l2"}, UnknownName, "close: normaliser"),
        ({"use": "upgrad", "evry": 2}, UnknownName, "upgrad has no option 'evry'; close: every"),
        ({"use": "by_gradient", "rule": {"use": "upgrad", "evry": 2}}, UnknownName, "no option 'evry', nor any other"),
        ({"use": "mgda", "normaliser": "l3"}, InputError, "none, l2, loss, loss"),
        ({"use": "mgda", "every": 0}, InputError, "every to be at least 1"),
        ({"use": "by_gradient", "rul": "mgda"}, UnknownName, "close: rule"),
        ({"use": "by_gradient"}, InputError, "rule"),
    ],
)
def test_what_cannot_be_used_is_refused_in_the_words_of_the_recipe(spec, error, words):
    with pytest.raises(error, match=words):
        built(**spec)


def test_they_are_listed_beside_the_other_weightings():
    table = listed("weightings")
    assert table["mgda"].startswith("Take the direction")
    assert table["by_gradient"].startswith("Weigh the rows")
    assert all(table.values())
