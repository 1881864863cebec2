"""The paper index is whole, and each of its recipes can be built."""

import pathlib
import re

import pytest

from tutelage import losses, weighting
from tutelage.cli.prepare import prepare
from tutelage.recipe import schema

ROOT = pathlib.Path(__file__).resolve().parents[2]
INDEX = (ROOT / "docs" / "paper-index.md").read_text(encoding="utf-8")
RECIPES = sorted((ROOT / "recipes" / "methods").glob("*.yaml"))


def recipe(path, **data):
    """A recipe on the digits, with teachers that were not trained."""
    raw = schema.read(path)
    raw["teachers"] = {name: model.partition("@")[0] for name, model in raw["teachers"].items()}
    return raw | {"data": {"use": "digits", "limit": 128, "batch_size": 64, **data}}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_is_built(path):
    prepared = prepare(recipe(path), {}, force=True)
    assert prepared.pairing


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_is_short_and_says_where_it_is_from(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert 10 <= len(lines) <= 16
    assert re.search(r"\b(19|20)\d\d\b|of this library", lines[0])


def test_the_index_has_every_recipe_and_no_other():
    assert set(re.findall(r"`(\w+)\.yaml`", INDEX)) == {path.stem for path in RECIPES}


@pytest.mark.parametrize("name", [*losses.__all__, *weighting.__all__])
def test_the_index_has_every_loss_and_every_weighting(name):
    assert f"`{name}`" in INDEX
