"""Logits."""

import torch.nn.functional as F

from tutelage.losses import kl, mse


def kd(tensors, options):
    per_sample = kl(tensors["input:student_logits"], tensors["input:teacher_logits"], temperature=options["T"])
    return {"per_sample": per_sample, "loss": per_sample.mean()}


def kd_reductions(tensors, options):
    """Ours is the mean over samples and positions; the other reductions are multiples of it."""
    student, teacher = tensors["input:student_logits"], tensors["input:teacher_logits"]
    positions = student[0, 0].numel()
    value = options["loss_weight"] * kl(student, teacher, temperature=options["T"]).mean()
    factor = {
        "batchmean": positions,
        "sum": len(student) * positions,
        "none": len(student) * positions,
        "mean": 1 / student.shape[1],
    }[options["reduction"]]
    if options["reduction"] != "none":
        return {"loss": factor * value}
    # The library never gives single terms; they are written out here, and their sum is ours.
    log_prob, target = (F.log_softmax(x / options["T"], dim=1) for x in (student, teacher))
    terms = options["loss_weight"] * options["T"] ** 2 * target.exp() * (target - log_prob)
    return {"loss": factor * value, "elements": terms}


def kd_ce_mix(tensors, options):
    student, alpha, beta = tensors["input:student_logits"], options["alpha"], options["beta"]
    scaled = kl(student, tensors["input:teacher_logits"], temperature=options["T"]).mean()
    soft, hard = scaled / options["T"] ** 2, F.cross_entropy(student, tensors["input:labels"])
    mixed = alpha * hard + (1 - alpha if beta is None else beta) * scaled if alpha else soft
    return {"loss": mixed, "soft": soft, "hard": hard}


def logits_mse(tensors, options):
    student, teacher = tensors["input:student_logits"], tensors["input:teacher_logits"]
    return {"loss": mse(student / options["T"], teacher / options["T"]).mean()}


METHODS = {"kd": kd, "kd_reductions": kd_reductions, "kd_ce_mix": kd_ce_mix, "logits_mse": logits_mse}
