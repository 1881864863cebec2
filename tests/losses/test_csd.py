import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from tutelage.losses import CSD
from tutelage.models import Preprocess


def extractor():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3))


def test_matches_the_equation_written_with_loops():
    net = extractor()
    loss = CSD(extractor=net, layers=["0", "2"], weights=[0.3, 2.0], negatives=2)
    s, t, small = torch.rand(3, 3, 8, 8), torch.rand(3, 3, 8, 8), torch.rand(3, 3, 4, 4)
    plain = F.interpolate(small, scale_factor=2, mode="bicubic", antialias=True)[:2]
    total = 0.0
    for weight, part in ((0.3, net[:1]), (2.0, net)):
        near = (part(s) - part(t)).abs().mean()
        far = sum((part(s) - part(one[None])).abs().mean() for one in plain)
        total += weight * near / (far + 1e-7)
    assert_close(loss(s, t, inputs=small).mean(), total)


def test_weights_are_halved_with_each_layer_before_the_last():
    s, t, small = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8), torch.rand(2, 3, 4, 4)
    net = extractor()
    plain, named = (CSD(extractor=net, layers=["0", "2"], weights=weights) for weights in (None, [0.5, 1.0]))
    assert_close(plain(s, t, inputs=small), named(s, t, inputs=small))


def test_the_extractor_is_neither_trained_nor_kept_and_moves_along():
    loss = CSD(extractor=extractor().train())
    assert list(loss.parameters()) == []
    assert loss.state_dict() == {}
    net = loss.double().__dict__["extractor"]
    assert not net.training
    assert next(net.parameters()).dtype == torch.float64
    assert copy.deepcopy(loss).__dict__["extractor"] is not net


def test_an_extractor_is_given_its_own_normalisation():
    net = extractor()
    s, t, small = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8), torch.rand(2, 3, 4, 4)
    plain = CSD(extractor=net)(s, t, inputs=small)
    net.preprocess = Preprocess((0.5,) * 3, (0.1,) * 3)
    assert not torch.allclose(CSD(extractor=net)(s, t, inputs=small), plain)


def test_refuses_no_extractor_unknown_layers_and_options_out_of_range():
    with pytest.raises(ValueError, match="any model of pictures, found None"):
        CSD()
    with pytest.raises(ValueError, match="no module 'layer9'"):
        CSD(extractor=extractor(), layers=["layer9"])
    with pytest.raises(ValueError, match="a weight for each layer"):
        CSD(extractor=extractor(), layers=["0"], weights=[1.0, 2.0])
    with pytest.raises(ValueError, match="one shape"):
        CSD(extractor=extractor())(torch.rand(1, 3, 8, 8), torch.rand(1, 3, 12, 12), inputs=torch.rand(1, 3, 4, 4))
