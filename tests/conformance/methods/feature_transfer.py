"""Feature maps: neurons, boundaries, factors, flows, fused levels."""

import sys

import torch
from torch.func import functional_call

from tutelage.connectors import Regressor
from tutelage.losses import (
    FT,
    OFD,
    VID,
    ReviewKD,
    activation_boundary,
    factor,
    fsp,
    hierarchical_context,
    nst,
)
from tutelage.losses.ft import Paraphraser

from .feature import layers, listed

kdsvd = sys.modules["tutelage.losses.kdsvd"]


def per_layer(values):
    return {"loss": sum(values), "loss_per_layer": torch.stack(values)}


def named(tensors, prefix):
    """The tensors whose names begin so, without that beginning."""
    return {name.removeprefix(prefix): x for name, x in tensors.items() if name.startswith(prefix)}


def renamed(state, *names):
    for theirs, ours in names:
        state = {name.replace(theirs, ours): x for name, x in state.items()}
    return state


def vid(tensors, options):
    student, teacher = tensors["input:student_feat"], tensors["input:teacher_feat"]
    loss = VID(student=student.shape[1:], teacher=teacher.shape[1:], eps=options["eps"])
    state = renamed(named(tensors, "param:"), ("log_scale", "raw_variance"))
    value = functional_call(loss, state, (student, teacher)).mean()
    loss.to(student.dtype).load_state_dict(state)
    return {"loss": value, "pred_var": loss.variance}


def ab(tensors, options):
    """Theirs weighs layers by powers of two, and by 3/1000."""
    pairs, values = list(layers(tensors)), []
    for i, (x, teacher) in enumerate(pairs):
        student = x
        if state := named(tensors, f"param:connector.{i}."):
            regressor = Regressor(student=student.shape[1:], teacher=teacher.shape[1:], relu=False)
            regressor.to(student.dtype)
            learned = [name for name, part in regressor.layers.named_children() if hasattr(part, "weight")]
            state = renamed(state, ("conv.", f"layers.{learned[0]}."), ("bn.", f"layers.{learned[1]}."))
            student = functional_call(regressor, state, (x,))
        value = activation_boundary(student, teacher, margin=options["margin"]).mean()
        values.append(2.0 ** (i - len(pairs) + 1) * 3 / 1000 * value)
    return per_layer(values)


def ab_plain(tensors, options):
    value = activation_boundary(tensors["input:student_feat"], tensors["input:teacher_feat"], margin=options["margin"])
    return {"loss": value.sum() if options["reduction"] == "sum" else value.mean()}


def ft(tensors, options):
    """Theirs averages the factors' channels; without networks, features are the factors."""
    student, teacher = tensors["input:student_feat"], tensors["input:teacher_feat"]
    theirs = {"form": "channels", "power": options["p1"], "distance": "l1" if options["p2"] == 1 else "squared"}
    returned = {}
    if options["k"] is not None:
        paraphraser = Paraphraser(teacher.shape[1], rate=options["k"])
        loss = FT(paraphraser=paraphraser, student=student.shape[1:], teacher=teacher.shape[1:], norm=True)
        loss.to(student.dtype)
        encoder = {f"encoder.{name}": x for name, x in named(tensors, "input:paraphraser.encoder.").items()}
        paraphraser.load_state_dict(encoder, strict=False)
        state = named(tensors, "param:translator.encoder.")
        student, teacher = functional_call(loss.translator, state, (student,)), loss.paraphraser(teacher)
        returned = {"student_factor": student, "teacher_factor": teacher}
    value = factor(student, teacher, **theirs).mean()
    return returned | {"loss": value, "loss_paper": factor(student, teacher).mean()}


def ft_full(tensors, options):
    value = factor(
        tensors["input:student_factor"], tensors["input:teacher_factor"], distance={1: "l1", 2: "l2"}[options["p"]]
    )
    if options["reduction"] == "mean":
        return {"loss": value.mean()}
    elements = tensors["input:student_factor"][0].numel() if options["p"] == 1 else 1
    return {"loss": value.sum() * elements}


def ft_paraphraser(tensors, options):
    teacher, state = tensors["input:teacher_feat"], named(tensors, "param:")
    paraphraser = Paraphraser(teacher.shape[1], rate=options["k"]).to(teacher.dtype)
    found = {}

    class Run(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = paraphraser

        def forward(self, x):
            found["factor"] = self.inner(x)
            found["reconstruction"] = self.inner.decoder(found["factor"])
            return self.inner.reconstruction(x, distance="squared").mean()

    value = functional_call(Run(), {f"inner.{name}": x for name, x in state.items()}, (teacher,))
    return found | {"loss": value}


def fsp_average(tensors, options):
    student, teacher = listed(tensors, "input:student_feat"), listed(tensors, "input:teacher_feat")
    pairs = [fsp(student[i : i + 2], teacher[i : i + 2]).mean() for i in range(len(student) - 1)]
    return {"loss": fsp(student, teacher).mean(), "loss_per_pair": torch.stack(pairs)}


def fsp_maxpool(tensors, options):
    student, teacher = listed(tensors, "input:student_feat"), listed(tensors, "input:teacher_feat")
    pairs = [fsp(student[i : i + 2], teacher[i : i + 2], form="max").mean() for i in range(len(student) - 1)]
    return {"loss": sum(weight * value for weight, value in zip(options["weights"], pairs, strict=True))}


def nst_mmd(tensors, options):
    return per_layer([nst(student, teacher).mean() for student, teacher in layers(tensors)])


def nst_gram(tensors, options):
    return {"loss": nst(tensors["input:student_feat"], tensors["input:teacher_feat"], form="gram").mean()}


def singular(tensors, options):
    """The teacher's singular vectors are turned to the recorded signs."""
    targets = []
    for i, teacher in enumerate(listed(tensors, "input:teacher_feat")):
        vectors, values = kdsvd.main_directions(teacher, options["k"])
        sides = (vectors * tensors[f"aux:teacher_v.{i}"]).sum(dim=1, keepdim=True).sign()
        targets.append((vectors * sides, values))
    return {"loss": kdsvd.compare(listed(tensors, "input:student_feat"), targets).mean()}


def ofd(tensors, options):
    """Theirs halves the weight of each layer before the last."""
    pairs, total, returned = list(layers(tensors)), 0.0, {}
    for i, (student, teacher) in enumerate(pairs):
        scale, shift = (tensors[f"input:teacher_bn.{i}.{what}"] for what in ("weight", "bias"))
        sizes = {"student": student.shape[1:], "teacher": teacher.shape[1:]}
        loss = OFD(**sizes, scale=scale, shift=shift, kernel_size=options["kernel_size"]).to(student.dtype)
        state = {f"connector.{name}": x for name, x in named(tensors, f"param:connector.{i}.").items()}
        total = total + functional_call(loss, state, (student, teacher)).mean() / 2 ** (len(pairs) - i - 1)
        returned[f"margin.{i}"] = loss.margin
    return returned | {"loss": total}


def hcl(tensors, options):
    student, teacher = zip(*layers(tensors), strict=True)
    return {"loss": hierarchical_context(student, teacher).mean()}


def reviewkd(tensors, options):
    """Theirs numbers fusions from the deepest."""
    student, teacher = (listed(tensors, f"input:{who}_feat") for who in ("student", "teacher"))
    loss = ReviewKD(student=[x.shape[1:] for x in student], teacher=[x.shape[1:] for x in teacher])
    loss.to(student[0].dtype)
    state = {}
    for j in range(len(student)):
        part = renamed(
            named(tensors, f"param:abf.{j}."), ("conv1", "reduce"), ("conv2", "expand"), ("att_conv.0", "attention")
        )
        state |= {f"fusions.{len(student) - 1 - j}.{name}": x for name, x in part.items()}
    found = {}

    def keep(module, args, out):
        found[module] = out[0]

    for fusion in loss.fusions:
        fusion.register_forward_hook(keep)
    value = functional_call(loss, state, (student, teacher)).mean()
    return {"loss": value} | {f"output.{i}": found[fusion] for i, fusion in enumerate(loss.fusions)}


METHODS = {
    "ab": ab,
    "ab_plain": ab_plain,
    "fsp": fsp_average,
    "fsp_maxpool": fsp_maxpool,
    "ft": ft,
    "ft_full": ft_full,
    "ft_paraphraser": ft_paraphraser,
    "hcl": hcl,
    "kdsvd": singular,
    "nst": nst_mmd,
    "nst_gram": nst_gram,
    "ofd": ofd,
    "reviewkd": reviewkd,
    "vid": vid,
}
