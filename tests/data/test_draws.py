import torch

from tutelage.data.draws import draws, uniform

MASK = (1 << 64) - 1


def splitmix(bits: int) -> int:
    bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & MASK
    return bits ^ (bits >> 31)


def test_matches_splitmix_written_with_unsigned_integers():
    for seed, counter in [(0, 0), (1, 5), (-3, 2**40), (2**63 + 7, 1)]:
        expected = splitmix((splitmix(seed & MASK) + 0x9E3779B97F4A7C15 * (counter + 1)) & MASK)
        assert int(draws(seed, counter)) & MASK == expected


def test_numbers_are_pinned_so_that_caches_and_resumed_runs_stay_valid():
    assert draws(0, 1, torch.tensor([0, 1, 2])).tolist() == [
        5095610196844313600,
        3982070227906906278,
        -2230134577496092040,
    ]


def test_uniform_numbers_are_spread_evenly_and_do_not_follow_their_neighbours():
    numbers = uniform(7, torch.arange(20_000))
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert (numbers.histc(10, 0, 1) - 2000).abs().max() < 200
    assert torch.corrcoef(torch.stack([numbers[:-1], numbers[1:]]))[0, 1].abs() < 0.03


def test_the_order_of_counters_matters():
    assert int(draws(0, 1, 2)) != int(draws(0, 2, 1))


def test_global_random_numbers_are_left_alone():
    before = torch.get_rng_state()
    uniform(0, torch.arange(10))
    assert torch.equal(before, torch.get_rng_state())
