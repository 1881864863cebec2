"""Gives every test of the cache a small world of its own."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from world import World


@pytest.fixture
def world(tmp_path) -> World:
    return World(tmp_path / "store")
