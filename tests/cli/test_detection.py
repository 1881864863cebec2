"""Detection through the real command line: teacher, distillation, report, evaluation, export."""

import json
import pathlib
import random
from collections.abc import Sequence

import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.torch import load_file
from torch.utils.data import Dataset
from torchvision.transforms.functional import pil_to_tensor

from tutelage.cli.__main__ import main
from tutelage.models import find
from tutelage.tasks.detection import NAMES

pytest.importorskip("faster_coco_eval")
pytest.importorskip("timm")

NET = "detector/fcos-mobilenetv3_small_050"
SHORT = ["--set", "data.batch_size=4", "--set", "train.log_every=2", "--set", "train.optimizer=adamw"]
SMALL = ["--set", "student.arguments.channels=64"]


def draw(
    root: pathlib.Path, split: str, count: int, draws: random.Random, kinds: Sequence[str] = ("disc", "square")
) -> None:
    """Discs and squares on a dark ground, annotated as in Pascal VOC."""
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    names = [f"{split}{number:02}" for number in range(count)]
    (root / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(names))
    for name in names:
        picture, boxes = Image.new("RGB", (64, 64), (40, 40, 40)), []
        for kind in draws.sample(kinds, draws.randint(1, len(kinds))):
            side = draws.randint(14, 26)
            x, y = draws.randint(0, 63 - side), draws.randint(0, 63 - side)
            pen = ImageDraw.Draw(picture)
            (pen.ellipse if kind == "disc" else pen.rectangle)((x, y, x + side, y + side), fill=(220, 60, 60))
            boxes.append((kind, x, y, x + side, y + side))
        picture.save(root / "JPEGImages" / f"{name}.png")
        annotate(root, name, boxes)


def annotate(root: pathlib.Path, name: str, boxes: Sequence[tuple[str, float, float, float, float]]) -> None:
    told = ""
    for kind, *sides in boxes:
        named = zip(("xmin", "ymin", "xmax", "ymax"), sides, strict=True)
        box = "".join(f"<{side}>{value + 1}</{side}>" for side, value in named)
        told += f"<object><name>{kind}</name><bndbox>{box}</bndbox></object>"
    (root / "Annotations" / f"{name}.xml").write_text(f"<annotation>{told}</annotation>")


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> pathlib.Path:
    root, draws = tmp_path_factory.mktemp("data") / "shapes", random.Random(0)
    for split, count in {"train": 12, "val": 4, "test": 6}.items():
        draw(root, split, count, draws)
    return root


@pytest.fixture(scope="module")
def big(world, tmp_path_factory) -> pathlib.Path:
    out = tmp_path_factory.mktemp("runs") / "big"
    given = ["train", "--task", "detection", "--model", NET, "--data", str(world), "--out", str(out)]
    assert main([*given, *SMALL, *SHORT, "--set", "train.epochs=2"]) == 0
    return out


@pytest.fixture(scope="module")
def run(world, big, tmp_path_factory) -> pathlib.Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    given = ["distill", "--student", NET, "--teacher", f"big={big}", "--data", str(world), "--out", str(out)]
    assert main([*given, *SMALL, *SHORT, "--set", "train.epochs=2", "--set", "data.guard=0.2", "--force"]) == 0
    return out


def test_a_run_ends_with_a_verdict_on_the_map(run):
    result = json.loads((run / "result.json").read_text())
    assert (result["task"], result["metric"]) == ("detection", "mAP")
    assert result["verdict"] in ("better", "no difference", "worse")
    assert set(result["paths"]) == {"logits", "offsets", "fgd"}
    evaluation = json.loads((run / "evaluation.json").read_text())
    student = evaluation["models"]["student"]
    assert set(NAMES) <= set(student)
    assert student["mAP"] == pytest.approx(result["student"]["test"], abs=1e-5)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    first = next(line for line in lines if line["kind"] == "train")
    assert first["task_loss"] == pytest.approx(first["losses"]["classification"] + first["losses"]["boxes"])


def test_each_of_two_teachers_has_a_weight_on_every_path(world, big, run, tmp_path, tutelage):
    given = ["distill", "--student", NET, "--teacher", f"big={big}", "--teacher", f"again={run}", "--data", world]
    given += [*SMALL, *SHORT, "--set", "train.epochs=1", "--no-baseline", "--force", "--out", tmp_path / "run"]
    code, _, said = tutelage(*given)
    assert code == 0, said
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert set(result["teachers"]) == {"big", "again"}
    assert all(teacher["mean_weight"] > 0 for teacher in result["teachers"].values())
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    taught = {f"{path}/{teacher}" for path in ("logits", "offsets", "fgd") for teacher in ("big", "again")}
    for line in (line for line in lines if line["kind"] == "train"):
        assert set(line["weights"]) == set(line["losses"]) == {"classification", "boxes", *taught}
        assert min(line["weights"].values()) > 0
    panels = load_file(tmp_path / "run" / "evaluation.safetensors")
    assert {"pictures/panel/teacher:big", "pictures/panel/teacher:again"} <= panels.keys()


def test_the_report_shows_the_boxes_of_the_truth_and_of_each_model(run):
    stored = load_file(run / "evaluation.safetensors")
    panels = [name for name in stored if name.startswith("pictures/panel/")]
    assert sorted(panels) == [f"pictures/panel/{name}" for name in ("baseline", "student", "teacher:big", "truth")]
    assert not torch.equal(stored["pictures/panel/truth"], stored["pictures/image"])
    page = (run / "report.html").read_text()
    assert "Average precision per class" in page
    assert page.count('alt="truth"') == len(stored["pictures/position"])


def test_evaluate_gives_the_score_of_the_run(run, world, tutelage):
    code, out, _ = tutelage("evaluate", run, "--data", world, "--json")
    assert code == 0
    assert json.loads(out)["mAP"] == pytest.approx(
        json.loads((run / "result.json").read_text())["student"]["test"], abs=1e-5
    )


def test_the_exported_file_gives_the_same_candidates(run, tutelage):
    code, out, _ = tutelage("export", run, "--format", "pt2", "--json")
    assert code == 0
    assert json.loads(out)["agreement"] > 0.999


class Own(Dataset):
    """Pictures with one disc each, boxes as torchvision has them."""

    classes = ("disc", "square")

    def __len__(self):
        return 24

    def __getitem__(self, number):
        picture = torch.full((3, 64, 64), 40, dtype=torch.uint8)
        left = number % 30
        picture[:, 10:40, left : left + 30] = 200
        target = {"boxes": torch.tensor([[left, 10, left + 30, 40]]), "labels": torch.tensor([1 + number % 2])}
        return picture, target


@pytest.mark.parametrize("kinds", [["disc"], ["disc", "square"], ["disc", "ring", "square"]])
def test_an_int8_file_is_scored_by_the_boxes_that_are_chosen_from_its_candidates(kinds, tmp_path, tutelage):
    pytest.importorskip("onnxruntime")
    data, run, draws = tmp_path / "shapes", tmp_path / "run", random.Random(0)
    for split, count in {"train": 12, "val": 6, "test": 4}.items():
        draw(data, split, count, draws, kinds)
    low = "student.arguments={channels: 64, score_thresh: 0.001}"
    given = ["train", "--model", NET, "--data", data, "--out", run, *SHORT, "--set", low, "--set", "train.epochs=1"]
    assert tutelage(*given)[0] == 0
    model = find(str(run)).eval()
    for file in (data / "JPEGImages").glob("val*"):  # the truth becomes what the student says
        with torch.no_grad():
            said = model(pil_to_tensor(Image.open(file))[None] / 255)[0]
        labels, boxes = said["labels"] - 1, said["boxes"]
        there = (labels >= 0) & (boxes[:, 2:] > boxes[:, :2] + 0.1).all(dim=1)
        shown = zip(labels[there][:20].tolist(), boxes[there][:20].tolist(), strict=True)
        annotate(data, file.stem, [(kinds[label], *box) for label, box in shown])
    reached = json.loads(tutelage("evaluate", run, "--data", data, "--split", "selection", "--json")[1])["mAP"]
    code, out, said = tutelage("export", run, "--format", "int8", "--most-lost", "1", "--json")
    assert code == 0, said
    assert json.loads(out)["scores"]["model"] == pytest.approx(reached, rel=0.01)
    assert reached > 0
    assert "not the cut of the run" in said


def test_a_data_set_of_ones_own_is_trained_on(tmp_path):
    import tutelage as tu

    options = [*SMALL[1::2], *SHORT[1::2], "train.epochs=1"]
    run = tu.train(model=NET, data={"train": Own(), "test": Own()}, out=tmp_path / "run", assignments=options)
    assert json.loads((tmp_path / "run" / "result.json").read_text())["task"] == "detection"
    assert set(run.student.eval()(torch.rand(1, 3, 64, 64))[0]) == {"boxes", "labels", "scores"}


def test_check_says_what_it_recognised_and_refuses_a_useless_teacher(world, big, tutelage):
    code, _, said = tutelage("check", "--student", NET, "--teacher", f"big={big}", "--data", world, *SMALL, *SHORT)
    assert "task: detection (shapes holds Pascal VOC boxes" in said
    assert code in (0, 2)
    assert code == 0 or "expected a mAP of at least 0.01" in said


def test_a_classifier_is_refused_as_a_student(world, tutelage):
    given = ["--student", "cifar/resnet8", "--teacher", "cifar/resnet8", "--data", world, *SHORT]
    code, _, said = tutelage("check", "--task", "detection", *given)
    assert code == 2
    assert "expected boxes of 2 classes from a detector of torchvision" in said


def test_another_family_learns_from_pyramids_and_pseudo_labels(world, big, tmp_path):
    student = ["--student", "detector/retinanet-mobilenetv3_small_050", "--set", "student.arguments={channels: 32}"]
    given = ["distill", "--teacher", f"big={big}", "--data", str(world), "--out", str(tmp_path / "run"), *student]
    more = ["--set", "scheme={use: pseudo_labels, score: 0.01}", "--set", "baseline=false", "--set", "data.labels=0.5"]
    more += ["--set", "paths=[fgd, crosskd]"]
    assert main([*given, *SHORT, *more, "--set", "train.epochs=1", "--force"]) == 0
    assert set(json.loads((tmp_path / "run" / "result.json").read_text())["paths"]) == {"fgd", "crosskd"}


def test_methods_are_compared_for_a_student_of_another_family(world, big, tmp_path, tutelage):
    student = ["--student", "detector/retinanet-mobilenetv3_small_050", "--set", "student.arguments={channels: 32}"]
    given = ["bench", "--teacher", f"big={big}", "--data", world, "--out", tmp_path / "bench", *student, *SHORT]
    code, printed, said = tutelage(
        *given, "--methods", "fgd,logits", "--skip-refused", "--force", "--dry-run", "--json"
    )
    assert code == 0, said
    board = json.loads(printed)
    assert list(board["refused"]) == ["logits"]
    assert board["runs"] == 2 * 3  # plain is beside every table


def test_a_head_that_features_go_on_through_cannot_be_stored(world, big, tmp_path, tutelage):
    given = ["--student", NET, "--teacher", f"big={big}", "--data", world, *SMALL, *SHORT, "--force"]
    code, _, said = tutelage("cache", *given, "--store", tmp_path / "store", "--maps", "--set", "paths=[crosskd]")
    assert code == 2
    assert "path 'crosskd': the student's features go on through the head of teacher 'big'" in said
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("cache", ["auto", "store"])
def test_in_a_bench_the_method_with_such_a_head_hears_its_teachers_beside_the_store(
    world, big, tmp_path, tutelage, cache
):
    given = ["bench", "--student", NET, "--teacher", f"big={big}", "--data", world, *SMALL, *SHORT, "--force"]
    place = cache if cache == "auto" else tmp_path / "store"
    given += ["--methods", "plain,logits,crosskd", "--set", f"train.cache={place}", "--out", tmp_path / "bench"]
    code, printed, said = tutelage(*given, "--dry-run", "--json")
    assert code == 0, said
    assert json.loads(printed)["refused"] == {}


def test_the_student_loads_with_the_lines_of_its_card(run, tmp_path, monkeypatch):
    card = (run / "student" / "README.md").read_text()
    code = card.split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(run / "student")
    space = {}
    exec(compile(code, "card", "exec"), space)
    picture = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        ours = find(str(run)).eval()(picture)
    assert torch.equal(space["predict"](picture)[0]["boxes"], ours[0]["boxes"])
