import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from tutelage.losses import anchor_boxes, anchor_classes


def test_sigmoid_scores_are_compared_class_by_class_without_the_background():
    student, teacher = torch.randn(2, 7, 4), torch.randn(2, 7, 4)
    expected, objects = 0.0, 0.0
    for b in range(2):
        for a in range(7):
            objects += teacher[b, a, 1:].sigmoid().max()
            for c in range(1, 4):
                t, s = teacher[b, a, c].sigmoid(), student[b, a, c].sigmoid()
                expected -= (t * s.log() + (1 - t) * (1 - s).log()) * (t - s).abs()
    assert_close(anchor_classes(student, teacher).mean(), expected / objects)


def test_softmax_scores_are_one_distribution_with_the_background():
    student, teacher = torch.randn(3, 7, 4), torch.randn(3, 7, 4)
    kl = F.kl_div(student.log_softmax(2), teacher.softmax(2), reduction="none").sum(2)
    objects = 1 - teacher.softmax(2)[..., 0]
    value = anchor_classes(student, teacher, scores="softmax", focus=0)
    assert_close(value.mean(), kl.sum() / objects.sum())
    assert_close(anchor_classes(teacher, teacher, scores="softmax"), torch.zeros(3), atol=1e-6, rtol=0)


def test_each_anchor_counts_by_how_far_its_distributions_are_apart():
    student, teacher = torch.tensor([[[0.0, 10.0, 0.0]]]), torch.tensor([[[0.0, 0.0, 10.0]]])
    whole = anchor_classes(student, teacher, scores="softmax", focus=0)  # both see an object, of another class
    apart = (student.softmax(2) - teacher.softmax(2)).abs().sum() / 2
    assert whole > 9
    for focus in (1.0, 2.0):
        assert_close(anchor_classes(student, teacher, scores="softmax", focus=focus), whole * apart**focus)


@pytest.mark.parametrize("scores", ["sigmoid", "softmax"])
def test_boxes_count_where_the_teacher_sees_an_object(scores):
    logits = torch.tensor([[[0.0, 30.0], [30.0, -30.0]]])
    offsets = torch.zeros(1, 2, 4)
    moved = torch.tensor([[[1.0] * 4, [50.0] * 4]])
    assert_close(anchor_boxes(moved, (offsets, logits), scores=scores, beta=1e-3), torch.tensor([1 - 5e-4]))


def test_other_anchors_are_refused():
    with pytest.raises(ValueError, match=r"\(1, 5, 4\).*\(1, 6, 4\).*pseudo-labels"):
        anchor_classes(torch.zeros(1, 5, 4), torch.zeros(1, 6, 4))
    with pytest.raises(ValueError, match="two taps of the teacher"):
        anchor_boxes(torch.zeros(1, 5, 4), torch.zeros(1, 5, 4))
