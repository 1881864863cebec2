import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from tutelage.losses import SemCKD

OURS, THEIRS = ((3, 4, 4), (4, 2, 2)), ((5, 4, 4), (4, 4, 4), (6,))


def made(batch_size=4):
    return SemCKD(student=OURS, teacher=THEIRS, batch_size=batch_size)


def features(batch=4):
    return [[torch.randn(batch, *shape) for shape in side] for side in (OURS, THEIRS)]


def mapped(x):
    return x if x.dim() == 4 else x[:, :, None, None]


def attention(loss, s, t):
    """The share of each layer of the teacher, for each sample and layer of the student."""
    vectors = []
    for side, embeddings in ((s, loss.queries), (t, loss.keys)):
        of_side = []
        for x, embedding in zip(side, embeddings, strict=True):
            alike = torch.tensor([[float(a.flatten() @ b.flatten()) for b in x] for a in x])
            first, last = embedding[0], embedding[2]
            y = (alike @ first.weight.T + first.bias).relu() @ last.weight.T + last.bias
            of_side.append(y / y.norm(dim=1, keepdim=True))
        vectors.append(of_side)
    score = torch.stack([torch.stack([(q * k).sum(1) for k in vectors[1]]) for q in vectors[0]])
    return score.exp() / score.exp().sum(dim=1, keepdim=True)


def test_matches_the_equation_written_with_loops():
    loss, (s, t) = made(), features()
    share, expected = attention(loss, s, t), torch.zeros(4)
    for i in range(2):
        for j in range(3):
            x, y = mapped(s[i]), mapped(t[j])
            side = min(x.shape[2], y.shape[2])
            x, y = F.avg_pool2d(x, x.shape[2] // side), F.avg_pool2d(y, y.shape[2] // side)
            off = loss.projections[i][j](x) - y
            for b in range(4):
                expected[b] += share[i, j, b] * (off[b] ** 2).mean() / 2
    assert_close(loss(s, t), expected, rtol=1e-4, atol=1e-5)


def test_every_layer_has_the_published_widths():
    loss = made(batch_size=16)
    assert [tuple(p.shape) for p in loss.queries[0].parameters()] == [(8, 16), (8,), (4, 8), (4,)]
    widths = [part.weight.shape[:2] for part in loss.projections[1][0] if isinstance(part, torch.nn.Conv2d)]
    assert [tuple(width) for width in widths] == [(10, 4), (10, 10), (5, 10)]
    assert (len(loss.queries), len(loss.keys), len(loss.projections)) == (2, 3, 2)


def test_all_parts_learn():
    loss, (s, t) = made(), features()
    loss(s, t).sum().backward()
    assert all(p.grad is not None for p in loss.parameters())


def test_a_smaller_batch_is_filled_up_and_a_larger_one_refused():
    loss = made()
    assert loss(*features(2)).shape == (2,)
    with pytest.raises(ValueError, match=r"at most batch_size=4 samples, found 5"):
        loss(*features(5))


@pytest.mark.parametrize("size", [None, 3])
def test_refuses_to_guess_the_batch_size(size):
    with pytest.raises(ValueError, match=rf"expected batch_size.*found {size}"):
        SemCKD(batch_size=size)


def test_refuses_one_tap_and_tokens():
    for student in ((3, 4, 4), ((9, 6),)):
        with pytest.raises(ValueError, match=r"SemCKD: expected maps.*lists of taps"):
            SemCKD(student=student, teacher=THEIRS, batch_size=4)
