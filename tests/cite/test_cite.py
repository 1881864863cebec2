"""References: every part that names a source can be cited, and a recipe cites what it uses."""

import re
from dataclasses import replace

import pytest

from tutelage.cite import cite, read_entries
from tutelage.cite.bibliography import FOLDERS, from_docstring, reference_of, stands_for
from tutelage.recipe import catalogue

PARTS = [name for folder in FOLDERS for name in catalogue.names(folder)]


SOURCED = [name for name in PARTS if re.search(r"\b(19|20)\d\d\b", reference_of(name))]


@pytest.mark.parametrize("name", SOURCED)
def test_every_part_with_a_reference_has_an_entry(name):
    entries = [entry for entry in read_entries() if stands_for(entry, name)]
    assert entries, f"no entry of references.bib stands for {name}: {reference_of(name)}"


@pytest.mark.parametrize("rule", catalogue.solvers())
def test_every_rule_over_gradients_has_an_entry(rule):
    assert any(stands_for(entry, rule) for entry in read_entries())


@pytest.mark.parametrize("name", PARTS)
def test_the_entry_is_the_paper_that_the_docstring_names_first(name):
    number = re.search(r"arXiv:(\d{4}\.\d{4,5})", reference_of(name))
    known = {entry.eprint for entry in read_entries() if stands_for(entry, name)} - {None}
    if number is not None and known:
        assert number[1] in known


def test_every_entry_stands_for_a_part_that_there_is():
    known = {name.replace("_", "") for folder in catalogue.FOLDERS for name in catalogue.names(folder)}
    known |= set(catalogue.solvers())
    for entry in read_entries():
        assert entry.parts, entry.key
        for part in entry.parts:
            assert part.partition(".")[0].lower().replace("_", "") in known, entry.key


def test_a_part_without_an_entry_of_its_own_is_found_by_its_number(monkeypatch):
    bare = tuple(replace(entry, parts=()) for entry in read_entries())
    monkeypatch.setattr("tutelage.cite.bibliography.read_entries", lambda: bare)
    assert from_docstring("dkd").key == "zhao2022decoupled"
    made = from_docstring("srrl")  # names no number
    assert made.bibtex.startswith("@misc{srrl,\n  note = {Yang et al. 2021")
    assert from_docstring("calibrate") is None  # names no source


def test_keys_and_numbers_are_unique_and_entries_are_bibtex():
    entries = read_entries()
    for values in ([entry.key for entry in entries], [entry.eprint for entry in entries if entry.eprint]):
        assert len(values) == len(set(values))
    for entry in entries:
        assert re.fullmatch(r"@\w+\{[\w-]+,\n(  \w+ = \{.+\},\n)+\}", entry.bibtex), entry.key
        for field in ("title", "author", "year"):
            assert f"  {field} = " in entry.bibtex, entry.key
        assert "parts" not in entry.bibtex
        assert entry.bibtex.count("{") == entry.bibtex.count("}"), entry.key


def test_parts_of_existing_names_belong_to_one_folder():
    names = [name for folder in FOLDERS for name in catalogue.names(folder)]
    assert len(names) == len(set(names))


def test_a_recipe_cites_its_parts_and_the_options_that_matter():
    loss = {"use": "dkd", "standardise": True}
    keys = {entry.key for entry in cite({"paths": {"a": {"loss": loss}}, "weighting": "uncertainty"})[0]}
    assert keys == {"zhao2022decoupled", "sun2024logit", "kendall2018multi", "hinton2015distilling"}
    plain, _ = cite({"paths": {"a": {"loss": {"use": "dkd"}}}, "weighting": "uncertainty"})
    assert "sun2024logit" not in {entry.key for entry in plain}


def test_a_rule_within_a_rule_is_cited_too():
    weighting = {"scale": {"use": "by_gradient", "rule": {"use": "aligned_mtl"}}, "gates": []}
    keys = [entry.key for entry in cite({"paths": [], "weighting": weighting})[0]]
    assert "senushkin2023independent" in keys
    assert keys == [entry.key for entry in cite({"paths": [], "weighting": "alignedmtl"})[0]]


def test_a_paper_of_a_loss_and_of_the_scheme_is_printed_once():
    recipe = {"paths": {"a": {"loss": "ft"}}, "weighting": "fixed", "scheme": "paraphrased"}
    (entry,) = cite(recipe)[0]
    assert entry.key == "kim2018paraphrasing"
    assert entry.parts == ("ft", "paraphrased")


def test_training_without_teachers_cites_nothing():
    assert cite({"teachers": {}, "student": "cifar/resnet8"}) == ([], [])


def test_a_run_and_a_recipe_are_cited_from_the_command_line(tutelage, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("{data: digits, student: cifar/resnet8, teachers: {big: cifar/resnet14}, paths: [attention]}")
    code, printed, _ = tutelage("cite", recipe)
    assert code == 0
    assert "@inproceedings{zagoruyko2017paying," in printed
    assert "@software{tutelage," in printed
    code, _, message = tutelage("cite", tmp_path / "nothing")
    assert code == 2
    assert "expected a recipe" in message
