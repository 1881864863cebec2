import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from tutelage.errors import InputError
from tutelage.losses import kl
from tutelage.tasks import Segmentation
from tutelage.tasks.segmentation import edges, iou, palette
from tutelage.verdict import judge, value


def drawn(seed=0, samples=6, classes=4, side=8):
    draws = torch.Generator().manual_seed(seed)
    logits = torch.randn(samples, classes, side, side, generator=draws)
    target = torch.randint(classes, (samples, side, side), generator=draws)
    target[torch.rand(target.shape, generator=draws) < 0.2] = 255
    return logits, target


def batch(task, target, **fields):
    return task.unpack({"inputs": torch.rand(len(target), 3, *target.shape[1:]), "target": target, **fields})


def test_the_mean_of_the_base_loss_is_the_cross_entropy_over_valid_pixels():
    logits, target = drawn()
    target[0, :6] = 255  # pictures have different numbers of valid pixels
    task = Segmentation(4)
    assert_close(
        task.base_loss({"": logits}, batch(task, target))["base"].mean(),
        F.cross_entropy(logits, target, ignore_index=255),
    )
    weights = [0.5, 1.0, 2.0, 4.0]
    weighted = Segmentation(4, class_weights=weights, label_smoothing=0.1)
    assert_close(
        weighted.base_loss({"": logits}, batch(task, target))["base"].mean(),
        F.cross_entropy(logits, target, torch.tensor(weights), ignore_index=255, label_smoothing=0.1),
    )


def test_pictures_without_a_valid_pixel_are_unlabelled_and_lose_nothing():
    logits, target = drawn()
    target[2] = 255
    task = Segmentation(4)
    raw = batch(task, target, labelled=torch.tensor([True, False, True, True, True, True]))
    assert raw.labelled.tolist() == [True, False, False, True, True, True]
    loss = task.base_loss({"": logits}, raw)["base"]
    assert loss[[1, 2]].tolist() == [0, 0]
    kept = [0, 3, 4, 5]
    assert_close(loss.mean(), F.cross_entropy(logits[kept], target[kept], ignore_index=255))
    nothing = task.base_loss({"": logits.requires_grad_()}, batch(task, torch.full_like(target, 255)))["base"]
    assert nothing.tolist() == [0.0] * 6
    nothing.sum().backward()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize(
    "options", [{"class_weights": [0.5, 1.0, 2.0, 4.0]}, {"boundary": 3.0}, {"teach_ignored": True}]
)
def test_nothing_is_learned_from_a_mask_that_is_hidden(options):
    _, target = drawn()
    labelled, other = torch.tensor([True, False, True, True, True, True]), target.clone()
    other[1] = drawn(seed=1)[1][1]
    one, two = (batch(Segmentation(4, **options), mask, labelled=labelled) for mask in (target, other))
    assert one.target[1].eq(255).all()
    assert torch.equal(one.target[0], target[0])
    assert one.labelled.tolist() == labelled.tolist()
    assert torch.equal(one.target, two.target)
    assert all(torch.equal(one.extras[name], two.extras[name]) for name in one.extras)
    assert "mask" not in one.extras or one.extras["mask"][1].all()  # teachers teach all of it


def test_outputs_of_any_stride_meet_on_the_grid_of_the_pictures():
    task = Segmentation(4)
    raw = batch(task, drawn()[1])
    coarse = nn.Conv2d(3, 4, 1, stride=4)
    answered = task.call(coarse, raw)
    assert answered.shape == (6, 4, 8, 8)
    assert_close(answered, F.interpolate(coarse(raw.inputs), (8, 8), mode="bilinear", align_corners=False))
    assert task.finish(torch.zeros(1, 4, 2, 2, dtype=torch.bfloat16), raw.inputs).dtype == torch.bfloat16


def test_the_metric_of_the_counts_is_that_of_torchmetrics():
    logits, target = drawn(samples=12)
    target[target == 3] = 2
    logits[:, 3] = -9  # nobody says it, and it is nowhere
    task = Segmentation(4)
    prediction = task.predict(logits)
    kept = task.keep(prediction, target)
    metric = task.metrics()["miou"]
    metric.update(prediction, target)
    assert value(task.score(kept), task.parts) == pytest.approx(float(metric.compute()), abs=1e-6)


def test_iou_counts_pixels_over_the_whole_set_and_as_often_as_a_picture_counts():
    task = Segmentation(3)
    logits, target = drawn(samples=4, classes=3)
    said = task.predict(logits)
    counts = task.score(task.keep(said, target))
    weights = torch.tensor([[1.0, 1, 1, 1], [2, 0, 1, 0]])
    repeated = {0: [0, 1, 2, 3], 1: [0, 0, 2]}
    for row, chosen in repeated.items():
        for c in range(3):
            valid = target[chosen] != 255
            both = ((said[chosen] == c) & (target[chosen] == c) & valid).sum()
            either = (((said[chosen] == c) | (target[chosen] == c)) & valid).sum()
            assert_close(iou(counts, weights)[row, c], (both / either).double(), atol=1e-6, rtol=0)


def test_the_verdict_counts_anew_for_every_resample():
    task = Segmentation(4)
    logits, target = drawn(samples=60)
    good = logits + 2.5 * F.one_hot(target.where(target < 4, 0), 4).permute(0, 3, 1, 2)
    scores = [task.score(task.keep(task.predict(each), target))[None] for each in (good, logits)]
    outcome = judge(*scores, parts=task.parts)
    assert outcome.verdict == "better"
    assert outcome.delta == pytest.approx(value(scores[0][0], iou) - value(scores[1][0], iou))
    assert outcome.interval[0] > 0


def answers(task, target, how, seed=1):
    draws = torch.Generator().manual_seed(seed)
    right = target.where(target < 4, 0)
    noise = torch.randint(4, target.shape, generator=draws)
    said = {
        "good": right.where(torch.rand(target.shape, generator=draws) < 0.9, noise),
        "noise": noise,
        "constant": torch.full_like(target, int(right.flatten().mode().values)),
        "permuted": (right + 1) % 4,
    }[how]
    return task.keep(said, target)


@pytest.mark.parametrize(
    ("how", "message"),
    [("good", None), ("noise", "above chance"), ("constant", "above chance"), ("permuted", "permuted")],
)
def test_a_teacher_that_knows_nothing_or_another_order_is_suspected(how, message):
    task = Segmentation(["wall", "cat", "dog", "sky"])
    target = drawn(samples=30)[1]
    said = task.suspect("big", answers(task, target, how))
    assert (said is None) if message is None else (message in said and "teacher 'big'" in said)
    if how == "permuted":
        assert "teachers.big.classes=[1, 2, 3, 0]" in said


def test_what_is_told_of_answers():
    task = Segmentation(4)
    target = drawn(samples=20)[1]
    good, noise = answers(task, target, "good"), answers(task, target, "noise", seed=2)
    told = task.describe(noise, good)
    assert told["per_class"] == pytest.approx(iou(task.score(noise), torch.ones(1, 20))[0].tolist())
    assert sum(map(sum, told["confusion"])) == int((target != 255).sum())
    assert told["agreement"] == pytest.approx(0.25, abs=0.05)
    assert task.describe(good)["agreement"] is None
    assert (task.distance(good, [good, good]) == 0).all()
    assert (task.distance(good, [noise, good]) > 0.2).all()
    panels = task.panels(torch.zeros(20, 3, 8, 8, dtype=torch.uint8), {"student": good, "teacher:big": noise})
    assert list(panels) == ["truth", "student", "teacher:big"]
    assert all(panel.shape == (20, 3, 8, 8) and panel.dtype == torch.uint8 for panel in panels.values())
    assert (panels["truth"].permute(0, 2, 3, 1)[target == 255] == 0).all()


def test_every_class_has_a_colour_of_its_own():
    assert len({tuple(colour) for colour in palette(40)[:40].tolist()}) == 40
    assert len(set(Segmentation(40).colours())) == 40
    red, green, blue = palette(3)[2].tolist()
    assert Segmentation(3).colours()[2] == f"#{red:02x}{green:02x}{blue:02x}"


@pytest.mark.parametrize("weights", [[1.0], [1.0, 0.0]])
def test_class_weights_are_one_above_zero_for_each_class(weights):
    with pytest.raises(InputError, match="above 0 for each of the 2 classes"):
        Segmentation(2, class_weights=weights)


def test_teachers_are_silent_where_there_is_no_class_unless_asked():
    logits, target = drawn()
    target[3] = 255
    other = logits.clone()
    masked = Segmentation(4).unpack((torch.rand(6, 3, 8, 8), target)).extras["mask"]
    ignored = (target == 255) & ~torch.isin(torch.arange(6), torch.tensor(3))[:, None, None]
    other.movedim(1, -1)[ignored] += torch.tensor([5.0, 0, 0, 0])
    assert kl(other, logits, mask=masked).abs().max() < 1e-6  # of the unlabelled picture all pixels are taught
    assert masked[3].all()
    assert Segmentation(4, teach_ignored=True).unpack((torch.rand(6, 3, 8, 8), target)).extras == {}


def test_a_teacher_that_is_sure_of_the_truth_counts_as_the_truth_does():
    logits, target = drawn()
    weights = torch.tensor([0.5, 1.0, 2.0, 4.0])
    raw = batch(Segmentation(4, class_weights=weights.tolist()), target)
    sure = 1e4 * F.one_hot(target.where(target != 255, 0), 4).movedim(-1, 1).float()
    found = kl(logits, sure, temperature=1.0, mask=raw.extras["mask"], element_weight=raw.extras["element_weight"])
    assert_close(found.mean(), F.cross_entropy(logits, target, weights, ignore_index=255))


@pytest.mark.parametrize("boundary", [1.0, 3.0])
def test_pixels_without_a_class_weigh_as_others_do_on_average(boundary):
    target = drawn()[1]
    target[3] = 255
    task = Segmentation(4, class_weights=[0.5, 1.0, 2.0, 4.0], boundary=boundary)
    weight = batch(task, target).extras["element_weight"]
    assert weight.mean() == pytest.approx(1)
    if boundary == 1:
        assert_close(weight[3], torch.ones(8, 8))
    assert batch(task, torch.full_like(target, 255)).extras["element_weight"].eq(1).all()


def test_pixels_at_which_classes_meet_weigh_more():
    target = drawn()[1]
    weight = Segmentation(4, boundary=3.0).unpack((torch.rand(6, 3, 8, 8), target)).extras["element_weight"]
    assert weight.mean() == pytest.approx(1)
    at, away = weight[edges(target)], weight[~edges(target)]
    assert torch.equal(at / away[0], torch.full_like(at, 3))
    for b, y, x in [(0, 0, 0), (2, 3, 7), (5, 4, 4)]:
        near = target[b, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
        assert bool(edges(target)[b, y, x]) == (target[b, y, x] != 255 and len(set(near[near != 255].tolist())) > 1)
    with pytest.raises(InputError, match="boundary above 0"):
        Segmentation(2, boundary=0)
