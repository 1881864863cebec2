"""Two processes with different data calibrate to the same weights."""

import json
import subprocess
import sys

import pytest
import torch.distributed

PROCESS = """
import sys, torch, torch.distributed as dist
from tutelage.ledger import Batch, Ledger, Lesson, Row, Spec
from tutelage.weighting import Calibrate

torch.set_num_threads(1)
rank, store = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method="file://" + store, rank=rank, world_size=2)
rows = Row("base"), Row("logits", "big"), Row("deep", "big")
rule = Calibrate(steps=2)
rule.bind(rows, Spec(call=None, taps={}))
one = torch.zeros(1, dtype=torch.int64)
lesson = Lesson(Batch(one, one, one, one, torch.ones(1, dtype=torch.bool)), {}, {}, {})
losses = [[[2.0], [4.0], [8.0]], [[6.0], [12.0], [float("nan")]]][rank]
for _ in range(3):
    weights = rule(Ledger(rows, torch.tensor(losses)), lesson)
    if rank == 0:  # one process alone evaluates
        rule.eval()(Ledger(rows, torch.tensor(losses)), lesson)
        rule.train()
print(rule.measured.tolist(), rule.count.tolist(), sep="; ")
dist.destroy_process_group()
"""


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="needs gloo")
def test_all_processes_share_the_means_and_skip_what_is_not_finite(tmp_path):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(rank), str(tmp_path / "store")],
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [process.communicate(timeout=120)[0].strip().split("; ") for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert said[0] == said[1]
    measured, count = (json.loads(numbers) for numbers in said[0])
    assert count == [2, 2, 2]
    assert measured == [8, 16, 16]
