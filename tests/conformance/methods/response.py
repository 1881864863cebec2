"""Logits."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from tutelage.cache.soft_labels import keep_top, recover
from tutelage.connectors import Regressor
from tutelage.losses import dist, dkd, kl, mse, soft_cross_entropy, srrl


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


def kd_soft_ce(tensors, options):
    """Classes last, and no factor T²; a temperature for each position divides the logits beforehand."""
    student, teacher = (tensors[f"input:{side}_logits"].movedim(-1, 1) for side in ("student", "teacher"))
    if "input:temperature" in tensors:
        per_position = tensors["input:temperature"].unsqueeze(1)
        student, teacher, temperature = student / per_position, teacher / per_position, 1.0
    else:
        temperature = options["T"]
    return {"loss": soft_cross_entropy(student, teacher, temperature=temperature).mean() / temperature**2}


def dkd_(tensors, options, standardise=None):
    def term(target_weight, other_weight):
        return dkd(
            tensors["input:student_logits"],
            tensors["input:teacher_logits"],
            target=tensors["input:labels"],
            temperature=options["T"],
            target_weight=target_weight,
            other_weight=other_weight,
            standardise=standardise,
        ).mean()

    return {"loss": term(options["alpha"], options["beta"]), "tckd": term(1.0, 0.0), "nckd": term(0.0, 1.0)}


def dist_(tensors, options):
    def term(inter_weight, intra_weight):
        return dist(
            tensors["input:student_logits"],
            tensors["input:teacher_logits"],
            temperature=options["tau"],
            inter_weight=inter_weight,
            intra_weight=intra_weight,
        ).mean()

    return {"loss": term(options["beta"], options["gamma"]), "inter": term(1.0, 0.0), "intra": term(0.0, 1.0)}


def logit_std_kd(tensors, options):
    """The code takes the sample's deviation, the paper the population's."""
    code, paper = (
        kl(
            tensors["input:student_logits"],
            tensors["input:teacher_logits"],
            temperature=options["T"],
            standardise=spread,
        ).mean()
        for spread in ("sample", "population")
    )
    return {"loss": code, "loss_paper": paper}


def logit_std_dkd(tensors, options):
    return dkd_(tensors, options, standardise="sample")


def srrl_feature_map(tensors, options):
    value = srrl(
        tensors["input:student_feat"], tensors["input:teacher_feat"], head=nn.Identity(), regression_weight=0.0
    )
    return {"loss": value.mean()}


def srrl_softmax_regression(tensors, options):
    """The teacher's feature is not stored: one that gives its logits is found by widening the classifier."""
    student, logits = tensors["input:student_feat"], tensors["input:teacher_logits"]
    weight, bias = (tensors[f"input:teacher_classifier.{kind}"] for kind in ("weight", "bias"))
    regressor = Regressor(student=student.shape[1:], teacher=(weight.shape[1], *student.shape[2:]), relu=False)
    conv, norm = (f"layers.{i}" for i in range(2))
    state = {f"{conv}.weight": tensors["param:conv.weight"], f"{conv}.bias": torch.zeros_like(weight[0])}
    state |= {f"{norm}.{kind}": tensors[f"param:bn.{kind}"] for kind in ("weight", "bias")}
    adapted = functional_call(regressor.to(student.dtype), state, (student,)).mean(dim=(2, 3))
    head = nn.Linear(sum(weight.shape), len(weight)).to(weight.dtype)
    head.load_state_dict({"weight": torch.cat([weight, torch.eye(len(weight)).to(weight)], dim=1), "bias": bias})
    read = torch.cat([adapted, torch.zeros_like(logits)], dim=1)
    made = torch.cat([torch.zeros_like(adapted.detach()), logits - bias], dim=1)
    return {"loss": srrl(read, made, head=head, feature_weight=0.0).mean(), "cross_logits": head(read)}


def fkd_soft_label(tensors, options):
    """Ours has a factor T², and takes logits: the logarithms of the label."""
    kind, classes, temperature = options["label_type"], options["num_classes"], options["temp"]
    kept, probs = keep_top(tensors["input:teacher_logits"], {"hard": 1, "marginal_smoothing_k10": 10}.get(kind, 5))
    stored = kept[:, 0] if kind == "hard" else torch.stack([kept.to(probs.dtype), probs], dim=1)
    label = recover(
        kept,
        torch.ones_like(probs) if kind == "hard" else probs,
        num_classes=classes,
        rest="renormalise" if kind == "marginal_renorm" else "spread",
    )
    value = soft_cross_entropy(tensors["input:student_logits"], temperature * label.log(), temperature=temperature)
    return {"loss": value.mean() / temperature**2, "soft_label": label, "stored": stored}


METHODS = {
    "fkd_soft_label": fkd_soft_label,
    "kd": kd,
    "kd_reductions": kd_reductions,
    "kd_ce_mix": kd_ce_mix,
    "kd_soft_ce": kd_soft_ce,
    "logits_mse": logits_mse,
    "dkd": dkd_,
    "dist": dist_,
    "logit_std_kd": logit_std_kd,
    "logit_std_dkd": logit_std_dkd,
    "srrl_feature_map": srrl_feature_map,
    "srrl_softmax_regression": srrl_softmax_regression,
}
