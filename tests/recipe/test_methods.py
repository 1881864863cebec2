"""The paper index is whole, and each of its recipes can be built."""

import pathlib
import re

import pytest
from PIL import Image

from tutelage import losses, weighting
from tutelage.cli.prepare import prepare
from tutelage.recipe import schema

ROOT = pathlib.Path(__file__).resolve().parents[2]
INDEX = (ROOT / "docs" / "paper-index.md").read_text(encoding="utf-8")
RECIPES = sorted((ROOT / "recipes" / "methods").glob("*.yaml"))


def recipe(path, **data):
    """A recipe on the digits, with teachers that were not trained."""
    raw = schema.read(path)
    raw["teachers"] = {name: untrained(model) for name, model in raw.get("teachers", {}).items()}
    return raw | {"data": {"use": "digits", "limit": 128, "batch_size": 64, **data}}


def untrained(model):
    """A model without its file of weights."""
    return model.partition("@")[0] if isinstance(model, str) else {**model, "weights": None}


def photos(root, raw):
    """A recipe for super-resolution on a folder of pictures, with networks that are quickly built."""
    for number in range(6):
        Image.linear_gradient("L").convert("RGB").resize((32, 24 + 8 * (number % 2))).save(root / f"{number}.png")
    raw["data"] = {"use": str(root), "scale": 2, "patch": 24, "batch_size": 2}
    for model in (raw["student"], *raw["teachers"].values()):
        if isinstance(model, dict):
            model["arguments"]["width"] //= 8
    for path in raw.get("paths", {}).values():
        if "extractor" in path["loss"]:
            path["loss"] |= {"extractor": "cifar/resnet8", "layers": ["layer1"]}
    return raw


def masks(root):
    """A folder of pictures with masks."""
    for split in ("train", "val", "test"):
        for number in range(2):
            for folder, mode in (("images", "RGB"), ("masks", "L")):
                (root / split / folder).mkdir(parents=True, exist_ok=True)
                image = (
                    Image.linear_gradient("L").resize((64, 64)).point(lambda value, n=number: value // 100 * (1 + n))
                )
                image.convert(mode).save(root / split / folder / f"{number}.png")
    return root


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_is_built(path, tmp_path):
    raw = recipe(path)
    if raw.get("task") == "segmentation":
        pytest.importorskip("segmentation_models_pytorch")
        raw["data"] = {"use": str(masks(tmp_path)), "batch_size": 2}
    if raw.get("task") == "super_resolution":
        raw = photos(tmp_path, raw)
    prepared = prepare(raw, {}, force=True)
    assert prepared.pairing or not prepared.teachers


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_is_short_and_says_where_it_is_from(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert 10 <= len(lines) <= 16
    assert re.search(r"\b(19|20)\d\d\b|of this library", lines[0])


def test_the_index_has_every_recipe_and_no_other():
    assert set(re.findall(r"`(\w+)\.yaml`", INDEX)) == {path.stem for path in RECIPES}


@pytest.mark.parametrize("name", [*losses.__all__, *weighting.__all__])
def test_the_index_has_every_loss_and_every_weighting(name):
    assert f"`{name}`" in INDEX
