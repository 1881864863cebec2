"""Short names of paths: from two models that were never seen together to a step with finite losses."""

import copy

import pytest
import torch

from tutelage.distiller import Distiller
from tutelage.errors import RecipeError
from tutelage.losses import attention, fsp, kl, srrl
from tutelage.models import find
from tutelage.recipe import catalogue, schema
from tutelage.recipe.build import build_path
from tutelage.recipe.places import place_of
from tutelage.recipe.wires import SHORT, resolve, survey_all
from tutelage.tasks import Classification
from tutelage.teachers import Frozen
from tutelage.weighting import Guard

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
def test_every_short_name_gives_a_finite_loss_that_the_guard_sees_between_any_two_kinds_of_model(
    models, student, teacher
):
    task = Classification(CLASSES)
    batch = task.unpack((torch.rand(2, 3, SIDE, SIDE), torch.tensor([0, 1])))
    given = {"data": "digits", "student": "s", "teachers": {"big": "t"}, "paths": list(SHORT)}
    sites = survey_all({"student": models[student], "big": models[teacher]}, task, batch)
    recipe, _ = resolve(schema.parse(given), sites)
    distiller = Distiller(
        models[student],
        teachers={"big": Frozen(copy.deepcopy(models[teacher]))},
        paths={name: build_path(name, spec, ()) for name, spec in recipe.paths.items()},
        task=task,
        example=batch,
        samples=10,
        held_out=lambda number: batch,
    )
    step = distiller(batch)
    found = {row.path for row in step.ledger.rows}
    assert all(any(name.startswith(short) for name in found) for short in SHORT)
    assert step.ledger.losses.isfinite().all()
    distiller.look(batch)  # the first one copies what it reads, since it may be overwritten
    guard = next(gate for gate in distiller.weighting.gates if isinstance(gate, Guard))
    alignment, pull = guard.compare(*distiller.look(batch))
    assert alignment[1:].isfinite().all()
    assert pull[1:].isfinite().all()


@pytest.fixture(scope="module")
def small():
    """Two nets of the CIFAR shape, and where they can be read."""
    task = Classification(CLASSES)
    made = {role: find(f"cifar/{net}", num_classes=CLASSES) for role, net in (("student", "resnet8"), ("big", "vgg8"))}
    batch = task.unpack((torch.rand(2, 3, 32, 32), torch.tensor([0, 1])))
    return survey_all(made, task, batch)


@pytest.mark.parametrize("name", sorted(set(catalogue.names("losses")) - set(SHORT) - {"self_attention"}))
def test_every_loss_has_a_place_when_it_is_named_alone(small, name):
    given = {"data": "digits", "student": "s", "teachers": {"big": "t"}, "paths": [name]}
    recipe, table = resolve(schema.parse(given), small)
    assert [spec.loss.use for spec in recipe.paths.values()] == [name]
    assert {row["teacher_name"] for row in table} == {"big"}
    resolved = schema.parse({**given, "paths": {k: v.model_dump() for k, v in recipe.paths.items()}})
    assert resolved.paths == recipe.paths


def test_a_loss_that_reads_queries_and_keys_asks_for_its_taps(small):
    given = {"data": "digits", "student": "s", "teachers": {"big": "t"}, "paths": ["self_attention"]}
    with pytest.raises(RecipeError, match=r"'self_attention'. Name the taps yourself: paths: \{self_attention"):
        resolve(schema.parse(given), small)


def test_a_loss_that_no_table_knows_stands_where_it_is_accepted():
    assert place_of("mine", kl) == "answers"
    assert place_of("mine", attention) == "deepest"
    assert place_of("mine", fsp) == "stages"
    assert place_of("mine", srrl) == "vector"
