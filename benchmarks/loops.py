"""Two training loops to compare the engine with: one of the usual kind, and one written by hand with every trick.

Both train resnet8 on CIFAR-10 with SGD, one-cycle and batches of 128. `pace` is called before each step.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from tutelage.data import Slice
from tutelage.models import find

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
BATCH, STEPS = 128, 100_000


def resnet8() -> nn.Module:
    """The student, without normalisation of its own."""
    return find("cifar/resnet8", num_classes=10, seed=0).train()


def rate(step: int) -> float:
    """One-cycle's learning rate."""
    rise = 0.2 * STEPS
    if step < rise:
        return 0.1 * (0.04 + 0.96 * (1 - math.cos(math.pi * step / rise)) / 2)
    return 0.1 * (1 + math.cos(math.pi * (step - rise) / (STEPS - rise))) / 2


def by_hand(data: Slice, pace: Callable[[], None], *, compile: bool = False) -> None:
    """Plain PyTorch: pictures in memory as uint8, augmented in batch, channels last, fused SGD, nothing read back."""
    pictures, labels = data.gather(torch.arange(len(data))), data.labels
    padded = F.pad(pictures, [4] * 4)
    mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in (MEAN, STD))
    model = resnet8().to(memory_format=torch.channels_last)
    run = torch.compile(model, dynamic=False) if compile else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4, fused=True)
    order, total = torch.randperm(len(data)), torch.zeros(())
    for step in range(STEPS):
        pace()
        place = step * BATCH % (len(data) - BATCH)
        if place < BATCH:
            order = torch.randperm(len(data))
        chosen = order[place : place + BATCH]
        down, right, flip = torch.randint(9, (BATCH,)), torch.randint(9, (BATCH,)), torch.rand(BATCH) < 0.5
        rows = down[:, None] + torch.arange(32)
        columns = right[:, None] + torch.where(flip[:, None], torch.arange(31, -1, -1), torch.arange(32))
        cut = padded[chosen[:, None, None], :, rows[:, :, None], columns[:, None, :]]  # [B, H, W, C]
        inputs = ((cut.permute(0, 3, 1, 2).float() / 255) - mean) / std
        optimizer.param_groups[0]["lr"] = rate(step)
        loss = F.cross_entropy(run(inputs), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.detach()


class Photos(Dataset[tuple[Tensor, int]]):
    """CIFAR-10 as most research code reads it: PIL pictures through torchvision's transforms, one at a time."""

    def __init__(self, data: Slice) -> None:
        from PIL import Image
        from torchvision import transforms

        pictures = data.gather(torch.arange(len(data)))
        self.images = [Image.fromarray(picture.permute(1, 2, 0).numpy()) for picture in pictures]
        self.labels = data.labels.tolist()
        steps = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()]
        self.transform = transforms.Compose([*steps, transforms.ToTensor(), transforms.Normalize(MEAN, STD)])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, position: int) -> tuple[Tensor, int]:
        return self.transform(self.images[position]), self.labels[position]


def usual(data: Slice, pace: Callable[[], None], *, workers: int = 2) -> None:
    """The usual kind: float32, PIL transforms, a DataLoader with workers, meters read at each step."""
    loader = DataLoader(Photos(data), batch_size=BATCH, shuffle=True, drop_last=True, num_workers=workers)
    model = resnet8()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 10 * rate(step))
    losses, right, seen = 0.0, 0.0, 0
    while True:
        for inputs, target in loader:
            pace()
            output = model(inputs)
            loss = F.cross_entropy(output, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses += loss.item() * len(target)
            right += (output.argmax(1) == target).sum().item()
            seen += len(target)
