"""Short names of paths: from two models that were never seen together to a step with finite losses."""

import pytest
import torch

from tutelage.distiller import Distiller
from tutelage.models import find
from tutelage.recipe import schema
from tutelage.recipe.build import build_path
from tutelage.recipe.wires import SHORT, resolve, survey_all
from tutelage.tasks import Classification
from tutelage.teachers import Frozen

CLASSES, SIDE = 5, 64


@pytest.fixture(scope="module")
def models():
    """Convolutions, plain tokens, and windows of tokens that shrink."""
    pytest.importorskip("timm")
    names = ("resnet10t", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224")
    made = [find(f"timm/{name}", num_classes=CLASSES, input_size=(SIDE, SIDE), seed=0) for name in names]
    return dict(zip(("cnn", "vit", "swin"), made, strict=True))


@pytest.mark.parametrize(
    ("student", "teacher"), [("cnn", "vit"), ("vit", "cnn"), ("cnn", "swin"), ("swin", "vit"), ("vit", "swin")]
)
def test_every_short_name_gives_a_finite_loss_between_any_two_kinds_of_model(models, student, teacher):
    task = Classification(CLASSES)
    batch = task.unpack((torch.rand(2, 3, SIDE, SIDE), torch.tensor([0, 1])))
    given = {"data": "digits", "student": "s", "teachers": {"big": "t"}, "paths": list(SHORT)}
    sites = survey_all({"student": models[student], "big": models[teacher]}, task, batch)
    recipe, _ = resolve(schema.parse(given), sites)
    distiller = Distiller(
        models[student],
        teachers={"big": Frozen(models[teacher])},
        paths={name: build_path(name, spec, ()) for name, spec in recipe.paths.items()},
        task=task,
        example=batch,
        samples=10,
    )
    step = distiller(batch)
    found = {row.path for row in step.ledger.rows}
    assert all(any(name.startswith(short) for name in found) for short in SHORT)
    assert step.ledger.losses.isfinite().all()
