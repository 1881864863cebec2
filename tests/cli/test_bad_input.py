"""What a user can get wrong: exit code 2, one clear message, nothing half-written."""

import pathlib
import pickle
import re
import shutil
import subprocess

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.utils.data import TensorDataset

import tutelage as tu
from tutelage.cli.evaluate import evaluate
from tutelage.errors import DataError


@pytest.fixture
def refused(tutelage, teacher, tmp_path):
    """Distils with one thing wrong; gives the message, after checking that nothing was left behind."""

    def distill(*arguments, student="cifar/resnet8", teach=teacher, data="digits", out=tmp_path / "run") -> str:
        before = set(out.iterdir()) if out.is_dir() else None
        given = ["--student", student, "--teacher", f"big={teach}", "--data", data, "--out", out, *arguments]
        code, printed, message = tutelage("distill", *given)
        assert code == 2, message
        assert "Traceback" not in message
        assert printed == ""
        assert (set(out.iterdir()) if out.is_dir() else None) == before
        return message

    return distill


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ([], {"student": "cifar/resnet9"}, r"cifar/resnet9.*close: .*resnet"),
        ([], {"student": "nothing/at_all"}, "nothing/at_all"),
        (["--set", "paths.deep={loss: mse, student: layer9, teacher: layer3}"], {}, "layer9.*close: .*layer"),
        (
            ["--set", "paths.deep={loss: msse, student: layer3, teacher: layer3}"],
            {},
            "there is no loss 'msse'; close: mse",
        ),
        (["--set", "weighting=atuo"], {}, "there is no weighting 'atuo'; close: auto"),
        (["--set", "weighting.scale={use: fixed, logts: 2}"], {}, "logts.*close: logits"),
        (["--set", "train.epohcs=3"], {}, "train: there is no key 'epohcs'; close: epochs"),
        (["--set", "trian.epochs=3"], {}, "there is no key 'trian'; close: train"),
        (["--set", "paths=[logitz]"], {}, "there is no short name and no loss 'logitz'; close: logits"),
        (["--set", "data.batch_size=100000"], {}, "expected at least one full batch"),
        (["--set", "nonsense"], {}, "expected key.sub=value"),
        (["--set", "paths={logits: {loss: {use: kl, temperature: -1}}}"], {}, "path 'logits'.*temperature > 0"),
        (["--set", "paths={logits: {loss: {use: kl, temperature: hot}}}"], {}, "path 'logits'"),
        (["--set", "paths=[]"], {}, "expected at least one path"),
        (["--set", "train.accelerator=gqu"], {}, "there is no accelerator 'gqu'; close: gpu"),
        (["--set", "data.image_size=-1"], {}, "data.image_size: .*greater than or equal to 1"),
        (["--set", "teachers.big.classes=[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]"], {}, "classes: .*from 0 to 9"),
        (["--set", "teachers.big.classes=[1, 1, 2, 3, 4, 5, 6, 7, 8, 9]"], {}, "classes: .*all different"),
        (["--teacher", "student=cifar/resnet8"], {}, "found 'student'"),
        ([], {"student": "resnet18"}, "close: timm/resnet18"),
        ([], {"student": "tim/resnet18"}, "close: timm/resnet18"),
        (["--allow-import", "json"], {"student": "json:loads"}, "failed with TypeError"),
        ([], {"data": "no/such/folder"}, "no/such/folder"),
        (["--resume"], {}, "expected a run in"),
        (["--set", "train.seed=1700000000000"], {}, r"train.seed: expected -2.2e\+09 to 2.2e\+09"),
        (["--set", "train.seed=2200000000", "--seeds", "2"], {}, "train.seed: .*found 2200000001"),
    ],
)
def test_a_wrong_name_is_refused_with_the_closest_ones(refused, arguments, options, message):
    assert re.search(message, refused(*arguments, **options), re.DOTALL)


def test_a_model_of_a_package_that_was_not_allowed_is_not_imported(refused):
    assert "--allow-import mylab" in refused(student="mylab.nets:tiny")


def test_a_teacher_for_another_number_of_classes_is_refused(refused, tmp_path):
    weights = save_untrained(tmp_path, classes=7)
    message = refused(teach=f"cifar/resnet8@{weights}")
    assert "7" in message
    assert "10" in message


def test_a_teacher_with_more_classes_is_used_once_its_columns_are_named(refused, tutelage, tmp_path):
    weights = save_untrained(tmp_path, classes=12)
    message = refused(teach=f"cifar/resnet8@{weights}")
    assert "was trained for 12 classes, the data has 10" in message
    assert "new classifier" not in message
    cure = "teachers.big.classes=[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]"
    assert f"--set '{cure}'" in message
    given = ["--student", "cifar/resnet8", "--teacher", f"big=cifar/resnet8@{weights}", "--data", "digits"]
    assert tutelage("check", *given, "--set", cure, "--force")[0] == 0


def test_a_teacher_near_chance_is_refused_and_force_goes_on(refused, tutelage, tmp_path):
    weights = save_untrained(tmp_path)
    assert "above chance" in refused(teach=f"cifar/resnet8@{weights}")
    options = ["--set", "train.epochs=1", "--set", "data.limit=200", "--no-baseline", "--force"]
    given = ["--student", "cifar/resnet8", "--teacher", f"bad=cifar/resnet8@{weights}", "--data", "digits"]
    assert tutelage("distill", *given, "--out", tmp_path / "forced", *options)[0] == 0


def test_a_teacher_that_answers_nan_is_told_from_one_at_chance(refused, teacher, tmp_path):
    state = load_file(teacher / "student" / "model.safetensors")
    save_file({**state, "linear.bias": torch.full((10,), torch.nan)}, tmp_path / "nan.safetensors")
    assert "NaN" in refused(teach=f"cifar/resnet8@{tmp_path / 'nan.safetensors'}")


def test_a_recipe_that_is_no_text_is_refused(tutelage, tmp_path):
    (tmp_path / "recipe.yaml").write_bytes(b"\xff\xfe\x00\x80")
    code, _, message = tutelage("distill", tmp_path / "recipe.yaml", "--out", tmp_path / "run")
    assert code == 2
    assert "UTF-8" in message


def test_data_without_a_label_to_score_by_is_refused(tmp_path):
    data = TensorDataset(torch.rand(80, 1, 8, 8), torch.full((80,), -1))
    data.classes = ["cat", "dog"]
    teacher = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))
    options = {"student": "cifar/resnet8", "teachers": {"big": teacher}, "out": tmp_path / "run", "force": True}
    with pytest.raises(DataError, match="expected selection samples with a label"):
        tu.distill(data=data, **options)
    with pytest.raises(DataError, match="expected test samples with a label"):
        evaluate(teacher, data=data)


def test_training_without_a_label_is_refused(tutelage, tmp_path):
    given = ["--model", "cifar/resnet8", "--data", "digits", "--set", "data.labels=0"]
    code, _, message = tutelage("train", *given, "--out", tmp_path / "run")
    assert code == 2
    assert "samples with a label, found none" in message
    assert not (tmp_path / "run").exists()


def test_what_was_done_to_weights_is_said(tutelage, teacher, tmp_path):
    state = load_file(teacher / "student" / "model.safetensors")
    torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, tmp_path / "w.pt")
    given = ["--student", "cifar/resnet8", "--teacher", f"big=cifar/resnet8@{tmp_path / 'w.pt'}", "--data", "digits"]
    code, _, message = tutelage("check", *given)
    assert code == 0
    assert "big: removed the prefix 'module.'" in message
    assert "big: took the weights under 'state_dict'" in message


def test_permuted_classes_are_recognised_and_the_map_that_mends_them_is_offered(refused, tutelage, teacher, tmp_path):
    state = load_file(teacher / "student" / "model.safetensors")
    order = torch.tensor([3, 0, 1, 2, 9, 4, 5, 6, 7, 8])
    state = {name: value[order] if name.startswith("linear") else value for name, value in state.items()}
    save_file(state, tmp_path / "permuted.safetensors")
    message = refused(teach=f"cifar/resnet8@{tmp_path / 'permuted.safetensors'}")
    assert "permuted" in message
    offered = message[message.index("teachers.big.classes=") :].split("'")[0]
    given = ["--student", "cifar/resnet8", "--teacher", f"big=cifar/resnet8@{tmp_path / 'permuted.safetensors'}"]
    assert tutelage("check", *given, "--data", "digits", "--set", offered)[0] == 0


def test_weights_of_another_shape_are_refused_by_name(refused, tmp_path):
    save_file({"conv1.weight": torch.zeros(4, 1, 3, 3)}, tmp_path / "w.safetensors")
    assert "conv1.weight" in refused(teach=f"cifar/resnet8@{tmp_path / 'w.safetensors'}")


class Trap:
    """Unpickling it runs code."""

    def __reduce__(self):
        return (exec, ("import pathlib; pathlib.Path('sprung').touch()",))


def test_weights_with_code_in_them_are_refused_and_nothing_runs(refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.pt").write_bytes(pickle.dumps({"state_dict": Trap()}))
    refused(teach=f"cifar/resnet8@{tmp_path / 'w.pt'}")
    assert not (tmp_path / "sprung").exists()


def test_an_empty_folder_is_refused(refused, tmp_path):
    (tmp_path / "photos").mkdir()
    assert "photos" in refused(data=tmp_path / "photos")


def pictures(folder: pathlib.Path, classes=("cat", "dog"), each=30) -> pathlib.Path:
    generator = torch.Generator().manual_seed(0)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for number in range(each):
            values = torch.randint(0, 255, (32, 32, 3), generator=generator, dtype=torch.uint8)
            Image.fromarray(values.numpy()).save(folder / name / f"{number}.png")
    return folder


def test_one_class_only_is_refused(refused, tmp_path):
    assert "two classes" in refused(data=pictures(tmp_path / "photos", classes=("cat",)))


def test_corrupt_pictures_are_named_and_refused_above_the_limit(refused, tmp_path):
    folder = pictures(tmp_path / "photos")
    for number in range(5):
        (folder / "cat" / f"{number}.png").write_bytes(b"not a picture")
    message = refused(data=folder)
    assert "cat" in message
    assert ".png" in message
    assert "max_bad" in message


def test_a_folder_with_another_run_is_refused(tutelage, teacher):
    code, _, message = tutelage("train", "--model", "cifar/resnet8", "--data", "digits", "--out", teacher)
    assert code == 2
    assert "holds a finished run" in message
    assert "--resume" in message


@pytest.mark.parametrize(
    ("given", "named"),
    [(["--no-baseline"], "baseline"), (["--seeds", "3"], "seeds"), (["--set", "train.epochs=2"], "--set")],
)
def test_a_resumed_run_takes_no_argument_that_its_recipe_holds(tutelage, teacher, tmp_path, given, named):
    run = shutil.copytree(teacher, tmp_path / "run")
    recipe = (run / "recipe.yaml").read_text()
    (run / "recipe.yaml").write_text(recipe + f"teachers: {{big: {{model: {teacher}}}}}\n")
    code, _, message = tutelage("distill", "--out", run, "--resume", *given)
    assert code == 2
    assert f"it takes no {named}." in message


def test_a_folder_with_other_files_is_refused(refused, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    assert "other files" in refused(out=tmp_path / "mine")


@pytest.fixture
def mount(tmp_path):
    """A small file system of its own; skipped where the machine does not let us mount one."""
    if shutil.which("mount") is None:
        pytest.skip("needs mount")
    made = []

    def mounted(options: str) -> pathlib.Path:
        place = tmp_path / f"mount{len(made)}"
        place.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], capture_output=True, check=False
        )
        if done.returncode:
            pytest.skip(f"needs the right to mount a tmpfs: {done.stderr.decode().strip()}")
        made.append(place)
        return place

    yield mounted
    for place in made:
        subprocess.run(["umount", "--lazy", str(place)], check=True)  # this process may still read from it


def test_a_read_only_place_is_refused(refused, mount):
    assert "Read-only" in refused(out=mount("ro,size=1m") / "run")


SMALL = ["--set", "train.epochs=2", "--set", "data.limit=256", "--no-baseline"]


def test_no_space_left_ends_clearly_at_any_moment_and_the_run_goes_on(tutelage, teacher, mount):
    place = mount("size=400k")
    out = place / "run"
    given = ["distill", "--student", "cifar/resnet8", "--teacher", f"big={teacher}", "--data", "digits", *SMALL]
    arguments, codes = [*given, "--out", out], []
    for kilobytes in (400, 1200, 1700, 2000, 2200, 2600, 20000):  # checkpoints, weights, graph, report
        subprocess.run(["mount", "-o", f"remount,size={kilobytes}k", str(place)], check=True)
        code, _, message = tutelage(*arguments)
        codes.append(code)
        if code == 0:
            break
        assert code == 2, message
        assert "No space left" in message
        assert "Traceback" not in message
        assert "--resume" in message
        assert [file for file in out.rglob(".*") if file.is_file()] == []
        arguments = ["distill", "--out", out, "--resume"]
    assert len(codes) > 2
    assert codes[-1] == 0
    assert (out / "report.html").exists()


def save_untrained(folder: pathlib.Path, classes: int = 10) -> pathlib.Path:
    from tutelage.models import find

    model = find("cifar/resnet8", num_classes=classes, in_channels=1, seed=0)
    save_file(model.state_dict(), folder / "untrained.safetensors")
    return folder / "untrained.safetensors"
