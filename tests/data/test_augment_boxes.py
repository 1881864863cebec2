import pytest
import torch

from tutelage.data.augment_boxes import AugmentBoxes
from tutelage.data.boxes import pad


def bright(box, side=64):
    """A black picture, white inside the box."""
    left, top, right, bottom = map(int, box)
    picture = torch.zeros(1, 3, side, side, dtype=torch.uint8)
    picture[:, :, top:bottom, left:right] = 255
    return picture


def seen(picture):
    """The box around what is white in a picture."""
    rows, columns = (picture[0, 0] > 127).nonzero().unbind(1)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@pytest.mark.parametrize("options", [{"flip": True}, {"flip_down": True}, {"scale": 1.5}, {"flip": True, "scale": 2.0}])
def test_the_box_stays_around_what_it_held(options):
    box = [24.0, 20.0, 40.0, 32.0]
    target = pad([torch.tensor([[*box, 1.0]])], 2)
    for view in range(20):
        picture, boxes = AugmentBoxes(visible=1.0, **options).pair(
            bright(box), target, torch.tensor([3]), torch.tensor([view])
        )
        if boxes[0, 0, 4] == 1:
            assert torch.allclose(boxes[0, 0, :4], torch.tensor(seen(picture)).float(), atol=1.01)
        assert boxes[0, 1].tolist() == [0, 0, 0, 0, -1]


def test_a_box_that_is_hardly_seen_is_dropped():
    target = pad([torch.tensor([[0.0, 0.0, 8.0, 8.0, 0.0]])])
    augment = AugmentBoxes(scale=3.0, visible=0.99)
    labels = [
        augment.pair(bright([0, 0, 8, 8]), target, torch.tensor([0]), torch.tensor([v]))[1][0, 0, 4].item()
        for v in range(40)
    ]
    assert {0.0, -1.0} == set(labels)


def test_a_sample_does_not_depend_on_its_batch_and_view_minus_one_is_clean():
    pictures, target = torch.rand(4, 3, 32, 32), pad([torch.tensor([[2.0, 2.0, 20.0, 20.0, 1.0]])] * 4)
    index, view = torch.arange(4), torch.tensor([0, 1, -1, 5])
    augment = AugmentBoxes(flip=True, scale=1.5, brightness=0.2)
    together, boxes = augment.pair(pictures, target, index, view)
    for n in range(4):
        alone, box = augment.pair(pictures[n : n + 1], target[n : n + 1], index[n : n + 1], view[n : n + 1])
        assert torch.equal(alone[0], together[n])
        assert torch.equal(box[0], boxes[n])
    assert torch.equal(together[2], pictures[2])
    assert not torch.equal(together[3], pictures[3])


def test_negative_amounts_are_refused():
    with pytest.raises(ValueError, match=r"scale of 1 or more.* found 0.5"):
        AugmentBoxes(scale=0.5)
