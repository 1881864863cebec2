"""A model is asked, and stays as it was."""

import torch
from torch import nn

from tutelage.engine.evaluate import answer
from tutelage.tasks import Classification


def test_layers_that_are_kept_in_eval_mode_stay_there():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).train()
    model[1].eval()
    answer(model, Classification(2), [(torch.rand(4, 3), torch.tensor([0, 1, 0, 1]))])
    assert [module.training for module in model.modules()] == [True, True, False, True]
