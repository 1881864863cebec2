"""Losses with a memory of every sample."""

import torch

from tutelage.losses import CRD
from tutelage.losses.alias import alias_tables

PARTS = {
    "embed_s.linear.weight": "student_head.weight",
    "embed_s.linear.bias": "student_head.bias",
    "embed_t.linear.weight": "teacher_head.weight",
    "embed_t.linear.bias": "teacher_head.bias",
}


def crd(tensors, options):
    """Some steps in a row, negatives as recorded."""
    first = tensors["input:step0.student_feat"], tensors["input:step0.teacher_feat"]
    loss = CRD(
        student=first[0].shape[1:],
        teacher=first[1].shape[1:],
        samples=options["n_data"],
        negatives=options["nce_k"],
        feat_dim=options["feat_dim"],
        temperature=options["nce_t"],
        momentum=options["nce_m"],
    ).to(first[0].dtype)
    loss.load_state_dict(
        {theirs: tensors[f"param:{ours}"].detach() for ours, theirs in PARTS.items()}
        | {
            "student_memory": tensors["state:memory_v1.before"],
            "teacher_memory": tensors["state:memory_v2.before"],
            "log_z": torch.full((2,), torch.nan),
        }
    )
    returned, step = {}, 0
    while f"input:step{step}.idx" in tensors:
        given = {name: tensors[f"input:step{step}.{name}"] for name in ("teacher_feat", "idx", "contrast_idx")}
        student = tensors[f"input:step{step}.student_feat"].detach().requires_grad_()
        sides = loss.sides(student, given["teacher_feat"], index=given["idx"], others=given["contrast_idx"][:, 1:])
        parts = [side.mean() for side in sides]
        value = sum(parts)
        wanted = {
            "student_feat": student,
            **{ours: loss.get_parameter(theirs) for ours, theirs in PARTS.items()},
        }
        gradients = torch.autograd.grad(value, list(wanted.values()))
        loss.commit()
        returned |= {
            f"step{step}.loss": value,
            f"step{step}.loss_student": parts[0],
            f"step{step}.loss_teacher": parts[1],
            f"step{step}.memory_v1": loss.student_memory.clone(),
            f"step{step}.memory_v2": loss.teacher_memory.clone(),
            **{f"step{step}.grad:{name}": g for name, g in zip(wanted, gradients, strict=True)},
        }
        with torch.no_grad():
            for (ours, theirs), gradient in zip(PARTS.items(), gradients[1:], strict=True):
                loss.get_parameter(theirs).sub_(options["sgd_lr"] * gradient)
                returned[f"step{step}.{ours}"] = loss.get_parameter(theirs).clone()
        step += 1
    z_student, z_teacher = loss.log_z.exp()
    return returned | {"Z_student": z_student, "Z_teacher": z_teacher}


def crd_alias_sampling(tensors, options):
    """The draws are recorded: which outcome, and whether it keeps the draw."""
    kept, other = alias_tables(tensors["input:weights"])
    first, stays = tensors["input:kk"], tensors["input:b"].bool()
    implied = kept.index_add(0, other, 1 - kept) / len(kept)
    return {"prob": kept, "alias": other, "draw": torch.where(stays, first, other[first]), "implied": implied}


METHODS = {"crd": crd, "crd_alias_sampling": crd_alias_sampling}
