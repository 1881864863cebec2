"""The file of results only grows, survives a torn line, and tells runs apart by what they compute."""

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tutelage.bench import Results, key
from tutelage.bench.results import is_scored, pack, unpack
from tutelage.recipe import schema

RAW = {
    "data": {"use": "digits"},
    "student": "cifar/resnet8",
    "teachers": {"big": "runs/a"},
    "paths": {"l": {"loss": "kl"}},
}


def test_a_torn_last_line_is_dropped_and_the_next_one_takes_its_place(tmp_path):
    results = Results(tmp_path)
    results.append({"method": "plain", "seed": 0})
    with results.file.open("a") as file:
        file.write('{"method": "auto", "se')
    assert results.lines() == [{"method": "plain", "seed": 0}]
    results.append({"method": "kd", "seed": 1})
    assert [json.loads(line)["method"] for line in results.file.read_text().splitlines()] == ["plain", "kd"]


def test_runs_of_other_recipes_or_data_are_not_found(tmp_path):
    results = Results(tmp_path)
    for told, data in (("k1", "d1"), ("k2", "d1"), ("k1", "d2")):
        results.append({"method": "auto", "seed": 0, "key": told, "data": data, "test": f"{told} {data}"})
    assert results.found([("auto", 0, "k1")], "d1")[("auto", 0)]["test"] == "k1 d1"
    assert results.found([("auto", 1, "k1")], "d1") == {}


def test_scores_that_are_no_numbers_are_known(tmp_path):
    results = Results(tmp_path)
    for seed, score in enumerate((0.0, 0.5, math.nan, math.inf)):
        results.append({"method": "auto", "seed": seed, "scores": pack(torch.tensor([1.0, score]))})
    assert [is_scored(line) for line in results.lines()] == [True, True, False, False]


@given(st.lists(st.sampled_from([0.0, 1.0, 0.5]), min_size=1, max_size=40))
def test_scores_are_read_back_as_they_were(scores):
    assert torch.equal(unpack(json.loads(json.dumps(pack(torch.tensor(scores))))), torch.tensor(scores))


def test_scores_that_are_mostly_alike_take_little_room():
    scores = torch.zeros(72, 130, 12)
    scores[:, :20, 0] = 0.5
    assert len(json.dumps(pack(scores))) < 0.02 * scores.numel()


def told(**changes):
    raw = json.loads(json.dumps(RAW))
    for name, value in changes.items():
        schema.put(raw, name.replace("__", "."), value)
    return key(schema.parse(raw), "resnet8", {"big": "f00"})


@pytest.mark.parametrize(
    "change",
    [
        {"data__use": "/elsewhere/digits"},
        {"train__cache": "/stores/a"},
        {"train__workers": 4},
        {"train__seed": 3},
        {"teachers__big": "elsewhere/a"},
        {"seeds": 5},
    ],
)
def test_places_and_seeds_do_not_change_what_is_computed(change):
    assert told(**change) == told()


@pytest.mark.parametrize("change", [{"train__epochs": 3}, {"paths__l": {"loss": "dist"}}, {"data__views": 2}])
def test_another_recipe_has_another_key(change):
    assert told(**change) != told()


def test_another_teacher_has_another_key():
    recipe = schema.parse(RAW)
    assert key(recipe, "resnet8", {"big": "f00"}) != key(recipe, "resnet8", {"big": "f01"})
