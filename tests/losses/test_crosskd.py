import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close
from torchvision.ops import generalized_box_iou

from tutelage.losses import crosskd


class Rest(nn.Module):
    """Logits of two classes from the class tower, boxes around the place from the box tower."""

    def __init__(self):
        super().__init__()
        self.classes, self.boxes = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 4, 1)

    def forward(self, features):
        half = len(features) // 2
        logits = torch.cat([self.classes(x.relu()).flatten(2).mT for x in features[:half]], dim=1)
        sides = torch.cat([self.boxes(x.relu()).exp().flatten(2).mT for x in features[half:]], dim=1)
        return logits, sides * torch.tensor([-1.0, -1, 1, 1])


def maps(*grids):
    return tuple(1 + 2 * torch.randn(2, 3, side, side) for side in grids)


def test_matches_the_equations_written_with_loops():
    student, teacher, head = maps(4, 2, 4, 2), maps(4, 2, 4, 2), Rest()
    aligned = []
    for s, t in zip(student, teacher, strict=True):
        moved = torch.empty_like(s)
        for c in range(3):
            spread = ((t[:, c].var(correction=0) + 1e-5) / (s[:, c].var(correction=0) + 1e-5)).sqrt()
            moved[:, c] = (s[:, c] - s[:, c].mean()) * spread + t[:, c].mean()
        aligned.append(moved)
    (ours, found), (theirs, placed) = head(aligned), head(teacher)
    loss, weight = 0.0, 0.0
    for b in range(2):
        for a in range(4 * 4 + 2 * 2):
            score = theirs[b, a, 1:].sigmoid()
            entropy = F.binary_cross_entropy_with_logits(ours[b, a, 1:], score, reduction="none")
            loss += (entropy * (ours[b, a, 1:].sigmoid() - score).abs()).sum()
            loss += 0.5 * score.max() * (1 - generalized_box_iou(found[b, a, None], placed[b, a, None])[0, 0])
            weight += score.max()
    assert_close(crosskd(student, teacher, head=head, boxes=0.5).mean(), loss / weight)


def test_the_scale_and_the_level_of_each_channel_of_the_student_do_not_matter():
    student, teacher, head = maps(8, 8), maps(8, 8), Rest()
    scale, shift = torch.tensor([3.0, 0.5, 10.0])[:, None, None], torch.tensor([1.0, -4.0, 0.0])[:, None, None]
    moved = tuple(x * scale + shift for x in student)
    assert_close(crosskd(moved, teacher, head=head), crosskd(student, teacher, head=head), rtol=1e-3, atol=1e-4)
    assert crosskd(teacher, teacher, head=head).abs().max() < 1e-4


def test_gradient_passes_through_the_head_and_leaves_it_alone():
    student, teacher, head = [x.requires_grad_() for x in maps(4, 4)], maps(4, 4), Rest()
    crosskd(tuple(student), teacher, head=head).sum().backward()
    assert all(x.grad.abs().sum() > 0 for x in student)
    assert all(x.grad is None for x in head.parameters())


def test_a_level_of_one_place_and_one_sample_is_finite():
    student, teacher = ([torch.randn(1, 3, 1, 1, requires_grad=True) for _ in range(2)] for _ in range(2))
    value = crosskd(tuple(student), tuple(teacher), head=Rest())
    value.sum().backward()
    assert value.isfinite().all()
    assert all(x.grad.isfinite().all() for x in student)


def test_other_widths_and_grids_and_single_maps_are_refused():
    with pytest.raises(ValueError, match=r"crosskd: .*equal channels and one grid.*Project"):
        crosskd(maps(4, 4), maps(4, 2), head=Rest())
    with pytest.raises(ValueError, match="crosskd: expected at least 2 taps"):
        crosskd(*maps(4, 4), head=Rest())
    with pytest.raises(ValueError, match="weights of 0 or more"):
        crosskd(maps(4, 4), maps(4, 4), head=Rest(), boxes=-1)
