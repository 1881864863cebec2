"""Feature maps and vectors."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from tutelage.connectors import Regressor, Resize
from tutelage.losses import attention, mse, similarity


def listed(tensors, name):
    """The tensors `name.0`, `name.1` …"""
    found = []
    while f"{name}.{len(found)}" in tensors:
        found.append(tensors[f"{name}.{len(found)}"])
    return found


def layers(tensors):
    return zip(listed(tensors, "input:student_feat"), listed(tensors, "input:teacher_feat"), strict=True)


def hint(tensors, options):
    student, teacher = tensors["input:student_feat"], tensors["input:teacher_feat"]
    regressor = Regressor(student=student.shape[1:], teacher=teacher.shape[1:], relu=options["relu"])
    regressor.to(student.dtype).train(options["bn"] == "train")
    learned = [f"layers.{i}" for i, layer in enumerate(regressor.layers) if hasattr(layer, "weight")]
    names = dict(zip(("conv", "bn"), learned, strict=True))
    state = {}
    for part, inside in names.items():
        for kind in ("weight", "bias"):
            state[f"{inside}.{kind}"] = tensors[f"param:{part}.{kind}"]
    for kind in ("running_mean", "running_var"):
        if f"input:{kind}" in tensors:
            state[f"{names['bn']}.{kind}"] = tensors[f"input:{kind}"]
    projected = functional_call(regressor, state, (student,))
    returned = {"projected": projected, "loss": mse(projected, teacher).mean()}
    if options["bn"] == "train":
        returned |= {kind: regressor.get_buffer(f"{names['bn']}.{kind}") for kind in ("running_mean", "running_var")}
    return returned


def hint_regress(tensors, options):
    student, teacher = tensors["input:student_feat"], tensors["input:teacher_feat"]
    regressor = Regressor(student=student.shape[1:], teacher=teacher.shape[1:], norm=False)
    state = {f"layers.1.{kind}": tensors[f"param:linear.{kind}"] for kind in ("weight", "bias")}
    return {"loss": mse(functional_call(regressor, state, (student,)), teacher).mean()}


def at(tensors, options):
    """Theirs averages over the positions where ours sums."""
    code, paper = [], []
    for student, teacher in layers(tensors):
        side = min(student.shape[2], teacher.shape[2])
        shrink = Resize(teacher=(1, side, side)) if student.shape[2] != teacher.shape[2] else nn.Identity()
        pair = shrink(student), shrink(teacher)
        code.append(attention(*pair, power=options["p"], signed=True).mean() / pair[0][0, 0].numel())
        paper.append(attention(*pair, power=options["p"], form="norm").mean())
    return {"loss": sum(code), "loss_per_layer": torch.stack(code), "loss_paper": sum(paper)}


def at_norm(tensors, options):
    student, teacher = tensors["input:student_feat"], tensors["input:teacher_feat"]
    value = attention(student, teacher, power=options["p"], eps=1e-6).mean()
    return {"loss": value / student[0, 0].numel()}


def at_paper(tensors, options):
    values = [attention(student, teacher, form="norm").mean() for student, teacher in layers(tensors)]
    return {"loss": sum(weight * value for weight, value in zip(options["weights"], values, strict=True))}


def sp(tensors, options):
    """The matrices themselves are inside the loss; they are written out here."""
    pairs = list(layers(tensors))
    returned = {"loss": sum(similarity(student, teacher).mean() for student, teacher in pairs)}
    for side, x in zip(("student", "teacher"), pairs[0], strict=True):
        returned[f"gram_{side}"] = F.normalize(x.flatten(1) @ x.flatten(1).T, dim=1)
    return returned


METHODS = {
    "hint": hint,
    "hint_regress": hint_regress,
    "at": at,
    "at_norm": at_norm,
    "at_paper": at_paper,
    "sp": sp,
}
