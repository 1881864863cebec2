import pytest
import torch
from torch.testing import assert_close

from tutelage.losses import attention
from tutelage.taps import root_mean_square


def looks(x, power):
    flat = sum(x[c].abs() ** power for c in range(len(x))).flatten()
    return flat / sum(v**2 for v in flat) ** 0.5


@pytest.mark.parametrize("power", [1, 2, 3.5])
def test_matches_the_equation_written_with_loops(power):
    s, t = torch.randn(3, 2, 4, 5), torch.randn(3, 6, 4, 5)
    for b in range(3):
        squared = sum((looks(s[b], power) - looks(t[b], power)) ** 2)
        assert_close(attention(s, t, power=power)[b], squared)
        assert_close(attention(s, t, power=power, form="norm")[b], squared**0.5)


def test_the_sign_of_odd_powers_is_kept_only_if_asked():
    s, t = torch.tensor([[[[1.0, 1.0]]]]), torch.tensor([[[[1.0, -1.0]]]])
    assert_close(attention(s, t, power=3.0), torch.zeros(1))
    assert_close(attention(s, t, power=3.0, signed=True), torch.full((1,), 2.0))


def test_eps_is_added_to_the_length():
    s, t = torch.tensor([[[[3.0, 0.0]]]]), torch.tensor([[[[0.0, 1.0]]]])
    assert_close(attention(s, t, power=1.0, eps=1.0), torch.tensor([0.75**2 + 0.5**2]))


def test_scale_does_not_matter():
    s, t = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    assert_close(attention(100 * s, 0.01 * t), attention(s, t))


def test_tokens_are_positions_wherever_they_lie():
    s, t = torch.randn(2, 3, 4, 4), torch.randn(2, 5, 4, 4)
    as_tokens = [x.flatten(2).transpose(1, 2) for x in (s, t)]
    assert_close(attention(*as_tokens), attention(s, t))


def test_of_a_teacher_the_root_mean_square_of_its_channels_is_all_that_is_asked():
    s, t = torch.randn(2, 3, 4, 4), torch.randn(2, 5, 4, 4)
    assert_close(attention(s, root_mean_square(t)), attention(s, t))
    tokens = [x.flatten(2).transpose(1, 2) for x in (s, t)]
    assert_close(attention(tokens[0], root_mean_square(tokens[1])), attention(*tokens))


def test_tokens_and_maps_are_not_compared_unasked():
    with pytest.raises(ValueError, match="Tokens"):
        attention(torch.ones(1, 16, 3), torch.ones(1, 3, 4, 4))
    with pytest.raises(ValueError, match="Tokens"):
        attention(torch.ones(1, 16, 3), torch.ones(1, 17, 3))


def test_names_both_shapes_when_grids_differ():
    with pytest.raises(ValueError, match=r"\(1, 2, 4, 4\).*\(1, 2, 2, 2\)"):
        attention(torch.ones(1, 2, 4, 4), torch.ones(1, 2, 2, 2))


@pytest.mark.parametrize("options", [{"power": 0.5}, {"power": 1.5, "signed": True}, {"form": "cube"}])
def test_refuses_options_out_of_range(options):
    with pytest.raises(ValueError, match="expected"):
        attention(torch.ones(1, 2, 4, 4), torch.ones(1, 2, 4, 4), **options)
