import pytest
import torch
from torch.testing import assert_close

from tutelage.errors import DataError, InputError
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


def test_only_bytes_are_pictures_in_steps_of_255():
    target = torch.zeros(2, dtype=torch.int64)
    task = Classification(4)
    assert task.unpack((torch.full((2, 3, 1, 1), 51, dtype=torch.uint8), target)).inputs.flatten()[0] == 51 / 255
    for dtype in (torch.int64, torch.bool):
        inputs = torch.ones(2, 7, dtype=dtype)
        assert task.unpack((inputs, target)).inputs is inputs


def test_a_batch_without_its_fields_is_refused_by_name():
    with pytest.raises(DataError, match="'inputs' and 'target', found 'picture', 'class'"):
        Classification(4).unpack({"picture": torch.rand(2, 3, 1, 1), "class": torch.zeros(2)})
