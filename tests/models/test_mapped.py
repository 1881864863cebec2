"""Weights that stay in a file."""

import pathlib
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from tutelage.models import fingerprint, map_weights

PROGRAM = """
import sys, safetensors.torch, torch
from torch import nn
from tutelage.models import map_weights
def anonymous():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon")) / 1024
torch.set_num_threads(1)
before = anonymous()
models = []
for _ in range(3):
    models.append(nn.Sequential(nn.Linear(3000, 3000), nn.Linear(3000, 3000)))  # 72 MB
    if sys.argv[1] == "mapped":
        map_weights(models[-1], sys.argv[2])
    models[-1](torch.ones(2, 3000))
print(anonymous() - before)
"""


@pytest.mark.skipif(not pathlib.Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_mapped_weights_take_no_memory_of_their_own(tmp_path):
    taken = {}
    for how in ("held", "mapped"):
        line = [sys.executable, "-c", PROGRAM, how, str(tmp_path)]
        taken[how] = float(subprocess.run(line, capture_output=True, text=True, check=True).stdout)
    assert taken["held"] > 200
    assert taken["mapped"] < 40
    assert list(tmp_path.iterdir()) == []


def test_a_mapped_model_answers_as_before(tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2)).eval()
    x, told = torch.rand(2, 3, 4, 4), fingerprint(model)
    before = model(x)
    assert_close(map_weights(model, tmp_path / "new")(x), before, rtol=0, atol=0)
    assert fingerprint(model) == told
