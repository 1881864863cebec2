import torch
from torch import nn

from tutelage.models import Preprocess, cifar, latency, macs, parameters


def test_shared_parameters_count_once():
    layer = nn.Linear(4, 4, bias=False)
    assert parameters(nn.Sequential(layer, layer)) == 16


def test_macs_of_a_strided_grouped_convolution_are_those_of_its_definition():
    conv = nn.Conv2d(8, 12, 3, stride=2, padding=1, groups=4)
    assert macs(conv, (8, 10, 10)) == 12 * 5 * 5 * (8 // 4) * 9


def test_resnet20_has_its_published_forty_one_million():
    assert abs(macs(cifar.resnet20(), (3, 32, 32)) / 1e6 - 40.8) < 0.5


def test_a_model_that_enlarges_pictures_pays_for_it():
    plain, enlarging = nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1)
    enlarging.preprocess = Preprocess((0.0,), (1.0,), size=(8, 8))
    assert macs(enlarging, (1, 4, 4)) == 4 * macs(plain, (1, 4, 4))


def test_measuring_leaves_the_model_and_the_threads_as_they_were():
    model = cifar.resnet8()
    model.layer1.eval()
    statistics = model.bn1.running_mean.clone()
    threads = torch.get_num_threads()
    assert latency(model, (3, 8, 8), runs=3) > 0
    macs(model, (3, 8, 8))
    assert model.training
    assert not model.layer1.training
    assert torch.equal(model.bn1.running_mean, statistics)
    assert torch.get_num_threads() == threads


def test_a_larger_model_takes_longer():
    small, large = cifar.resnet8(), cifar.resnet56()
    assert latency(large, (3, 16, 16), runs=7) > latency(small, (3, 16, 16), runs=7)
