import json
import subprocess
import sys
import types

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.testing import assert_close

from tutelage.errors import InputError, ModelError
from tutelage.models import Preprocess, cifar, find, load, save

CLASSES = ["ant", "bee", "cat"]
TINY_VIT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
READER = """
import os, pathlib, re, sys
sys.modules["tutelage"] = None  # any import of it fails
import torch
torch.set_num_threads(1)
for folder in sys.argv[1:]:
    os.chdir(folder)
    code = re.search(r"```python\\n(.*?)```", pathlib.Path("README.md").read_text(), re.S).group(1)
    space = {}
    exec(code, space)
    torch.save(space["predict"](torch.load("pictures.pt", weights_only=True)), "said.pt")
"""


class Own(nn.Module):
    def __init__(self, num_classes=3, in_channels=3):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 4, 3)
        self.bn = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, num_classes)

    def forward(self, x):
        return self.fc(self.bn(self.conv(x)).relu().mean((2, 3)))


class Untraceable(Own):
    def forward(self, x):
        return super().forward(x if x.sum().item() > 0 else -x)


@pytest.fixture
def mylab(monkeypatch):
    package = types.ModuleType("mylab")
    package.Own = Own
    monkeypatch.setitem(sys.modules, "mylab", package)


def keep(model, folder, **changed):
    options = {"card": "# A student", "classes": CLASSES, "input_size": (16, 16), **changed}
    save(model, folder, **options)
    return folder


def stir(model):
    """Batch-norm statistics that are not the initial ones."""
    model.train()
    with torch.no_grad():
        model(model.preprocess(torch.rand(8, len(model.preprocess.mean), 16, 16)))
    return model.eval()


def every_kind():
    vit = {**TINY_VIT, "patch_size": 8}
    wish = {"num_classes": 3, "input_size": (16, 16)}
    yield "cifar", stir(find("cifar/resnet8", **wish))
    yield "factory", stir(find("mylab:Own", allow_import=["mylab"], **wish))
    live = Own()
    live.preprocess = Preprocess((0.4,) * 3, (0.2,) * 3, size=(12, 12), classes=(2, 0, 1))
    yield "module", stir(find(live))
    if all(map(installed, ("timm", "torchvision", "transformers"))):
        yield "timm", stir(find("timm/mobilenetv3_small_050", **wish))
        yield "timm-enlarged", find("timm/levit_128s", num_classes=3).eval()
        yield "torchvision", stir(find("torchvision/squeezenet1_1", **wish))
        yield "hf", find("hf/vit", arguments=vit, **wish).eval()


def installed(package):
    try:
        __import__(package)
    except ImportError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.usefixtures("mylab")
def test_every_kind_of_student_loads_without_us_and_says_the_same(tmp_path):
    said = {}
    for name, model in every_kind():
        pictures = torch.rand(5, 3, 16, 16)
        folder = keep(model, tmp_path / name)
        torch.save(pictures, folder / "pictures.pt")
        with torch.no_grad():
            said[folder] = model.preprocess.arrange(model(model.preprocess(pictures)))
    subprocess.run([sys.executable, "-W", "ignore", "-c", READER, *map(str, said)], check=True)
    for folder, expected in said.items():
        assert_close(torch.load(folder / "said.pt", weights_only=True), expected, atol=1e-5, rtol=1e-4, msg=folder.name)


@pytest.mark.slow
@pytest.mark.usefixtures("mylab")
def test_every_kind_that_has_a_name_loads_with_us(tmp_path):
    pictures = torch.rand(2, 3, 16, 16)
    for name, model in every_kind():
        folder = keep(model, tmp_path / name)
        if name == "module":
            continue
        again = load(folder, allow_import=["mylab"])
        assert again.training
        assert (again.preprocess, again.origin) == (model.preprocess, model.origin)
        with torch.no_grad():
            seen = model.preprocess(pictures)
            assert_close(again.eval()(seen), model(seen), rtol=0, atol=0)


@pytest.fixture
def resnet(tmp_path):
    return stir(find("cifar/resnet8", num_classes=3, input_size=(16, 16))), tmp_path / "run" / "student"


def test_the_config_says_what_the_model_is(resnet):
    model, folder = resnet
    keep(model, folder, extra={"task": "classification"})
    config = json.loads((folder / "config.json").read_text())
    assert config["origin"]["name"] == "resnet8"
    assert (config["num_classes"], config["in_channels"], config["input_size"]) == (3, 3, [16, 16])
    assert config["classes"] == CLASSES
    assert config["extra"] == {"task": "classification"}
    assert Preprocess.from_dict(config["preprocess"]) == model.preprocess
    assert torch.__version__.startswith(config["versions"]["torch"])


def test_the_card_comes_first_and_the_classes_are_named(resnet):
    text = (keep(*resnet) / "README.md").read_text()
    assert text.startswith("# A student\n")
    assert "ant, bee, cat" in text


def test_weights_are_contiguous_and_on_the_cpu(tmp_path):
    model = find(nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last))
    keep(model, tmp_path)
    assert_close(load_file(tmp_path / "model.safetensors")["weight"], model.weight.detach().contiguous())


def test_shared_weights_are_kept(tmp_path):
    layer = nn.Conv2d(3, 3, 1)
    model = find(nn.Sequential(layer, layer))
    keep(model, tmp_path)
    assert set(load_file(tmp_path / "model.safetensors")) == set(model.state_dict())


def test_saving_leaves_the_model_as_it_was_and_no_scrap_behind(resnet):
    model, folder = resnet
    model.train()
    model.bn1.eval()
    keep(model, folder)
    assert model.training
    assert not model.bn1.training
    files = {"model.safetensors", "config.json", "README.md", "model.pt2"}
    assert {file.name for file in folder.iterdir()} == files


def test_a_write_that_fails_leaves_the_earlier_model_whole(resnet, monkeypatch):
    model, folder = resnet
    keep(model, folder)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}

    def cut(file, content):
        file.write_text("half")
        raise OSError("no space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", cut)
    with pytest.raises(OSError, match="no space"):
        keep(model, folder, card="# Another")
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_a_run_folder_is_found_by_its_student(resnet):
    model, folder = resnet
    keep(model, folder)
    for source in (folder, folder.parent):
        found = find(str(source), num_classes=3)
        assert_close(found.linear.weight, model.linear.weight, rtol=0, atol=0)


def test_a_run_of_other_classes_is_refused_or_given_a_new_classifier(resnet):
    model, folder = resnet
    keep(model, folder)
    with pytest.raises(ModelError, match="trained for 3 classes, the data has 8"):
        find(str(folder), num_classes=8)
    found = find(str(folder), num_classes=8, new_classifier=True, seed=0)
    assert found.linear.out_features == 8
    assert_close(found.conv1.weight, model.conv1.weight, rtol=0, atol=0)


def test_the_package_of_a_factory_must_be_allowed(tmp_path, mylab):
    keep(find("mylab:Own", num_classes=3, allow_import=["mylab"]), tmp_path)
    with pytest.raises(InputError, match="--allow-import mylab"):
        load(tmp_path)


def test_a_live_module_is_filled_by_its_owner(tmp_path):
    model = stir(find(Own()))
    keep(model, tmp_path)
    with pytest.raises(ModelError, match="Build it yourself"):
        load(tmp_path)
    again = find(Own(), weights=tmp_path / "model.safetensors")
    assert_close(again.bn.running_mean, model.bn.running_mean, rtol=0, atol=0)


def test_a_module_that_cannot_be_traced_is_kept_all_the_same(tmp_path, caplog):
    keep(find(Untraceable()), tmp_path)
    assert not (tmp_path / "model.pt2").exists()
    assert "cannot be exported" in caplog.text
    assert "torch.export" not in (tmp_path / "README.md").read_text()
    assert (tmp_path / "model.safetensors").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"origin": {}}', '{"origin": 3, "preprocess": {}}'])
def test_a_damaged_config_is_named(resnet, text):
    _, folder = resnet
    keep(*resnet)
    (folder / "config.json").write_text(text)
    with pytest.raises(ModelError, match=r"config\.json is damaged"):
        find(str(folder))


def test_a_folder_whose_weights_are_cut_short_is_named(resnet):
    _, folder = resnet
    keep(*resnet)
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(ModelError, match="damaged, cut short"):
        load(folder)


def test_a_config_cannot_ask_a_library_to_fetch(resnet):
    pytest.importorskip("timm")
    _, folder = resnet
    keep(*resnet)
    config = json.loads((folder / "config.json").read_text())
    origin = {"library": "timm", "name": "resnet18", "arguments": {"pretrained": True}, "weights": None}
    (folder / "config.json").write_text(json.dumps({**config, "origin": origin}))
    with pytest.raises(InputError, match="found pretrained"):
        load(folder)


def test_grey_data_goes_through_the_graph_of_a_colour_model(tmp_path):
    model = cifar.resnet8(3).eval()
    keep(model, tmp_path, in_channels=1)
    whole = torch.export.load(tmp_path / "model.pt2").module()
    grey = torch.rand(4, 1, 16, 16)
    with torch.no_grad():
        assert_close(whole(grey), model(model.preprocess(grey)))
