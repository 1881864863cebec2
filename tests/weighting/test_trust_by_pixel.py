"""Teachers that are trusted at one place and not at another."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from tutelage import Distiller, Frozen, Path
from tutelage.cache import Request, write
from tutelage.connectors import Resize
from tutelage.data import Loader, open_masks
from tutelage.data.augment_masks import AugmentMasks
from tutelage.errors import InputError
from tutelage.losses import cwd, kl, mse
from tutelage.models import fingerprint
from tutelage.recipe.catalogue import made
from tutelage.tasks import Classification, Segmentation
from tutelage.teachers import Cached
from tutelage.weighting import Auto, Calibrate, Product, Trust
from tutelage.weighting.base import parted

CLASSES, SIDE = 3, 8
HALVES = (slice(0, SIDE // 2), slice(SIDE // 2, SIDE))


class Says(nn.Module):
    """A teacher that always gives these logits, whatever it is shown."""

    def __init__(self, logits):
        super().__init__()
        self.register_buffer("logits", logits)

    def forward(self, inputs):
        return self.logits[: len(inputs)]


def truth(samples=4, seed=0):
    return torch.randint(CLASSES, (samples, SIDE, SIDE), generator=torch.Generator().manual_seed(seed))


def knows(target, wrong=(), sure=8.0):
    """Logits of somebody who knows the truth but in some columns, where it names the next class."""
    said = target.where(target < CLASSES, 0).clone()
    for columns in wrong:
        said[..., columns] = (said[..., columns] + 1) % CLASSES
    return sure * F.one_hot(said, CLASSES).movedim(3, 1).float()


def noise(samples=4, seed=0, sure=2.0):
    return sure * torch.randn(samples, CLASSES, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def student():
    torch.manual_seed(0)
    return nn.Conv2d(3, CLASSES, 3, padding=1)


def distiller(weighting, said, paths=None, **options):
    return Distiller(
        student(),
        teachers={name: Frozen(Says(logits)) for name, logits in said.items()},
        paths=paths or {"logits": Path(kl)},
        task=Segmentation(CLASSES, **options),
        weighting=weighting,
    )


def batch(target, task=None):
    inputs = torch.rand(len(target), 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    return (task or Segmentation(CLASSES)).unpack((inputs, target))


def by_pixel(net, seen):
    """Row name -> what each pixel of it counts in all: where, times how much."""
    step = net(seen)
    where = net.weighting.elements(step.lesson)
    return {
        row.name: where[row.name] * weight[:, None, None]
        for row, weight in zip(step.ledger.rows, step.weights, strict=True)
        if row.name in where
    }


@pytest.mark.parametrize("shares", ["confidence", "likelihood"])
def test_a_teacher_that_is_wrong_in_half_of_each_picture_counts_only_in_the_other_half(shares):
    target = truth()
    left, right = HALVES
    said = {"east": knows(target, wrong=[left], sure=30.0), "west": knows(target, wrong=[right], sure=30.0)}
    counts = by_pixel(distiller(Trust(shares=shares, per="pixel"), said), batch(target))
    assert_close(counts["logits/east"][..., right], torch.ones(4, SIDE, SIDE // 2))
    assert counts["logits/east"][..., left].max() < 1e-6
    assert_close(counts["logits/west"], counts["logits/east"].flip(2))
    whole = distiller(Trust(shares=shares), said)(batch(target)).weights
    assert_close(whole[1:], torch.full((2, 4), 0.5))  # by pictures, the two are as good as each other


def test_what_a_teacher_says_where_it_is_wrong_never_reaches_the_student():
    target, left = truth(), HALVES[0]
    seen, pulls = batch(target), []
    for wrong in ([left], [left, left]):  # wrong by one class, and by two
        said = {"good": knows(target, sure=30.0), "other": knows(target, wrong, sure=30.0)}
        net = distiller(Trust(shares="likelihood", per="pixel"), said)
        net(seen).loss.backward()
        pulls.append(net.student.weight.grad)
    assert_close(*pulls)


def test_the_weights_of_a_pixel_sum_to_what_they_sum_to_for_the_picture():
    target, said = truth(), {name: noise(seed=n) for n, name in enumerate("abc")}
    for shares in ("confidence", "likelihood"):
        counts = by_pixel(distiller(Trust(shares=shares, per="pixel"), said), batch(target))
        assert_close(sum(counts.values()), torch.ones(4, SIDE, SIDE))
        assert len({round(float(value), 4) for value in counts["logits/a"].flatten()}) > 50


def test_where_all_pixels_are_alike_it_is_the_weight_of_the_picture():
    target = torch.tensor([0, 2, 1, 2])[:, None, None].expand(4, SIDE, SIDE)
    said = {n: torch.randn(4, CLASSES, 1, 1).expand(4, CLASSES, SIDE, SIDE) for n in "ab"}
    for options in ({}, {"shares": "likelihood", "absolute": True}):
        each, whole = (
            Product([Calibrate()], [Trust(per=per, **options)]) for per in ("pixel", "sample")
        )  # fmt: skip
        nets = [distiller(rule, said) for rule in (each, whole)]
        for net in nets:
            net.student.weight.data.zero_()  # a student that says the same everywhere, too
        steps = [net(batch(target)) for net in nets]
        assert_close(steps[0].weights, steps[1].weights)
        assert_close(steps[0].ledger.losses, steps[1].ledger.losses)
        assert_close(steps[0].loss, steps[1].loss)


@pytest.mark.parametrize("boundary", [1.0, 3.0])
def test_the_loss_is_the_sum_over_teachers_and_pixels_written_with_loops(boundary):
    target = truth()
    target[0, :5] = target[1, 2, 3] = 255
    said = {name: noise(seed=n) for n, name in enumerate("ab")}
    task = Segmentation(CLASSES, boundary=boundary)
    seen, net = batch(target, task), distiller(Trust(shares="likelihood", absolute=True, per="pixel"), said)
    step = net(seen)
    own = net.student(seen.inputs).detach()
    edge, total, valid = seen.extras.get("element_weight", torch.ones(target.shape)), 0.0, int((target != 255).sum())
    for b, y, x in (target != 255).nonzero().tolist():
        right = int(target[b, y, x])
        odds = {n: logits[b, :, y, x].softmax(0)[right] for n, logits in said.items()}
        credit = {n: min(1.0, float(p / own[b, :, y, x].softmax(0)[right])) for n, p in odds.items()}
        for n, logits in said.items():
            p, q = ((z[b, :, y, x] / 4).softmax(0) for z in (logits, own))
            total += edge[b, y, x] * odds[n] / sum(odds.values()) * credit[n] * 16 * (p * (p / q).log()).sum()
    assert_close(step.loss - step.ledger.losses[0].mean(), total / valid, rtol=1e-4, atol=1e-5)


def test_pixels_without_a_label_are_weighed_by_those_that_have_one():
    target = truth()
    target[:, :3] = 255
    target[3] = 255  # nothing is known of this picture
    said = {name: noise(seed=n) for n, name in enumerate("ab")}
    task = Segmentation(CLASSES, teach_ignored=True)
    counts = by_pixel(distiller(Trust(shares="likelihood", per="pixel"), said), batch(target, task))["logits/a"]
    whole = distiller(Trust(shares="likelihood"), said)(batch(target, task)).weights
    assert_close(counts[:3, :3], whole[1, :3, None, None].expand(3, 3, SIDE))
    assert_close(counts[3], torch.full((SIDE, SIDE), 0.5))


def test_rows_whose_loss_takes_no_weights_of_pixels_keep_those_of_the_picture():
    target, said = truth(), {name: noise(seed=n) for n, name in enumerate("ab")}

    def paths():
        small = Resize(teacher=(CLASSES, SIDE, SIDE))  # its grid may be another
        return {"logits": Path(kl), "channels": Path(cwd), "small": Path(kl, connector=small), "maps": Path(mse)}

    each, whole = (distiller(Trust(absolute=True, per=per), said, paths()) for per in ("pixel", "sample"))
    found, expected = each(batch(target)), whole(batch(target))
    assert set(each.weighting.elements(found.lesson)) == {"logits/a", "logits/b"}
    assert_close(found.weights[3:], expected.weights[3:])
    assert_close(found.ledger.losses[3:], expected.ledger.losses[3:])
    assert not torch.allclose(found.weights[1:3], expected.weights[1:3])


def test_one_call_for_all_teachers_is_one_call_for_each():
    def alone(student, teacher, *, mask, element_weight):
        return kl(student, teacher, mask=mask, element_weight=element_weight)

    target, said = truth(), {name: noise(seed=n) for n, name in enumerate("abc")}
    for boundary in (1.0, 2.0):
        steps = []
        for loss in (kl, alone):
            net = distiller(Trust(per="pixel"), said, {"logits": Path(loss)})
            steps.append(net(batch(target, Segmentation(CLASSES, boundary=boundary))))
        assert_close(steps[0].ledger.losses, steps[1].ledger.losses)
        assert_close(steps[0].loss, steps[1].loss)


def test_one_teacher_is_heard_less_only_where_the_student_knows_more():
    target, left = truth(), HALVES[0]
    said = {"one": knows(target, wrong=[left], sure=30.0)}
    assert by_pixel(distiller(Trust(per="pixel"), said), batch(target))["logits/one"].eq(1).all()
    counts = by_pixel(distiller(Trust(absolute=True, per="pixel"), said), batch(target))["logits/one"]
    assert counts[..., left].max() < 1e-6
    assert_close(counts[..., HALVES[1]], torch.ones(4, SIDE, SIDE // 2))


def test_gates_before_and_after_multiply():
    target, said = truth(), {name: noise(seed=n) for n, name in enumerate("ab")}
    twice = Product(gates=[Trust(per="pixel"), Trust(shares="likelihood", per="pixel")])
    found = by_pixel(distiller(twice, said), batch(target))["logits/a"]
    first, second = (
        by_pixel(distiller(Trust(shares=shares, per="pixel"), said), batch(target))["logits/a"]
        for shares in ("confidence", "likelihood")
    )
    assert_close(found, first * second)


def test_the_default_takes_it_by_one_word_and_not_unasked():
    target, said = truth(), {name: noise(seed=n) for n, name in enumerate("ab")}
    asked = distiller(made("weighting", {"use": "auto", "share": "pixel"}), said)
    assert set(asked.weighting.elements(asked(batch(target)).lesson)) == {"logits/a", "logits/b"}
    unasked = distiller(Auto(), said)
    assert unasked.weighting.elements(unasked(batch(target)).lesson) == {}
    for wrong in (lambda: Trust(per="half"), lambda: Auto(share="half")):
        with pytest.raises(InputError, match="half"):
            wrong()


def test_with_one_answer_a_sample_it_changes_nothing():
    torch.manual_seed(0)
    inputs, target = torch.rand(5, 4), torch.tensor([0, 1, 2, 0, 1])
    steps = []
    for per in ("pixel", "sample"):
        torch.manual_seed(0)
        nets = [nn.Linear(4, 3) for _ in range(3)]
        net = Distiller(
            nets[0],
            teachers={"a": Frozen(nets[1]), "b": Frozen(nets[2])},
            paths={"logits": Path(kl)},
            task=Classification(3),
            weighting=Trust(per=per),
        )
        steps.append(net(net.task.unpack((inputs, target))))
    assert torch.equal(steps[0].weights, steps[1].weights)
    assert torch.equal(steps[0].loss, steps[1].loss)


def test_what_is_read_from_disk_is_weighed_like_what_is_said(tmp_path):
    draws = torch.Generator().manual_seed(0)
    pictures = torch.randint(256, (40, 3, SIDE, SIDE), dtype=torch.uint8, generator=draws)
    data = open_masks(list(zip(pictures, truth(40), strict=True)), class_names=list("xyz"))
    task, augment = Segmentation(data.classes), AugmentMasks(flip=True)
    torch.manual_seed(3)
    nets = {name: nn.Conv2d(3, CLASSES, 3, stride=2, padding=1) for name in "ab"}
    told = {f"teacher {name}": fingerprint(net) for name, net in nets.items()}

    def pupil(teachers):
        known = {"data": data.train.fingerprint, "augment": augment.fingerprint, "views": "2", **told}
        rule = Trust(shares="likelihood", absolute=True, per="pixel")
        return Distiller(
            student(), teachers=teachers, paths={"logits": Path(kl)}, task=task, weighting=rule, fingerprints=known
        )

    live = pupil({name: Frozen(net) for name, net in nets.items()})
    request = Request(
        folder=tmp_path / "store",
        teachers=dict(live.teachers),
        taps={"a": (), "b": ()},
        fingerprints={name: fingerprint(net) for name, net in nets.items()},
        task=task,
        slices={"train": data.train},
        augment=augment,
        views=2,
        batch_size=8,
        rows=16,
    )
    write(request)
    seen = task.unpack(Loader(data.train, batch_size=8, seed=0, augment=augment, views=2).batch(1, 0))
    expected, found = live(seen), pupil({name: Cached(tmp_path / "store") for name in "ab"})(seen)
    assert_close(found.weights, expected.weights, rtol=2e-3, atol=2e-3)
    assert_close(found.loss, expected.loss, rtol=2e-3, atol=2e-3)


def test_a_weight_is_taken_apart_over_the_positions_that_count():
    weight, mask = torch.rand(3, 4, 5), torch.rand(3, 4, 5) > 0.4
    mask[2] = False
    much, where = parted(weight, mask)
    assert_close(much[:, None, None] * where, weight)
    assert_close(much[:2], torch.stack([w[m].mean() for w, m in zip(weight[:2], mask[:2], strict=True)]))
    assert_close(much[2], weight[2].mean())
