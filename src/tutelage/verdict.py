"""The verdict: is the distilled student better than the same student trained without a teacher?

What is computed, what it covers and how often it is wrong: ``docs/theory/verdict.md``.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import torch
from torch import Tensor

from tutelage.errors import InputError

Word = Literal["better", "no difference", "worse"]

Parts = Callable[[Tensor, Tensor], Tensor]
"""``parts(scores [N, ...], weights [R, N]) -> [R, G]``: a metric that is no mean over samples, recomputed when sample n
counts ``weights[r, n]`` times: its G parts (a class each), of which it is the mean; NaN where a part is not defined."""

FEWEST_UNITS = 6
"""Where fewer samples differ, no two-sided sign test reaches 5%: ``2 / 2**6 < 0.05 < 2 / 2**5``."""

FEWEST_GROUPS = 5
"""Fewer classes say too little about the spread between classes."""

LEVEL = 0.97
"""The level at which a difference over several seeds must be clear."""

ONE_SEED_LEVEL = 0.98
"""The same for one seed, from sample to sample and from class to class."""

ALLOWANCE = 2.5
"""How many 95% half-widths one seed must clear where there are no classes to look at."""


@dataclass(frozen=True)
class Verdict:
    """What the comparison came to.

    Args:
        delta: Mean score of the student minus that of the baseline, in the unit of the scores.
        interval: The 95% interval of `delta`, ``(low, high)``.
        verdict: What the student is, compared with the baseline.
        method: One sentence for the report: what the interval covers.
        seeds: How many seeds were compared.
    """

    delta: float
    interval: tuple[float, float]
    verdict: Word
    method: str
    seeds: int


def judge(
    student: Tensor,
    baseline: Tensor,
    *,
    higher_is_better: bool = True,
    blocks: Tensor | None = None,
    groups: Tensor | None = None,
    parts: Parts | None = None,
    seed: int = 0,
    resamples: int = 2000,
) -> Verdict:
    """Compare a student with its matched baseline on the same test samples.

    The interval is a paired bootstrap over samples for one seed; for 2 to 4 seeds a t-interval on the seeds'
    deltas plus the sampling error; for 5 or more a bootstrap over seeds and over samples. *Better* and *worse* ask
    for more than an interval without 0, so that two nets that differ only by seed are told apart in fewer than 5% of
    cases: several seeds must be clear at 97%. One seed shows nothing of the spread between seeds: there the difference
    must be clear at 98% from sample to sample and from class to class, or, without at least five `groups`, clear its
    interval two and a half times over. Always, at least six samples (or blocks) must differ.

    Args:
        student: Score of each sample under each seed, ``[S, N]``: 1 and 0 for right and wrong, dB, ...
        baseline: The same for the baseline: same seeds, same samples.
        higher_is_better: Whether a larger score is better.
        blocks: Number of each sample's block, ``[N]``, where samples depend on each other (frames of one
            sequence): blocks are resampled whole.
        groups: Number of each sample's class, ``[N]``. Nets that differ only by seed favour different classes:
            with one seed this is the only trace of it. Pass it whenever there are classes.
        parts: What the metric is, where it is not the mean of the scores (mean IoU, mean average precision). Scores are
            then ``[S, N, ...]``, whatever it needs of each sample; it is recomputed for every resample, standard errors
            are the jackknife's, and its parts take the place of `groups`.
        seed: Seed of the bootstrap's own draws.
        resamples: Number of draws.

    Returns:
        The verdict, with its interval.

    Raises:
        InputError: The scores are not two finite ``[S, N]`` (with `parts`, ``[S, N, ...]``) of one shape, or `blocks`
            or `groups` not ``[N]``.

    Reference:
        Efron & Tibshirani 1993, *An Introduction to the Bootstrap*, chapter 13, for the percentile interval.
        Hesterberg 2015, arXiv:1411.5279, for widening it where there is little to resample; here the deviations
        of the seeds are widened, not the percentiles. Efron 1982, *The Jackknife, the Bootstrap and Other Resampling
        Plans*, chapter 3, for errors of metrics that are no mean. Liang & Zeger 1986, Biometrika 73(1), for errors
        over groups.

    Example:
        >>> baseline = (torch.arange(400) % 4 > 0).float()[None]
        >>> student = (torch.arange(400) % 20 > 0).float()[None]
        >>> outcome = judge(student, baseline)
        >>> outcome.verdict, round(outcome.delta, 2)
        ('better', 0.2)
    """
    difference = _checked(student, baseline, mean=parts is None, blocks=blocks, groups=groups)
    seeds, samples = difference.shape[:2]
    members = torch.arange(samples) if blocks is None else blocks.cpu()
    draws = torch.Generator().manual_seed(seed)
    if parts is None:
        per_sample, per_seed = difference.mean(dim=0), difference.mean(dim=1)
        units = _totals(per_sample, members)
        classes = None if groups is None else _totals(per_sample, groups)
        delta, unlike = _mean(units).item(), int(units[0].count_nonzero())
        low, high = _interval(per_seed, units, _bootstrap, draws, resamples)
    else:
        recomputed = _Recomputed(student.detach().cpu(), baseline.detach().cpu(), parts, members)
        per_seed, units, classes = recomputed.per_seed, recomputed.jackknife(), recomputed.classes()
        delta, unlike = per_seed.mean().item(), recomputed.unlike(difference)
        low, high = _interval(per_seed, units, recomputed.bootstrap, draws, resamples)
    clear = (delta + low > 0 or delta + high < 0) and abs(delta) > _margin(per_seed, units, classes, unlike)
    word: Word = "no difference"
    if clear:
        word = "better" if (delta > 0) is higher_is_better else "worse"
    method = _method(seeds, "samples" if blocks is None else "blocks of samples")
    return Verdict(delta, (delta + low, delta + high), word, method, seeds)


def value(scores: Tensor, parts: Parts | None = None) -> float:
    """The metric of a whole slice.

    Args:
        scores: Of each sample, ``[N]``; with `parts`, ``[N, ...]``.
        parts: What the metric is, where it is not the mean of the scores.

    Example:
        >>> value(torch.tensor([1.0, 0.0]))
        0.5
        >>> value(torch.ones(2, 3), lambda scores, weights: weights @ scores.double() / 2)
        1.0
    """
    if parts is None:
        return float(scores.mean())
    return float(parts(scores, torch.ones(1, len(scores), dtype=torch.float64)).nanmean())


def gap_closed(student: float, baseline: float, teacher: float, *, higher_is_better: bool = True) -> float | None:
    """Share of the gap between baseline and teacher that the student has closed.

    Args:
        student: Its metric, on the same split as the others.
        baseline: The metric of the same student trained without a teacher.
        teacher: The metric of the best teacher.
        higher_is_better: Whether a larger metric is better.

    Returns:
        1 where the student has reached the teacher, more above it, negative below the baseline; None where
        there is no gap to close.

    Example:
        >>> gap_closed(0.75, 0.5, 1.0), gap_closed(0.75, 0.5, 0.5)
        (0.5, None)
    """
    gap = teacher - baseline if higher_is_better else baseline - teacher
    if not gap > 0:
        return None
    return (student - baseline) / (teacher - baseline)


def shipped(student: float, baseline: float | None, *, higher_is_better: bool = True) -> Literal["student", "baseline"]:
    """Which of the two to take: the baseline only if it is better on the selection split.

    Args:
        student: Its metric on the selection split.
        baseline: The baseline's, or None if there is none.
        higher_is_better: Whether a larger metric is better.

    Returns:
        The one to take; the student where they are equal. A student whose metric is NaN is not taken.

    Example:
        >>> shipped(0.71, 0.70), shipped(0.70, 0.70), shipped(0.69, 0.70)
        ('student', 'student', 'baseline')
    """
    if baseline is None or math.isnan(baseline):
        return "student"
    good_enough = student >= baseline if higher_is_better else student <= baseline
    return "student" if good_enough else "baseline"


Totals = tuple[Tensor, Tensor]
"""Of each unit (sample, block or class): the sum of its differences, and how many samples it holds."""


def _checked(student: Tensor, baseline: Tensor, *, mean: bool, **labels: Tensor | None) -> Tensor:
    """The differences, float64 ``[S, N, ...]`` on the CPU."""
    if student.ndim < 2 or (mean and student.ndim > 2) or student.shape != baseline.shape or 0 in student.shape:
        raise InputError(
            "judge: expected scores of student and baseline, both [seeds, samples], "
            f"found {tuple(student.shape)} and {tuple(baseline.shape)}."
        )
    difference = student.detach().cpu().double() - baseline.detach().cpu().double()
    if not difference.isfinite().all():
        found = int((~difference.isfinite()).sum())
        raise InputError(f"judge: expected finite scores, found {found} pairs that are not. Leave them out.")
    for name, label in labels.items():
        if label is not None and label.shape != student.shape[1:2]:
            expected = tuple(student.shape[1:2])
            raise InputError(f"judge: expected {name} of shape {expected}, found {tuple(label.shape)}.")
    return difference


def _totals(per_sample: Tensor, labels: Tensor) -> Totals:
    _, members = torch.unique(labels.cpu(), return_inverse=True)
    counts = torch.bincount(members).double()
    return torch.zeros_like(counts).index_add_(0, members, per_sample), counts


def _mean(units: Totals) -> Tensor:
    """The mean difference over samples."""
    return units[0].sum() / units[1].sum()


class _Recomputed:
    """The difference of two metrics that are no means, recomputed when units count differently often."""

    def __init__(self, student: Tensor, baseline: Tensor, parts: Parts, members: Tensor) -> None:
        self._student, self._baseline, self._parts = student, baseline, parts
        _, self._members = torch.unique(members, return_inverse=True)
        self._units = int(self._members.max()) + 1
        both = self._both(torch.ones(1, self._units))
        self.per_seed = (both[0].nanmean(dim=2) - both[1].nanmean(dim=2))[:, 0]
        self._by_part = (both[0] - both[1]).mean(dim=0)[0]

    def _both(self, counts: Tensor) -> list[Tensor]:
        """The parts of student and baseline, float64 ``[S, R, G]``, when unit u counts ``counts[r, u]`` times."""
        weights = counts.double()[:, self._members]
        each = [[self._parts(scores, weights) for scores in seeds] for seeds in (self._student, self._baseline)]
        return [torch.stack(found).double() for found in each]

    def _deltas(self, counts: Tensor) -> Tensor:
        """The difference averaged over seeds, ``[R]``."""
        both = [self._both(some) for some in torch.split(counts, max(1, 2**22 // len(self._members)))]
        return torch.cat([(s.nanmean(dim=2) - b.nanmean(dim=2)).mean(dim=0) for s, b in both])

    def jackknife(self) -> Totals:
        """Of each unit, its pseudo-value: what leaving it out says about its share in the difference."""
        without = self._deltas(1 - torch.eye(self._units)) if self._units > 1 else self.per_seed.mean()[None]
        pseudo = self._units * self.per_seed.mean() - (self._units - 1) * without
        return pseudo, torch.ones_like(pseudo)

    def classes(self) -> Totals | None:
        """Of each part, its difference; None where the metric has no parts."""
        each = self._by_part[~self._by_part.isnan()]
        return (each, torch.ones_like(each)) if len(each) > 1 else None

    def unlike(self, difference: Tensor) -> int:
        """How many units hold a sample on which the two differ."""
        samples = (difference != 0).flatten(2).any(dim=2).any(dim=0) if difference.ndim > 2 else difference.any(dim=0)
        return len(self._members[samples].unique())

    def bootstrap(self, units: Totals, draws: torch.Generator, resamples: int) -> Tensor:
        """Deviations of the difference when units are drawn with replacement, ``[resamples]``."""
        drawn = torch.randint(self._units, (resamples, self._units), generator=draws)
        counts = torch.zeros(resamples, self._units).scatter_add_(1, drawn, torch.ones(drawn.shape))
        return self._deltas(counts) - self.per_seed.mean()


def _interval(
    per_seed: Tensor,
    units: Totals,
    resampled: Callable[[Totals, torch.Generator, int], Tensor],
    draws: torch.Generator,
    resamples: int,
) -> tuple[float, float]:
    """The two ends at 95%, relative to the mean difference."""
    seeds = len(per_seed)
    if 1 < seeds < 5:
        reach = _half_width(per_seed, units, 0.95)
        return -reach, reach
    deviations = resampled(units, draws, resamples)
    if seeds > 1:
        few = _student_t(0.95, seeds - 1) / _normal(0.95) * math.sqrt(seeds / (seeds - 1))
        deviations += few * _bootstrap((per_seed, torch.ones_like(per_seed)), draws, resamples)
    low, high = deviations.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return low, high


def _margin(per_seed: Tensor, units: Totals, classes: Totals | None, unlike: int) -> float:
    """What the mean difference must exceed to be called one."""
    if unlike < FEWEST_UNITS:
        return math.inf
    if len(per_seed) > 1:
        return _half_width(per_seed, units, LEVEL)
    error = _standard_error(units)
    if classes is None or len(classes[0]) < FEWEST_GROUPS:
        return ALLOWANCE * _normal(0.95) * error
    by_class = _student_t(ONE_SEED_LEVEL, len(classes[0]) - 1) * _standard_error(classes)
    return max(by_class, _normal(ONE_SEED_LEVEL) * error)


def _half_width(per_seed: Tensor, units: Totals, level: float) -> float:
    """A t-interval on the deltas of the seeds and a normal one over samples, added in square."""
    between = _student_t(level, len(per_seed) - 1) * per_seed.std().item() / math.sqrt(len(per_seed))
    return math.hypot(between, _normal(level) * _standard_error(units))


def _bootstrap(units: Totals, draws: torch.Generator, resamples: int) -> Tensor:
    """Deviations of the mean difference when units are drawn with replacement, ``[resamples]``."""
    sums, counts = units
    at_once = max(1, 2**22 // len(sums))
    means = []
    for start in range(0, resamples, at_once):
        rows = min(at_once, resamples - start)
        drawn = torch.randint(len(sums), (rows, len(sums)), generator=draws)
        means.append(sums[drawn].sum(1) / counts[drawn].sum(1))
    return torch.cat(means) - _mean(units)


def _standard_error(units: Totals) -> float:
    """Of the mean difference, when units (not samples) are independent."""
    sums, counts = units
    if len(sums) < 2:
        return 0.0
    residuals = sums - counts * _mean(units)
    return math.sqrt(residuals.square().sum().item() * len(sums) / (len(sums) - 1)) / counts.sum().item()


def _normal(level: float) -> float:
    """Half-width of a two-sided interval in standard errors."""
    return NormalDist().inv_cdf((1 + level) / 2)


def _student_t(level: float, freedom: int) -> float:
    """The same, where the error itself is estimated with so many degrees of freedom."""
    low, high = 0.0, 1e4
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < level else (low, middle)
    return high


def _within(t: float, freedom: int) -> float:
    """Probability that Student's t lies in ``[-t, t]`` (Abramowitz & Stegun 1964, 26.7.3 and 26.7.4)."""
    angle = math.atan(t / math.sqrt(freedom))
    odd = freedom % 2
    term = math.cos(angle) if odd else 1.0
    total = 0.0
    for k in range(1 + odd, freedom, 2):
        total += term
        term *= math.cos(angle) ** 2 * k / (k + 1)
    total *= math.sin(angle)
    return (angle + total) * 2 / math.pi if odd else total


def _method(seeds: int, units: str) -> str:
    if seeds == 1:
        return (
            f"The 95% interval is a paired bootstrap over {units} and covers nothing else: one seed shows no spread "
            "between seeds, so the verdict asks for more than an interval without 0."
        )
    if seeds < 5:
        return (
            f"The 95% interval covers the spread between {seeds} seeds (t-interval on their deltas) and the sampling "
            f"error over {units}; the verdict asks for {LEVEL:.0%}."
        )
    return f"The 95% interval is a bootstrap over {seeds} seeds and over {units}; the verdict asks for {LEVEL:.0%}."
