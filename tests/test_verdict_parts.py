"""The verdict on metrics that are no mean over samples."""

import pytest
import torch

from tutelage.verdict import judge, value


def mean(scores, weights):
    """The mean, written as a metric that is recomputed."""
    return ((weights @ scores.double()) / weights.sum(dim=1))[:, None]


def hits(counts, weights):
    """A recall for each of the classes: hits and truths of each sample are ``[N, G, 2]``."""
    sums = torch.einsum("rn,ngc->rgc", weights, counts.double())
    return sums[..., 0] / sums[..., 1].where(sums[..., 1] > 0, torch.nan)


def counted(right, seed, samples=120, classes=6):
    draws = torch.Generator().manual_seed(seed)
    truths = torch.randint(20, 60, (samples, classes), generator=draws)
    rate = right + 0.1 * torch.rand(samples, classes, generator=draws)
    return torch.stack([(truths * rate).round(), truths], dim=2)[None]


def test_a_mean_that_is_recomputed_comes_to_what_the_mean_comes_to():
    draws = torch.Generator().manual_seed(1)
    baseline = (torch.rand(1, 300, generator=draws) > 0.5).float()
    student = torch.where(torch.rand(1, 300, generator=draws) > 0.8, 1.0, baseline)
    plain, recomputed = judge(student, baseline), judge(student, baseline, parts=mean)
    assert recomputed.delta == pytest.approx(plain.delta)
    assert recomputed.interval == pytest.approx(plain.interval, abs=0.015)  # other draws
    assert recomputed.verdict == plain.verdict == "better"


def test_blocks_widen_the_interval_of_a_recomputed_metric():
    student, baseline = counted(0.7, 1), counted(0.65, 2)
    blocks = torch.arange(120) // 20
    drift = torch.tensor([-6.0, 5, -4, 6, -5, 4])[blocks]
    student[0, :, :, 0] += drift[:, None]
    alone, together = judge(student, baseline, parts=hits), judge(student, baseline, parts=hits, blocks=blocks)
    width = [high - low for low, high in (alone.interval, together.interval)]
    assert width[1] > 1.5 * width[0]


def test_a_recomputed_metric_is_judged_over_its_classes_too():
    baseline = counted(0.6, 3)
    everywhere, one = baseline.clone(), baseline.clone()
    everywhere[..., 0] = (everywhere[..., 0] + 5).minimum(everywhere[..., 1])
    one[0, :, 2, 0] = one[0, :, 2, 1]
    assert judge(everywhere, baseline, parts=hits).verdict == "better"
    assert judge(baseline, everywhere, parts=hits).verdict == "worse"
    assert judge(one, baseline, parts=hits).verdict == "no difference"  # one class of six says nothing of other seeds


def test_equal_answers_make_no_difference_however_the_metric_is_computed():
    same = counted(0.6, 4)
    outcome = judge(same, same.clone(), parts=hits)
    assert (outcome.delta, outcome.interval, outcome.verdict) == (0.0, (0.0, 0.0), "no difference")


def test_seeds_are_averaged_and_a_class_nobody_saw_is_left_out():
    baseline, student = torch.cat([counted(0.6, k) for k in range(3)]), torch.cat([counted(0.8, k) for k in range(3)])
    baseline[:, :, 5], student[:, :, 5] = 0, 0
    outcome = judge(student, baseline, parts=hits)
    assert outcome.delta == pytest.approx(
        sum(value(s, hits) - value(b, hits) for s, b in zip(student, baseline, strict=True)) / 3
    )
    assert outcome.verdict == "better"
    assert outcome.seeds == 3
