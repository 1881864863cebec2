"""MiniLM's relations between tokens."""

import pytest
import torch
from torch.testing import assert_close

from tutelage.losses import token_relations


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_it_is_the_kl_of_scaled_products_of_tokens_head_by_head():
    student, teacher = drawn(2, 5, 6), drawn(2, 5, 9, seed=1)
    value = token_relations(student, teacher, heads=3)
    for sample in range(2):
        expected = 0.0
        for head in range(3):
            ours = student[sample, :, 2 * head : 2 * head + 2]
            theirs = teacher[sample, :, 3 * head : 3 * head + 3]
            p, q = (theirs @ theirs.T / 3**0.5).softmax(1), (ours @ ours.T / 2**0.5).softmax(1)
            expected += (p * (p / q).log()).sum(1).mean() / 3
        assert_close(value[sample], expected)


def test_queries_keys_and_values_side_by_side_are_three_times_as_many_heads():
    ours, theirs = drawn(2, 5, 18), drawn(2, 5, 36, seed=1)
    apart = token_relations(ours.split(6, dim=2), theirs.split(12, dim=2), heads=2)
    assert_close(3 * token_relations(ours, theirs, heads=6), apart)


def test_what_turns_all_tokens_of_a_head_changes_nothing():
    student, teacher = drawn(2, 5, 6), drawn(2, 5, 6, seed=1)
    turn = torch.linalg.qr(drawn(6, 6, seed=2)).Q
    assert_close(token_relations(student @ turn, teacher, heads=1), token_relations(student, teacher, heads=1))
    order = torch.tensor([3, 0, 4, 1, 2])
    assert_close(token_relations(student[:, order], teacher[:, order]), token_relations(student, teacher))


def test_a_map_is_a_token_for_each_place():
    student, teacher = drawn(2, 4, 3, 2), drawn(2, 8, 3, 2, seed=1)
    tokens = (x.flatten(2).transpose(1, 2) for x in (student, teacher))
    assert_close(token_relations(student, teacher), token_relations(*tokens))


def test_of_a_large_map_there_are_no_more_than_256_places():
    student, teacher = drawn(1, 4, 96, 32), drawn(1, 4, 96, 32, seed=1)
    small = (torch.nn.functional.avg_pool2d(x, (6, 2)) for x in (student, teacher))
    assert_close(token_relations(student, teacher), token_relations(*small))


def test_padding_is_neither_compared_nor_looked_at():
    student, teacher = drawn(2, 5, 4).requires_grad_(), drawn(2, 5, 4, seed=1)
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    value = token_relations(student, teacher, heads=2, mask=mask)
    assert_close(value[:1], token_relations(student[:1, :3], teacher[:1, :3], heads=2))
    assert_close(value[1:], token_relations(student[1:], teacher[1:], heads=2))
    value.sum().backward()
    assert student.grad[0, 3:].abs().sum() == 0
    assert token_relations(student, teacher, mask=torch.zeros(2, 5)).tolist() == [0, 0]


def test_heads_nobody_named_divide_both_widths():
    student, teacher = drawn(2, 5, 24), drawn(2, 5, 36, seed=1)
    assert_close(token_relations(student, teacher), token_relations(student, teacher, heads=12))
    student, teacher = drawn(2, 5, 7), drawn(2, 5, 36, seed=1)
    assert_close(token_relations(student, teacher), token_relations(student, teacher, heads=1))


@pytest.mark.parametrize(
    ("student", "teacher", "options", "words"),
    [
        ((2, 5, 6), (2, 4, 6), {}, "as many tokens on both sides, found 5 and 4"),
        ((2, 5, 6), (2, 5, 6), {"heads": 0}, "heads that divide a width of 6, found 0"),
        ((2, 5, 6), (2, 5, 6), {"heads": 4}, "heads that divide a width of 6, found 4"),
        ((2, 5), (2, 5), {}, r"expected tokens \[B, T, D\] or maps"),
        ((2, 5, 6), (3, 5, 6), {}, "expected one batch"),
        ((2, 5, 6), (2, 5, 6), {"mask": torch.ones(2, 4)}, r"expected a mask \[B, 5\], found \(2, 4\)"),
    ],
)
def test_what_does_not_fit_is_refused(student, teacher, options, words):
    with pytest.raises(ValueError, match=words):
        token_relations(drawn(*student), drawn(*teacher), **options)
