"""What `tutelage check` says beside scores and pairing."""

import json

import pytest
import torch

from tutelage.cli.prepare import _paired
from tutelage.losses.temperature import TEMPERATURES
from tutelage.models import find
from tutelage.recipe import schema
from tutelage.tasks import Classification


@pytest.mark.parametrize(
    ("paths", "told"),
    [
        ("[logits, pooled]", {"logits"}),
        ("{soft: {loss: dkd}, sharp: {loss: {use: kl, standardise: sample}}, rows: {loss: dist}}", {"soft"}),
    ],
)
def test_a_temperature_is_suggested_for_paths_with_softened_answers(tutelage, teacher, paths, told):
    words = ["--student", "cifar/resnet8", "--teacher", f"big={teacher}", "--data", "digits"]
    code, out, said = tutelage("check", *words, "--set", f"paths={paths}", "--json")
    assert code == 0, said
    found = json.loads(out)["temperatures"]
    assert set(found) == told
    assert all(each["big"] in TEMPERATURES for each in found.values())
    assert "a temperature to try" in said


def test_a_teacher_that_ends_up_on_no_path_is_told(capsys):
    task = Classification(10)
    models = {name: find("cifar/resnet8", num_classes=10) for name in ("student", "heard", "lost")}
    given = {
        "data": "digits",
        "student": "cifar/resnet8",
        "teachers": {"heard": "cifar/resnet8", "lost": "cifar/resnet8"},
    }
    example = task.unpack((torch.rand(2, 3, 32, 32), torch.tensor([0, 1])))
    _paired(schema.parse(given), task, models, example)
    assert "no path" not in capsys.readouterr().err
    paths = {"logits": {"loss": "kl", "teachers": ["heard"]}}
    _paired(schema.parse({**given, "paths": paths}), task, models, example)
    assert "teacher 'lost' is on no path" in capsys.readouterr().err
