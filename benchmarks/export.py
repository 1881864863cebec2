"""How long an export takes, and how far the exported file is from the model.

    python benchmarks/export.py [--threads 1]

Untrained networks, their weights moved a little at random so that pictures get different answers; CIFAR-10 sized or 64
pixels; 65 random pictures, the first alone, the others in one batch. Seconds are of the process, not of the clock.
"""

import argparse
import datetime
import json
import pathlib
import tempfile
import time
from collections.abc import Callable

import timm
import torch
import torchvision
from torch import nn

from tutelage.cli.runfolder import hardware, versions
from tutelage.export import to_onnx, to_pt2
from tutelage.models import find

NETWORKS: dict[str, tuple[int, Callable[[], nn.Module]]] = {
    "cifar/resnet8": (32, lambda: find("cifar/resnet8", num_classes=10)),
    "torchvision/mobilenet_v3_small": (64, lambda: torchvision.models.mobilenet_v3_small(num_classes=10)),
    "timm/mobilenetv3_small_050": (64, lambda: timm.create_model("mobilenetv3_small_050", num_classes=10)),
    "timm/vit_tiny_patch16_224": (64, lambda: timm.create_model("vit_tiny_patch16_224", img_size=64, num_classes=10)),
}


def main() -> None:
    """Measure, print, append a line to the results for each network and format."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("benchmarks/results/export.jsonl"))
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    about = {"date": datetime.datetime.now(datetime.UTC).date().isoformat()}
    about |= {"hardware": hardware(), "versions": versions()}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    print(f"{about}\n\n| network | format | seconds | MB | largest difference | largest logit | equal arg-max |")
    print("|---|---|---|---|---|---|---|")
    for name, (side, make) in NETWORKS.items():
        torch.manual_seed(0)
        model, pictures = make().eval(), torch.rand(65, 3, side, side)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.02 * torch.randn_like(parameter))
        for export in (to_pt2, to_onnx):
            with tempfile.TemporaryDirectory() as scratch:
                began = time.process_time()
                found = export(model, pathlib.Path(scratch), input_shape=(3, side, side), sample_inputs=pictures)
                seconds = time.process_time() - began
                size = (pathlib.Path(scratch) / found.file).stat().st_size / 1e6
            line = {"network": name, "file": found.file, "cpu_seconds": round(seconds, 1), "megabytes": round(size, 2)}
            line |= {"max_difference": found.max_difference, "largest_logit": found.largest_logit}
            line |= {"agreement": found.agreement, "samples": found.samples}
            with given.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line | about) + "\n")
            difference = f"{found.max_difference:.1e} | {found.largest_logit:.2g} | {found.agreement:.1%}"
            print(f"| {name} | {found.file} | {seconds:.1f} | {size:.2f} | {difference} |", flush=True)


if __name__ == "__main__":
    main()
