"""What a store of teachers' answers costs: bytes a row, reading a batch, and the decoding that feeds a teacher.

    python benchmarks/store.py [--samples 100000] [--batch 256] [--blocks 50]

The stores hold random numbers; batches are drawn at random over all samples and two views, out of the page cache. The
pictures are made-up JPEGs of 500x375 pixels, read as a worker reads them: decoded, resized to 224x224 and augmented,
in one thread, counted in processor time.
"""

import argparse
import datetime
import io
import json
import pathlib
import statistics
import tempfile
import time

import torch
from torch import Tensor, nn

import tutelage as tu
from tutelage.cache import Request, write
from tutelage.cache.coding import Coding, columns_of
from tutelage.cli.runfolder import hardware, versions
from tutelage.data import Augment, Slice, open_data
from tutelage.ledger import Spec

KINDS = {
    "1000 logits": (1000, 0, None),
    "20 of 1000 logits": (1000, 0, 20),
    "20 of 1000 logits, vector of 2048": (1000, 2048, 20),
    "1000 logits, vector of 2048": (1000, 2048, None),
}


class Babbler(nn.Module):
    """Says random things of the right shape."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.vector, self.fc = nn.Linear(1, max(width, 1)), nn.Linear(max(width, 1), classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.vector(torch.randn(len(x), 1)))
        return logits


def seconds_a_batch(kind: str, samples: int, batch: int, blocks: int) -> float:
    """Median seconds to read one batch."""
    classes, width, top_k = KINDS[kind]
    task = tu.tasks.Classification(classes)
    teacher, taps = tu.Frozen(Babbler(classes, width)), ("fc:input",) if width else ()
    teacher.bind(Spec(call=task.call, taps={"big": taps}), "big")
    train = Slice(
        torch.zeros(samples, 1, 1, 1, dtype=torch.uint8),
        torch.zeros(samples, dtype=torch.long),
        tuple(map(str, range(classes))),
    )
    with tempfile.TemporaryDirectory() as folder:
        asked = Request(
            pathlib.Path(folder), {"big": teacher}, {"big": taps}, {"big": kind}, task, {"train": train},
            augment=Augment(flip=True), views=2, top_k=top_k, batch_size=1024,
        )  # fmt: skip
        record, times = write(asked)["big"], []
        for _ in range(blocks):
            index, view = torch.randint(samples, (batch,)), torch.randint(2, (batch,))
            began = time.perf_counter()
            record.rows(index, view)
            times.append(time.perf_counter() - began)
    return statistics.median(times)


def pictures_a_second(folder: pathlib.Path, count: int = 512) -> tuple[float, float]:
    """Pictures decoded, resized and augmented in a second of processor time, and the mean size of their files."""
    from PIL import Image

    size = 0
    for number in range(count):
        coarse = torch.rand(1, 3, 24, 32)
        smooth = nn.functional.interpolate(coarse, (375, 500), mode="bicubic").clamp(0, 1)[0]
        noisy = (smooth * 230 + torch.rand(3, 375, 500) * 25).byte().permute(1, 2, 0).numpy()
        content = io.BytesIO()
        Image.fromarray(noisy).save(content, "JPEG", quality=90)
        place = folder / str(number % 2) / f"{number}.jpg"
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(content.getvalue())
        size += len(content.getvalue())
    train = open_data(str(folder), image_size=224, in_memory=False).train
    augment, positions = Augment(crop=28, flip=True), torch.arange(min(256, len(train)))
    began = time.process_time()
    augment(train.gather(positions), positions, torch.zeros_like(positions))
    return len(positions) / (time.process_time() - began), size / count


def main() -> None:
    """Measure, print, append lines to the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--blocks", type=int, default=50)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("benchmarks/results/store.jsonl"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    about = {"date": datetime.datetime.now(datetime.UTC).date().isoformat(), "threads": 1}
    about |= {"hardware": hardware(), "versions": versions()}
    lines: list[dict[str, object]] = []
    for kind, (classes, width, top_k) in KINDS.items():
        codings = [Coding("", (classes,), top_k=top_k), *([Coding("pooled", (width,))] if width else [])]
        row = sum(column.row_bytes for column in columns_of(codings))
        took = seconds_a_batch(kind, given.samples, given.batch, given.blocks)
        lines.append({"benchmark": "store", "kind": kind, "row_bytes": row, "batch": given.batch, "seconds": took})
        print(f"{kind}: {row:,} bytes a row, {1000 * took:.2f} ms a batch of {given.batch}")
    with tempfile.TemporaryDirectory() as folder:
        rate, size = pictures_a_second(pathlib.Path(folder))
    lines.append({"benchmark": "decode", "pictures_a_second": rate, "mean_bytes": size})
    print(f"decoding: {rate:.0f} pictures of {size / 1000:.0f} kB a second of processor time")
    given.out.parent.mkdir(parents=True, exist_ok=True)
    with given.out.open("a", encoding="utf-8") as file:
        for line in lines:
            file.write(json.dumps(line | about) + "\n")


if __name__ == "__main__":
    main()
