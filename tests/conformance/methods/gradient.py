"""Weightings by gradients."""

import torch
from torch import nn

from tutelage.ledger import Batch, Ledger, Lesson, Row, Spec
from tutelage.losses import kl
from tutelage.weighting import AEKD, IMTL, ByGradient, GradNorm
from tutelage.weighting.solvers import CAGrad
from tutelage.weighting.solvers.cagrad import worst_mixture
from tutelage.weighting.solvers.capped import capped
from tutelage.weighting.solvers.gradvac import vaccinated
from tutelage.weighting.solvers.pcgrad import surgery


class Point(nn.Module):
    """A student whose parameters are one vector, at 0."""

    def __init__(self, grads):
        super().__init__()
        self.place = nn.Parameter(torch.zeros_like(grads[0]))


def met(rule, grads, losses, *, bind=True):
    """The weights of a rule that meets rows with these gradients and losses."""
    student = Point(grads)
    rows = (Row("base"), *(Row(f"path{k}", "big") for k in range(len(grads) - 1)))
    if bind:
        rule.bind(rows, Spec(call=None, taps={}, student=student))
        rule.to(grads.dtype)
    rule._student = (student,)
    ledger = Ledger(rows, (losses + grads @ student.place)[:, None])
    return rule(ledger, None)[:, 0], ledger


def plain(rule, tensors):
    """The weights of a rule, and the direction they stand for."""
    grads = tensors["input:grads"]
    losses = tensors.get("input:losses", grads.new_ones(len(grads)))
    weights, _ = met(rule, grads, losses)
    return weights.detach(), weights.detach() @ grads


def mgda(tensors, options):
    normaliser, grads = options["normaliser"], tensors["input:grads"]
    weights, direction = plain(ByGradient({"use": "mgda", "normaliser": normaliser}), tensors)
    if (grads == 0).all(dim=1).any():  # a row without gradient is not weighed; the definition gives it everything
        weights = ByGradient({"use": "mgda", "normaliser": normaliser}).rule(grads @ grads.T, tensors["input:losses"])
        direction = weights @ grads
    size = grads.norm(dim=1), tensors["input:losses"]
    divisor = {"none": 1, "l2": size[0], "loss": size[1], "loss+": size[0] * size[1]}[normaliser]
    normalised = grads / torch.as_tensor(divisor).expand(len(grads))[:, None]
    return {
        "weights_exact": weights,
        "norm2_exact": (weights @ normalised).square().sum(),
        "shared_grad_exact": direction,
    }


def pcgrad(tensors, options):
    grads = tensors["input:grads"]
    mixtures = surgery(grads @ grads.T, tensors["input:order"]).to(grads)
    weights = mixtures.sum(dim=0)
    return {"projected": mixtures @ grads, "weights": weights, "shared_grad": weights @ grads}


def cagrad(tensors, options):
    grads, radius = tensors["input:grads"], options["calpha"]
    square = grads @ grads.T
    rule = CAGrad(radius=radius, rescale=("none", "square", "linear")[options["rescale"]])
    share, direction = worst_mixture(square, radius)[0].to(grads), rule(square).to(grads) @ grads
    return {
        "weights": share,
        "weights_exact": share,
        "shared_grad": direction,
        "shared_grad_exact": direction,
    }


def imtl_g(tensors, options):
    grads = tensors["input:grads"]
    weights, direction = plain(ByGradient("imtl_g"), tensors)
    return {"weights": weights, "shared_grad": direction, "projection": direction @ grads[0] / grads[0].norm()}


def imtl(tensors, options):
    """The weights of the reference apply to rows that are scaled already."""
    grads, scale = tensors["input:grads"], tensors["param:s"].detach().exp()
    rule = IMTL(bound=79.0)
    met(rule, grads, tensors["input:losses"])
    rule.load_state_dict(rule.state_dict() | {"log_scale": tensors["param:s"].detach()})
    weights, ledger = met(rule, grads, tensors["input:losses"], bind=False)
    loss = (weights * ledger.losses[:, 0]).sum() + rule.penalty()
    return {
        "weights": weights.detach() / scale,
        "shared_grad": weights.detach() @ grads,
        "grad:s": torch.autograd.grad(loss, rule.log_scale)[0],
    }


def aligned_mtl(tensors, options):
    eps = torch.finfo(tensors["input:grads"].dtype).eps
    weights, direction = plain(ByGradient({"use": "aligned_mtl", "eps": eps}), tensors)
    return {"weights": weights, "shared_grad": direction}


def gradvac(tensors, options):
    got, cosine = {}, None
    for step in range(options["steps"]):
        grads = tensors[f"input:step{step}.grads"]
        cosine = grads.new_zeros(len(grads), len(grads)) if cosine is None else cosine
        mixtures, cosine = vaccinated(
            grads @ grads.T, tensors[f"input:step{step}.order"], cosine, decay=options["beta"]
        )
        got[f"step{step}.shared_grad"] = mixtures.sum(dim=0).to(grads) @ grads
        got[f"step{step}.rho"] = cosine.to(grads)
    return got


def gradnorm(tensors, options):
    rule, got, first = GradNorm(restoring=options["alpha"], steps=1), {}, tensors["input:initial_losses"]
    for step in range(options["steps"]):
        grads, losses = (tensors[f"input:step{step}.{what}"] for what in ("grads", "losses"))
        if step == 0:
            met(rule, grads, first)
            rule.load_state_dict(rule.state_dict() | {"preference": tensors["param:p"].detach()})
        weights, _ = met(rule, grads, losses, bind=False)
        balance = rule.penalty()
        (slope,) = torch.autograd.grad(balance, rule.preference)
        with torch.no_grad():
            rule.preference -= options["lr"] * slope
        rule.after_step()
        got |= {
            f"step{step}.weights": weights,
            f"step{step}.balance_loss": balance,
            f"step{step}.grad:p": slope,
            f"step{step}.shared_grad": weights @ grads,
            f"step{step}.p": rule.preference.detach().clone(),
        }
    return got


def aekd_weights(tensors, options):
    """The limit of 1 / (K * nu) is what the reference makes of C."""
    grads = tensors["input:grads"]
    means = grads.mean(dim=1).flatten(1).double()
    weights = capped(means @ means.T, limit=options["C_effective"], normalise=options["is_norm"]).to(grads)
    units = means / means.norm(dim=1, keepdim=True) if options["is_norm"] else means
    mixture = weights * means.norm(dim=1) if options["is_norm"] else weights
    mixture = (mixture / mixture.sum()).to(units) @ units
    return {"weights": weights, "weights_exact": weights, "objective_exact": mixture.square().sum().to(grads)}


def aekd(tensors, options):
    student, labels = tensors["input:student_logits"], tensors["input:labels"]
    said = [tensors[f"input:teacher_logits.{k}"] for k in range(options["num_teachers"])]
    rows = tuple(Row("logits", str(k)) for k in range(len(said)))
    rule = AEKD(limit=1.0 if options["C"] is None else options["C"], normalise=options["is_norm"])
    rule.bind(rows, Spec(call=None, taps={}, reads={"logits": ""}))
    rule.to(student.dtype)
    ledger = Ledger(rows, torch.stack([kl(student, teacher, temperature=options["T"]) for teacher in said]))
    index = torch.arange(len(labels))
    batch = Batch(labels, labels, index, index, torch.ones(len(labels), dtype=torch.bool))
    weights = rule(ledger, Lesson(batch, {"": student}, {}, {}))
    means = ledger.losses.mean(dim=1)
    return {"loss": weights[:, 0] @ means, "weights": weights[:, 0], "kl_per_teacher": means}


METHODS = {
    "aekd": aekd,
    "aekd_weights": aekd_weights,
    "aligned_mtl": aligned_mtl,
    "cagrad": cagrad,
    "gradnorm": gradnorm,
    "gradvac": gradvac,
    "imtl": imtl,
    "imtl_g": imtl_g,
    "mgda": mgda,
    "pcgrad": pcgrad,
}
