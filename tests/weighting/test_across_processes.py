"""Two processes with half of each batch weigh and learn as one process with all of it."""

import pathlib
import subprocess
import sys

import pytest
import torch
from torch.testing import assert_close

pytestmark = pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="needs gloo")

REFUSED = {"Meta": "RecipeError: Meta: expected one process; found several"}
"""Weighting that several processes cannot share -> the words with which it is refused at build."""
INEXACT = {"ByGradient rule=mgda exact=False": "the mean of the processes' inner products is not that of their mean"}
"""What agrees between the processes, but not with one that sees all -> why."""


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What both processes wrote."""
    folder = tmp_path_factory.mktemp("processes")
    script = pathlib.Path(__file__).with_name("halves.py")
    processes = [
        subprocess.Popen([sys.executable, str(script), str(rank), str(folder / "store"), str(folder / str(rank))])
        for rank in range(2)
    ]
    assert [process.wait(timeout=250) for process in processes] == [0, 0]
    return [torch.load(folder / str(rank), weights_only=True) for rank in range(2)]


def test_every_weighting_was_tried(said):
    from tutelage import weighting

    tried = {name.partition(" ")[0] for name in said[0]["alone"]}
    assert tried == set(weighting.__all__) - {"Weighting", "Product"}


def test_two_processes_weigh_and_learn_as_one(said):
    wrong = {}
    for name, alone in said[0]["alone"].items():
        first, second = (each["together"][name] for each in said)
        rule = name.partition(" ")[0]
        try:
            if rule in REFUSED:
                assert REFUSED[rule] in first
                assert REFUSED[rule] in second
                continue
            assert not isinstance(alone, str), alone
            assert not isinstance(first, str), first
            assert_close(first[1], second[1], rtol=1e-4, atol=1e-6)
            if name not in INEXACT:
                weights = [torch.cat(pair, dim=1) for pair in zip(first[0], second[0], strict=True)]
                assert_close(weights, alone[0], rtol=1e-4, atol=1e-5)
                assert_close(first[1], alone[1], rtol=1e-4, atol=1e-5)
        except AssertionError as error:
            wrong[name] = str(error)
    assert not wrong, "\n\n".join(f"{name}: {words}" for name, words in wrong.items())


@pytest.mark.parametrize("name", INEXACT)
def test_what_is_inexact_agrees_between_the_processes_alone(said, name):
    first, second, alone = (each[name][0] for each in (said[0]["together"], said[1]["together"], said[0]["alone"]))
    assert_close(first, second)
    assert (
        max(float((one - whole[:, : one.shape[1]]).abs().max()) for one, whole in zip(first, alone, strict=True)) > 1e-2
    )


def test_the_halves_are_different_enough_to_tell(said):
    weights = said[0]["together"]["ByGradient rule=mgda"][0]
    assert all(step.std(dim=0).mean() > 1e-3 for step in weights)
