"""Relations between the samples of a batch."""

from torch.func import functional_call

from tutelage.losses import CC, correlation, pkt, rkd_angle, rkd_distance


def features(tensors):
    return tensors["input:student_feat"], tensors["input:teacher_feat"]


def rkd(tensors, options):
    distance, angle = rkd_distance(*features(tensors)).mean(), rkd_angle(*features(tensors)).mean()
    return {"distance": distance, "angle": angle, "loss": options["w_d"] * distance + options["w_a"] * angle}


def one_term(loss):
    """One of its terms, weighed; with `with_l2_norm` of unit vectors."""

    def adapter(tensors, options):
        value = loss(*features(tensors), normalise=options.get("with_l2_norm", False))
        return {"loss": options.get("loss_weight", 1) * value.mean()}

    return adapter


def pkt_(tensors, options):
    """Theirs divides by the size of the batch once more, and has samples pick themselves."""
    student, teacher = features(tensors)
    returned = {"loss": pkt(student, teacher, diagonal=True, eps=options["eps"]).mean() / len(student)}
    exact = pkt(student, teacher, diagonal=True, eps=0.0).mean()
    return returned | ({"loss_paper": exact} if exact.isfinite() else {})


def cckd(tensors, options):
    """Theirs neither normalises nor squares; it divides by B² or, as a sum, by nothing."""
    student, teacher = features(tensors)
    kernel = options["kernel"]
    value = correlation(
        student,
        teacher,
        kernel=kernel["type"],
        gamma=kernel.get("gamma", 0.4),
        order=kernel.get("max_p", 2),
        normalise=False,
        form="norm",
    ).mean()
    return {"loss": value if options["reduction"] == "batchmean" else value * len(student) ** 2}


def cc(tensors, options):
    """Gradients reach both embeddings."""
    student, teacher = features(tensors)
    if not any(name.startswith("param:") for name in tensors):
        return {"loss": CC(feat_dim=None, pairs="consecutive")(student, teacher).mean()}
    width = len(tensors["param:embed_s.linear.weight"])
    loss = CC(student=student.shape[1:], teacher=teacher.shape[1:], feat_dim=width, pairs="consecutive")
    state = {
        f"{side}_head.{kind}": tensors[f"param:embed_{side[0]}.linear.{kind}"]
        for side in ("student", "teacher")
        for kind in ("weight", "bias")
    }
    return {"loss": functional_call(loss, state, (student, teacher)).mean()}


METHODS = {
    "rkd": rkd,
    "rkd_distance": one_term(rkd_distance),
    "rkd_angle": one_term(rkd_angle),
    "rkd_distance_normed": one_term(rkd_distance),
    "rkd_angle_normed": one_term(rkd_angle),
    "pkt": pkt_,
    "cckd": cckd,
    "cc": cc,
}
