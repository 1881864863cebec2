import pytest
import torch
from torch.testing import assert_close

from tutelage.tasks.average_precision import NUMBERS, average_precision, matched, numbers

pytest.importorskip("faster_coco_eval")


def whole(table, counts=None):
    """The mean over classes."""
    return average_precision(table, torch.ones(1, len(table)) if counts is None else counts).nanmean(dim=1)


def scene(pictures=12, classes=3, seed=0):
    """Boxes, and detections that are some of them moved, doubled, misnamed or made up."""
    draw = torch.Generator().manual_seed(seed)
    target, prediction = torch.zeros(pictures, 8, 5), torch.zeros(pictures, 30, 6)
    target[..., 4] = prediction[..., 4] = -1
    for n in range(pictures):
        boxes = int(torch.randint(0, 8, (1,), generator=draw))
        corner, size = torch.rand(boxes, 2, generator=draw) * 150, 8 + torch.rand(boxes, 2, generator=draw) * 90
        target[n, :boxes, :4] = torch.cat([corner, corner + size], 1)
        target[n, :boxes, 4] = torch.randint(0, classes, (boxes,), generator=draw).float()
        repeated = target[n, :boxes].repeat(3, 1)
        moved = repeated[:, :4] + torch.randn(3 * boxes, 4, generator=draw) * 6
        prediction[n, : 3 * boxes, :4] = torch.cat([moved[:, :2], torch.maximum(moved[:, 2:], moved[:, :2] + 1)], 1)
        other = torch.rand(3 * boxes, generator=draw) < 0.2
        prediction[n, : 3 * boxes, 4] = torch.where(other, (repeated[:, 4] + 1) % classes, repeated[:, 4])
        prediction[n, : 3 * boxes, 5] = torch.rand(3 * boxes, generator=draw)
    return prediction, target


@pytest.mark.parametrize("seed", range(4))
def test_it_is_what_faster_coco_eval_computes(seed):
    prediction, target = scene(seed=seed)
    expected = numbers(prediction, target)
    assert tuple(expected) == NUMBERS
    assert 0.02 < expected["map"] < 0.9
    assert_close(whole(matched(prediction, target)).item(), expected["map"], atol=1e-6, rtol=0)


def test_a_choice_of_pictures_is_that_of_the_pictures_alone():
    prediction, target = scene()
    table = matched(prediction, target)
    counts = torch.tensor([[1.0] * 6 + [0.0] * 6, [0.0, 2.0] * 6])
    twice = torch.arange(1, 12, 2).repeat(2)
    expected = [whole(table[:6]), whole(table[twice])]
    assert_close(whole(table, counts), torch.cat(expected), atol=1e-6, rtol=0)


def test_nothing_found_is_zero_and_all_found_is_one():
    _, target = scene()
    none = torch.tensor([0.0, 0, 0, 0, -1, 0]).expand(12, 3, 6)
    assert whole(matched(none, target)) == 0
    found = torch.cat([target, (target[..., 4:] >= 0).float()], dim=2)
    assert_close(whole(matched(found, target)), torch.ones(1).double())
