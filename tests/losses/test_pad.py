import copy

import pytest
import torch
from torch.testing import assert_close

from tutelage.losses import PAD, mse


def test_matches_the_equation_written_with_loops():
    loss = PAD(student=(3,), teacher=(3,)).double()
    torch.nn.init.normal_(loss.scale)
    torch.nn.init.normal_(loss.shift)
    s, t = torch.randn(4, 3).double(), torch.randn(4, 3).double()
    value = loss(s, t)
    raw = [[(loss.linear.weight[d] @ s[b] + loss.linear.bias[d]) for d in range(3)] for b in range(4)]
    for b in range(4):
        expected = 0.0
        for d in range(3):
            column = torch.stack([row[d] for row in raw])
            mean, spread = sum(column) / 4, (sum((column - column.mean()) ** 2) / 4 + 1e-5).sqrt()
            log_variance = loss.scale[d] * (raw[b][d] - mean) / spread + loss.shift[d]
            expected = expected + (t[b, d] - s[b, d]) ** 2 / (1e-6 + log_variance.exp()) + log_variance
        assert_close(value[b], expected / 3)


def test_it_normalises_as_batch_normalisation_does():
    loss, x = PAD(student=(3,), teacher=(3,)), torch.randn(5, 3)
    norm = torch.nn.BatchNorm1d(3)
    assert_close(loss.log_variance(x), norm(loss.linear(x)))


def test_with_unit_variance_it_is_the_mean_squared_error():
    loss, s, t = PAD(student=(3,), teacher=(3,), eps=1e-12), torch.randn(5, 3), torch.randn(5, 3)
    torch.nn.init.zeros_(loss.scale)
    assert_close(loss(s, t), mse(s, t))


def test_a_larger_variance_listens_less_and_the_best_one_is_the_error():
    loss, s, t = PAD(student=(1,), teacher=(1,)), torch.zeros(2, 1), torch.full((2, 1), 3.0)
    values = []
    for log_variance in (1.0, 9.0, 81.0):
        torch.nn.init.constant_(loss.shift, torch.tensor(log_variance).log().item())
        values.append(loss(s, t).mean().item())
    assert values[1] == min(values)


def test_all_its_layers_learn():
    loss = PAD(student=(3,), teacher=(3,))
    loss(torch.randn(5, 3), torch.randn(5, 3)).sum().backward()
    assert all(p.grad.isfinite().all() for p in loss.parameters())
    assert loss.scale.grad.any()
    assert loss.linear.weight.grad.any()


def test_sizes_may_be_told_later_and_the_state_comes_back():
    loss = PAD()
    loss.bind((2, 2), (2, 2), None)
    twin = copy.deepcopy(loss)
    torch.nn.init.normal_(loss.scale)
    twin.load_state_dict(loss.state_dict())
    s, t = torch.randn(3, 2, 2), torch.randn(3, 2, 2)
    assert_close(twin(s, t), loss(s, t))


def test_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="constructor"):
        PAD().bind(None, None, None)
    with pytest.raises(ValueError, match="not bound"):
        PAD()(torch.ones(1, 2), torch.ones(1, 2))
    with pytest.raises(ValueError, match=r"\(2,\).*\(3,\)"):
        PAD(student=(2,), teacher=(3,))
    with pytest.raises(ValueError, match=r"\(1, 2\).*\(1, 3\)"):
        PAD(student=(2,), teacher=(2,))(torch.ones(1, 2), torch.ones(1, 3))
    with pytest.raises(ValueError, match="eps > 0"):
        PAD(eps=0.0)
