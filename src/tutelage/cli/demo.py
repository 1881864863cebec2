"""Demo: three small teachers of handwritten digits, one tiny student, offline."""

import pathlib

from tutelage.engine import processes
from tutelage.errors import Interrupted, RunError

from .distill import Run, distill
from .show import say
from .train import train

TEACHERS = {"resnet32": "cifar/resnet32", "wrn_16_2": "cifar/wrn_16_2", "vgg8": "cifar/vgg8"}
LABELS = 100


def demo(out: str | pathlib.Path = "runs/demo", *, resume: bool = False) -> Run:
    """Train three teachers on scikit-learn's digits and distil them into a small student.

    The teachers learn from all labels, the student is given only `LABELS` of them and the teachers' answers to all
    pictures: where labels are scarce is where distillation helps most. The baseline has the same few labels.

    Args:
        out: A new folder for the four runs.
        resume: Go on with an interrupted demo in `out`.

    Raises:
        RunError: The folder exists already; or, to be resumed, holds no demo.
        Interrupted: A signal stopped it; `resume` goes on.
    """
    processes.alone("demo")
    out = pathlib.Path(out)
    runs = [*TEACHERS, "student"]
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not resume)):
        raise RunError(
            f"demo: expected {out} to be new, found files there. Remove it, give --out another folder, or go on with "
            "--resume."
        )
    if resume and not any((out / name / "recipe.yaml").exists() for name in runs):
        raise RunError(f"--resume: expected an interrupted demo in {out}, found none. Leave --resume out to start one.")
    try:
        return _runs(out)
    except (Interrupted, KeyboardInterrupt) as error:
        raise Interrupted(f"the demo was stopped. To go on: tutelage demo --out {out} --resume") from error


def _runs(out: pathlib.Path) -> Run:
    """The four runs; what is finished stays, what was begun goes on."""
    for name, model in TEACHERS.items():
        if (out / name / "report.html").exists():
            continue
        say(f"\nteacher {name}: trained with all labels of scikit-learn's digits")
        if _begun(out / name):
            train(out=out / name, resume=True)
        else:
            train(model=model, data="digits", out=out / name, train={"epochs": 5, "log_every": 10})
    say(f"\nstudent: {LABELS} of its training pictures are labelled, the teachers answer for all of them")
    if _begun(out / "student"):
        run = distill(out=out / "student", resume=True)
    else:
        run = distill(
            student="cifar/resnet8",
            teachers={name: str(out / name) for name in TEACHERS},
            data="digits",
            assignments=[f"data.labels={LABELS}", "train.epochs=12", "train.log_every=10"],
            seeds=4,
            out=out / "student",
        )
    assert isinstance(run, Run)
    return run


def _begun(folder: pathlib.Path) -> bool:
    return (folder / "recipe.yaml").exists()
