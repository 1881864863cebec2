"""What is particular to each connector; what all have in common is in `tests/contracts`."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from tutelage.connectors import Bottleneck, Pool, Project, Regressor, Resize, Tokens, chain


def test_project_is_the_same_linear_map_everywhere():
    project = Project(student=(3, 2, 2), teacher=(5, 2, 2))
    x = torch.randn(2, 3, 2, 2)
    weight, bias = project.linear.weight[:, :, 0, 0], project.linear.bias
    for i, j in ((0, 0), (1, 0)):
        assert_close(project(x)[:, :, i, j], x[:, :, i, j] @ weight.T + bias)


@pytest.mark.parametrize("shape", [(4,), (7, 4), (4, 3, 3)])
def test_project_normalises_each_channel_over_all_samples_and_places(shape):
    project = Project(
        student=shape,
        teacher=(5,) if len(shape) == 1 else (7, 5) if len(shape) == 2 else (5, 3, 3),
        norm=True,
    )
    y = project(torch.randn(6, *shape))
    channel = 1 if len(shape) == 3 else -1
    others = [d for d in range(y.dim()) if d != channel % y.dim()]
    assert_close(y.mean(dim=others), torch.zeros(5), rtol=0, atol=1e-5)
    assert_close(y.var(dim=others, correction=0), torch.ones(5), rtol=0, atol=1e-2)


def test_resize_averages_down_and_keeps_constants_up():
    x = torch.arange(16.0).view(1, 1, 4, 4)
    assert_close(Resize(teacher=(9, 2, 2))(x), torch.tensor([[[[2.5, 4.5], [10.5, 12.5]]]]))
    assert_close(Resize(teacher=(9, 7, 5))(torch.full((1, 2, 4, 4), 3.0)), torch.full((1, 2, 7, 5), 3.0))


def test_resize_passes_prefix_tokens_on_as_they_are():
    x = torch.randn(2, 1 + 16, 3)
    y = Resize(teacher=(1 + 4, 9))(x)
    assert_close(y[:, 0], x[:, 0])
    assert_close(y[:, 1], x[:, 1:].view(2, 4, 4, 3)[:, :2, :2].mean(dim=(1, 2)))


def test_resize_refuses_to_invent_prefix_tokens():
    with pytest.raises(ValueError, match="prefix"):
        Resize(teacher=(17, 3))(torch.randn(2, 16, 3))


def test_resize_refuses_a_teacher_without_a_grid():
    with pytest.raises(ValueError, match="Pool"):
        Resize(teacher=(64,))


def test_tokens_drop_the_prefix_and_keep_reading_order():
    x = torch.randn(2, 2 + 16, 3)
    y = Tokens(student=(18, 3), teacher=(8, 4, 4))(x)
    for i, j in ((0, 1), (2, 3)):
        assert_close(y[:, :, i, j], x[:, 2 + 4 * i + j])


def test_tokens_from_a_map_put_its_mean_where_the_teacher_has_a_class_token():
    x = torch.randn(2, 3, 4, 4)
    y = Tokens(student=(3, 4, 4), teacher=(17, 8))(x)
    assert_close(y[:, 0], x.mean(dim=(2, 3)))
    assert_close(Tokens(student=(17, 3), teacher=(8, 4, 4))(y), x)


@pytest.mark.parametrize(
    ("tokens", "teacher", "grid"),
    [
        (197, (8, 14, 14), (14, 14)),
        (193, (8, 12, 16), (12, 16)),
        (197, (8, 7, 7), (14, 14)),
        (64, (8, 7, 9), (8, 8)),
    ],
)
def test_tokens_take_the_grid_that_leaves_the_fewest_over(tokens, teacher, grid):
    assert Tokens(student=(tokens, 3), teacher=teacher)(torch.randn(1, tokens, 3)).shape == (1, 3, *grid)


def test_tokens_take_the_grid_they_are_given():
    assert Tokens(student=(49, 3), teacher=(8, 12, 16), grid=(6, 8))(torch.randn(1, 49, 3)).shape == (
        1,
        3,
        6,
        8,
    )


@pytest.mark.parametrize(
    ("student", "teacher", "options"),
    [((3, 4, 4), (8, 2, 2), {}), ((3, 4, 4), (50, 8), {}), ((16, 3), (8, 4, 4), {"grid": (5, 5)})],
)
def test_tokens_refuse_what_does_not_fit(student, teacher, options):
    with pytest.raises(ValueError, match="Tokens: "):
        Tokens(student=student, teacher=teacher, **options)


def test_pool_takes_the_mean_or_the_class_token():
    tokens, maps = torch.randn(2, 5, 3), torch.randn(2, 3, 4, 4)
    assert_close(Pool()(tokens), tokens.mean(dim=1))
    assert_close(Pool(tokens="first")(tokens), tokens[:, 0])
    assert_close(Pool()(maps), maps.mean(dim=(2, 3)))
    with pytest.raises(ValueError, match="'last'"):
        Pool(tokens="last")


@pytest.mark.parametrize(
    ("student", "teacher", "kind", "kernel"),
    [
        ((3, 8, 8), (5, 4, 4), nn.Conv2d, (3, 3)),
        ((3, 4, 4), (5, 8, 8), nn.ConvTranspose2d, (4, 4)),
        ((3, 7, 7), (5, 4, 4), nn.Conv2d, (4, 4)),
        ((3, 8, 6), (5, 4, 6), nn.Conv2d, (5, 1)),
        ((3, 3, 3), (5, 12, 12), nn.Upsample, None),
    ],
)
def test_the_regressor_follows_from_the_two_grids(student, teacher, kind, kernel):
    first = Regressor(student=student, teacher=teacher).layers[0]
    assert isinstance(first, kind)
    assert getattr(first, "kernel_size", None) == kernel


def test_the_regressor_without_relu_can_be_negative():
    x = torch.randn(4, 3, 4, 4)
    assert Regressor(student=(3, 4, 4), teacher=(5, 4, 4))(x).min() == 0
    assert Regressor(student=(3, 4, 4), teacher=(5, 4, 4), relu=False)(x).min() < 0


def test_the_regressor_refuses_tokens():
    with pytest.raises(ValueError, match="Tokens"):
        Regressor(student=(16, 3), teacher=(5, 4, 4))


@pytest.mark.parametrize("part", [Project(), Resize(), Tokens(), Regressor()])
def test_a_connector_that_was_never_bound_says_so(part):
    with pytest.raises(ValueError, match="bind"):
        part(torch.randn(1, 3, 4, 4))


def test_chain_tells_each_part_what_the_ones_before_it_give():
    parts = chain(nn.Conv2d(3, 4, 1), Pool(), Project())
    parts.bind((3, 8, 8), (16,), None)
    assert parts[2].linear.weight.shape == (16, 4)


def test_binding_a_chain_moves_no_statistics_and_keeps_its_mode():
    parts = chain(nn.BatchNorm2d(3), Project())
    parts.train()
    parts.bind((3, 8, 8), (16, 8, 8), None)
    assert parts[0].training
    assert parts[0].num_batches_tracked == 0


@pytest.mark.parametrize("part", [Project, Regressor])
def test_sizes_given_to_the_constructor_stand(part):
    connector = part(student=(3, 4, 4), teacher=(5, 4, 4))
    before = connector.state_dict()
    connector.bind((9, 4, 4), (7, 4, 4), None)
    assert_close(connector.state_dict(), before)


def test_bottleneck_is_narrow_in_the_middle():
    made = Bottleneck(student=(6, 4, 4), teacher=(9, 4, 4), reduction=2)
    weights = [tuple(part.weight.shape) for part in made.layers if hasattr(part, "kernel_size")]
    assert weights == [(4, 6, 1, 1), (4, 4, 3, 3), (9, 4, 1, 1)]
    assert made(torch.randn(2, 6, 4, 4)).min() >= 0


def test_bottleneck_refuses_what_is_no_map_and_a_reduction_that_leaves_no_channel():
    with pytest.raises(ValueError, match=r"expected maps.*\(6,\).*Project"):
        Bottleneck(student=(6,), teacher=(9,))
    with pytest.raises(ValueError, match="reduction"):
        Bottleneck(student=(6, 4, 4), teacher=(9, 4, 4), reduction=10)
