import copy
import io
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist
from torch.testing import assert_close

from tutelage.losses import CRD

SIZES = {"student": (4,), "teacher": (6,), "samples": 12, "feat_dim": 5}


def batch(size=3):
    return torch.randn(size, 4), torch.randn(size, 6), torch.randperm(12)[:size]


def unit(x):
    return x / x.norm()


def test_matches_the_equations_written_with_loops():
    loss = CRD(**SIZES, negatives=7, temperature=0.2).double()
    student, teacher, index = batch()
    student, teacher = student.double(), teacher.double()
    others = CRD(**SIZES, negatives=7, shared=False).draw(index)
    got = loss.sides(student, teacher, index=index, others=others)
    embeds = [loss.student_head(student), loss.teacher_head(teacher)]
    memories = [loss.teacher_memory, loss.student_memory]
    for side in range(2):
        scores = torch.zeros(3, 8).double()
        for b in range(3):
            for k, row in enumerate([index[b], *others[b]]):
                scores[b, k] = torch.exp(memories[side][row] @ unit(embeds[side][b]) / 0.2).detach()
        x, c = scores / (scores.mean() * 12), 7 / 12
        for b in range(3):
            expected = -torch.log(x[b, 0] / (x[b, 0] + c + 1e-7))
            expected -= sum(torch.log(c / (x[b, k] + c + 1e-7)) for k in range(1, 8))
            assert_close(got[side, b], expected, rtol=1e-10, atol=0)


def test_commit_moves_the_rows_that_were_seen_and_no_others():
    loss = CRD(**SIZES, negatives=7, momentum=0.25)
    before = loss.student_memory.clone(), loss.teacher_memory.clone()
    student, teacher, index = batch()
    loss(student, teacher, index=index)
    assert_close(loss.student_memory, before[0])
    loss.commit()
    new = unit(loss.student_head(student)[1]), unit(loss.teacher_head(teacher)[1])
    assert_close(loss.student_memory[index[1]], unit(0.25 * before[0][index[1]] + 0.75 * new[0]).detach())
    assert_close(loss.teacher_memory[index[1]], unit(0.25 * before[1][index[1]] + 0.75 * new[1]).detach())
    untouched = [i for i in range(12) if i not in index]
    assert torch.equal(loss.student_memory[untouched], before[0][untouched])


def test_all_forwards_since_the_last_commit_are_remembered():
    loss = CRD(**SIZES, negatives=7)
    first, second = torch.tensor([0, 1]), torch.tensor([2, 3])
    before = loss.student_memory.clone()
    for index in (first, second):
        loss(*batch(2)[:2], index=index)
    loss.commit()
    assert ((loss.student_memory != before).any(dim=1).nonzero().flatten() == torch.arange(4)).all()
    settled = loss.student_memory.clone()
    loss.commit()
    assert torch.equal(loss.student_memory, settled)


def test_of_one_sample_seen_twice_the_last_counts():
    loss, student, teacher = CRD(**SIZES, negatives=7, momentum=0.0), torch.randn(2, 4), torch.randn(2, 6)
    loss(student, teacher, index=torch.tensor([5, 5]))
    loss.commit()
    assert_close(loss.student_memory[5], unit(loss.student_head(student)[1]).detach())


@pytest.mark.parametrize("learning", ["no_grad", "eval"])
def test_looking_without_learning_leaves_no_trace(learning):
    loss = CRD(**SIZES, negatives=7)
    before = copy.deepcopy(loss.state_dict())
    loss.train(learning != "eval")
    with torch.set_grad_enabled(learning == "eval"):
        assert loss(*batch()[:2], index=torch.tensor([1, 2, 3])).isfinite().all()
    loss.commit()
    assert_close(loss.state_dict(), before, equal_nan=True)


def test_the_first_batch_sets_the_constants_for_good():
    loss = CRD(**SIZES, negatives=7)
    assert loss.log_z.isnan().all()
    for step in range(3):
        student, teacher, index = batch()
        loss(10 * student, teacher, index=index)
        loss.commit()
        if step == 0:
            constants = loss.log_z.clone()
    assert constants.isfinite().all()
    assert torch.equal(loss.log_z, constants)


def test_of_a_shared_set_each_sample_leaves_itself_out():
    loss = CRD(**SIZES, negatives=7, temperature=0.2).double()
    student, teacher, index = torch.randn(3, 4).double(), torch.randn(3, 6).double(), torch.tensor([1, 4, 9])
    loss(student, teacher, index=index)  # sets the constants
    shared, c = torch.tensor([4, 0, 11, 2, 4, 7, 4]), 7 / 12
    got = loss.sides(student, teacher, index=index, others=shared)
    embeds = [loss.student_head(student), loss.teacher_head(teacher)]
    memories = [loss.teacher_memory, loss.student_memory]
    for side in range(2):
        for b in range(3):
            x = torch.exp(memories[side] @ unit(embeds[side][b]) / 0.2 - loss.log_z[side])
            others = [k for k in shared if k != index[b]]
            expected = -torch.log(x[index[b]] / (x[index[b]] + c + 1e-7))
            expected -= 7 / len(others) * sum(torch.log(c / (x[k] + c + 1e-7)) for k in others)
            assert_close(got[side, b], expected)


def test_the_gradient_of_a_shared_set_is_that_of_sets_that_are_equal():
    loss = CRD(**SIZES, negatives=7).double()
    student, teacher, index = torch.randn(3, 4).double(), torch.randn(3, 6).double(), torch.tensor([1, 4, 9])
    loss(student, teacher, index=index)
    shared = torch.tensor([3, 0, 11, 2, 5, 7, 7])
    values = [loss.sides(student, teacher, index=index, others=o) for o in (shared, shared.expand(3, 7))]
    assert_close(*values)
    parameters = list(loss.parameters())
    for ours, theirs in zip(*(torch.autograd.grad((v * v).sum(), parameters) for v in values), strict=True):
        assert_close(ours, theirs)


def test_weights_say_how_often_a_sample_is_a_negative_and_how_much_noise_it_is():
    weights = torch.arange(12.0)
    loss = CRD(**SIZES, negatives=7, weights=weights)
    drawn = torch.cat([loss.draw(torch.tensor([0])) for _ in range(2000)])
    assert_close(torch.bincount(drawn, minlength=12) / len(drawn), weights / 66, rtol=0.0, atol=0.02)
    floor, noise = loss._log_noise(torch.arange(1, 12), 7)
    assert_close(noise.exp(), 7 * weights[1:] / 66)
    assert (floor >= noise).all()
    assert loss(*batch()[:2], index=torch.tensor([1, 2, 3])).isfinite().all()


def test_equal_weights_are_no_weights():
    plain, weighed = (CRD(**SIZES, negatives=7, weights=w) for w in (None, torch.full((12,), 0.5)))
    weighed.load_state_dict(plain.state_dict())
    given = {"index": torch.tensor([1, 2, 3]), "others": torch.tensor([3, 0, 11, 2, 5, 7, 7])}
    student, teacher, _ = batch()
    assert_close(*(loss.sides(student, teacher, **given) for loss in (plain, weighed)))


def test_a_sample_is_never_its_own_negative_and_every_other_one_is():
    loss = CRD(**SIZES, negatives=11, shared=False)
    index = torch.arange(12).repeat(50)
    drawn = loss.draw(index)
    assert drawn.shape == (600, 11)
    counts = torch.zeros(12, 12)
    counts.index_put_((index[:, None].expand_as(drawn), drawn), torch.tensor(1.0), accumulate=True)
    assert not counts.diagonal().any()
    others = counts[~torch.eye(12, dtype=torch.bool)]
    assert others.min() > 25  # 50 expected
    assert others.max() < 80


def test_negatives_are_capped_by_the_number_of_samples():
    assert CRD(**SIZES).negatives == 11


def test_a_resumed_run_continues_alike():
    loss = CRD(**SIZES, negatives=7)
    loss(*batch()[:2], index=torch.tensor([1, 2, 3]))
    loss.commit()
    file = io.BytesIO()
    torch.save(loss.state_dict(), file)
    file.seek(0)
    resumed = CRD(**SIZES, negatives=7)
    resumed(*batch()[:2], index=torch.tensor([4, 5, 6]))  # has constants of its own by now
    resumed.load_state_dict(torch.load(file, weights_only=True))
    student, teacher, index = batch()
    others = loss.draw(index)
    for _ in range(2):
        values = [part.sides(student, teacher, index=index, others=others) for part in (loss, resumed)]
        assert_close(*values)


def test_a_state_saved_before_the_first_step_sets_its_constants_afresh():
    loss = CRD(**SIZES, negatives=7)
    start = copy.deepcopy(loss.state_dict())
    loss(*batch()[:2], index=torch.tensor([1, 2, 3]))
    loss.load_state_dict(start)
    assert loss(*batch()[:2], index=torch.tensor([1, 2, 3])).isfinite().all()
    assert loss.log_z.isfinite().all()


def test_it_can_be_copied_at_any_time():
    loss = CRD(**SIZES, negatives=7)
    student, teacher, index = batch()
    value = loss(student.requires_grad_(), teacher, index=index)
    twin = copy.deepcopy(loss)
    value.sum().backward()
    for part in (loss, twin):
        part.commit()
    assert_close(twin.state_dict(), loss.state_dict())


def test_it_runs_as_a_half_precision_module():
    loss = CRD(**SIZES, negatives=7).bfloat16()
    student, teacher, index = batch()
    value = loss(student.bfloat16().requires_grad_(), teacher.bfloat16(), index=index)
    value.sum().backward()
    loss.commit()
    assert value.dtype == torch.float32
    assert value.isfinite().all()
    assert loss.student_memory.dtype == torch.bfloat16


def test_both_heads_learn():
    loss = CRD(**SIZES, negatives=7)
    loss(*batch()[:2], index=torch.tensor([1, 2, 3])).sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in loss.parameters())


def test_maps_are_flattened():
    loss = CRD(student=(2, 3, 3), teacher=(4, 2), samples=5, feat_dim=3)
    assert loss(torch.randn(2, 2, 3, 3), torch.randn(2, 4, 2), index=torch.tensor([0, 4])).shape == (2,)


def test_sizes_may_be_told_later():
    loss = CRD(negatives=3, teacher=(6,))
    loss.bind((4,), None, 9)
    assert loss(torch.randn(2, 4), torch.randn(2, 6), index=torch.tensor([0, 8])).shape == (2,)


@pytest.mark.parametrize("known", [{}, {"student": (4,), "teacher": (6,)}, {"samples": 12}])
def test_an_unknown_size_is_refused_with_the_way_out(known):
    with pytest.raises(ValueError, match="constructor"):
        CRD(**known).bind(None, None, None)


@pytest.mark.parametrize("index", [-1, 12])
def test_refuses_a_sample_outside_the_memory(index):
    with pytest.raises(ValueError, match=r"\[0, 12\)"):
        CRD(**SIZES)(torch.randn(1, 4), torch.randn(1, 6), index=torch.tensor([index]))


@pytest.mark.parametrize("option", [{"negatives": 0}, {"momentum": 1.0}, {"temperature": 0.0}, {"samples": 1}])
def test_refuses_options_out_of_range(option):
    with pytest.raises(ValueError, match="expected"):
        CRD(**{**SIZES, **option})


@pytest.mark.parametrize("weights", [[1.0] * 11, [-1.0] + [1.0] * 11, [0.0] * 12])
def test_refuses_weights_that_are_none(weights):
    with pytest.raises(ValueError, match="expected"):
        CRD(**SIZES, weights=weights)


def test_refuses_weights_for_sets_of_their_own():
    with pytest.raises(ValueError, match="shared"):
        CRD(**SIZES, weights=[1.0] * 12, shared=False)


def _two_steps(rank, folder, processes):
    """Two steps of CRD in one of several processes, each on its own samples."""
    if processes > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=processes)
    torch.manual_seed(7)
    heads = CRD(**SIZES, negatives=7).state_dict()
    torch.manual_seed(rank)  # the memories start differently in each process
    loss = CRD(**SIZES, negatives=7, momentum=0.3)
    loss.load_state_dict({name: heads[name] for name in heads if "head" in name}, strict=False)
    generator = torch.Generator().manual_seed(3)
    for index in torch.tensor([[0, 1, 2], [2, 1, 5]]):
        student, teacher = torch.randn(3, 4, generator=generator), torch.randn(3, 6, generator=generator)
        mine = slice(None) if processes == 1 else (slice(0, 1), slice(1, 3))[rank]
        loss(student[mine], teacher[mine], index=index[mine])
        loss.commit()
    torch.save(loss.state_dict(), f"{folder}/{processes}-{rank}")
    if processes > 1:
        dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_available() or sys.platform == "win32", reason="needs gloo")
def test_two_processes_remember_what_one_would(tmp_path):
    started = [subprocess.Popen([sys.executable, __file__, str(rank), str(tmp_path)]) for rank in range(2)]
    _two_steps(0, tmp_path, 1)
    assert [process.wait(timeout=100) for process in started] == [0, 0]
    one, first, second = (torch.load(tmp_path / name, weights_only=True) for name in ("1-0", "2-0", "2-1"))
    assert_close(first, second, rtol=0, atol=0)
    for name in ("student_memory", "teacher_memory"):
        assert_close(first[name], one[name])


if __name__ == "__main__":
    torch.set_num_threads(1)
    _two_steps(int(sys.argv[1]), sys.argv[2], 2)
