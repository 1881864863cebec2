import copy
import math

import torch
from torch.testing import assert_close

from tutelage.losses import CRCD

SIZES = {"student": (4,), "teacher": (6,), "samples": 12, "feat_dim": 5}


def unit(x):
    return x / x.norm()


def test_matches_the_equations_written_with_loops():
    loss = CRCD(**SIZES, negatives=7, temperature=0.3).double()
    student, teacher, index = torch.randn(3, 4).double(), torch.randn(3, 6).double(), torch.tensor([1, 4, 9])
    others = torch.tensor([4, 0, 11, 2, 3, 7, 7])
    got = loss.sides(student, teacher, index=index, others=others)
    embeds = [loss.student_head(student), loss.teacher_head(teacher)]
    for side, memory in enumerate([loss.teacher_memory, loss.student_memory]):

        def score(b, a, k, side=side, memory=memory):
            relation = unit(unit(embeds[side][b]) - memory[index[a]])
            other = memory[k] - memory[index[a]]
            return torch.exp(relation @ (unit(other) if other.norm() > 0 else other) / 0.3).detach()

        rows = [[score(b, a, k) for k in [index[b], *others]] for b in range(3) for a in range(3)]
        assert_close(loss.log_z[side].exp(), 12 * torch.tensor(rows, dtype=torch.float64).mean())
        z, c = loss.log_z[side].exp(), 7 / 12
        for b in range(3):
            heard = [k for k in others if k != index[b]]
            value = 0.0
            for a in (a for a in range(3) if a != b):
                x = score(b, a, index[b]) / z
                value -= torch.log(x / (x + c + 1e-7)) / 2
                for k in heard:
                    value -= 7 / len(heard) * math.log(c / (score(b, a, k) / z + c + 1e-7)) / 2
            assert_close(got[side, b], value, rtol=1e-6, atol=1e-6)


def test_one_sample_alone_has_no_relations():
    loss = CRCD(**SIZES, negatives=7)
    assert torch.equal(loss(torch.randn(1, 4), torch.randn(1, 6), index=torch.tensor([2])), torch.zeros(1))


def test_remembered_rows_have_unit_length_before_and_after_a_step():
    loss = CRCD(**SIZES, negatives=7)
    assert_close(loss.student_memory.norm(dim=1), torch.ones(12))
    before = copy.deepcopy(loss.teacher_memory)
    loss(torch.randn(3, 4), torch.randn(3, 6), index=torch.tensor([1, 2, 3]))
    loss.commit()
    assert_close(loss.teacher_memory.norm(dim=1), torch.ones(12))
    changed = (loss.teacher_memory != before).any(dim=1).nonzero().flatten()
    assert changed.tolist() == [1, 2, 3]


def test_training_pulls_the_relations_together():
    loss = CRCD(**SIZES, negatives=11, momentum=0.0)
    teacher, index = torch.randn(12, 6), torch.arange(12)
    student = teacher[:, :4].clone()
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.02)
    values = []
    for _ in range(40):
        value = loss(student, teacher, index=index).mean()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        loss.commit()
        values.append(value.item())
    assert sum(values[-5:]) < 0.9 * sum(values[1:6])
