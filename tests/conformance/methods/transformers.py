"""Attention and states of transformers."""

import torch
from torch import Tensor

from tutelage.losses import mse, self_attention, soft_cross_entropy


def attention(tensors):
    student, teacher = tensors["input:student_att"], tensors["input:teacher_att"]
    return student, teacher, tensors.get("input:mask")


def emptied(scores):
    """Theirs takes whatever lies at or below -0.001 for hidden."""
    return torch.where(scores > -1e-3, scores, 0.0)


def squared(student, teacher, mask) -> Tensor:
    """Theirs is a mean over the pairs of the whole batch, not over those of each sample."""
    if mask is None:
        return self_attention(emptied(student), emptied(teacher)).mean()
    pairs = mask.sum(dim=1).square()
    return (self_attention(student, teacher, mask=mask) * pairs).sum() / pairs.sum()


def attention_mse(tensors, options):
    return {"loss": squared(*attention(tensors))}


def attention_mse_sum(tensors, options):
    student, teacher, mask = attention(tensors)
    student, teacher = (x.sum(dim=1, keepdim=True) for x in (student, teacher))
    return {"loss": squared(student, teacher, mask)}


def hidden_mse(tensors, options):
    """A real token is a sample."""
    student, teacher = tensors["input:student_hidden"], tensors["input:teacher_hidden"]
    real = tensors["input:mask"].bool() if "input:mask" in tensors else torch.ones(student.shape[:2], dtype=torch.bool)
    return {"loss": mse(student[real], teacher[real]).mean()}


def tinybert_layers(tensors, options):
    """Which layers are compared is the recipe's business, and so is the projection that they share."""
    layers, block = options["student_layers"], options["teacher_layers"] // options["student_layers"]
    att = sum(
        self_attention(tensors[f"input:student_att.{i}"], tensors[f"input:teacher_att.{(i + 1) * block - 1}"]).mean()
        for i in range(layers)
    )
    fit = tensors["param:fit.weight"], tensors["param:fit.bias"]
    rep = sum(
        mse(
            torch.nn.functional.linear(tensors[f"input:student_hidden.{i}"], *fit),
            tensors[f"input:teacher_hidden.{i * block}"],
        ).mean()
        for i in range(layers + 1)
    )
    return {"att": att, "rep": rep, "loss": att + rep}


def tinybert_prediction(tensors, options):
    """Theirs has no factor of T², and divides by the number of classes as well."""
    student, teacher = tensors["input:student_logits"], tensors["input:teacher_logits"]
    paper = soft_cross_entropy(student, teacher, temperature=options["T"]).mean() / options["T"] ** 2
    return {"loss": paper / student.shape[1], "loss_paper": paper}


METHODS = {
    "attention_mse": attention_mse,
    "attention_mse_sum": attention_mse_sum,
    "hidden_mse": hidden_mse,
    "tinybert_layers": tinybert_layers,
    "tinybert_prediction": tinybert_prediction,
}
