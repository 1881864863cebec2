"""Segmentation through the real command line: teacher, distillation, report, evaluation, export, cache."""

import itertools
import json
import pathlib
import shutil

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tutelage.cli.__main__ import main

pytest.importorskip("segmentation_models_pytorch")

COLOURS = torch.tensor([[40, 60, 200], [210, 60, 50], [60, 200, 70]], dtype=torch.uint8)
NET = "smp/unet:mobilenetv3_small_050"
BIG = "student.arguments={encoder_depth: 3, decoder_channels: [32, 16, 16]}"
SMALL = ["--set", "student.arguments={encoder_depth: 3, decoder_channels: [16, 8, 8]}"]
SHORT = ["--set", "train.epochs=4", "--set", "train.log_every=2"]


def draw(root: pathlib.Path, split: str, count: int, seed: int) -> None:
    """Discs and bars on a ground, with noise; each has a colour of its own, and a border without a class."""
    draws = torch.Generator().manual_seed(seed)
    rows, columns = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    for folder in ("images", "masks"):
        (root / split / folder).mkdir(parents=True)
    for number in range(count):
        y, x, radius, bar = torch.randint(8, 24, (4,), generator=draws).tolist()
        mask = torch.zeros(32, 32, dtype=torch.uint8)
        mask[(columns - bar).abs() < 4] = 1
        mask[(rows - y) ** 2 + (columns - x) ** 2 < (radius / 2) ** 2] = 2
        noise = torch.randint(-30, 30, (32, 32, 3), generator=draws)
        picture = (COLOURS[mask.long()].int() + noise).clamp(0, 255).to(torch.uint8)
        mask[0] = 9
        Image.fromarray(picture.numpy()).save(root / split / "images" / f"{number:02}.jpg")
        Image.fromarray(mask.numpy()).save(root / split / "masks" / f"{number:02}.png")


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> pathlib.Path:
    root = tmp_path_factory.mktemp("data") / "shapes"
    for seed, (split, count) in enumerate({"train": 24, "val": 8, "test": 12}.items()):
        draw(root, split, count, seed)
    (root / "classes.txt").write_text("ground\nbar\ndisc\n")
    return root


@pytest.fixture(scope="module")
def teacher(world, tmp_path_factory) -> pathlib.Path:
    out = tmp_path_factory.mktemp("runs") / "teacher"
    given = ["train", "--model", NET, "--data", str(world), "--out", str(out), *SHORT]
    assert main([*given, "--set", "train.epochs=12", "--set", BIG]) == 0
    return out


@pytest.fixture(scope="module")
def run(world, teacher, tmp_path_factory) -> pathlib.Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    given = ["distill", "--task", "segmentation", "--student", NET, "--teacher", f"big={teacher}"]
    assert main([*given, "--data", str(world), "--out", str(out), *SMALL, *SHORT]) == 0
    return out


def test_a_run_ends_with_a_verdict_on_the_mean_iou(run):
    result = json.loads((run / "result.json").read_text())
    assert (result["task"], result["metric"]) == ("segmentation", "miou")
    assert result["verdict"] in ("better", "no difference", "worse")
    assert result["interval"][0] <= result["delta"] <= result["interval"][1]
    assert result["teachers"]["big"]["validation"] > 0.5
    evaluation = json.loads((run / "evaluation.json").read_text())
    assert evaluation["of_class"] == "IoU"
    student = evaluation["models"]["student"]
    assert student["miou"] == pytest.approx(result["student"]["test"], abs=1e-5)
    assert student["miou"] == pytest.approx(sum(student["per_class"]) / 3, abs=1e-5)
    assert evaluation["models"]["teacher:big"]["pixel_accuracy"] > 0.8


def test_each_of_two_teachers_has_a_weight_on_every_path(world, teacher, run, tmp_path, tutelage):
    given = ["distill", "--student", NET, "--teacher", f"big={teacher}", "--teacher", f"small={run}", "--data", world]
    given += [*SMALL, *SHORT, "--set", "train.epochs=2", "--no-baseline", "--out", tmp_path / "run"]
    code, _, said = tutelage(*given)
    assert code == 0, said
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert set(result["teachers"]) == {"big", "small"}
    assert result["teachers"]["big"]["mean_weight"] > result["teachers"]["small"]["mean_weight"] > 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    taught = {f"{path}/{teacher}" for path in ("logits", "channels") for teacher in ("big", "small")}
    for line in (line for line in lines if line["kind"] == "train"):
        assert set(line["weights"]) == set(line["losses"]) == {"base", *taught}
        assert min(line["weights"].values()) > 0
    panels = load_file(tmp_path / "run" / "evaluation.safetensors")
    assert {"pictures/panel/teacher:big", "pictures/panel/teacher:small"} <= panels.keys()


def test_the_report_shows_pictures_truth_and_what_each_model_says(run):
    stored = load_file(run / "evaluation.safetensors")
    panels = [name for name in stored if name.startswith("pictures/panel/")]
    assert sorted(panels) == [f"pictures/panel/{name}" for name in ("baseline", "student", "teacher:big", "truth")]
    assert all(stored[name].shape == stored["pictures/image"].shape for name in panels)
    page = (run / "report.html").read_text()
    assert "IoU per class" in page
    evaluation = json.loads((run / "evaluation.json").read_text())
    for name, colour in zip(evaluation["classes"], evaluation["colours"], strict=True):
        assert f'<li><i style="background: {colour}"></i>{name}</li>' in page
    assert page.count('alt="truth"') == page.count('alt="student"') == len(stored["pictures/position"])


def test_evaluate_knows_the_task_of_the_run_and_gives_its_score(run, world, tutelage):
    code, out, _ = tutelage("evaluate", run, "--data", world, "--json")
    assert code == 0
    found = json.loads(out)
    result = json.loads((run / "result.json").read_text())
    assert found["miou"] == pytest.approx(result["student"]["test"], abs=1e-5)
    assert found["samples"] == 12


@pytest.mark.parametrize("format", ["onnx", "int8", "pt2"])
def test_the_exported_file_agrees_pixel_by_pixel(run, tutelage, format):
    if format != "pt2":
        pytest.importorskip("onnxruntime")
    code, out, said = tutelage("export", run, "--format", format, "--most-lost", "0.05", "--json")
    assert code == 0
    assert "not the cut of the run" not in said
    parity = json.loads(out)
    assert parity["agreement"] > (0.95 if format == "int8" else 0.999)
    assert parity["samples"] == 12


def test_check_scores_the_teacher_and_trains_nothing(world, teacher, tutelage):
    given = ["--student", NET, "--teacher", f"big={teacher}", "--data", world, *SMALL]
    code, out, err = tutelage("check", *given, "--set", "paths=[logits, features, attention, ifvd, pairwise]", "--json")
    assert code == 0
    assert "task: segmentation (shapes/ holds pictures and masks" in err
    found = json.loads(out)
    assert found["teachers"]["big"]["validation"] > 0.5
    paths = {row["path"] for row in found["pairing"]}
    assert {"logits", "ifvd", "pairwise"} <= paths
    assert any(path.startswith("features_encoder") for path in paths)


def as_coco(world: pathlib.Path, root: pathlib.Path) -> pathlib.Path:
    """The same pictures and masks as COCO has them: runs for each class but the first, a crowd where there is none."""
    (root / "annotations").mkdir(parents=True)
    for split in ("train", "val", "test"):
        shutil.copytree(world / split / "images", root / split)
        images, shapes = [], []
        for number, file in enumerate(sorted((world / split / "masks").iterdir())):
            images.append({"id": number, "file_name": f"{file.stem}.jpg", "height": 32, "width": 32})
            mask = torch.frombuffer(bytearray(Image.open(file).tobytes()), dtype=torch.uint8).view(32, 32)
            for value in (1, 2, 9):
                inside = [False, *(mask.T.flatten() == value).tolist()]
                turns = [n - 1 for n in range(1, len(inside)) if inside[n] != inside[n - 1]]
                counts = [b - a for a, b in itertools.pairwise([0, *turns, 32 * 32])]
                runs = {"size": [32, 32], "counts": counts}
                kind = {"category_id": value % 9, "iscrowd": int(value == 9), "segmentation": runs}
                shapes.append({"id": len(shapes), "image_id": number, "area": 1, **kind})
        categories = [{"id": n, "name": name} for n, name in enumerate(["background", "bar", "disc"])]
        content = {"images": images, "categories": categories, "annotations": shapes}
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return root


def test_a_folder_of_coco_gives_the_teacher_the_same_score(world, teacher, tmp_path, tutelage):
    pytest.importorskip("faster_coco_eval")
    given = ["--student", NET, "--teacher", f"big={teacher}", *SMALL, "--set", "data.class_names=[ground, bar, disc]"]
    found = {}
    for folder in (world, as_coco(world, tmp_path / "coco")):
        code, out, err = tutelage("check", *given, "--data", folder, "--task", "segmentation", "--json")
        assert code == 0
        found[folder.name] = json.loads(out)["teachers"]["big"]["validation"]
    assert "COCO JSON with instances_train.json" in err
    assert found["coco"] == pytest.approx(found["shapes"])


def test_a_teachers_classes_are_found_by_name_in_data_that_numbers_them_otherwise(world, teacher, tmp_path, tutelage):
    other = shutil.copytree(world, tmp_path / "shapes")
    (other / "classes.txt").write_text("ground\ndisc\nbar\n")
    for file in other.glob("*/masks/*.png"):
        mask = torch.frombuffer(bytearray(Image.open(file).tobytes()), dtype=torch.uint8).view(32, 32)
        exchanged = torch.where((mask == 1) | (mask == 2), 3 - mask, mask)
        Image.fromarray(exchanged.numpy()).save(file)
    found = []
    for data in (world, other):
        code, out, said = tutelage("check", "--student", NET, "--teacher", f"big={teacher}", "--data", data, "--json")
        assert code == 0, said
        assert ("big: the data has the classes of the model in another order" in said) == (data == other)
        found.append(json.loads(out)["teachers"]["big"]["validation"])
    assert found[0] == pytest.approx(found[1], abs=1e-5)


def test_a_classifier_is_no_teacher_of_segmentation(world, tutelage):
    code, _, err = tutelage("check", "--student", NET, "--teacher", "cifar/resnet8", "--data", world)
    assert code == 2
    assert "expected maps of logits [1, 3, 'h', 'w'] for one picture, found [1, 3]" in err


def test_kept_answers_serve_maps(world, teacher, tmp_path, tutelage):
    given = ["--student", NET, "--teacher", f"big={teacher}", "--data", world, *SMALL, *SHORT]
    given += ["--set", "paths=[logits]", "--set", "train.epochs=4", "--set", "data.views=2", "--no-baseline"]
    assert tutelage("distill", *given, "--out", tmp_path / "kept")[0] == 0
    assert (tmp_path / "kept" / "cache" / "manifest.json").is_file()
    assert tutelage("distill", *given, "--out", tmp_path / "live", "--set", "train.cache=live")[0] == 0
    kept, live = (json.loads((tmp_path / name / "result.json").read_text()) for name in ("kept", "live"))
    assert kept["student"]["test"] == pytest.approx(live["student"]["test"], abs=0.05)
