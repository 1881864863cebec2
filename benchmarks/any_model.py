"""Any model: a torchvision ResNet and a timm ViT, trained here, teach a timm MobileNet on a folder of pictures.

    python benchmarks/any_model.py [--each 200] [--epochs 3]

Makes an ImageFolder of colour pictures at 64x64 from the shared CIFAR-10 (five classes), trains both teachers with
`tutelage train`, then distils each into `timm/mobilenetv3_small_050` over logits and feature paths with `tutelage
distill`. It shows that the pieces fit, not how good they are: the pictures are few and the epochs fewer.
"""

import argparse
import io
import json
import os
import pathlib
import subprocess
import sys

import pyarrow.parquet
from PIL import Image

SHARED = pathlib.Path(os.environ.get("TUTELAGE_SHARED", "../shared"))
CLASSES = {0: "airplane", 1: "automobile", 2: "bird", 3: "cat", 4: "deer"}
TEACHERS = {"resnet18": "torchvision/resnet18", "vit": "timm/vit_tiny_patch16_224"}


def make_folder(folder: pathlib.Path, each: int) -> None:
    """Write ``train/CLASS/N.png`` and ``test/CLASS/N.png``; a folder that stands is left as it is."""
    if folder.exists():
        return
    for split, count in (("train", each), ("test", each // 2)):
        file = next((SHARED / "data" / "cifar10").glob(f"*{split}*.parquet"))
        left = dict.fromkeys(CLASSES, count)
        for row in pyarrow.parquet.read_table(file).slice(0, 20 * each).to_pylist():
            label = row["label"]
            if left.get(label, 0) == 0:
                continue
            left[label] -= 1
            place = folder / split / CLASSES[label]
            place.mkdir(parents=True, exist_ok=True)
            picture = Image.open(io.BytesIO(next(v for v in row.values() if isinstance(v, dict))["bytes"]))
            picture.convert("RGB").resize((64, 64), Image.Resampling.BICUBIC).save(place / f"{left[label]}.png")


def tutelage(*arguments: str) -> dict:
    """Run the command line and give its JSON."""
    line = [sys.executable, "-m", "tutelage", *arguments, "--json"]
    return json.loads(subprocess.run(line, check=True, stdout=subprocess.PIPE, text=True).stdout)


def main() -> None:
    """Make the folder, train, distil, print one line a student."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/any_model"))
    given = parser.parse_args()
    photos = given.out / "photos"
    make_folder(photos, given.each)
    options = ["--set", f"train.epochs={given.epochs}", "--set", "data.batch_size=64", "--data", str(photos)]
    for name, model in TEACHERS.items():
        if not (given.out / name / "result.json").exists():
            tutelage("train", "--model", model, "--out", str(given.out / name), *options)
        out = given.out / f"from_{name}"
        if not (out / "result.json").exists():
            taught = ["--student", "timm/mobilenetv3_small_050", "--teacher", f"{name}={given.out / name}", "--force"]
            tutelage("distill", *taught, "--set", "paths=[logits, features]", "--out", str(out), *options)
        result = json.loads((out / "result.json").read_text())
        paths = ", ".join(result["paths"])
        print(f"{name}: {result['verdict']} ({result['delta']:+.4f}); paths {paths}")


if __name__ == "__main__":
    main()
