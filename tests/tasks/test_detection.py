import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from tutelage import Distiller, Frozen, Path
from tutelage.data.boxes import pad
from tutelage.errors import DataError, ModelError, RecipeError
from tutelage.export import to_onnx
from tutelage.export.onnx import opened
from tutelage.export.standalone import Standalone
from tutelage.ledger import Ledger, Lesson, Row, Spec
from tutelage.losses import FGD, anchor_classes, crosskd
from tutelage.models.candidates import Candidates
from tutelage.models.detectors import HEADS, chosen, detections, inside_head, levels, reorder
from tutelage.models.sources.detector import pyramid_detector
from tutelage.recipe import schema
from tutelage.recipe.build import build_path
from tutelage.recipe.wires import resolve, survey_all
from tutelage.tasks import Detection
from tutelage.tasks.box_doubt import LEAST
from tutelage.teachers import Teacher
from tutelage.verdict import value
from tutelage.weighting import Auto

BOXES = pad([torch.tensor([[4.0, 4, 40, 40, 1], [20, 10, 60, 50, 0]]), torch.tensor([[0.0, 0, 30, 30, 0]])])


def net(family="fcos", seed=0, channels=64, **options):
    torch.manual_seed(seed)
    return pyramid_detector(family, "mobilenetv3_small_050", num_classes=2, size=(64, 64), channels=channels, **options)


def found(*rows):
    return torch.tensor([[*row] for row in rows]).float()[None]


def test_student_and_teacher_meet_at_their_heads_and_pyramids():
    student, teacher, task = net(), net(seed=1), Detection(["disc", "square"])
    taps = levels(student)
    distiller = Distiller(
        student,
        teachers={"big": Frozen(teacher)},
        paths={
            "logits": Path(anchor_classes, student=HEADS[0], teacher=HEADS[0]),
            "fgd": Path(FGD(), student=taps, teacher=taps),
        },
        task=task,
        example=task.unpack((torch.rand(2, 3, 64, 64), BOXES)),
    )
    step = distiller(task.unpack((torch.rand(2, 3, 64, 64), BOXES)))
    assert [row.name for row in step.ledger.rows] == ["classification", "boxes", "logits/big", "fgd/big"]
    assert step.ledger.losses.shape == (4, 2)
    assert distiller.spec.responses == {"logits"}
    step.loss.backward()
    assert student.head.classification_head.cls_logits.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in teacher.parameters())


def wired(short, models, batch, task):
    """The path of a short name as the task wires it for these models."""
    recipe = schema.parse({"data": "boxes/", "student": "detector/fcos-resnet18", "paths": [short]})
    sites = survey_all(models, task, batch)
    recipe, table = resolve(recipe, sites, lambda short: task.wires(short, models, sites))
    return recipe.paths[short], table


@pytest.mark.parametrize(("family", "channels"), [("fcos", 64), ("retinanet", 32)])
def test_the_students_features_go_on_through_the_teachers_head(family, channels):
    student, teacher, task = net(), net(family, seed=1, channels=channels), Detection(["disc", "square"])
    batch = task.unpack((torch.rand(2, 3, 64, 64), BOXES))
    spec, table = wired("crosskd", {"student": student, "big": teacher}, batch, task)
    assert [row["student_shape"] for row in table] == 2 * [[64, 8, 8], [64, 4, 4], [64, 2, 2], [64, 1, 1], [64, 1, 1]]
    assert {row["teacher_shape"][0] for row in table} == {channels}
    assert bool(spec.connector) == (channels != 64)
    path = build_path("crosskd", spec, ())
    distiller = Distiller(student, teachers={"big": Frozen(teacher)}, paths={"crosskd": path}, task=task, example=batch)
    loss = distiller(batch).ledger.row(2)
    assert loss.shape == (2,)
    loss.sum().backward()
    tower = student.head.classification_head.conv
    assert tower[0].weight.grad.abs().sum() > 0
    assert tower[9].weight.grad is None  # behind the taps
    assert student.head.classification_head.cls_logits.weight.grad is None
    assert all(p.grad is None for p in teacher.parameters())


def test_the_usual_paths_compare_heads_only_where_they_can_be_compared():
    task = Detection(2)
    assert task.usual_paths({"student": net(), "big": net(seed=1)}) == ["logits", "offsets", "fgd"]
    assert task.usual_paths({"student": net(), "big": net("retinanet")}) == ["fgd"]


@pytest.mark.parametrize(("family", "temperature", "objects"), [("fcos", 0.8, 1.6e-3), ("ssdlite", 0.5, 1e-3)])
def test_fgd_meets_the_teacher_at_every_stride_in_its_unit_and_with_the_students_settings(family, temperature, objects):
    student, teacher, task = net(family), net(seed=1, channels=32), Detection(2)
    batch = task.unpack((torch.rand(2, 3, 64, 64), BOXES))
    spec, table = wired("fgd", {"student": student, "big": teacher}, batch, task)
    assert [row["student_shape"][1] for row in table] == [row["teacher_shape"][1] for row in table] == [8, 4, 2, 1, 1]
    paths = {"fgd": build_path("fgd", spec, ())}
    loss = Distiller(student, teachers={"big": teacher}, paths=paths, task=task, example=batch).paths["fgd"].losses[0]
    assert (loss.normalise, loss.temperature, loss.weights[0]) == (True, temperature, objects)


def test_of_teachers_with_other_pyramids_all_are_heard_where_they_meet():
    task, batch = Detection(2), Detection(2).unpack((torch.rand(2, 3, 64, 64), BOXES))
    models = {"student": net(), "whole": net(seed=1), "less": net("fasterrcnn")}
    for order in (("student", "whole", "less"), ("student", "less", "whole")):
        spec, table = wired("fgd", {name: models[name] for name in order}, batch, task)
        strides = {
            name: [row["teacher_shape"][1] for row in table if row["teacher_name"] == name] for name in order[1:]
        }
        assert sorted(spec.teachers) == sorted(spec.teacher) == ["less", "whole"]
        assert strides["whole"] == strides["less"] == sorted(strides["less"], reverse=True)
        assert len(spec.student) == len(strides["less"]) < len(levels(models["student"]))


def test_heads_that_cannot_be_cut_or_meet_have_no_such_path():
    task, batch = Detection(2), Detection(2).unpack((torch.rand(2, 3, 64, 64), BOXES))
    for teacher in (net("fasterrcnn"), net(stages=4)):
        with pytest.raises(RecipeError, match="nothing in the student could be paired with a teacher for 'crosskd'"):
            wired("crosskd", {"student": net(), "big": teacher}, batch, task)


def test_other_widths_and_teachers_without_a_head_are_refused_at_build():
    class Stored(Teacher):
        def bind(self, spec: Spec, name: str) -> None:
            self.taps = Frozen(net())
            self.taps.bind(spec, name)

        def forward(self, batch, peers):
            return self.taps(batch, peers)

    task, taps = Detection(2), inside_head(net())
    batch = task.unpack((torch.rand(2, 3, 64, 64), BOXES))
    for teacher, message in (
        (Frozen(net(channels=32)), "Project"),
        (Stored(), r"head\) of teacher 'big'.*train.cache=live"),
    ):
        path = Path(crosskd, student=taps, teacher=taps)
        with pytest.raises(RecipeError, match=message):
            Distiller(net(), teachers={"big": teacher}, paths={"cross": path}, task=task, example=batch)


def test_a_picture_without_labels_has_no_loss_of_its_own():
    task = Detection(2)
    raw = {"inputs": torch.rand(2, 3, 8, 8), "target": BOXES, "labelled": torch.tensor([True, False])}
    batch = task.unpack(raw)
    assert (batch.target[1, :, 4] == -1).all()
    assert torch.equal(batch.target[0], BOXES[0])
    loss = task.base_loss({"": torch.tensor([[1.0, 2.0], [float("nan"), 5.0]])}, batch)
    assert_close(loss["classification"], torch.tensor([2.0, 0.0]))
    assert_close(loss["boxes"].mean(), torch.tensor(2.0))


def test_the_metric_of_a_slice_is_that_of_the_coco_numbers():
    task = Detection(2)
    prediction = torch.cat([BOXES, torch.tensor([[0.9, 0.5], [0.8, 0.0]])[..., None]], dim=2)
    prediction[0, 0, :2] += 5
    metrics = task.metrics()
    for metric in metrics.values():
        metric.update(prediction, BOXES)
    kept = task.keep(prediction, BOXES)
    assert 0.5 < float(metrics["mAP"].compute()) < 1
    assert value(task.score(kept), task.parts) == pytest.approx(float(metrics["mAP"].compute()), abs=1e-6)
    assert task.describe(kept)["per_class"][0] == pytest.approx(1.0)


def test_teachers_that_find_nothing_or_misname_everything_are_suspected():
    task = Detection(["disc", "square"])
    good = torch.cat([BOXES, torch.ones(2, 2, 1)], dim=2)
    assert task.suspect("t", task.keep(good, BOXES)) is None
    swapped = good.clone()
    swapped[..., 4] = torch.where(good[..., 4] >= 0, 1 - good[..., 4], -1.0)
    assert "another order than disc, square" in task.suspect("t", task.keep(swapped, BOXES))
    nothing = torch.tensor([0.0, 0, 0, 0, -1, 0]).expand(2, 3, 6)
    assert "mAP of at least 0.01" in task.suspect("t", task.keep(nothing, BOXES))


def test_what_a_model_must_answer():
    task, pictures = Detection(2), torch.zeros(1, 3, 64, 64)
    assert task.fits(net().eval()(pictures), pictures, 2) is None
    assert "boxes of 2 classes" in task.fits(torch.zeros(1, 2), pictures, 2)
    assert "boxes of 2 classes" in task.fits(found([0, 0, 1, 1, 2, 0.5]), pictures, 2)


def test_students_are_drawn_apart_from_teachers_where_their_boxes_differ():
    task = Detection(2)
    same = task.keep(found([0, 0, 10, 10, 1, 0.9]), BOXES[:1])
    other = task.keep(found([50, 50, 60, 60, 1, 0.9]), BOXES[:1])
    assert task.distance(same, [same]).tolist() == [0]
    assert task.distance(same, [other]).tolist() == [1]
    panels = task.panels(torch.zeros(1, 3, 64, 64, dtype=torch.uint8), {"student": same})
    assert panels["truth"].any()
    assert panels["student"][0, :, 0, 0].any()


@pytest.mark.parametrize("family", ["fcos", "retinanet"])
def test_the_candidates_of_an_exported_graph_are_what_the_network_chooses_from(family):
    from torchvision.ops import batched_nms

    network = net(family, score_thresh=0.0, topk_candidates=10**6, detections_per_img=50).eval()
    pictures = torch.rand(2, 3, 96, 96)
    with torch.no_grad():
        candidates, chosen = Candidates(network)(pictures), detections(network, pictures)
    for all_, few in zip(candidates, chosen, strict=True):
        boxes, scores = all_[:, None, :4].expand(-1, 2, 4).reshape(-1, 4), all_[:, 4:].reshape(-1)
        labels = torch.arange(2).repeat(len(all_))
        kept = batched_nms(boxes, scores, labels, network.nms_thresh)
        count = int((few[:, 4] >= 0).sum())
        assert_close(scores[kept][:count], few[:count, 5], atol=1e-4, rtol=0)
        assert_close(boxes[kept][:count], few[:count, :4], atol=1e-2, rtol=0)


@pytest.mark.parametrize("family", ["fcos", "retinanet", "ssdlite", "fasterrcnn"])
def test_classes_that_are_put_in_another_order_change_their_numbers_alone(family):
    torch.manual_seed(0)
    own = "box_" if family == "fasterrcnn" else ""
    limits = {f"{own}score_thresh": 0.0, f"{own}detections_per_img": 300, "size": (64, 64), "channels": 32}
    network = pyramid_detector(family, "mobilenetv3_small_050", num_classes=3, **limits).eval().double()
    pictures, order = torch.rand(2, 3, 64, 64).double(), torch.tensor([2.0, 0, 1]).double()
    with torch.no_grad():
        before = detections(network, pictures)
        reorder(network, [2, 0, 1])
        after = detections(network, pictures)
    there = after[..., 4] >= 0
    assert len(after[..., 4][there].unique()) > 1
    after[..., 4][there] = order[after[..., 4][there].long()]
    assert_close(after, before)


def sensitive(family):
    """A detector that finds something of every class everywhere, and takes nothing for background."""
    network = net(family, score_thresh=0.0, nms_thresh=0.3, detections_per_img=1000).eval()
    head = network.head.classification_head
    for layer in [head.cls_logits] if hasattr(head, "cls_logits") else [block[1] for block in head.module_list]:
        nn.init.normal_(layer.weight, std=0.02)
        layer.bias.data.view(-1, 3)[:, 0] = -30
    return network


def assert_chosen(network, candidates, pictures):
    for network.topk_candidates in (20, 1000):
        with torch.no_grad():
            expected, found = detections(network, pictures), chosen(network, candidates, pictures)
        assert 10 < int((expected[..., 4] >= 0).sum()) < expected[..., 4].numel()
        assert_close(found[..., 4:], expected[..., 4:], atol=1e-4, rtol=0)
        assert_close(found[..., :4], expected[..., :4], atol=1e-2, rtol=0)


@pytest.mark.parametrize("family", ["fcos", "retinanet", "ssdlite"])
def test_boxes_chosen_from_the_candidates_are_those_the_network_finds(family):
    network, pictures = sensitive(family), torch.rand(2, 3, 80, 96)
    with torch.no_grad():
        assert_chosen(network, Candidates(network)(pictures), pictures)


@pytest.mark.parametrize("family", ["fcos", "ssdlite"])
def test_so_are_those_chosen_from_what_an_onnx_file_says(family, tmp_path):
    pytest.importorskip("onnxruntime")
    network, pictures = sensitive(family), torch.rand(2, 3, 64, 64)
    to_onnx(Detection(2).exported(network), tmp_path, input_shape=(3, 64, 64), sample_inputs=pictures)
    assert_chosen(network, opened(tmp_path / "model.onnx")(pictures), pictures)


def test_candidates_are_traced_for_any_number_of_pictures():
    network, pictures = Candidates(net("retinanet").eval()), torch.rand(3, 3, 64, 64)
    program = Standalone(network).trace(pictures[:2]).module()
    with torch.no_grad():
        assert_close(program(pictures), network(pictures))


def test_two_stages_are_not_exported():
    with pytest.raises(ModelError, match="expected a detector of one stage"):
        Detection(2).exported(net("fasterrcnn"))


def test_targets_of_other_tasks_and_models_in_eval_mode_are_refused():
    task = Detection(2)
    with pytest.raises(DataError, match=r"expected boxes \[B, M, 5\]"):
        task.unpack((torch.rand(2, 3, 8, 8), torch.tensor([0, 1])))
    with pytest.raises(RecipeError, match="only while it trains"):
        task.base_loss({"": torch.zeros(2, 3, 6)}, task.unpack((torch.rand(2, 3, 8, 8), BOXES)))
    with pytest.raises(RecipeError, match=r"train\.compile"):
        task.call(torch.compile(nn.Linear(2, 2)), task.unpack((torch.rand(2, 3, 8, 8), BOXES)))


# What teachers are trusted


TRUE = pad([torch.tensor([[4.0, 4, 30, 30, 1], [34, 10, 60, 50, 0]]), torch.zeros(0, 5)])
SAID = {
    "sure": [(4, 4, 30, 30, 1, 0.9), (34, 10, 60, 50, 0, 0.9)],
    "hesitant": [(4, 4, 30, 30, 1, 0.5), (34, 10, 60, 50, 0, 0.5)],
    "shifted": [(8, 8, 34, 34, 1, 0.9), (38, 14, 64, 54, 0, 0.9)],
    "partial": [(4, 4, 30, 30, 1, 0.9)],
    "exchanged": [(4, 4, 30, 30, 0, 0.9), (34, 10, 60, 50, 1, 0.9)],
    "blind": [],
}
"""Of the first picture; of the second, which shows nothing, all say the same."""


def answered(rows):
    nothing = (0, 0, 0, 0, -1, 0)
    return torch.tensor([[*rows, *[nothing] * (2 - len(rows))], [nothing, nothing]]).float()


def doubts(said):
    batch = Detection(2).unpack((torch.rand(2, 3, 64, 64), TRUE))
    return Detection(2).doubt(said, batch)


def test_doubt_is_minus_the_log_likelihood_of_the_true_boxes():
    assert_close(doubts(answered(SAID["sure"])), torch.tensor([-math.log(0.9), 0.0]))
    assert_close(doubts(answered(SAID["partial"])), torch.tensor([-(math.log(0.9) + math.log(LEAST)) / 2, 0.0]))
    wrong = -math.log(LEAST) - math.log(1 - 0.9)
    assert_close(doubts(answered(SAID["exchanged"])), torch.tensor([wrong, 0.0]))


@pytest.mark.parametrize("worse", [name for name in SAID if name != "sure"])
def test_who_finds_the_boxes_surely_is_doubted_least(worse):
    assert doubts(answered(SAID[worse]))[0] > doubts(answered(SAID["sure"]))[0]


def test_a_box_too_many_is_doubted_by_its_score_alone():
    more = torch.cat([answered(SAID["sure"]), torch.tensor([[[0.0, 50, 9, 60, 1, 0.6]]]).expand(2, -1, -1)], dim=1)
    assert_close(doubts(more), torch.tensor([-math.log(0.9) - math.log(0.4) / 2, -math.log(0.4)]))


def test_pictures_without_room_for_boxes_can_be_doubted():
    batch = Detection(2).unpack((torch.rand(2, 3, 64, 64), torch.zeros(2, 0, 5)))
    assert_close(Detection(2).doubt(answered(SAID["sure"]), batch), torch.tensor([-2 * math.log(1 - 0.9), 0.0]))


def test_boxes_without_an_area_are_doubted_like_boxes_that_are_missed():
    flat = torch.tensor([[[5.0, 5, 5, 9, 1]]]).expand(2, -1, -1)
    batch = Detection(2).unpack((torch.rand(2, 3, 64, 64), flat))
    said = torch.tensor([[[5.0, 5, 5, 9, 1, 0.5]]]).expand(2, -1, -1)
    assert_close(Detection(2).doubt(said, batch), torch.full((2,), -math.log(LEAST) - math.log(0.5)))


def test_of_two_detectors_the_default_hears_the_one_that_is_right():
    rows, task = (Row("base"), Row("logits", "right"), Row("logits", "wrong")), Detection(2)
    rule = Auto(warmup=0)
    rule.bind(rows, Spec(call=task.call, taps={}, responses=frozenset({"logits"}), doubt=task.doubt))
    batch = task.unpack((torch.rand(2, 3, 64, 64), TRUE))
    said = {"right": {"": answered(SAID["hesitant"])}, "wrong": {"": answered(SAID["exchanged"])}}
    lesson = Lesson(batch, {"": torch.rand(2, 2)}, said, {})  # a student that trains answers with its losses
    right, wrong = rule(Ledger(rows, torch.ones(3, 2)), lesson)[1:]
    assert wrong[0] < 0.01 * right[0]
    assert_close(wrong[1], right[1])
    assert_close(right + wrong, torch.full((2,), 4.0))  # nobody is held against what the student does not say
