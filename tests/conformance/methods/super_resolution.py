"""Super-resolution: affinities, statistics over channels, contrast."""

import torch
import torch.nn.functional as F
from torch import nn

from tutelage.losses import CSD, affinity, channel_statistics, l1
from tutelage.losses.affinity import _cosines


def _levels(tensors):
    count = sum(name.startswith("input:student_feat") for name in tensors)
    return [tuple(tensors[f"input:{side}_feat.{k}"] for k in range(count)) for side in ("student", "teacher")]


def _affinity(over):
    def adapter(tensors, options):
        ours, theirs = _levels(tensors)
        given = {"loss": affinity(ours, theirs, over=over).mean()}
        return given | {"affinity_student": _cosines(ours[0], over), "affinity_teacher": _cosines(theirs[0], over)}

    return adapter


def fakd_total(tensors, options):
    """Both pictures and the affinities, weighed."""
    student = tensors["input:student_sr"]
    truth, teacher = (l1(student, tensors[f"input:{name}"]).mean() for name in ("hr", "teacher_sr"))
    share = options["alpha"]
    return {"loss": (1 - share) * truth + share * teacher + options["weight"] * affinity(*_levels(tensors)).mean()}


def srkd_statistics(tensors, options):
    """Formula only: nobody published code."""
    names = {"mean_pow": "mean_power", "pow_mean": "power_mean"}
    statistic = names.get(options["statistic"], options["statistic"])
    ours, theirs = tensors["input:student_feat"], tensors["input:teacher_feat"]

    def of(x):  # against a map of zeros of one channel, the loss is the square of the statistic
        if options["statistic"] in ("max", "min"):
            return x.amax(1) if options["statistic"] == "max" else x.amin(1)
        return x.mean(1) ** options["p"] if options["statistic"] == "mean_pow" else (x ** options["p"]).mean(1)

    value = channel_statistics(ours, theirs, statistic=statistic, power=options["p"])
    return {"loss": value.mean(), "map_student": of(ours), "map_teacher": of(theirs)}


class Stub(nn.Module):
    """The frozen extractor of the vectors: convolutions with averaging in between."""

    def __init__(self, tensors, stages):
        super().__init__()
        self.stages = [tuple(tensors[f"input:extractor.{k}.{part}"] for part in ("weight", "bias")) for k in stages]

    def forward(self, x):
        said = []
        for k, (weight, bias) in enumerate(self.stages):
            x = F.relu(F.conv2d(F.avg_pool2d(x, 2) if k else x, weight, bias, padding=1))
            said.append(x)
        return said


def csd_contrast(tensors, options):
    """With the recorded negatives."""
    weights = options["stage_weights"]
    loss = CSD(extractor=Stub(tensors, range(len(weights))), weights=weights, through_teacher=not options["t_detach"])
    given = [tensors[f"input:{name}"] for name in ("student_sr", "teacher_sr", "negatives")]
    apart = loss.distances(*given)
    d_pos, d_neg = (torch.stack([row[k].mean() for row in apart]) for k in (1, 2))
    return {"loss": loss.contrast(*given).mean(), "d_pos": d_pos, "d_neg": d_neg}


METHODS = {
    "fakd_spatial": _affinity("positions"),
    "fakd_channel": _affinity("channels"),
    "fakd_instance": _affinity("samples"),
    "fakd_total": fakd_total,
    "srkd_statistics": srkd_statistics,
    "csd_contrast": csd_contrast,
}
