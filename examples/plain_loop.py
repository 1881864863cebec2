"""Distillation in your own loop: no engine, no recipe, plain PyTorch."""

import torch
from torch import nn

import tutelage as tu


def network(width: int) -> nn.Module:
    """A small multi-layer perceptron."""
    return nn.Sequential(nn.Linear(20, width), nn.ReLU(), nn.Linear(width, 5))


torch.manual_seed(0)
big, student = network(256), network(8)
inputs = torch.randn(2048, 20)
target = big(inputs).argmax(1)  # a teacher that is always right, for the sake of the example
distiller = tu.Distiller(
    student,
    teachers={"big": tu.Frozen(big)},
    paths={"logits": tu.Path(tu.losses.kl), "hidden": tu.Path(tu.losses.similarity, student="0", teacher="0")},
    task=tu.tasks.Classification(5),
)
optimizer = torch.optim.Adam(distiller.parameters(), lr=1e-2)
for epoch in range(5):
    for index in torch.randperm(len(inputs)).split(128):
        step = distiller(distiller.task.unpack((inputs[index], target[index], index)))
        optimizer.zero_grad()
        step.loss.backward()
        distiller.before_step()
        optimizer.step()
        distiller.after_step()
    print(epoch, f"accuracy {(student(inputs).argmax(1) == target).float().mean():.3f}")
