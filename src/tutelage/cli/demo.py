"""Demo: three small teachers of handwritten digits, one tiny student, offline."""

import pathlib

from tutelage.errors import RunError

from .distill import Run, distill
from .prepare import say
from .train import train

TEACHERS = {"resnet32": "cifar/resnet32", "wrn_16_2": "cifar/wrn_16_2", "vgg8": "cifar/vgg8"}
LABELS = 100


def demo(out: str | pathlib.Path = "runs/demo") -> Run:
    """Train three teachers on scikit-learn's digits and distil them into a small student.

    The teachers learn from all labels, the student is given only `LABELS` of them and the teachers' answers to all
    pictures: where labels are scarce is where distillation helps most. The baseline has the same few labels.

    Args:
        out: A new folder for the four runs.

    Raises:
        RunError: The folder exists already.
    """
    out = pathlib.Path(out)
    if out.exists() and any(out.iterdir()):
        raise RunError(f"demo: expected {out} to be new, found files in it. Remove it or give --out another folder.")
    for name, model in TEACHERS.items():
        say(f"\nteacher {name}: trained with all labels of scikit-learn's digits")
        train(model=model, data="digits", out=out / name, train={"epochs": 5, "log_every": 10})
    say(f"\nstudent: {LABELS} of its training pictures are labelled, the teachers answer for all of them")
    run = distill(
        student="cifar/resnet8",
        teachers={name: str(out / name) for name in TEACHERS},
        data="digits",
        assignments=[f"data.labels={LABELS}", "train.epochs=12", "train.log_every=10"],
        seeds=3,
        out=out / "student",
    )
    assert run is not None
    return run
