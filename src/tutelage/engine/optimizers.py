"""Optimizer and schedule of a stage, from its settings."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from tutelage.distiller import Distiller

from .settings import Settings


def make_optimizer(
    pupils: Iterable[Distiller], settings: Settings, batch_size: int, *, share: float = 1.0
) -> Optimizer:
    """One optimizer over all pupils; learned weights of paths are a group of their own, without decay.

    The learning rate is a `share` of what the settings say.
    """
    pupils = list(pupils)
    learned = [p for pupil in pupils for p in pupil.weighting.parameters()]
    theirs = {id(p) for p in learned}
    # Once each: pupils may share some.
    trained = dict.fromkeys(p for pupil in pupils for p in pupil.parameters() if p.requires_grad)
    parameters = [p for p in trained if id(p) not in theirs]
    groups: list[dict[str, Any]] = [{"params": parameters}]
    if learned:
        groups.append({"params": learned, "weight_decay": 0.0, "lr": settings.weighting_lr})
    if chosen_optimizer(pupils[0].student, settings) == "adamw":
        lr = share * (settings.lr if settings.lr is not None else 0.001 * batch_size / 128)
        decay = 0.05 if settings.weight_decay is None else settings.weight_decay
        return torch.optim.AdamW(groups, lr=lr, weight_decay=decay, fused=True)
    lr = share * (settings.lr if settings.lr is not None else 0.1 * batch_size / 128)
    decay = 5e-4 if settings.weight_decay is None else settings.weight_decay
    sgd = torch.optim.SGD(
        groups, lr=lr, momentum=settings.momentum, weight_decay=decay, nesterov=settings.momentum > 0, fused=True
    )
    for p in (*parameters, *learned) if settings.momentum else ():
        # A first step that is skipped would leave whatever memory held.
        sgd.state[p]["momentum_buffer"] = torch.zeros_like(p)
    return sgd


def chosen_optimizer(student: nn.Module, settings: Settings) -> str:
    """The optimizer's name; ``auto`` looks for layer norm.

    Example:
        >>> chosen_optimizer(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)), Settings())
        'adamw'
    """
    if settings.optimizer != "auto":
        return settings.optimizer
    return "adamw" if any(isinstance(module, nn.LayerNorm) for module in student.modules()) else "sgd"


def make_schedule(optimizer: Optimizer, settings: Settings, steps: int) -> LambdaLR:
    """Factor of the learning rate over the steps of the stage; learned weights of paths keep theirs."""

    def factor(step: int) -> float:
        return learning_rate_factor(step, steps, settings)

    groups = len(optimizer.param_groups)
    return LambdaLR(optimizer, [factor] + [lambda step: 1.0] * (groups - 1))


def learning_rate_factor(step: int, steps: int, settings: Settings) -> float:
    """The share of the peak learning rate at a step.

    Example:
        >>> [round(learning_rate_factor(s, 10, Settings(warmup=0.2)), 2) for s in (0, 2, 6, 10)]
        [0.04, 1.0, 0.5, 0.0]
    """
    if settings.schedule == "constant":
        return 1.0
    if settings.schedule == "step":
        return float(0.1 ** sum(step >= share * steps for share in (0.5, 0.75, 0.9)))
    rise = max(1.0, settings.warmup * steps)
    if step < rise:  # one-cycle rises by a cosine from 1/25, cosine rises by a line
        share = step / rise
        return (
            0.04 + 0.96 * (1 - math.cos(math.pi * share)) / 2 if settings.schedule == "one-cycle" else (step + 1) / rise
        )
    return (1 + math.cos(math.pi * min(1.0, (step - rise) / max(1.0, steps - rise)))) / 2
