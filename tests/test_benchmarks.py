"""Benchmarks cover what there is."""

import importlib
import pathlib
import sys

import pytest

from tutelage import losses
from tutelage.recipe import catalogue

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def table(monkeypatch):
    """The script of the table of losses, as a module."""
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module("losses_table")
    for name in ("losses_table", "cifar10"):
        sys.modules.pop(name, None)


def test_every_loss_has_a_row_in_the_table(table):
    assert set(losses.__all__) - set(table.METHODS) == set(table.ELSEWHERE)


def test_every_row_names_a_loss_with_options_it_has(table):
    for method in table.METHODS.values():
        if method.place is not None:
            catalogue.made("losses", method.loss)
