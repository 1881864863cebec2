import io

import pytest
import torch
from torch.testing import assert_close

from tutelage.models import cifar, find, parameters
from tutelage.taps import Taps

NETS = [getattr(cifar, name) for name in cifar.__all__]


@pytest.mark.parametrize("net", NETS, ids=lambda net: net.__name__)
def test_takes_small_and_larger_pictures_of_any_channels(net):
    model = net(7, 2).eval()
    with torch.no_grad():
        for side in (8, 16, 28, 32, 64):
            assert model(model.preprocess(torch.rand(1, 2, side, side))).shape == (1, 7)


# Millions, for 10 classes (He et al. 2016, table 6) and for 100 (Tian et al. 2020).
PUBLISHED = [
    ("resnet20", 10, 0.27),
    ("resnet32", 10, 0.46),
    ("resnet44", 10, 0.66),
    ("resnet56", 10, 0.85),
    ("resnet56", 100, 0.86),
    ("resnet110", 10, 1.73),
    ("resnet8x4", 100, 1.23),
    ("resnet32x4", 100, 7.43),
    ("wrn_16_2", 100, 0.70),
    ("wrn_40_2", 100, 2.25),
    ("vgg8", 100, 3.96),
    ("vgg13", 100, 9.46),
    ("mobilenetv2", 100, 0.81),
    ("shufflenetv2", 100, 1.36),
]


@pytest.mark.parametrize(("name", "classes", "millions"), PUBLISHED)
def test_has_as_many_parameters_as_published(name, classes, millions):
    with torch.device("meta"):
        model = getattr(cifar, name)(classes)
    assert parameters(model) / 1e6 == pytest.approx(millions, rel=0.02)


@pytest.mark.parametrize("net", NETS, ids=lambda net: net.__name__)
def test_stages_are_children_in_order_and_the_classifier_is_last(net):
    with torch.device("meta"):
        children = [name for name, _ in net().named_children()]
    stages = [name for name in children if name.startswith("layer")]
    assert stages == [f"layer{k}" for k in range(1, len(stages) + 1)]
    assert len(stages) >= 3
    assert children[-1] == "linear"


@pytest.mark.parametrize("net", NETS, ids=lambda net: net.__name__)
def test_no_module_changes_what_a_tap_has_read(net):
    model = net().eval()
    names = [name for name, _ in model.named_modules() if name]
    kept = {}

    def keep(name):
        def hook(module, args, output):
            kept[name] = (output, output.clone())

        return hook

    for name in names:
        model.get_submodule(name).register_forward_hook(keep(name))
    with torch.no_grad():
        model(torch.randn(2, 3, 16, 16))
    assert kept
    for name, (later, then) in kept.items():
        assert torch.equal(later, then), name


def test_resnet_stages_halve_the_grid_and_double_the_channels():
    model = cifar.resnet20().eval()
    read = Taps(model, ["layer1", "layer2", "layer3"])(lambda: model(torch.rand(1, 3, 32, 32)))
    shapes = [tuple(read[f"layer{k}"].shape[1:]) for k in (1, 2, 3)]
    assert shapes == [(16, 32, 32), (32, 16, 16), (64, 8, 8)]


def test_the_padded_shortcut_keeps_every_second_pixel_between_new_zeros():
    x = torch.rand(1, 16, 8, 8)
    y = cifar.resnet20().layer2[0].shortcut(x)
    assert_close(y[:, 8:24], x[:, :, ::2, ::2])
    assert y[:, :8].abs().sum() == y[:, 24:].abs().sum() == 0


def test_shuffling_deals_the_halves_alternately():
    from tutelage.models.cifar.shufflenet import shuffle

    channels = torch.arange(6.0).view(1, 6, 1, 1)
    assert shuffle(channels).flatten().tolist() == [0, 3, 1, 4, 2, 5]


@pytest.mark.parametrize("net", NETS, ids=lambda net: net.__name__)
def test_says_how_to_build_it_again(net):
    with torch.device("meta"):
        model = net(3, 1)
        again = getattr(cifar, model.origin["name"])(**model.origin["arguments"])
    assert model.origin["library"] == "cifar"
    assert [p.shape for p in again.parameters()] == [p.shape for p in model.parameters()]


def test_a_step_of_training_reaches_every_parameter():
    for net in (cifar.resnet8, cifar.wrn_16_2, cifar.vgg8, cifar.mobilenetv2, cifar.shufflenetv2):
        model = net(4, 1)
        model(torch.randn(3, 1, 16, 16)).logsumexp(1).sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters()), net.__name__


@pytest.mark.slow
def test_resnet20_has_the_accuracy_its_weights_were_published_with(shared):
    pq = pytest.importorskip("pyarrow.parquet")
    image = pytest.importorskip("PIL.Image")
    np = pytest.importorskip("numpy")
    n, stated = 600, 0.8797
    rows = pq.read_table(shared / "data/cifar10/test.parquet").slice(0, n).to_pylist()
    arrays = [np.asarray(image.open(io.BytesIO(row["image"]["bytes"]))) for row in rows]
    pictures = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float() / 255
    labels = torch.tensor([row["label"] for row in rows])
    weights = shared / "weights/cifar10_resnet20.safetensors"
    model = find("cifar/resnet20", num_classes=10, weights=weights).eval()
    with torch.no_grad():
        said = torch.cat([model(model.preprocess(part)).argmax(1) for part in pictures.split(200)])
    accuracy = (said == labels).float().mean().item()
    assert accuracy == pytest.approx(stated, abs=3 * (stated * (1 - stated) / n) ** 0.5)
