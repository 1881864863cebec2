import math

import pytest
import torch
from torch.testing import assert_close

from tutelage import verdict as module
from tutelage.errors import InputError
from tutelage.verdict import gap_closed, judge, shipped

SEEDS = (1, 2, 3, 5, 8)


def right(seeds, samples, share, *, noise=0.0):
    """1 and 0 for right and wrong; each seed is right a little more or less often."""
    shares = (share + noise * torch.randn(seeds, 1)).clamp(0, 1)
    return (torch.rand(seeds, samples) < shares).double()


def classes(samples, number=10):
    return torch.arange(samples) % number


@pytest.mark.parametrize("seeds", SEEDS)
def test_a_planted_difference_is_found_either_way(seeds):
    good, bad = right(seeds, 1000, 0.9), right(seeds, 1000, 0.6)
    for groups in (None, classes(1000)):
        assert judge(good, bad, groups=groups).verdict == "better"
        assert judge(bad, good, groups=groups).verdict == "worse"
        assert judge(bad, good, groups=groups, higher_is_better=False).verdict == "better"


@pytest.mark.parametrize("seeds", SEEDS)
def test_swapping_student_and_baseline_turns_the_result_around(seeds):
    a, b = right(seeds, 300, 0.8), right(seeds, 300, 0.75)
    there, back = judge(a, b), judge(b, a)
    assert back.delta == pytest.approx(-there.delta)
    assert back.interval == pytest.approx((-there.interval[1], -there.interval[0]))


@pytest.mark.parametrize("seeds", SEEDS)
def test_a_constant_added_to_the_student_moves_the_interval_and_nothing_else(seeds):
    a, b = torch.randn(seeds, 200), torch.randn(seeds, 200)
    before, after = judge(a, b), judge(a + 3, b)
    assert after.delta == pytest.approx(before.delta + 3, rel=1e-5)
    assert after.interval == pytest.approx([end + 3 for end in before.interval], rel=1e-5)


@pytest.mark.parametrize("seeds", SEEDS)
def test_the_unit_of_the_scores_does_not_matter(seeds):
    a, b = torch.rand(seeds, 200) + 0.02, torch.rand(seeds, 200)
    small, large = judge(a, b), judge(1000 * a, 1000 * b)
    assert large.verdict == small.verdict
    assert large.interval == pytest.approx([1000 * end for end in small.interval], rel=1e-4)


@pytest.mark.parametrize("seeds", SEEDS)
def test_the_interval_holds_the_difference_and_the_draws_are_repeatable(seeds):
    a, b = right(seeds, 300, 0.8), right(seeds, 300, 0.75)
    first, second = judge(a, b, seed=5), judge(a, b, seed=5)
    assert first == second
    assert first.interval[0] < first.delta < first.interval[1]
    assert first.delta == pytest.approx(float(a.mean() - b.mean()))


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_equal_answers_are_no_difference(seeds, share):
    scores = right(seeds, 100, share)
    outcome = judge(scores, scores, groups=classes(100))
    assert (outcome.verdict, outcome.delta, outcome.interval) == ("no difference", 0.0, (0.0, 0.0))


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize(("samples", "expected"), [(1, "no difference"), (5, "no difference"), (6, "better")])
def test_fewer_than_six_samples_that_differ_prove_nothing(seeds, samples, expected):
    same = torch.ones(seeds, 10)
    won, lost = torch.ones(seeds, samples), torch.zeros(seeds, samples)
    assert judge(won, lost).verdict == expected
    if samples < 6:
        assert judge(torch.cat([same, won], 1), torch.cat([same, lost], 1)).verdict == "no difference"


def test_one_seed_is_a_paired_bootstrap_over_samples():
    a, b = right(1, 500, 0.8), right(1, 500, 0.75)
    error = (a - b).std(correction=0).item() / math.sqrt(500)
    low, high = judge(a, b, resamples=20_000).interval
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.03)


def test_pairing_is_used():
    """Where student and baseline fail on the same samples, a small difference is clear."""
    baseline = right(1, 2000, 0.7)
    student = torch.where(torch.rand(1, 2000) < 0.05, 1.0, baseline)
    assert judge(student, baseline).verdict == "better"
    shuffled = student[:, torch.randperm(2000)]
    assert judge(shuffled, baseline).verdict == "no difference"


@pytest.mark.parametrize("seeds", [2, 3, 4])
def test_few_seeds_are_a_t_interval_on_their_deltas_plus_the_sampling_error(seeds):
    stats = pytest.importorskip("scipy.stats")
    a, b = right(seeds, 400, 0.8, noise=0.03), right(seeds, 400, 0.75, noise=0.03)
    deltas = [(a[s].mean() - b[s].mean()).item() for s in range(seeds)]
    t_interval = stats.t.interval(0.95, seeds - 1, loc=sum(deltas) / seeds, scale=stats.sem(deltas))
    sampling = 1.96 * stats.sem((a - b).mean(0).numpy())
    outcome = judge(a, b)
    low, high = outcome.interval
    assert (high - low) / 2 == pytest.approx(math.hypot((t_interval[1] - t_interval[0]) / 2, sampling), rel=1e-4)
    assert (high + low) / 2 == pytest.approx(outcome.delta)
    assert f"{seeds} seeds" in outcome.method


def test_many_seeds_widen_with_the_spread_between_seeds():
    a = torch.zeros(6, 400)
    shift = torch.tensor([-0.5, -0.3, -0.1, 0.1, 0.3, 0.5])[:, None]
    low, high = judge(a + shift, a, resamples=20_000).interval
    t_interval = 2.571 * shift.std().item() / math.sqrt(6)
    assert high == pytest.approx(t_interval, rel=0.06)
    assert low == pytest.approx(-t_interval, rel=0.06)


def test_many_seeds_widen_with_the_sampling_error():
    per_sample = torch.randn(1, 400)
    low, high = judge(per_sample.expand(6, 400), torch.zeros(6, 400), resamples=20_000).interval
    assert (high - low) / 2 == pytest.approx(1.96 * per_sample.std().item() / 20, rel=0.03)


@pytest.mark.parametrize("seeds", [1, 3, 5])
def test_samples_of_one_block_count_as_one(seeds):
    """Ten copies of each sample are no more evidence than one."""
    a, b = right(seeds, 100, 0.8), right(seeds, 100, 0.7)
    once = judge(a, b)
    blocks = torch.arange(100).repeat_interleave(10)
    copies = judge(a.repeat_interleave(10, 1), b.repeat_interleave(10, 1), blocks=blocks)
    assert copies.interval == pytest.approx(once.interval, abs=1e-9)
    assert "blocks" in copies.method
    alone = judge(a.repeat_interleave(10, 1), b.repeat_interleave(10, 1))
    assert alone.interval[1] - alone.interval[0] < once.interval[1] - once.interval[0]


def test_blocks_of_unequal_size_keep_the_mean_over_samples():
    a, b = torch.rand(1, 60), torch.rand(1, 60)
    blocks = torch.tensor([7] * 30 + [3] * 20 + list(range(10, 20)))
    outcome = judge(a, b, blocks=blocks)
    assert outcome.delta == pytest.approx(float((a - b).mean()), rel=1e-5)
    moved = judge(a + 1, b, blocks=blocks)
    assert moved.interval == pytest.approx([end + 1 for end in outcome.interval], rel=1e-5)


@pytest.mark.parametrize(("spread", "expected"), [(0.35, "no difference"), (0.29, "better")])
def test_several_seeds_must_be_clear_at_97_percent(spread, expected):
    """Three deltas 1 - d, 1, 1 + d are clear of 0 at 95% where d < 0.403, at 97% where d < 0.307."""
    student = torch.tensor([1 - spread, 1.0, 1 + spread])[:, None].expand(3, 50)
    outcome = judge(student, torch.zeros(3, 50))
    assert outcome.interval[0] > 0
    assert outcome.verdict == expected


def test_with_one_seed_a_gain_in_two_classes_is_not_a_gain():
    """Nets that differ only by seed favour different classes; the same gain, spread over all, counts."""
    wanted = torch.arange(2000) % 10
    baseline = right(1, 2000, 0.5)
    in_two = torch.where((wanted < 2)[None], 1.0, baseline)
    in_all = torch.where((torch.arange(2000) // 10 % 5 == 0)[None], 1.0, baseline)
    outcomes = [judge(student, baseline, groups=wanted) for student in (in_two, in_all)]
    assert outcomes[0].interval[0] > 0
    assert [outcome.verdict for outcome in outcomes] == ["no difference", "better"]


def test_with_one_seed_a_gain_equal_in_all_classes_must_still_be_clear_from_sample_to_sample():
    """45 samples differ, 30 for the student: 2.24 standard errors, more than 95% ask for and less than 98%."""
    student, baseline = torch.zeros(1, 1000), torch.zeros(1, 1000)
    student[0, :30] = 1
    baseline[0, 30:45] = 1
    outcome = judge(student, baseline, groups=classes(1000, 5))
    assert outcome.interval[0] > 0
    assert outcome.verdict == "no difference"


@pytest.mark.parametrize(("fixed", "expected"), [(15, "no difference"), (80, "better")])
def test_with_one_seed_and_no_classes_the_interval_must_be_cleared_by_far(fixed, expected):
    baseline = (torch.arange(1000) >= 100).float()[None]
    student = baseline.clone()
    student[0, :fixed] = 1
    student[0, 500:503] = 0
    for groups in (None, classes(1000, 4)):
        outcome = judge(student, baseline, groups=groups)
        assert outcome.interval[0] > 0
        assert outcome.verdict == expected


@pytest.mark.parametrize("level", [0.95, 0.98])
@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 7, 9, 10, 99, 999])
def test_students_t_agrees_with_scipy(level, freedom):
    stats = pytest.importorskip("scipy.stats")
    assert module._student_t(level, freedom) == pytest.approx(stats.t.ppf((1 + level) / 2, freedom), rel=1e-9)


@pytest.mark.parametrize(
    ("seeds", "spread"),
    [(1, 0.0), (2, 0.0), (2, 0.4), (3, 0.4), (5, 0.0), (5, 0.4)],
)
def test_equal_nets_are_rarely_told_apart(seeds, spread):
    """Nets of one kind: each sample has its own difficulty, each seed its own luck (`spread`)."""
    samples, trials, called = 400, 200, 0
    for _ in range(trials):
        difficulty = torch.randn(1, samples) - 1.0
        pair = [
            (difficulty + 0.5 * torch.randn(seeds, samples) + spread * torch.randn(seeds, 1) < 0).float()
            for _ in range(2)
        ]
        called += judge(*pair, groups=classes(samples), resamples=500).verdict != "no difference"
    assert called / trials <= 0.05


def test_scores_may_be_bool_half_or_whole_numbers():
    a, b = right(1, 100, 0.9), right(1, 100, 0.4)
    expected = judge(a, b)
    for kind in (torch.bool, torch.float16, torch.int64):
        assert judge(a.to(kind), b.to(kind)) == expected


@pytest.mark.parametrize(
    ("student", "baseline", "labels", "found"),
    [
        (torch.ones(3), torch.ones(3), {}, r"found \(3,\) and \(3,\)"),
        (torch.ones(1, 3), torch.ones(2, 3), {}, r"found \(1, 3\) and \(2, 3\)"),
        (torch.ones(2, 0), torch.ones(2, 0), {}, r"found \(2, 0\)"),
        (torch.tensor([[1.0, math.nan, math.inf]]), torch.ones(1, 3), {}, "found 2 pairs"),
        (torch.ones(1, 3), torch.ones(1, 3), {"groups": torch.zeros(2)}, r"groups of shape \(3,\), found \(2,\)"),
        (torch.ones(1, 3), torch.ones(1, 3), {"blocks": torch.zeros(1, 3)}, r"blocks of shape \(3,\)"),
    ],
)
def test_scores_that_cannot_be_compared_are_refused(student, baseline, labels, found):
    with pytest.raises(InputError, match=found):
        judge(student, baseline, **labels)


def test_the_scores_given_are_not_changed():
    a, b = right(5, 50, 0.5), right(5, 50, 0.5)
    kept = a.clone(), b.clone()
    judge(a, b)
    assert_close((a, b), kept)


@pytest.mark.parametrize(
    ("student", "baseline", "teacher", "expected"),
    [(0.7, 0.6, 0.8, 0.5), (0.9, 0.6, 0.8, 1.5), (0.5, 0.6, 0.8, -0.5), (0.7, 0.6, 0.6, None), (0.7, 0.6, 0.5, None)],
)
def test_gap_closed_is_the_share_of_the_way_to_the_teacher(student, baseline, teacher, expected):
    assert gap_closed(student, baseline, teacher) == pytest.approx(expected)


def test_gap_closed_where_less_is_better():
    assert gap_closed(0.3, 0.4, 0.2, higher_is_better=False) == pytest.approx(0.5)
    assert gap_closed(0.3, 0.4, 0.5, higher_is_better=False) is None


def test_a_teacher_without_a_metric_leaves_no_gap():
    assert gap_closed(0.3, 0.4, math.nan) is None


@pytest.mark.parametrize(
    ("student", "baseline", "expected"),
    [
        (0.8, 0.7, "student"),
        (0.7, 0.7, "student"),
        (0.6, 0.7, "baseline"),
        (0.6, None, "student"),
        (math.nan, 0.7, "baseline"),
        (0.6, math.nan, "student"),
    ],
)
def test_the_baseline_is_shipped_only_where_it_is_better(student, baseline, expected):
    assert shipped(student, baseline) == expected


def test_the_baseline_is_shipped_where_less_is_better_and_it_has_less():
    assert shipped(0.3, 0.2, higher_is_better=False) == "baseline"
    assert shipped(0.2, 0.3, higher_is_better=False) == "student"
