import math

import pytest
import torch
from torch.testing import assert_close

from tutelage.losses import PISR


@pytest.mark.parametrize("form", ["laplace", "normal"])
def test_matches_the_equation_written_with_loops(form):
    loss, s, t = PISR(student=(3, 2, 2), teacher=(4, 2, 2), form=form), torch.randn(2, 3, 2, 2), torch.randn(2, 4, 2, 2)
    mean, spread = loss.mean(s), loss.spread(s)
    for b in range(2):
        total = 0.0
        for m, v, truth in zip(*(x[b].flatten().tolist() for x in (mean, spread, t)), strict=True):
            if form == "laplace":
                scale = 0.1 * v + 1e-8
                total += math.log(2 * scale) + abs(m - truth) / scale
            else:
                variance = 0.001 * v + 1e-8
                total += math.log(variance) / 2 + (m - truth) ** 2 / (2 * variance)
        assert_close(loss(s, t)[b], torch.tensor(total / 16), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("shared", "dims"), [("channels", 1), ("positions", (2, 3)), ("both", (1, 2, 3))])
def test_a_shared_spread_is_one_number_there(shared, dims):
    loss, s = PISR(student=(3, 2, 2), teacher=(4, 2, 2), shared=shared), torch.randn(2, 3, 2, 2)
    spread = loss._spread(s)
    assert spread.shape == (2, 4, 2, 2)
    assert_close(spread.var(dim=dims).max().item(), 0.0, atol=1e-10, rtol=0)


def test_a_unit_makes_features_of_any_size_alike():
    torch.manual_seed(0)
    loss, s, t = PISR(student=(3, 2, 2), teacher=(4, 2, 2)), torch.randn(2, 3, 2, 2), torch.randn(2, 4, 2, 2)
    large = PISR(student=(3, 2, 2), teacher=(4, 2, 2), unit=255)
    large.load_state_dict(loss.state_dict())
    assert_close(large(255 * s, 255 * t), loss(s, t))
    with pytest.raises(ValueError, match="unit above 0, found 0"):
        PISR(unit=0)


def test_its_heads_learn_to_predict():
    loss, s = PISR(student=(3, 4, 4), teacher=(2, 4, 4)), torch.randn(8, 3, 4, 4)
    t = s[:, :2] * 2
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.02)
    before = loss(s, t).mean().item()
    for _ in range(100):
        optimizer.zero_grad()
        loss(s, t).mean().backward()
        optimizer.step()
    assert loss(s, t).mean().item() < before - 1


def test_refuses_to_work_unbound_other_grids_and_unknown_words():
    with pytest.raises(ValueError, match="not bound"):
        PISR()(torch.ones(1, 3, 4, 4), torch.ones(1, 3, 4, 4))
    with pytest.raises(ValueError, match="one grid"):
        PISR(student=(3, 4, 4), teacher=(3, 2, 2))(torch.ones(1, 3, 4, 4), torch.ones(1, 3, 2, 2))
    with pytest.raises(ValueError, match="found 'gauss' and 'none'"):
        PISR(form="gauss")
