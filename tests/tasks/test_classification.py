import pytest
import torch
from torch.testing import assert_close

from tutelage.errors import InputError
from tutelage.tasks import Classification


def test_the_base_loss_of_spherical_distillation_sees_logits_of_one_deviation():
    batch = Classification(3).unpack((torch.rand(2, 1, 4, 4), torch.tensor([2, 0])))
    logits = torch.tensor([[1.0, 2.0, 6.0], [0.5, 0.5, 0.5]])
    plain, scaled = Classification(3), Classification(3, logit_deviation=2.0)
    spread = (logits - logits.mean(1, keepdim=True)) / logits.std(1, correction=0, keepdim=True).clamp(min=1e-6)
    assert_close(scaled.base_loss({"": logits}, batch), plain.base_loss({"": 2 * spread}, batch))
    assert_close(scaled.base_loss({"": 5 * logits + 1}, batch), scaled.base_loss({"": logits}, batch))
    with pytest.raises(InputError, match="above 0"):
        Classification(3, logit_deviation=0.0)
