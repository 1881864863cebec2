import pytest
import torch
from torch.testing import assert_close

from tutelage.losses import virtual_teacher


def soften(prob, temperature):
    powers = [p ** (1 / temperature) for p in prob]
    return [p / sum(powers) for p in powers]


def test_matches_the_equation_written_with_loops():
    s, y = torch.randn(3, 4).double(), torch.tensor([0, 3, 1])
    value = virtual_teacher(s, torch.full_like(s, torch.nan), target=y, confidence=0.9, temperature=5.0)
    for b in range(3):
        said = soften([0.9 if c == y[b] else 0.1 / 3 for c in range(4)], 5.0)
        heard = (s[b] / 5.0).softmax(0)
        assert_close(value[b], sum(said[c] * (torch.tensor(said[c]).double().log() - heard[c].log()) for c in range(4)))


def test_the_published_code_takes_probabilities_for_logits():
    s, y = torch.randn(3, 4), torch.tensor([0, 3, 1])
    value = virtual_teacher(s, s, target=y, temperature=20.0, form="code")
    said = torch.full((3, 4), 0.01 / 3).scatter(1, y[:, None], 0.99)
    expected = torch.nn.KLDivLoss(reduction="none")(s.log_softmax(1), (said / 20.0).softmax(1))
    assert_close(value, expected.mean(dim=1))


def test_samples_without_a_label_have_zero():
    s = torch.randn(3, 4)
    some = virtual_teacher(s, s, target=torch.tensor([-1, 3, 1]))
    assert some[0] == 0
    assert_close(some.mean(), virtual_teacher(s[1:], s[1:], target=torch.tensor([3, 1])).mean())


@pytest.mark.parametrize("option", [{"confidence": 0.2}, {"confidence": 1.0}, {"temperature": 0.0}, {"form": "talk"}])
def test_refuses_options_out_of_range(option):
    with pytest.raises(ValueError, match="virtual_teacher: expected"):
        virtual_teacher(torch.ones(1, 5), torch.ones(1, 5), target=torch.tensor([0]), **option)
