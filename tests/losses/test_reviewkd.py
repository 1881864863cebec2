import pytest
import torch
from torch.testing import assert_close

from tutelage import Distiller, Frozen, Path
from tutelage.losses import ReviewKD, hierarchical_context
from tutelage.tasks import Classification
from tutelage.weighting import Fixed

OURS, THEIRS = ((3, 4, 4), (4, 2, 2), (5,)), ((6, 8, 8), (7, 2, 2), (8,))


def features(batch=4):
    return [[torch.randn(batch, *shape) for shape in side] for side in (OURS, THEIRS)]


def normed(x, norm):
    mean, variance = x.mean(dim=(0, 2, 3), keepdim=True), x.var(dim=(0, 2, 3), keepdim=True, correction=0)
    return (x - mean) / (variance + 1e-5).sqrt() * norm.weight[:, None, None] + norm.bias[:, None, None]


def nearest(x, side):
    """Every place takes the value of the place it lies in."""
    out = torch.zeros(*x.shape[:2], side, side)
    for i in range(side):
        for j in range(side):
            out[:, :, i, j] = x[:, :, i * x.shape[2] // side, j * x.shape[3] // side]
    return out


def test_matches_the_fusion_written_out():
    loss, (s, t) = ReviewKD(student=OURS, teacher=THEIRS), features()
    below, expected = None, 0
    for k in (2, 1, 0):
        fusion = loss.fusions[k]
        conv, norm = fusion.reduce
        x = s[k] if s[k].dim() == 4 else s[k][:, :, None, None]
        y = t[k] if t[k].dim() == 4 else t[k][:, :, None, None]
        x = normed(torch.einsum("oi,bihw->bohw", conv.weight[:, :, 0, 0], x), norm)
        if below is not None:
            below = nearest(below, x.shape[2])
            weight, bias = fusion.attention.weight[:, :, 0, 0], fusion.attention.bias
            share = torch.einsum("oi,bihw->bohw", weight, torch.cat([x, below], 1)) + bias[:, None, None]
            share = 1 / (1 + (-share).exp())
            x = x * share[:, 0:1] + below * share[:, 1:2]
        x = below = nearest(x, y.shape[2])
        conv, norm = fusion.expand
        out = normed(torch.nn.functional.conv2d(x, conv.weight, padding=1), norm)
        expected = expected + hierarchical_context(out, y)
    assert_close(loss(s, t), expected)


def test_what_is_compared_has_the_shapes_of_the_teacher():
    fused = ReviewKD(student=OURS, teacher=THEIRS).fuse(features()[0])
    assert [tuple(x.shape[1:]) for x in fused] == [(6, 8, 8), (7, 2, 2), (8, 1, 1)]


def test_the_deepest_level_reaches_all_and_the_shallowest_itself_alone():
    loss, s = ReviewKD(student=OURS, teacher=THEIRS), features()[0]
    before = loss.fuse(s)
    deep = loss.fuse([s[0], s[1], s[2].flip(0)])
    shallow = loss.fuse([s[0].flip(0), s[1], s[2]])
    assert not any(torch.allclose(x, y) for x, y in zip(before, deep, strict=True))
    assert [torch.allclose(x, y) for x, y in zip(before, shallow, strict=True)] == [False, True, True]


def test_levels_are_fused_with_the_channels_of_the_deepest_and_no_more_than_allowed():
    for most, width in ((512, 5), (2, 2)):
        loss = ReviewKD(student=OURS, teacher=THEIRS, most_channels=most)
        assert {fusion.reduce[0].out_channels for fusion in loss.fusions} == {width}


def test_a_path_of_several_taps_sizes_it():
    class Net(torch.nn.Module):
        def __init__(self, width):
            super().__init__()
            self.one, self.two = torch.nn.Conv2d(3, width, 3), torch.nn.Conv2d(width, 2 * width, 3, 2)
            self.fc = torch.nn.Linear(2 * width, 3)

        def forward(self, x):
            return self.fc(self.two(self.one(x)).mean(dim=(2, 3)))

    task = Classification(3)
    batch = task.unpack((torch.rand(4, 3, 10, 10), torch.tensor([0, 1, 2, 0])))
    taps = ["one", "two", "fc:input"]
    teachers, paths = {"big": Frozen(Net(6))}, {"review": Path(ReviewKD(), student=taps, teacher=taps)}
    made = Distiller(Net(4), teachers=teachers, paths=paths, task=task, weighting=Fixed(), example=batch)
    made(batch).loss.backward()
    assert all(p.grad is not None for p in made.paths["review"].parameters())
    assert made.student.one.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(("student", "teacher"), [((3, 4, 4), (3, 4, 4)), (OURS, THEIRS[:2]), (((4, 6),), ((4, 6),))])
def test_refuses_one_tap_unpaired_taps_and_tokens(student, teacher):
    with pytest.raises(ValueError, match=r"ReviewKD: expected maps.*lists of taps"):
        ReviewKD(student=student, teacher=teacher)
