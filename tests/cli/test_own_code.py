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
    "nets": (
        "from torch import nn\n"
        "def more():\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 17))\n"
        "def fewer():\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))\n"
        "def small():\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(16, 10))\n"
        "class Record(nn.Linear):\n"
        "    def __init__(self):\n"
        "        super().__init__(64, 10)\n"
        "    def forward(self, pictures):\n"
        "        return {'logits': super().forward(pictures.flatten(1))}\n"
        "def still():\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).requires_grad_(False)\n"
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


FOUND = "expected logits [1, 10] for one picture, found"


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("more", f"{FOUND} [1, 17]. Change its last layer"),
        ("fewer", f"{FOUND} [1, 3]. Change its last layer"),
        ("Record", f"{FOUND} dict. Change its last layer, or put it inside a module"),
        ("small", "on a picture [1, 1, 8, 8] failed with RuntimeError: mat1 and mat2"),
        ("still", "student: expected parameters to train, found none that require gradients"),
    ],
)
def test_a_model_that_cannot_be_trained_here_is_refused_before_it_is_trained(own, tutelage, tmp_path, model, message):
    asked = ["--data", "digits", "--out", "run", "--allow-import", own]
    code, _, said = tutelage("train", "--model", f"{own}.nets:{model}", *asked)
    assert code == 2, said
    assert message in said
    assert "Traceback" not in said
    assert not (tmp_path / "run").exists()


def test_so_is_a_teacher_and_its_classes_can_be_named(own, tutelage):
    def check(teacher, *more):
        asked = ["--student", "cifar/resnet8", "--data", "digits", "--allow-import", own, "--force"]
        return tutelage("check", *asked, "--teacher", f"big={own}.nets:{teacher}", *more)

    code, _, said = check("Record")
    assert code == 2, said
    assert f"{FOUND} dict" in said
    code, _, said = check("more")
    assert code == 2, said
    assert "--set teachers.big.classes=[…]" in said
    code, _, said = check("more", "--set", "teachers.big.classes=[0, 1, 2, 3, 4, 5, 6, 7, 8, 16]")
    assert code == 0, said
