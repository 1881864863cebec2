"""Benchmarks cover what there is."""

import ast
import pathlib
import pkgutil

import pytest

from tutelage import losses
from tutelage.bench import read_method
from tutelage.recipe import catalogue, schema

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "benchmarks"

OTHER_TASKS = {
    *("affinity", "channel_statistics", "csd", "l1", "pisr"),
    *("anchor_boxes", "anchor_classes", "crosskd", "fgd", "ifvd", "imitation", "ld"),
    "self_attention",
}
"""Losses of super-resolution, detection, segmentation and transformers, which have benchmarks of their own."""


@pytest.fixture(scope="module")
def table():
    """The recipe of the table of losses."""
    return schema.read(FOLDER / "losses.yaml")


def test_every_loss_for_classes_has_a_row_in_the_table(table):
    assert {name.lower() for name in losses.__all__} - set(table["methods"]) == OTHER_TASKS


def test_losses_of_transformers_have_rows_of_their_own():
    rows = schema.read(FOLDER / "transformers.yaml")["methods"].values()
    used = {
        path["loss"]["use"] for row in rows for path in row.get("paths", {}).values() if isinstance(path["loss"], dict)
    }
    assert {"self_attention", "token_relations"} <= used


def test_every_row_names_losses_with_options_they_have(table):
    for name in table["methods"]:
        recipe = schema.parse(read_method(name, table).recipe(table))
        for path in recipe.paths.values() if isinstance(recipe.paths, dict) else ():
            catalogue.made("losses", path.loss.as_dict())


@pytest.mark.parametrize("script", sorted(FOLDER.glob("*.py")), ids=lambda script: script.name)
def test_what_a_script_takes_from_the_library_is_there(script):
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "tutelage":
            for name in node.names:
                pkgutil.resolve_name(f"{node.module}.{name.name}")
