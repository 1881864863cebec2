"""TinyBERT's and MiniLM's attention, from queries and keys or from scores."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from tutelage.losses import self_attention


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def scores(queries, keys, heads):
    parts = [x.reshape(*x.shape[:2], heads, -1).permute(0, 2, 1, 3) for x in (queries, keys)]
    return torch.einsum("bhtd,bhsd->bhts", *parts) / parts[0].shape[3] ** 0.5


@pytest.mark.parametrize("form", ["scores", "probabilities"])
def test_queries_and_keys_give_what_their_scores_give(form):
    student, teacher = [drawn(2, 5, 6), drawn(2, 5, 6, seed=1)], [drawn(2, 5, 9, seed=2), drawn(2, 5, 9, seed=3)]
    value = self_attention(student, teacher, heads=3, form=form)
    assert_close(value, self_attention(scores(*student, 3), scores(*teacher, 3), form=form))
    fused = [torch.cat([*side, drawn(*side[0].shape, seed=9)], dim=2) for side in (student, teacher)]
    assert_close(value, self_attention(*fused, heads=3, form=form))


def test_scores_are_those_of_torchs_own_attention():
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(6, 2, bias=False, batch_first=True).double()
    states = drawn(2, 5, 6)
    queries, keys, _ = (states @ layer.in_proj_weight.T).chunk(3, dim=2)
    _, attention = layer(states, states, states, average_attn_weights=False)
    assert_close(scores(queries, keys, 2).softmax(dim=3), attention)
    value = self_attention((queries, keys), torch.zeros(2, 2, 5, 5), heads=2, form="probabilities")
    assert_close(value, (0.2 * (0.2 / attention).log()).sum(dim=3).mean(dim=(1, 2)))


def test_what_a_network_hides_counts_as_0():
    student, teacher = drawn(1, 1, 2, 2), drawn(1, 1, 2, 2, seed=1)
    hidden = student.clone(), teacher.clone()
    for x in hidden:
        x[..., 1] -= 10_000
    expected = (student[..., 0] - teacher[..., 0]).square().sum() / 4
    assert_close(self_attention(*hidden), expected[None])


@pytest.mark.parametrize("form", ["scores", "probabilities"])
def test_padding_is_not_compared(form):
    student, teacher = drawn(2, 3, 5, 5).requires_grad_(), drawn(2, 3, 5, 5, seed=1)
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    value = self_attention(student, teacher, form=form, mask=mask)
    assert_close(value[:1], self_attention(student[:1, :, :3, :3], teacher[:1, :, :3, :3], form=form))
    assert_close(value[1:], self_attention(student[1:], teacher[1:], form=form))
    value.sum().backward()
    assert student.grad[0, :, 3:].abs().sum() == student.grad[0, :, :, 3:].abs().sum() == 0


def test_a_mask_of_pixels_says_nothing_of_tokens():
    student, teacher = drawn(2, 3, 5, 5), drawn(2, 3, 5, 5, seed=1)
    assert_close(self_attention(student, teacher, mask=torch.zeros(2, 8, 8)), self_attention(student, teacher))


@pytest.mark.parametrize(
    ("student", "teacher", "options", "words"),
    [
        (drawn(2, 3, 5, 5), drawn(2, 4, 5, 5), {}, "as many heads and tokens"),
        ((drawn(2, 5, 6),) * 2, (drawn(2, 5, 6),) * 2, {"heads": 4}, "heads that divide a width of 6, found 4"),
        ((drawn(2, 5, 6),) * 3, (drawn(2, 5, 6),) * 3, {}, "expected queries and keys"),
        (drawn(2, 6), drawn(2, 6), {}, "expected queries and keys"),
        (drawn(2, 5, 8), drawn(2, 5, 8), {"heads": 1}, "expected queries and keys"),
        (drawn(2, 3, 5, 5), drawn(2, 3, 5, 5), {"form": "both"}, "form='scores' or 'probabilities', found 'both'"),
        (drawn(2, 3, 5, 5), drawn(2, 3, 5, 5), {"mask": torch.ones(5)}, "expected a mask"),
    ],
)
def test_what_does_not_fit_is_refused(student, teacher, options, words):
    with pytest.raises(ValueError, match=words):
        self_attention(student, teacher, **options)
