"""What the house rules ask of every file and no linter checks."""

import pathlib
import re

SOURCES = sorted((pathlib.Path(__file__).resolve().parents[1] / "src" / "tutelage").rglob("*.py"))


def test_path_stays_our_own_noun():
    wrong = re.compile(r"from pathlib import .*\bPath\b")
    assert [file.name for file in SOURCES if wrong.search(file.read_text(encoding="utf-8"))] == []


def test_no_room_for_what_has_no_name():
    nameless = {"utils", "helpers", "misc", "common", "core", "manager"}
    assert [file for file in SOURCES if {part.removesuffix(".py") for part in file.parts[-3:]} & nameless] == []


def test_torch_load_runs_no_code():
    loose = re.compile(r"torch\.load\((?!.*weights_only=True)")
    assert [file.name for file in SOURCES if loose.search(file.read_text(encoding="utf-8"))] == []
