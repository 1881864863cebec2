"""How fast losses are, as ratios within one run.

    python benchmarks/losses.py [formulas] [crd] [--blocks 30] [--only kl nst …] [--threads 1]

`formulas`: forward and backward of each loss over the same of its formula written straight down, in this file: with
the tensors, and where that is how it reads the loops, of the equation. `crd`: a training step of resnet8 with CRD and
16,384 negatives out of 50,000 samples over a step with `kl`, answers given. Both take turns in one process; a ratio is
taken within each round, and its median over the rounds stands with a 95% bootstrap interval. One line a figure is
appended to benchmarks/results/losses_speed.jsonl. What is taken is the time of the processor, so that a busy machine
disturbs less.
"""

import argparse
import copy
import datetime
import json
import pathlib
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from throughput import interval
from torch import Tensor

from tutelage import losses
from tutelage.cli.memory import keep_freed_memory
from tutelage.cli.runfolder import hardware, versions
from tutelage.models import find

RESULTS = pathlib.Path("benchmarks/results/losses_speed.jsonl")
B, CLASSES, WIDTH = 128, 100, 64
ANSWER, VECTOR, MAP = (CLASSES,), (WIDTH,), (WIDTH, 8, 8)
STAGES = ((16, 32, 32), (32, 16, 16), (64, 8, 8))
SAMPLES, NEGATIVES = 50_000, 16_384

# -- formulas, straight down, with one value a sample as every loss of ours: student and teacher as they come


def kl(s: Tensor, t: Tensor) -> Tensor:
    return 16 * F.kl_div((s / 4).log_softmax(1), (t / 4).softmax(1), reduction="none").sum(1)


def dkd(s: Tensor, t: Tensor, *, target: Tensor) -> Tensor:
    own = F.one_hot(target, s.shape[1]).bool()

    def two(x: Tensor) -> Tensor:
        p = (x / 4).softmax(1)
        return torch.stack([(p * own).sum(1), (p * ~own).sum(1)], dim=1)

    right = 16 * F.kl_div(two(s).log(), two(t), reduction="none").sum(1)
    others = [(x / 4 - 1000.0 * own) for x in (s, t)]
    return right + 8 * 16 * F.kl_div(others[0].log_softmax(1), others[1].softmax(1), reduction="none").sum(1)


def dist(s: Tensor, t: Tensor) -> Tensor:
    p, q = s.softmax(1), t.softmax(1)

    def correlation(a: Tensor, b: Tensor) -> Tensor:
        a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
        return ((a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1) + 1e-8)).mean()

    return (2 - correlation(p, q) - correlation(p.T, q.T)).expand(len(s))


def comparative(s: Tensor, t: Tensor) -> Tensor:
    total = torch.zeros(())
    for i in range(len(s)):
        log_p, q = ((s[i] - s) / 4).log_softmax(1), ((t[i] - t) / 4).softmax(1)
        total = total + 16 * F.kl_div(log_p, q, reduction="sum")
    return total / (len(s) * (len(s) - 1))


def transport(s: Tensor, t: Tensor) -> Tensor:
    cost, blur = 1 - torch.eye(s.shape[1]), 0.1
    log_p, log_q = s.log_softmax(1), t.log_softmax(1)
    f, g = torch.zeros_like(s), torch.zeros_like(t)
    for _ in range(20):
        f = blur * (log_p - ((g[:, None] - cost) / blur).logsumexp(2))
        g = blur * (log_q - ((f[:, :, None] - cost) / blur).logsumexp(1))
    plan = ((f[:, :, None] + g[:, None] - cost) / blur).exp()
    return (plan * cost).sum(dim=(1, 2)).mean()


def mse(s: Tensor, t: Tensor) -> Tensor:
    return (s - t).pow(2).flatten(1).mean(1)


def attention(s: Tensor, t: Tensor) -> Tensor:
    a, b = (F.normalize(x.pow(2).mean(1).flatten(1)) for x in (s, t))
    return (a - b).pow(2).sum(1)


def similarity(s: Tensor, t: Tensor) -> Tensor:
    a, b = (F.normalize(x.flatten(1) @ x.flatten(1).T) for x in (s, t))
    return (a - b).pow(2).mean(1)


def rkd_distance(s: Tensor, t: Tensor) -> Tensor:
    def apart(x: Tensor) -> Tensor:
        d = (x[:, None] - x[None]).pow(2).sum(2).clamp(min=1e-12).sqrt() * (1 - torch.eye(len(x)))
        return d / d[d > 0].mean()

    return F.smooth_l1_loss(apart(s), apart(t), reduction="none").mean(1)


def rkd_angle(s: Tensor, t: Tensor) -> Tensor:
    def angles(x: Tensor) -> Tensor:
        e = F.normalize(x[None] - x[:, None], dim=2)
        return e @ e.mT

    return F.smooth_l1_loss(angles(s), angles(t), reduction="none").mean(dim=(1, 2))


def pkt(s: Tensor, t: Tensor) -> Tensor:
    def picks(x: Tensor) -> Tensor:
        x = F.normalize(x)
        p = (x @ x.T + 1) / 2 * (1 - torch.eye(len(x)))
        return p / p.sum(1, keepdim=True)

    p, q = picks(s), picks(t)
    return (q * ((q + 1e-7) / (p + 1e-7)).log()).sum(1)


def correlation(s: Tensor, t: Tensor) -> Tensor:
    def kernel(x: Tensor) -> Tensor:
        x = F.normalize(x)
        return (-0.4 * (x[:, None] - x[None]).pow(2).sum(2)).exp()

    return (kernel(s) - kernel(t)).pow(2).mean(1)


def cc(s: Tensor, t: Tensor) -> Tensor:
    """Of embedded vectors; all pairs."""
    error = (s - t).abs()
    products = error @ error.T
    return (products.sum() - products.diagonal().sum()) / (len(s) * (len(s) - 1))


def info_nce(s: Tensor, t: Tensor) -> Tensor:
    scores, own = F.normalize(s) @ F.normalize(t).T / 0.1, torch.arange(len(s))
    return (F.cross_entropy(scores, own, reduction="none") + F.cross_entropy(scores.T, own, reduction="none")) / 2


def cwd(s: Tensor, t: Tensor) -> Tensor:
    p, q = ((x / 4).flatten(2).flatten(0, 1) for x in (s, t))
    return 16 * F.kl_div(p.log_softmax(1), q.softmax(1), reduction="batchmean")


def pairwise(s: Tensor, t: Tensor) -> Tensor:
    def cosines(x: Tensor) -> Tensor:
        x = F.normalize(F.max_pool2d(x, 4).flatten(2))
        return x.mT @ x

    return (cosines(s) - cosines(t)).pow(2).mean(dim=(1, 2))


def nst(s: Tensor, t: Tensor) -> Tensor:
    s, t = (F.normalize(x.flatten(2), dim=2) for x in (s, t))

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a[:, :, None] * b[:, None]).sum(3).pow(2).mean(dim=(1, 2))

    return kernel(t, t) + kernel(s, s) - 2 * kernel(s, t)


def factor(s: Tensor, t: Tensor) -> Tensor:
    return (F.normalize(s.flatten(1)) - F.normalize(t.flatten(1))).abs().mean(1)


def activation_boundary(s: Tensor, t: Tensor) -> Tensor:
    on, off = (s - 1).pow(2) * ((s <= 1) & (t > 0)), (s + 1).pow(2) * ((s > -1) & (t <= 0))
    return (on + off).flatten(1).sum(1)


def fsp(s: tuple[Tensor, ...], t: tuple[Tensor, ...]) -> Tensor:
    def flow(x: Tensor, y: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(x, y.shape[2:])
        return torch.einsum("bchw,bdhw->bcd", x, y) / (y.shape[2] * y.shape[3])

    return sum((flow(s[i], s[i + 1]) - flow(t[i], t[i + 1])).pow(2).mean() for i in range(len(s) - 1))


def hierarchical_context(s: tuple[Tensor, ...], t: tuple[Tensor, ...]) -> Tensor:
    total = torch.zeros(())
    for x, y in zip(s, t, strict=True):
        value, weight, weights = F.mse_loss(x, y), 1.0, 1.0
        for side in (4, 2, 1):
            if side < x.shape[2]:
                weight /= 2
                weights += weight
                value = value + weight * F.mse_loss(F.adaptive_avg_pool2d(x, side), F.adaptive_avg_pool2d(y, side))
        total = total + value / weights
    return total


def kdsvd(s: tuple[Tensor, ...], t: tuple[Tensor, ...]) -> Tensor:
    def main(x: Tensor, count: int) -> tuple[Tensor, Tensor]:
        _, values, right = torch.linalg.svd(x.flatten(2).mT, full_matrices=False)
        return right[:, :count].mT, values[:, :count]

    ours, theirs = [], []
    for x, y in zip(s, t, strict=True):
        directions, values = main(y, 1)
        vectors, _ = main(x, 4)
        cosines = directions.mT @ vectors
        best = cosines.abs().argmax(2)
        near = torch.stack([vectors[b, :, best[b, 0]] * cosines[b, 0, best[b, 0]].sign() for b in range(len(x))])
        share = F.normalize(values)
        ours.append(near[:, :, None] * share[:, None])
        theirs.append(directions * share[:, None])
    total = torch.zeros(())
    for i in range(len(s) - 1):
        a, b = ((-(side[i + 1][:, :, None] - side[i][:, None]).pow(2) / 8).exp() for side in (ours, theirs))
        total = total + (a - b).pow(2).sum() / len(s[0])
    return total


def crd(s: Tensor, t: Tensor, memories: tuple[Tensor, Tensor], index: Tensor, heads: Any) -> Tensor:
    """Negatives of its own for each sample, as rows of the memory."""
    others = torch.randint(SAMPLES, (len(s), NEGATIVES // 8))
    total, c = torch.zeros(()), NEGATIVES / 8 / SAMPLES
    for head, x, memory in zip(heads, (s, t), memories, strict=True):
        among = memory[torch.cat([index[:, None], others], dim=1)]
        scores = (torch.einsum("bkd,bd->bk", among, F.normalize(head(x))) / 0.07).exp() / SAMPLES
        total = total - (scores[:, 0] / (scores[:, 0] + c + 1e-7)).log().mean()
        total = total - (c / (scores[:, 1:] + c + 1e-7)).log().sum(1).mean()
    return total


# -- what is compared: shapes, our loss, the formula

Both = tuple[Any, Callable[..., Tensor], Callable[..., Tensor]]


def things() -> dict[str, Both]:
    """Name -> shape of the features, our loss, and the formula."""
    target, index = torch.randint(CLASSES, (B,)), torch.randperm(SAMPLES)[:B]
    plain_cc = losses.CC(feat_dim=None)
    plain_cc.bind(VECTOR, VECTOR, None)
    contrast = losses.CRD(student=VECTOR, teacher=VECTOR, samples=SAMPLES, negatives=NEGATIVES // 8)
    memories = torch.randn(SAMPLES, 128), torch.randn(SAMPLES, 128)
    heads = contrast.student_head, contrast.teacher_head
    return {
        "kl": (ANSWER, losses.kl, kl),
        "dkd": (
            ANSWER,
            lambda s, t: losses.dkd(s, t, target=target, other_weight=8.0),
            lambda s, t: dkd(s, t, target=target),
        ),
        "dist": (ANSWER, losses.dist, dist),
        "comparative": (ANSWER, losses.comparative, comparative),
        "transport": ((10,), lambda s, t: losses.transport(s, t, steps=20), transport),
        "mse": (MAP, losses.mse, mse),
        "attention": (MAP, losses.attention, attention),
        "similarity": (MAP, losses.similarity, similarity),
        "rkd_distance": (VECTOR, losses.rkd_distance, rkd_distance),
        "rkd_angle": (VECTOR, losses.rkd_angle, rkd_angle),
        "pkt": (VECTOR, losses.pkt, pkt),
        "correlation": (VECTOR, losses.correlation, correlation),
        "CC": (VECTOR, plain_cc, cc),
        "info_nce": (VECTOR, losses.info_nce, info_nce),
        "cwd": (MAP, losses.cwd, cwd),
        "pairwise": (MAP, losses.pairwise, pairwise),
        "nst": (MAP, losses.nst, nst),
        "factor": (MAP, losses.factor, factor),
        "activation_boundary": (MAP, losses.activation_boundary, activation_boundary),
        "fsp": (STAGES, losses.fsp, fsp),
        "hierarchical_context": (STAGES, losses.hierarchical_context, hierarchical_context),
        "kdsvd": (STAGES, losses.kdsvd, kdsvd),
        "CRD, 2,048 negatives": (
            VECTOR,
            lambda s, t: contrast(s, t, index=index),
            lambda s, t: crd(s, t, memories, index, heads),
        ),
    }


def features(shape: Any) -> Any:
    """Random features of one tap, or of several."""
    if isinstance(shape[0], tuple):
        return tuple(features(one) for one in shape)
    return torch.randn(B, *shape).relu()


def step(loss: Callable[..., Tensor], student: Any, teacher: Any) -> Callable[[], None]:
    """Forward and backward of a loss."""
    leaves = tuple(x.clone().requires_grad_() for x in ((student,) if isinstance(student, Tensor) else student))
    given = leaves[0] if isinstance(student, Tensor) else leaves

    def once() -> None:
        torch.autograd.grad(loss(given, teacher).mean(), leaves)
        commit = getattr(loss, "commit", None)
        if commit is not None:
            commit()

    return once


def rounds(both: dict[str, Callable[[], None]], blocks: int, seconds: float = 0.05) -> dict[str, list[float]]:
    """Seconds of one step in each block; the two take turns, and change places from round to round."""
    times: dict[str, list[float]] = {name: [] for name in both}
    steps = {name: max(1, round(seconds / _seconds(once, 2))) for name, once in both.items()}
    for number in range(-2, blocks):  # two rounds to warm up
        for name in list(both) if number % 2 else list(both)[::-1]:
            took = _seconds(both[name], steps[name])
            if number >= 0:
                times[name].append(took)
    return times


def _seconds(once: Callable[[], None], steps: int) -> float:
    began = time.process_time()
    for _ in range(steps):
        once()
    return (time.process_time() - began) / steps


def report(figure: str, times: dict[str, list[float]], limit: float, given: argparse.Namespace) -> None:
    """Print the ratio of the first to the second and append it to the results."""
    first, second = times.values()
    ratios = [a / b for a, b in zip(first, second, strict=True)]
    median, (low, high) = statistics.median(ratios), interval(ratios)
    told = "met" if high <= limit else "missed" if low > limit else "not resolved"
    took = " and ".join(f"{1e3 * statistics.median(seconds):.2f}" for seconds in times.values())
    print(f"{figure}: {median:.3f} [{low:.3f}, {high:.3f}] limit {limit}: {told} ({took} ms)", flush=True)
    line: dict[str, Any] = {"figure": figure, "median": median, "interval": [low, high], "n": len(ratios)}
    line |= {"limit": limit, "milliseconds": {k: 1e3 * statistics.median(v) for k, v in times.items()}}
    line |= {"threads": given.threads, "date": datetime.datetime.now(datetime.UTC).date().isoformat()}
    line |= {"hardware": hardware(), "versions": versions()}
    if given.note:
        line["note"] = given.note
    given.results.parent.mkdir(parents=True, exist_ok=True)
    with given.results.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def formulas(given: argparse.Namespace) -> None:
    """Every loss over its formula."""
    for name, (shape, ours, plain) in things().items():
        if given.only and name.split(",")[0] not in given.only:
            continue
        student, teacher = features(shape), features(shape)
        both = {"ours": step(ours, student, teacher), "formula": step(plain, student, teacher)}
        report(f"{name} / its formula", rounds(both, given.blocks), 1.0, given)


def crd_step(given: argparse.Namespace) -> None:
    """A training step with CRD over one with `kl`."""
    network = find("cifar/resnet8", num_classes=10).train().to(memory_format=torch.channels_last)
    inputs = torch.rand(B, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    target, index, answer, vector = (
        torch.randint(10, (B,)),
        torch.randperm(SAMPLES)[:B],
        torch.randn(B, 10),
        torch.randn(B, WIDTH),
    )
    contrast = losses.CRD(student=VECTOR, teacher=VECTOR, samples=SAMPLES, negatives=NEGATIVES)
    both = {}
    for name in ("crd", "kl"):
        student = copy.deepcopy(network)
        parameters = [*student.parameters(), *(contrast.parameters() if name == "crd" else ())]
        optimizer = torch.optim.SGD(parameters, lr=0.01, momentum=0.9, nesterov=True, fused=True)

        def once(name: str = name, student: Any = student, optimizer: Any = optimizer) -> None:
            read: dict[str, Tensor] = {}
            hook = student.linear.register_forward_pre_hook(lambda _, given: read.update(vector=given[0]))
            output = student(inputs)
            hook.remove()
            taught = losses.kl(output, answer) if name == "kl" else contrast(read["vector"], vector, index=index)
            (F.cross_entropy(output, target) + 0.1 * taught.mean()).backward()
            optimizer.step()
            optimizer.zero_grad()
            contrast.commit()

        both[name] = once
    report("a step with CRD, 16,384 negatives / with kl", rounds(both, given.blocks, 0.5), 1.3, given)


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", metavar="formulas|crd")
    parser.add_argument("--blocks", type=int, default=30)
    parser.add_argument("--only", nargs="+")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--note", help="what else the machine was doing")
    parser.add_argument("--results", type=pathlib.Path, default=RESULTS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    keep_freed_memory()
    if not given.what or "formulas" in given.what:
        formulas(given)
    if not given.what or "crd" in given.what:
        crd_step(given)


if __name__ == "__main__":
    main()
