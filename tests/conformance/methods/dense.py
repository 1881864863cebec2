"""Maps with a prediction or a place at every position."""

from tutelage.losses import cwd, pairwise, soft_cross_entropy


def cwd_(tensors, options):
    value = cwd(tensors["input:student_feat"], tensors["input:teacher_feat"], temperature=options["tau"])
    return {"loss": options["loss_weight"] * value.mean()}


def pixelwise(tensors, options):
    """Theirs is a sum over the batch, and a cross-entropy where ours is a divergence (`kl`)."""
    value = soft_cross_entropy(tensors["input:student_logits"], tensors["input:teacher_logits"], temperature=1.0)
    return {"loss": value.sum()}


def pairwise_(tensors, options):
    """The reference computes in 32 bits."""
    value = pairwise(
        tensors["input:student_feat"], tensors["input:teacher_feat"], scale=options["scale"], through_norm=False
    )
    return {"loss": value.mean()}


METHODS = {"cwd": cwd_, "pixelwise": pixelwise, "pairwise": pairwise_}
