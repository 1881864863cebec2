import copy
import pickle

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from tutelage.errors import InputError, TapNotFound
from tutelage.taps import Taps, first_tensor, inner


@pytest.fixture
def model():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(64, 5)
    )


class Named(nn.Module):
    """Submodules called as the test wishes."""

    def __init__(self, forward):
        super().__init__()
        self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)
        self.how = forward

    def forward(self, x):
        return self.how(self, x)


class Answers(nn.Module):
    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, x):
        return self.answer(x)


X = torch.linspace(-1, 1, 2 * 3 * 6 * 6).view(2, 3, 6, 6)


def test_reads_outputs_inputs_and_the_result(model):
    model.eval()
    read = Taps(model, ["0", "4:input"])(lambda: model(X))
    assert_close(read["0"], model[0](X))
    assert_close(read["4:input"], model[:4](X))
    assert_close(read[""], model(X))
    assert list(read) == ["0", "4:input", ""]


def test_a_tensor_overwritten_by_a_later_layer_is_read_as_it_was_at_every_forward(model):
    model.eval()
    taps = Taps(model, ["1", "2"])
    before = model[:2](X)
    assert before.min() < 0
    for _ in range(3):
        read = taps(lambda: model(X))
        assert_close(read["1"], before)
        assert_close(read["2"], before.relu())


def test_bn1_of_torchvision_resnet18_is_read_before_its_in_place_relu():
    from torchvision.models import resnet18

    model, x = resnet18(num_classes=2), torch.randn(2, 3, 32, 32)
    taps = Taps(model, ["bn1", "layer1"])
    for _ in range(2):
        read = taps(lambda: model(x))
        assert read["bn1"].min() < 0
        read["bn1"].sum().backward()
        assert model.bn1.weight.grad is not None


def test_copies_only_what_is_overwritten(model):
    seen = []
    model[1].register_forward_hook(lambda m, a, out: seen.append(out))
    model[4].register_forward_hook(lambda m, a, out: seen.append(out))
    taps = Taps(model, ["1", "4"])
    taps(lambda: model(X))
    seen.clear()
    read = taps(lambda: model(X))
    assert read["4"] is seen[1]
    assert read["1"] is not seen[0]


def test_refuses_a_tensor_overwritten_for_the_first_time_after_it_was_read_bare():
    overwrite = []

    def forward(me, x):
        y = me.first(x)
        return y.mul_(2) if overwrite else y * 2

    model = Named(forward)
    taps = Taps(model, ["first"], owner="student")
    x = torch.ones(1, 2)
    plain = taps(lambda: model(x))["first"]
    overwrite.append(True)
    with pytest.raises(InputError, match=r"student: the tensor at tap 'first' was overwritten"):
        taps(lambda: model(x))
    assert_close(taps(lambda: model(x))["first"], plain)


def test_gradient_flows_back_through_a_tap(model):
    Taps(model, ["1"])(lambda: model(X))["1"].square().sum().backward()
    assert model[0].weight.grad.abs().sum() > 0
    assert model[4].weight.grad is None


def test_leaves_no_hook_behind_even_when_the_forward_fails(model):
    def fail():
        model(X)
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        Taps(model, ["0", "4:input"])(fail)
    Taps(model, ["0", "4:input"])(lambda: model(X))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    pickle.loads(pickle.dumps(model))


def test_a_copy_of_model_and_taps_reads_the_copy(model):
    taps = Taps(model, ["0"])
    taps(lambda: model(X))
    other, its = copy.deepcopy((model, taps))
    nn.init.zeros_(other[0].weight)
    nn.init.zeros_(other[0].bias)
    assert its(lambda: other(X))["0"].abs().sum() == 0
    assert taps(lambda: model(X))["0"].abs().sum() > 0


def test_two_taps_share_one_model_in_one_forward(model):
    outer, nested = Taps(model, ["0"]), Taps(model, ["0", "2"])
    kept = {}

    def run():
        kept.update(nested(lambda: model(X)))
        return kept[""]

    assert_close(outer(run)["0"], kept["0"])


def test_a_module_that_runs_twice_is_read_at_its_last_run():
    model = Named(lambda me, x: me.first(me.first(x)))
    x = torch.ones(1, 2)
    assert_close(Taps(model, ["first"])(lambda: model(x))["first"], model(x))


def test_reads_the_first_tensor_of_a_collection_and_of_keyword_arguments():
    wrapped = nn.Sequential(
        Answers(lambda x: {"none": None, "pair": (x + 1, x)}), Answers(lambda d: d["pair"][0])
    )
    x = torch.ones(1, 2)
    assert_close(Taps(wrapped, ["0"])(lambda: wrapped(x))["0"], x + 1)
    by_keyword = Named(lambda me, x: me.first(input=x))
    assert Taps(by_keyword, ["first:input"])(lambda: by_keyword(x))["first:input"] is not None


def test_says_so_when_a_tapped_module_gives_no_tensor():
    wrapped = nn.Sequential(Answers(lambda x: ["no", None]), Answers(lambda x: torch.ones(1)))
    with pytest.raises(InputError, match=r"teacher 'big'.*'0'.*list"):
        Taps(wrapped, ["0"], owner="teacher 'big'")(lambda: wrapped(torch.ones(1)))


def test_says_so_when_a_tapped_module_did_not_run():
    model = Named(lambda me, x: me.first(x))
    with pytest.raises(InputError, match="'second' did not run"):
        Taps(model, ["first", "second"])(lambda: model(torch.ones(1, 2)))


def test_names_every_misspelt_tap_at_once_with_the_closest_ones():
    from torchvision.models import resnet18

    with pytest.raises(TapNotFound) as caught:
        Taps(resnet18(num_classes=2), ["layer5", "layer3", "fcc:input"], owner="student 'resnet18'")
    message = str(caught.value)
    assert "student 'resnet18' has no module 'layer5'." in message
    assert "close: layer4" in message
    assert "student 'resnet18' has no module 'fcc'." in message
    assert "close: fc" in message
    assert "'layer3'" not in message
    assert message.endswith("all of them: tutelage inspect resnet18")


def test_names_refer_to_the_model_inside_its_wrappers(model):
    wrapped = nn.DataParallel(model)
    assert inner(wrapped) is model
    assert_close(Taps(wrapped, ["4"])(lambda: wrapped(X))["4"], model(X))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_reads_without_gradient(model, mode):
    model.eval()
    taps = Taps(model, ["1"])
    for _ in range(2):
        with mode():
            read = taps(lambda: model(X))["1"]
        assert_close(read, model[:2](X).detach())
        assert not read.requires_grad


def test_reads_what_autocast_computed(model):
    taps = Taps(model, ["0", "4"])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        read = taps(lambda: model(X))
    assert read["0"].dtype == read["4"].dtype == torch.bfloat16


def test_first_tensor_of_nothing_is_none():
    assert first_tensor([None, "text", {}]) is None
