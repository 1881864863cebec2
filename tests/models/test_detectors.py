import pytest
import torch
from torch.testing import assert_close

from tutelage.data.boxes import pad
from tutelage.errors import InputError, ModelError
from tutelage.models import find, save
from tutelage.models.detectors import (
    HEADS,
    LOSSES,
    detections,
    heads,
    inside_head,
    is_detector,
    levels,
    losses,
    rest_of_head,
    same_anchors,
    same_levels,
)
from tutelage.models.sources import detector
from tutelage.models.sources.detector import pyramid_detector
from tutelage.taps import Taps
from tutelage.tasks import Detection

TARGET = pad([torch.tensor([[4.0, 4.0, 40.0, 40.0, 1.0], [20.0, 10.0, 60.0, 50.0, 0.0]]), torch.zeros(0, 5)])


def small(family, **options):
    """A small detector for pictures of 64x64."""
    if family == "ssd":
        from torchvision.models.detection import ssdlite320_mobilenet_v3_large

        torch.manual_seed(0)
        return ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=3)
    torch.manual_seed(0)
    return pyramid_detector(family, "mobilenetv3_small_050", num_classes=2, size=(64, 64), channels=64, **options)


FAMILIES = ["fcos", "retinanet", "ssd", "fasterrcnn", "ssdlite"]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_losses_of_one_picture_are_those_of_the_networks_own_forward(family):
    network, picture = small(family), torch.rand(1, 3, 64, 64)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    labels = TARGET[0, :, 4].long() + 1
    torch.manual_seed(1)
    own = network([picture[0]], [{"boxes": TARGET[0, :, :4], "labels": labels}])
    torch.manual_seed(1)
    ours = losses(network, picture, TARGET[:1])
    assert ours.shape == (1, len(LOSSES))
    assert_close(ours.sum(), sum(own.values()))
    boxes = sum(value for name, value in own.items() if "bbox" in name or "box_reg" in name)
    assert_close(ours[0, 1], boxes)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_picture_has_losses_of_its_own_also_without_a_box(family):
    network = small(family)
    found = losses(network, torch.rand(2, 3, 64, 64), TARGET)
    assert found.shape == (2, 2)
    assert found.isfinite().all()
    assert found[1, 1] == 0  # no box, nothing wrong about boxes
    found.sum().backward()
    assert all(parameter.grad is not None for parameter in network.backbone.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_boxes_without_an_area_change_nothing(family):
    flat = torch.tensor([[64.0, 8.0, 64.0, 30.0, 1.0], [8.0, 20.0, 30.0, 20.0, 0.0], [30.0, 8.0, 20.0, 30.0, 0.0]])
    network, pictures = small(family), torch.rand(2, 3, 64, 64)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    found = []
    for target in (TARGET, torch.cat([flat.expand(2, -1, -1), TARGET], dim=1)):
        torch.manual_seed(1)
        found.append(losses(network, pictures, target))
    assert_close(found[1], found[0])


@pytest.mark.parametrize("family", FAMILIES)
def test_detections_are_padded_and_classes_are_counted_from_zero(family):
    options = {"box_score_thresh": 0.0} if family == "fasterrcnn" else {"score_thresh": 0.0}
    network = small(family, **options).eval()
    with torch.no_grad():
        found = detections(network, torch.rand(2, 3, 64, 64))
    assert found.shape[0] == 2
    assert found.shape[2] == 6
    assert {-1, 0, 1} >= set(found[..., 4].unique().tolist())
    assert (found[..., 4] >= 0).any()
    assert ((found[..., 5] >= 0) & (found[..., 5] <= 1)).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_levels_and_heads_can_be_tapped(family):
    network = small(family).train()
    names = [*levels(network), *(heads(network) or ())]
    said = Taps(network, names)(lambda: losses(network, torch.rand(2, 3, 64, 64), TARGET))
    grids = [said[tap].shape[2] for tap in levels(network)]
    assert len(grids) >= 3
    assert grids == sorted(grids, reverse=True)
    if family == "ssdlite":
        assert grids == [8, 4, 2, 1, 1]
    if family == "fasterrcnn":
        assert heads(network) is None
    else:
        logits, offsets = (said[tap] for tap in heads(network))
        assert logits.shape[0] == 2
        assert logits.shape[2] == 3
        assert offsets.shape == (2, logits.shape[1], 4)


def plain():
    """A RetinaNet whose head has no normalisation, as torchvision's first one."""
    from torchvision.models.detection.retinanet import RetinaNetHead

    network = small("retinanet")
    network.head = RetinaNetHead(64, 9, 3)
    return network


@pytest.mark.parametrize("made", [lambda: small("fcos"), lambda: small("retinanet"), plain])
def test_the_rest_of_a_head_says_of_what_is_inside_it_what_the_head_says(made):
    from torchvision.models.detection.image_list import ImageList

    network, pictures = made().eval(), torch.rand(2, 3, 64, 64)
    taps, kept = inside_head(network), []
    hook = network.backbone.register_forward_hook(lambda module, args, output: kept.extend(output.values()))
    with torch.no_grad():
        said = Taps(network, [*taps, *HEADS])(lambda: detections(network, pictures))
        logits, boxes = rest_of_head(network)([said[tap] for tap in taps])
    hook.remove()
    assert any((said[tap] < 0).any() for tap in taps)  # in front of the activation
    assert_close(logits, said[HEADS[0]])
    anchors = network.anchor_generator(ImageList(pictures, [(64, 64)] * 2), kept)[0]
    sizes = anchors[:, 2:] - anchors[:, :2]
    placed = boxes * sizes.repeat(1, 2) + (anchors[:, :2] + sizes / 2).repeat(1, 2)
    codes = said[HEADS[1]]
    coder = network.box_coder
    expected = coder.decode(codes, anchors) if hasattr(network, "center_sampling_radius") else torch.stack(
        [coder.decode_single(each, anchors) for each in codes]
    )  # fmt: skip
    assert_close(placed, expected, rtol=1e-4, atol=1e-3)


def test_heads_are_cut_only_where_they_have_towers():
    assert [len(inside_head(small(family))) for family in FAMILIES] == [10, 10, 0, 0, 0]
    assert rest_of_head(small("ssd")) is None
    assert same_levels(small("fcos"), small("retinanet"))
    assert not same_levels(small("fcos"), small("fcos", stages=4))
    assert not same_levels(small("ssd"), small("ssd"))


def test_the_rest_of_a_head_is_the_networks_own():
    network = small("fcos")
    rest = rest_of_head(network)
    assert rest.classes.cls_logits is network.head.classification_head.cls_logits
    assert len(network.head.classification_head.conv) == 12


def test_heads_are_compared_only_where_the_anchors_are_the_same():
    assert same_anchors(small("fcos"), small("fcos"))
    assert not same_anchors(small("fcos"), small("retinanet"))
    assert not same_anchors(small("fcos"), small("fcos", stages=4))
    assert not same_anchors(small("fasterrcnn"), small("fasterrcnn"))


def test_a_classifier_is_no_detector():
    layer = torch.nn.Linear(2, 2)
    assert not is_detector(layer)
    with pytest.raises(ModelError, match=r"expected a detector of torchvision .* found Linear"):
        losses(layer, torch.rand(1, 3, 8, 8), TARGET[:1])


def test_detectors_are_found_by_name_and_start_from_the_weights_of_a_classifier(tmp_path):
    import timm
    from safetensors.torch import save_file

    classifier = timm.create_model("mobilenetv3_small_050", num_classes=5)
    save_file(classifier.state_dict(), tmp_path / "classifier.safetensors")
    given = {"num_classes": 2, "input_size": (64, 64), "arguments": {"channels": 64}, "seed": 0}
    found = find("detector/fcos-mobilenetv3_small_050", weights=tmp_path / "classifier.safetensors", **given)
    assert torch.equal(found.backbone.body.conv_stem.weight, classifier.conv_stem.weight)
    assert found.transform.min_size == (64,)
    assert "took the weights of the backbone" in found.origin["notes"][0]
    fresh = find("detector/fcos-mobilenetv3_small_050", **given)
    assert torch.equal(found.head.regression_head.bbox_reg.weight, fresh.head.regression_head.bbox_reg.weight)


def test_grey_pictures_are_repeated_to_the_channels_of_a_detector():
    task, given = Detection(2), {"num_classes": 2, "input_size": (64, 64), "arguments": {"channels": 64}, "seed": 0}
    grey = find("detector/fcos-mobilenetv3_small_050", in_channels=1, **given).eval()
    picture = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        said = [task.call(grey, task.unpack((x, TARGET[:1]))) for x in (picture, picture.expand(-1, 3, -1, -1))]
    assert_close(said[0], said[1])


def test_names_of_families_and_backbones():
    assert "fcos-resnet18" in detector.names()
    with pytest.raises(ModelError, match="there is no backbone 'none_such'"):
        detector.build("fcos-none_such", {"num_classes": 2})


def test_an_ssdlite_asks_for_small_boxes_in_the_shape_of_the_picture():
    network = pyramid_detector(
        "ssdlite", "mobilenetv3_small_050", num_classes=2, size=(64, 96), channels=32, min_ratio=0.25
    ).eval()
    assert network.transform.fixed_size == (96, 64)
    images, _ = network.transform([torch.rand(3, 64, 96)])
    maps = list(network.backbone(images.tensors).values())
    boxes = network.anchor_generator(images, maps)[0]
    sides = boxes[:, 2:] - boxes[:, :2]
    whole = (boxes[:, :2] > 0).all(1) & (boxes[:, 2:] < torch.tensor([96, 64])).all(1)
    assert_close(sides[whole & (sides[:, 0] * 64 == sides[:, 1] * 96)].min(dim=0).values, torch.tensor([24.0, 16.0]))


@pytest.mark.parametrize(("family", "argument"), [("fcos", "min_ratio"), ("ssdlite", "score_tresh")])
def test_an_argument_that_no_detector_takes_is_refused(family, argument):
    with pytest.raises(InputError, match=f"no argument '{argument}'"):
        detector.build(f"{family}-mobilenetv3_small_050", {"num_classes": 2, "channels": 32, argument: 0.3})


def test_arguments_of_what_scales_the_pictures_are_taken():
    made = detector.build("fcos-mobilenetv3_small_050", {"num_classes": 2, "channels": 32, "size_divisible": 64})
    assert made.transform.size_divisible == 64


@pytest.mark.parametrize("family", detector.FAMILIES)
def test_the_lines_of_the_card_build_every_family_without_this_library(family, tmp_path, monkeypatch):
    task, arguments = Detection(["disc", "square"]), {"channels": 32, "score_thresh": 0.0}
    if family == "fasterrcnn":
        arguments = {"channels": 32, "box_score_thresh": 0.0}
    student = find(
        f"detector/{family}-mobilenetv3_small_050", num_classes=2, input_size=(64, 64), arguments=arguments, seed=0
    )
    save(student.eval(), tmp_path, card="# net", classes=task.classes, input_size=(64, 64), finish=task.finish)
    code = (tmp_path / "README.md").read_text().partition("```python\n")[2].partition("```")[0]
    assert "tutelage" not in code
    monkeypatch.chdir(tmp_path)
    space = {}
    exec(compile(code, "card", "exec"), space)
    picture = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        ours = student(picture)[0]
    assert len(ours["boxes"])
    assert torch.equal(space["predict"](picture)[0]["boxes"], ours["boxes"])
