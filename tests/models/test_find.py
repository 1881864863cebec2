import subprocess
import sys
import types

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from tutelage.errors import InputError, ModelError, UnknownName
from tutelage.models import Named, Preprocess, cifar, find, names, parse
from tutelage.models.live import copied

TINY_VIT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


class Small(nn.Module):
    def __init__(self, num_classes=3, in_channels=1, width=4):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, width, 3)
        self.fc = nn.Linear(width, num_classes)

    def forward(self, x):
        return self.fc(self.conv(x).mean((2, 3)))


@pytest.fixture
def mylab(monkeypatch):
    """An importable package of a user."""
    nets = types.ModuleType("mylab.nets")
    nets.Small = Small
    nets.made = lambda: Small(5)
    nets.nothing = lambda: 3
    package = types.ModuleType("mylab")
    package.nets = nets
    monkeypatch.setitem(sys.modules, "mylab", package)
    monkeypatch.setitem(sys.modules, "mylab.nets", nets)
    return nets


def both_states(*models):
    return [model.state_dict().values() for model in models]


def see(model, *shape):
    with torch.no_grad():
        return model.eval()(model.preprocess(torch.rand(2, *shape)))


# --- parse


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("cifar/resnet20", Named("resnet20", "cifar/resnet20")),
        ("big=cifar/resnet56@big.safetensors", Named("big", "cifar/resnet56", "big.safetensors")),
        ("timm/resnet18@w/a=b@c.pt", Named("resnet18", "timm/resnet18", "w/a=b@c.pt")),
        ("t-1=runs/a=b", Named("t-1", "runs/a=b", None)),
        ("runs/wide/student/", Named("wide", "runs/wide/student/")),
        ("./runs/big", Named("big", "./runs/big")),
        ("hf/models/my vit", Named("my_vit", "hf/models/my vit")),
        ("mylab.nets:tiny", Named("tiny", "mylab.nets:tiny")),
    ],
)
def test_a_model_is_read_as_name_source_and_weights(text, named):
    assert parse(text) == named


@pytest.mark.parametrize("text", ["", "big=", "=cifar/resnet20", "@w.pt", "cifar/resnet20@", "a b=cifar/resnet20"])
def test_a_part_that_is_empty_or_no_name_is_refused(text):
    with pytest.raises(InputError, match="expected a"):
        parse(text)


# --- find: our own and live ones


def test_a_seed_decides_the_weights_and_leaves_the_generator_alone():
    state = torch.get_rng_state()
    one, two, other = (find("cifar/resnet8", seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one.conv1.weight, two.conv1.weight)
    assert not torch.equal(one.conv1.weight, other.conv1.weight)


def test_without_a_seed_the_global_generator_decides():
    torch.manual_seed(7)
    expected = cifar.resnet8(4).conv1.weight
    torch.manual_seed(7)
    assert torch.equal(find("cifar/resnet8", num_classes=4).conv1.weight, expected)


@pytest.mark.parametrize("source", ["cifar/resnet21", "resnet20", "runs/none", "cifar"])
def test_an_unknown_name_offers_close_ones(source):
    with pytest.raises(UnknownName, match=r"(?s)there is no model.*resnet20"):
        find(source)


def test_a_folder_that_is_no_run_is_named_as_such(tmp_path):
    with pytest.raises(UnknownName, match="is a folder, but holds no"):
        find(str(tmp_path))


def test_a_live_module_is_returned_itself_with_what_every_model_carries():
    model = Small(in_channels=2)
    assert find(model) is model
    assert model.preprocess == Preprocess.identity(2)
    assert model.origin["name"] == f"{Small.__module__}:Small"
    assert set(model.state_dict()) == {"conv.weight", "conv.bias", "fc.weight", "fc.bias"}


def test_a_live_module_keeps_what_it_has():
    model = Small()
    model.preprocess = Preprocess((0.2,), (0.3,))
    assert find(model).preprocess.mean == (0.2,)


def test_a_foreign_attribute_called_preprocess_is_refused():
    model = Small()
    model.preprocess = lambda x: x
    with pytest.raises(ModelError, match=r"Small\.preprocess"):
        find(model)


@pytest.mark.parametrize("wrapper", [nn.DataParallel, torch.compile])
def test_a_wrapped_module_is_taken_out_with_all_it_carries(wrapper):
    model = Small()
    model.preprocess = Preprocess((0.2,), (0.3,), classes=(1, 0, 2))
    assert find(wrapper(model)) is model
    assert model.preprocess == Preprocess((0.2,), (0.3,), classes=(1, 0, 2))


def test_what_a_wrapper_carries_itself_is_not_lost():
    outer = nn.DataParallel(Small())
    outer.preprocess = Preprocess((0.2,), (0.3,))
    assert find(outer).preprocess == Preprocess((0.2,), (0.3,))


@pytest.mark.parametrize("shared", [False, True])
def test_a_copy_of_a_module_leaves_the_module_alone(shared):
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)), nn.BatchNorm1d(3))
    model[1].weight.requires_grad_(False)
    flags = [x.requires_grad for x in model.parameters()]
    twin = copied(model, shared=shared)
    assert [x.requires_grad for x in twin.parameters()] == flags
    assert [one.data_ptr() == other.data_ptr() for one, other in zip(*both_states(model, twin), strict=True)] == [
        shared
    ] * len(model.state_dict())
    twin.eval().requires_grad_(False).double()
    assert model.training
    assert [x.requires_grad for x in model.parameters()] == flags
    assert {x.dtype for x in model.parameters()} == {torch.float32}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated:FutureWarning")
@pytest.mark.parametrize("shared", [False, True])
def test_a_module_whose_weights_are_computed_anew_in_every_forward_is_copied(shared):
    model = nn.utils.weight_norm(nn.Linear(3, 3))
    pictures = torch.rand(2, 3)
    assert_close(copied(model, shared=shared)(pictures), model(pictures))


# --- find: what a model of the user's own answers


class Record(Small):
    def forward(self, x):
        return {"logits": super().forward(x)}


class Pair(Small):
    def forward(self, x):
        return super().forward(x), None


class Misbuilt(Small):
    def forward(self, x):
        return self.fc(x.flatten(1))


OWN = {"num_classes": 3, "in_channels": 1, "input_size": (8, 8)}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Small(5), r"expected logits \[1, 3\] for one picture, found \[1, 5\]\. Change its last layer"),
        (Small(2), r"expected logits \[1, 3\] for one picture, found \[1, 2\]\. Change its last layer"),
        (Record(), r"expected logits \[1, 3\] for one picture, found dict\. .*gives that alone"),
        (Pair(), r"expected logits \[1, 3\] for one picture, found tuple\. .*gives that alone"),
        (Misbuilt(), r"on a picture \[1, 1, 8, 8\] failed with RuntimeError: mat1 and mat2 shapes.*Mend it"),
    ],
    ids=["more", "fewer", "dict", "tuple", "fails"],
)
def test_a_model_that_answers_with_something_else_is_refused(mylab, model, message):
    with pytest.raises(ModelError, match=f"^{type(model).__name__}:? {message}"):
        find(model, **OWN)
    mylab.wrong = lambda: model
    with pytest.raises(ModelError, match=rf"^mylab\.nets:wrong:? {message}"):
        find("mylab.nets:wrong", allow_import=["mylab"], **OWN)


def test_what_a_model_should_answer_is_what_the_task_says():
    assert isinstance(find(Small(5), **OWN, fits=lambda output, pictures: None), Small)
    with pytest.raises(ModelError, match=r"expected boxes for one picture, found \[1, 3\]"):
        find(Small(), **OWN, fits=lambda output, pictures: "boxes")


def test_columns_are_counted_as_the_model_has_them_arranged():
    model = Small(5)
    model.preprocess = Preprocess((0.0,), (1.0,), classes=(4, 0, 2))
    assert find(model, **OWN) is model


def test_modes_stay_what_they_were():
    model = Small()
    model.norm = nn.BatchNorm2d(1).eval()
    find(model, **OWN)
    assert model.training
    assert not model.norm.training


def test_layers_that_take_their_size_from_a_picture_start_from_the_seed(mylab):
    mylab.lazy = lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(3))
    one, two, other = (find("mylab.nets:lazy", allow_import=["mylab"], **OWN, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one[1].weight, two[1].weight)
    assert not torch.equal(one[1].weight, other[1].weight)


def test_a_model_that_sees_the_truth_is_not_shown_small_pictures():
    model = Small()
    model.sees_truth = True
    assert find(model, **OWN, fits=lambda output, pictures: "pictures twice as large") is model


# --- find: the user's own code


def test_a_factory_is_imported_only_when_its_package_is_allowed(mylab):
    with pytest.raises(InputError, match="--allow-import mylab"):
        find("mylab.nets:Small")
    with pytest.raises(InputError, match="--allow-import mylab"):
        find("mylab.nets:Small", allow_import=["mylab2", "nets"])


def test_nothing_is_imported_before_the_refusal(tmp_path, monkeypatch):
    (tmp_path / "trap_package.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match="--allow-import trap_package"):
        find("trap_package:net")
    assert "trap_package" not in sys.modules


def test_a_factory_is_given_what_it_has_parameters_for(mylab):
    model = find("mylab.nets:Small", num_classes=6, in_channels=2, input_size=(8, 8), allow_import=["mylab"])
    assert (model.fc.out_features, model.conv.in_channels) == (6, 2)
    assert model.origin == {
        "library": "factory",
        "name": "mylab.nets:Small",
        "arguments": {"num_classes": 6, "in_channels": 2},
        "weights": None,
    }
    assert find("mylab.nets:made", num_classes=6, allow_import=["mylab"]).fc.out_features == 5
    assert find("mylab.nets:Small", arguments={"width": 7}, allow_import=["mylab"]).conv.out_channels == 7


def test_what_a_factory_cannot_be_is_said(mylab):
    with pytest.raises(ModelError, match=r"expected a torch\.nn\.Module.*found int"):
        find("mylab.nets:nothing", allow_import=["mylab"])
    with pytest.raises(UnknownName, match="close: Small"):
        find("mylab.nets:Smal", allow_import=["mylab"])
    with pytest.raises(InputError, match="no module 'mylab_none'"):
        find("mylab_none:net", allow_import=["mylab_none"])


# --- find: timm


def test_a_convnet_of_timm_takes_the_users_size():
    pytest.importorskip("timm")
    model = find("timm/mobilenetv3_small_050", num_classes=5, in_channels=1, input_size=(32, 32))
    assert model.preprocess.size is None
    assert see(model, 1, 32, 32).shape == (2, 5)


def test_a_transformer_of_timm_is_built_for_the_users_size():
    pytest.importorskip("timm")
    model = find("timm/vit_tiny_patch16_224", num_classes=5, input_size=(32, 48))
    assert model.origin["arguments"]["img_size"] == [32, 48]
    assert model.preprocess.size is None
    assert model.preprocess.mean == (0.5, 0.5, 0.5)
    assert see(model, 3, 32, 48).shape == (2, 5)


def test_a_transformer_that_cannot_be_built_so_small_enlarges_pictures():
    pytest.importorskip("timm")
    model = find("timm/vit_tiny_patch16_224", num_classes=5, in_channels=1, input_size=(8, 8), seed=1)
    assert model.preprocess.size == (224, 224)
    assert "img_size" not in model.origin["arguments"]
    again = find("timm/vit_tiny_patch16_224", num_classes=5, in_channels=1, seed=1)
    assert torch.equal(model.pos_embed, again.pos_embed)


def test_weights_decide_the_size_where_only_one_fits(tmp_path):
    pytest.importorskip("timm")
    small = find("timm/vit_tiny_patch16_224", num_classes=5, input_size=(32, 32))
    native = find("timm/vit_tiny_patch16_224", num_classes=5)
    for name, trained, size in (("small", small, None), ("native", native, (224, 224))):
        torch.save(trained.state_dict(), tmp_path / f"{name}.pt")
        found = find(
            "timm/vit_tiny_patch16_224",
            num_classes=5,
            input_size=(32, 32),
            weights=tmp_path / f"{name}.pt",
        )
        assert found.preprocess.size == size
        assert torch.equal(found.pos_embed, trained.pos_embed)
    with pytest.raises(ModelError, match="trained for 5 classes, the data has 6"):
        find("timm/vit_tiny_patch16_224", num_classes=6, input_size=(32, 32), weights=tmp_path / "native.pt")


@pytest.mark.parametrize("name", ["resnt18", "resnet18.none", "hf_hub:timm/resnet18", "local-dir:x", "hf-hub:a/b"])
def test_timm_names_that_are_unknown_or_would_fetch_are_refused(name):
    pytest.importorskip("timm")
    with pytest.raises(UnknownName, match="there is no model 'timm/"):
        find(f"timm/{name}")


@pytest.mark.parametrize("argument", ["pretrained", "checkpoint_path", "pretrained_cfg"])
def test_arguments_that_would_fetch_are_refused(argument):
    pytest.importorskip("timm")
    with pytest.raises(InputError, match=f"found {argument}"):
        find("timm/resnet18", arguments={argument: True})


def test_a_live_model_of_timm_is_normalised_as_timm_states():
    timm = pytest.importorskip("timm")
    model = find(timm.create_model("tf_efficientnet_lite0", num_classes=3))
    assert model.preprocess.mean == (0.5, 0.5, 0.5)


# --- find: torchvision


def test_a_grey_picture_goes_into_a_model_of_torchvision():
    pytest.importorskip("torchvision")
    model = find("torchvision/squeezenet1_1", num_classes=5, in_channels=1, input_size=(32, 32))
    assert see(model, 1, 32, 32).shape == (2, 5)
    assert model.preprocess.size is None
    with pytest.raises(ModelError, match="the data has 4"):
        find("torchvision/squeezenet1_1", in_channels=4)


def test_a_torchvision_model_too_deep_for_small_pictures_enlarges_them():
    pytest.importorskip("torchvision")
    model = find("torchvision/squeezenet1_1", num_classes=5, input_size=(8, 8))
    assert model.preprocess.size == (224, 224)
    assert see(model, 3, 8, 8).shape == (2, 5)


def test_networks_of_torchvision_for_no_task_of_ours_are_not_known():
    pytest.importorskip("torchvision")
    with pytest.raises(UnknownName, match=r"there is no model 'torchvision/swin3d_t'.*close: .*swin_t"):
        find("torchvision/swin3d_t")


# --- find: transformers


def test_a_model_type_of_transformers_answers_with_its_logits():
    pytest.importorskip("transformers")
    arguments = {**TINY_VIT, "patch_size": 8}
    model = find("hf/vit", num_classes=5, in_channels=1, input_size=(16, 16), arguments=arguments, seed=0)
    assert see(model, 1, 16, 16).shape == (2, 5)
    assert model.origin["arguments"]["image_size"] == 16
    assert model.preprocess.size is None


def test_a_type_with_several_classifiers_takes_the_first():
    pytest.importorskip("transformers")
    model = find("hf/deit", num_classes=5, arguments=TINY_VIT)
    assert type(model.model).__name__ == "DeiTForImageClassification"


def test_a_local_folder_of_transformers_brings_its_weights_and_normalisation(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.AutoConfig.for_model("vit", **TINY_VIT, image_size=16, patch_size=8, num_labels=5)
    trained = transformers.AutoModelForImageClassification.from_config(config).eval()
    trained.save_pretrained(tmp_path)
    stated = '{"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}'
    (tmp_path / "preprocessor_config.json").write_text(stated)
    model = find(f"hf/{tmp_path}", num_classes=5, input_size=(32, 32))
    assert model.preprocess == Preprocess((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), size=(16, 16))
    pictures = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        assert_close(model.eval()(pictures), trained(pictures).logits)
    with pytest.raises(ModelError, match="trained for 5 classes, the data has 7"):
        find(f"hf/{tmp_path}", num_classes=7)
    assert find(f"hf/{tmp_path}", num_classes=7, new_classifier=True).model.classifier.out_features == 7


def test_an_unknown_model_type_says_that_nothing_is_fetched():
    pytest.importorskip("transformers")
    with pytest.raises(UnknownName, match=r"nothing is fetched.*close: convnext"):
        find("hf/convnxt")


def test_a_live_model_of_transformers_is_wrapped_and_can_be_built_again():
    transformers = pytest.importorskip("transformers")
    config = transformers.AutoConfig.for_model("vit", **TINY_VIT, image_size=16, patch_size=8, num_labels=5)
    model = find(transformers.AutoModelForImageClassification.from_config(config))
    assert see(model, 3, 16, 16).shape == (2, 5)
    assert (model.origin["library"], model.origin["name"]) == ("hf", "vit")


@pytest.mark.parametrize("wrapper", [lambda model: model, nn.DataParallel], ids=["bare", "wrapped"])
def test_a_live_network_of_torchvision_answers_with_the_map_that_counts(wrapper):
    segmentation = pytest.importorskip("torchvision.models.segmentation")
    model = wrapper(segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=4))
    found = find(model)
    assert see(found, 3, 32, 32).shape == (2, 4, 32, 32)
    assert found.origin["name"] == "torchvision.models.segmentation.lraspp:LRASPP"


# --- names


def test_names_lists_our_own_and_those_of_installed_libraries():
    pytest.importorskip("timm")
    pytest.importorskip("torchvision")
    known = names()
    assert {"cifar/resnet20", "timm/resnet18", "torchvision/resnet18", "hf/vit"} <= set(known)
    assert known == sorted(known)
    assert names("cifar/") == sorted(f"cifar/{name}" for name in cifar.__all__)
    assert names("timm/resnet1") == [name for name in known if name.startswith("timm/resnet1")]


def test_importing_the_room_loads_torch_and_nothing_heavier():
    code = (
        "import sys, tutelage.models as m; m.names('cifar/'); m.find('cifar/resnet8'); "
        "print([p for p in ('timm', 'torchvision', 'transformers', 'safetensors') if p in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
