"""What `tutelage check` says beside scores and pairing."""

import json

import pytest

from tutelage.losses.temperature import TEMPERATURES


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
