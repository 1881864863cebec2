"""Errors in the user's own code: exit code 2 and one line, as for all that a user can mend."""

import importlib
import sys

import pytest

MODULES = {
    "broken": "def tiny(:\n",
    "lacking": "import a_package_that_nobody_has\n",
    "unset": "import os\nPLACE = os.environ['A_VARIABLE_THAT_NOBODY_SETS']\n",
    "sets": (
        "class Lost:\n"
        "    def __len__(self):\n"
        "        return 40\n"
        "    def __getitem__(self, number):\n"
        "        return open(f'no/photo{number}.png'), 0\n"
        "def photos():\n"
        "    return open('no/photos.csv')\n"
        "lost = Lost\n"
    ),
}


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A package of the user's in the working folder; gives its name."""
    folder = tmp_path / "own_code_lab"
    folder.mkdir()
    for name, text in {"__init__": "", **MODULES}.items():
        (folder / f"{name}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    importlib.invalidate_caches()
    yield folder.name
    for name in [name for name in sys.modules if name.partition(".")[0] == folder.name]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inspect", "{}.broken:tiny"], "importing {}.broken failed with SyntaxError"),
        (["inspect", "{}.lacking:tiny"], "No module named 'a_package_that_nobody_has'. Mend it, or install what"),
        (["inspect", "{}.unset:tiny"], "importing {}.unset failed with KeyError"),
        (["train", "--data", "{}.sets:photos"], "{}.sets:photos() failed with FileNotFoundError"),
        (
            ["train", "--data", "{}.sets:photos", "--task", "detection"],
            "{}.sets:photos() failed with FileNotFoundError",
        ),
        (["train", "--data", "{}.sets:lost"], "sample 0 of Lost failed with FileNotFoundError"),
    ],
)
@pytest.mark.parametrize("allowed", [["--allow-import", "{}"], ["--allow-import={}"]], ids=["apart", "with ="])
def test_it_is_the_users_and_said_in_one_line(own, tutelage, arguments, message, allowed):
    more = ["--model", "cifar/resnet8", "--out", "run"] if arguments[0] == "train" else []
    code, _, said = tutelage(*(part.format(own) for part in (*arguments, *allowed)), *more)
    assert code == 2, said
    assert message.format(own) in said
    assert "Traceback" not in said
    assert "--debug" in said
