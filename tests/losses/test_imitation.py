import pytest
import torch
from torch.testing import assert_close

from tutelage.losses import imitation
from tutelage.losses.cells import under_boxes


def test_only_cells_under_boxes_count_and_the_batch_mean_is_over_cells():
    target = torch.tensor([[[0.0, 0, 8, 16, 1]], [[0.0, 0, 16, 16, 1]]])
    student, teacher, pictures = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4), torch.zeros(2, 3, 32, 32)
    gap = (student - teacher).square().sum(1)
    kept = torch.cat([gap[0, :2, :1].flatten(), gap[1, :2, :2].flatten()])
    value = imitation(student, teacher, target=target, inputs=pictures)
    assert_close(value.mean(), kept.mean() / 2)
    assert_close(value[0], gap[0, :2, :1].sum() / 6)


def test_a_picture_without_boxes_teaches_nothing():
    target, maps = torch.full((1, 1, 5), -1.0), torch.randn(1, 3, 4, 4)
    assert imitation(maps, maps + 1, target=target, inputs=torch.zeros(1, 3, 32, 32)) == 0


def test_boxes_touch_the_cells_they_reach_into():
    cells = under_boxes(torch.tensor([[[9.0, 0, 17, 8, 0], [0, 0, 0, 0, -1]]]), (32, 32), (4, 4))
    assert cells[0, 0].nonzero().tolist() == [[0, 1], [0, 2]]
    assert not cells[0, 1].any()


def test_other_targets_are_refused():
    maps = torch.randn(2, 3, 4, 4)
    with pytest.raises(ValueError, match="This loss is for detection"):
        imitation(maps, maps, target=torch.zeros(2, dtype=torch.int64), inputs=torch.zeros(2, 3, 8, 8))
