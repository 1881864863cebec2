"""Networks to tap, and a batch for them."""

import torch
from torch import nn

X = torch.linspace(-1, 1, 2 * 3 * 6 * 6).view(2, 3, 6, 6)


def layers() -> nn.Sequential:
    """A small classifier that overwrites what its batch norm gave."""
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(64, 5))


class Named(nn.Module):
    """Submodules called as the test wishes."""

    def __init__(self, forward):
        super().__init__()
        self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)
        self.how = forward

    def forward(self, x):
        return self.how(self, x)


class Answers(nn.Module):
    """A layer that answers as the test wishes."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, x):
        return self.answer(x)
