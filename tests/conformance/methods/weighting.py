"""Weightings."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import nn

from tutelage.ledger import Batch, Ledger, Lesson, Row, Spec
from tutelage.losses import kl, mse, nst
from tutelage.weighting import DWA, FAMO, GLS, Adaptive, Entropy, Fixed, Meta, Trust, Uncertainty
from tutelage.weighting.famo import FLOOR

WIDE = 79.0
"""The definitions have no bound."""


def numbered(tensors, name):
    return [tensors[f"{name}.{k}"] for k in range(sum(key.startswith(f"{name}.") for key in tensors))]


def bound(rule, rows, heads=()):
    rule.bind(rows, Spec(call=None, taps={}, heads=dict(heads)))
    return rule.double()


def lesson(labels, teachers=(), adapted=()):
    index = torch.arange(len(labels))
    batch = Batch(labels, labels, index, index, torch.ones(len(labels), dtype=torch.bool))
    return Lesson(batch, {}, {name: {"": x} for name, x in teachers}, dict(adapted))


def total(weights, ledger, rule):
    return (weights * ledger.losses).sum(dim=0).mean() + rule.penalty()


def soft_targets(tensors, options):
    """One `kl` row for each teacher, and what the teachers said."""
    said = numbered(tensors, "input:teacher_logits")
    rows = tuple(Row("logits", str(k)) for k in range(len(said)))
    losses = [kl(tensors["input:student_logits"], teacher, temperature=options["T"]) for teacher in said]
    teachers = [(row.teacher, x) for row, x in zip(rows, said, strict=True)]
    return Ledger(rows, torch.stack(losses)), lesson(tensors["input:labels"], teachers)


def aver(tensors, options):
    ledger, said = soft_targets(tensors, options)
    rule = bound(Fixed(mean=True), ledger.rows)
    return {
        "loss": total(rule(ledger, said), ledger, rule),
        "kl_per_teacher": ledger.losses.mean(dim=1),
    }


def camkd_logits(tensors, options):
    """The reference divides once more by the number of teachers."""
    ledger, said = soft_targets(tensors, options)
    rule = bound(Trust(), ledger.rows)
    weights = rule(ledger, said)
    paper = total(weights, ledger, rule)
    loss = paper / len(ledger.rows)
    return {
        "loss": loss,
        "loss_paper": paper,
        "loss_reference": loss,
        "weights": weights,
        "kl": ledger.losses,
    }


def ebkd(tensors, options):
    """The reference's weights sum to K - 1, and its loss divides by K."""
    ledger, said = soft_targets(tensors, options)
    rules = [bound(Entropy(published=published), ledger.rows) for published in (True, False)]
    weights, normalised = (rule(ledger, said) for rule in rules)
    return {
        "loss": total(weights, ledger, rules[0]),
        "loss_weights_normalised": total(normalised, ledger, rules[1]),
        "weights": weights * len(ledger.rows),
        "kl": ledger.losses,
    }


def embedded(tensors, k, x):
    """Teacher k's connector: convolution, batch norm and ReLU, once or three times."""
    names = {name.split(".")[1] for name in tensors if name.startswith(f"param:embed{k}.")}
    for conv in sorted(map(int, names))[::2]:
        kernel, bias, scale, shift = (
            tensors[f"param:embed{k}.{layer}.{what}"] for layer in (conv, conv + 1) for what in ("weight", "bias")
        )
        x = F.conv2d(x, kernel, bias, padding=kernel.shape[-1] // 2)
        x = F.batch_norm(x, None, None, scale, shift, training=True).relu()
    return x


def resized(x, original, teacher):
    if original.shape[2] >= teacher.shape[2]:
        return F.adaptive_avg_pool2d(x, teacher.shape[2:])
    return F.interpolate(x, teacher.shape[2:], mode="bilinear", align_corners=False)


def inter(tensors, student, *, chain, through):
    """The paper's loss, the weights, and for each teacher the adapted feature, its classes and its error."""
    targets = numbered(tensors, "input:teacher_feat")
    rows, heads, projected, left = tuple(Row("last", str(k)) for k in range(len(targets))), {}, [], student
    for k, target in enumerate(targets):
        left = resized(left if chain else student, student, target)
        projected.append(embedded(tensors, k, left))
        head = nn.Linear(*reversed(tensors[f"input:classifier.{k}.weight"].shape)).to(target.dtype)
        heads[str(k)] = head.requires_grad_(False)
        head.load_state_dict({what: tensors[f"input:classifier.{k}.{what}"] for what in ("weight", "bias")})
    ledger = Ledger(rows, torch.stack([mse(x, target) for x, target in zip(projected, targets, strict=True)]))
    adapted = [(row.name, x) for row, x in zip(rows, projected, strict=True)]
    rule = bound(Trust(through_weights=through), rows, heads)
    weights = rule(ledger, lesson(tensors["input:labels"], adapted=adapted))
    outputs = [heads[str(k)](x.mean(dim=(2, 3))) for k, x in enumerate(projected)]
    return total(weights, ledger, rule), weights, projected, outputs, ledger.losses


def camkd_inter(tensors, options):
    """The reference divides once more by the number of teachers, and passes each resized map on."""
    student, teachers = tensors["input:student_feat"], options["num_teachers"]
    paper, weights, projected, outputs, errors = inter(tensors, student, chain=True, through=True)
    constant = inter(tensors, student, chain=True, through=False)[0] / teachers
    return {
        "loss": paper / teachers,
        "loss_reference": paper / teachers,
        "loss_paper": paper,
        "loss_no_chain": inter(tensors, student, chain=False, through=True)[0] / teachers,
        "weights": weights,
        "mse": errors,
        "grad_w_const:student_feat": torch.autograd.grad(constant, student)[0],
        **{f"projected.{k}": x for k, x in enumerate(projected)},
        **{f"output.{k}": x for k, x in enumerate(outputs)},
    }


def learned(rule, name, rows, given, losses):
    """The rule with the given parameters: weights, loss, and the gradient of the parameters."""
    bound(rule, rows)
    rule.load_state_dict({name: given.detach()})
    ledger = Ledger(rows, losses)
    weights = rule(ledger, None)
    loss = total(weights, ledger, rule)
    return weights[:, 0], loss, torch.autograd.grad(loss, getattr(rule, name), retain_graph=True)[0]


def adaptive_scaler(tensors, options):
    losses, scale = (
        torch.cat([tensors["input:loss_cls"][None], tensors["input:losses"]]),
        options["alpha_distill"],
    )
    rows = (Row("base"), *(Row(f"path{k}", "big") for k in range(options["num_paths"])))
    rule = Adaptive(distill_weight=scale, bound=WIDE)
    weights, loss, gradient = learned(rule, "log_scale", rows, tensors["param:alphas"], losses[:, None])
    return {
        "loss": loss,
        "weights": weights[1:] / scale,
        "scaled": weights[1:] * losses[1:] / scale,
        "loss_alphas": rule.penalty() / scale,
        "grad:alphas": gradient,
    }


def looks(student, teacher):
    """Attention transfer as that reference computes it, with its epsilon and its mean over positions."""
    maps = [x.square().sum(dim=1).flatten(1) for x in (student, teacher)]
    maps = [x / (x.norm(dim=1, keepdim=True) + 1e-6) for x in maps]
    return (maps[0] - maps[1]).square().mean(dim=1)


def adaptive_paths(tensors, options):
    """Feature paths sum their layers, or are one path for each layer."""
    student, teacher = (numbered(tensors, f"input:{who}_feat") for who in ("student", "teacher"))
    logits = tensors["input:student_logits"], tensors["input:teacher_logits"]
    adapted = []
    for k, x in enumerate(student):
        kernel, scale, shift = (tensors[f"param:adapt.{k}.{what}"] for what in ("conv.weight", "bn.weight", "bn.bias"))
        adapted.append(F.batch_norm(F.conv2d(x, kernel), None, None, scale, shift, training=True))
    layers = {
        "nst": [nst(*pair, form="gram") for pair in zip(adapted, teacher, strict=True)],
        "at": [looks(*pair) for pair in zip(student, teacher, strict=True)],
        "logits": [mse(*logits)],
        "soft": [kl(*logits, temperature=options["T"])],
    }

    def path(name):
        kind, _, layer = name.partition(":")
        return options["loss_weights"][kind] * (layers[kind][int(layer)] if layer else sum(layers[kind]))

    task = F.cross_entropy(logits[0], tensors["input:labels"], reduction="none")
    rows = (Row("base"), *(Row(name, "big") for name in options["paths"]))
    losses = torch.stack([task, *map(path, options["paths"])])
    rule = Adaptive(distill_weight=options["alpha_distill"], bound=WIDE)
    weights, loss, gradient = learned(rule, "log_scale", rows, tensors["param:alphas"], losses)
    scaled = (weights[1:, None] * losses[1:]).mean(dim=1) / options["alpha_distill"]
    return {"loss": loss, "loss_cls": task.mean(), "losses": scaled, "grad:alphas": gradient}


def uncertainty_weighting(tensors, options):
    losses = tensors["input:losses"]
    rows = (Row("base"), *(Row(f"path{k}", "big") for k in range(len(losses) - 1)))
    rule, given = Uncertainty(bound=WIDE), tensors["param:log_var"]
    weights, loss, gradient = learned(rule, "log_variance", rows, given, losses[:, None])
    return {"loss": loss, "weights": weights, "grad:log_var": gradient}


def dwa(tensors, options):
    """Every task has a teacher here; an epoch is one batch."""
    history = tensors["input:loss_history"]
    rows, weights = tuple(Row(f"path{k}", "big") for k in range(len(history))), []
    rule = bound(DWA(temperature=options["T"]), rows)
    for losses in history.t():
        weights.append(rule(Ledger(rows, losses[:, None]), None)[:, 0])
        rule.end_epoch()
    return {"weights": torch.stack(weights)}


def gls(tensors, options):
    losses = tensors["input:losses"]
    rows = (Row("base"), *(Row(f"path{k}", "big") for k in range(len(losses) - 1)))
    rule, ledger = bound(GLS(), rows), Ledger(rows, losses[:, None])
    return {"loss": total(rule(ledger, None), ledger, rule)}


def famo(tensors, options):
    """Every task has a teacher here; the gradient of the reference's loss is our weights."""
    rule, got, rows = FAMO(rate=options["w_lr"], decay=options["w_gamma"]), {}, ()
    for step in range(options["steps"]):
        before, after = (tensors[f"input:step{step}.{name}"] for name in ("losses", "new_losses"))
        if not rows:
            rows = tuple(Row(f"path{k}", "big") for k in range(len(before)))
            bound(rule, rows)
        weights = rule(Ledger(rows, before[:, None]), lesson(torch.zeros(1, dtype=torch.int64)))[:, 0]
        rule.after_step(lambda batch, rows=rows, after=after: Ledger(rows, after[:, None]))
        shifted = before + FLOOR
        got |= {
            f"step{step}.loss": (weights * shifted * shifted.log()).sum(),
            f"step{step}.grad:losses": weights,
            f"step{step}.w": rule.preference.clone(),
        }
    return got


def shares(tensors, prefix, rule, rows, **known):
    """The rule, whose one network has the values of the case."""
    student = nn.Linear(1, 1)
    rule.eval().bind(rows, Spec(call=None, taps={}, student=student, **known))
    layers = [tensors[f"param:{prefix}{name}.{what}"] for name in ("layer", "all_act") for what in ("weight", "bias")]
    net = rule.nets[rows[0].path]
    assert net.shapes == tuple(tuple(layer.shape) for layer in layers)
    net.values = torch.cat([layer.flatten() for layer in layers])
    return rule


def mmkd_logits(tensors, options):
    student = tensors["input:student_logits"]
    said = numbered(tensors, "input:teacher_logits")
    ledger, meeting = soft_targets(tensors | {"input:labels": torch.zeros(len(student), dtype=torch.int64)}, options)
    classes = tuple(map(str, range(student.shape[1])))
    rule = Meta(factor=options.get("factor", 2), through_weights=True)
    shares(tensors, "", rule, ledger.rows, classes=classes, responses=frozenset({"logits"}))
    weights = rule(ledger, replace(meeting, student={"": student}))
    assert len(said) == len(ledger.rows)
    return {"loss": total(weights, ledger, rule), "weights": weights.T}


def regressed(tensors, k, student, teacher):
    """The error of one teacher: the larger map is pooled, and the student goes through a convolution."""
    side = min(student.shape[2], teacher.shape[2])
    student, teacher = (F.adaptive_avg_pool2d(x, side) if x.shape[2] > side else x for x in (student, teacher))
    kernel, bias, scale, shift = (
        tensors[f"param:regressor{k}.{layer}.{what}"] for layer in (0, 1) for what in ("weight", "bias")
    )
    x = F.batch_norm(F.conv2d(student, kernel, bias), None, None, scale, shift, training=True).relu()
    return mse(x, teacher)


def mmkd_feature(tensors, options):
    student, teachers = tensors["input:student_feat"], numbered(tensors, "input:teacher_feat")
    rows = tuple(Row("last", str(k)) for k in range(len(teachers)))
    ledger = Ledger(rows, torch.stack([regressed(tensors, k, student, x) for k, x in enumerate(teachers)]))
    taps = {"last": {row.teacher: "map" for row in rows}}
    rule = Meta(batch=len(student), factor=options.get("factor", 2), through_weights=True)
    shares(tensors, "weight_net.", rule, rows, classes=("any",), reads={"last": "map"}, hears=taps)
    labels = torch.zeros(len(student), dtype=torch.int64)
    meeting = replace(
        lesson(labels),
        student={"map": student},
        teachers={row.teacher: {"map": x} for row, x in zip(rows, teachers, strict=True)},
    )
    weights = rule(ledger, meeting)
    return {"loss": total(weights, ledger, rule), "weights": weights.T}


METHODS = {
    "aver": aver,
    "camkd_logits": camkd_logits,
    "camkd_inter": camkd_inter,
    "dwa": dwa,
    "gls": gls,
    "ebkd": ebkd,
    "famo": famo,
    "mmkd_feature": mmkd_feature,
    "mmkd_logits": mmkd_logits,
    "adaptive_scaler": adaptive_scaler,
    "adaptive_paths": adaptive_paths,
    "uncertainty_weighting": uncertainty_weighting,
}
