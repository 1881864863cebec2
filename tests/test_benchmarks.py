"""Benchmarks cover what there is."""

import pathlib

import pytest

from tutelage import losses
from tutelage.bench import read_method
from tutelage.recipe import catalogue, schema

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def table():
    """The recipe of the table of losses."""
    return schema.read(FOLDER / "losses.yaml")


def test_every_loss_has_a_row_in_the_table(table):
    assert {name.lower() for name in losses.__all__} - set(table["methods"]) == set()


def test_every_row_names_losses_with_options_they_have(table):
    for name in table["methods"]:
        recipe = schema.parse(read_method(name, table).recipe(table))
        for path in recipe.paths.values() if isinstance(recipe.paths, dict) else ():
            catalogue.made("losses", path.loss.as_dict())
