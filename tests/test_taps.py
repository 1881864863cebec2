import copy
import pickle

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.testing import assert_close

from tapped import Answers, Named, X, layers
from tutelage.errors import InputError, TapNotFound
from tutelage.taps import Taps, classifier, first_tensor, head, inner


@pytest.fixture
def model():
    return layers()


def test_reads_outputs_inputs_and_the_result(model):
    model.eval()
    read = Taps(model, ["0", "4:input"])(lambda: model(X))
    assert_close(read["0"], model[0](X))
    assert_close(read["4:input"], model[:4](X))
    assert_close(read[""], model(X))
    assert list(read) == ["0", "4:input", ""]


def test_a_module_that_runs_several_times_is_read_at_the_run_that_is_named_else_at_the_last():
    named = Named(lambda m, x: m.first(m.first(m.first(x))))
    x = torch.randn(3, 2)
    read = Taps(named, ["first:0", "first:1", "first"])(lambda: named(x))
    assert_close(read["first:0"], named.first(x))
    assert_close(read["first:1"], named.first(named.first(x)))
    assert_close(read["first"], read[""])
    with pytest.raises(InputError, match=r"'first:3' did not run in this forward"):
        Taps(named, ["first:3"])(lambda: named(x))


def test_an_ending_stands_behind_the_run_it_is_about():
    named = Named(lambda m, x: m.first(m.first(m.first(x))))
    x = torch.randn(3, 2)
    read = Taps(named, ["first:0:input", "first:1:pooled"])(lambda: named(x))
    assert_close(read["first:0:input"], x)
    assert_close(read["first:1:pooled"], named.first(x))


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
    wrapped = nn.Sequential(Answers(lambda x: {"none": None, "pair": (x + 1, x)}), Answers(lambda d: d["pair"][0]))
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
    assert message.endswith("all of them: tutelage inspect MODEL")


def test_names_refer_to_the_model_inside_its_wrappers(model):
    wrapped = nn.DataParallel(model)
    assert inner(wrapped) is model
    assert_close(Taps(wrapped, ["4"])(lambda: wrapped(X))["4"], model(X))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_reads_a_forward_that_turns_gradients_off_itself(model, mode):
    model.eval()

    def run():
        with mode():
            return model(X)

    taps = Taps(model, ["1"])
    for _ in range(2):
        assert_close(taps(run)["1"], model[:2](X).detach())
        assert_close(taps(lambda: model(X))["1"], model[:2](X))


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


def test_names_refer_to_the_model_inside_ddp_and_gradients_flow(model):
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(model)
        read = Taps(wrapped, ["4"])(lambda: wrapped(X))
        read["4"].sum().backward()
    finally:
        dist.destroy_process_group()
    assert inner(wrapped) is model
    assert model[0].weight.grad is not None


@pytest.mark.slow
def test_reads_a_compiled_model_that_runs_through_its_taps_from_the_start(model):
    compiled = torch.compile(model.eval(), backend="eager", fullgraph=True)
    taps = Taps(compiled, ["1", "4:input"])
    for _ in range(3):
        x = torch.randn_like(X)
        read = taps(lambda x=x: compiled(x))
        assert_close(read["1"], model[:2](x))
        assert_close(read["4:input"], model[:4](x))


def test_moves_the_channels_of_a_map_to_the_front():
    model = nn.Sequential(Answers(lambda x: x.permute(0, 2, 3, 1)))
    assert_close(Taps(model, ["0:map"])(lambda: model(X))["0:map"], X)


def test_a_map_tap_needs_four_dimensions(model):
    with pytest.raises(InputError, match=r"expected a tensor \[B, H, W, C\] at tap '4:map', found \[2, 5\]"):
        Taps(model, ["4:map"])(lambda: model(X))


def test_pools_what_a_convolution_or_a_linear_layer_is_given():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), Answers(lambda x: x.permute(0, 2, 3, 1)), nn.Linear(4, 2))
    read = Taps(model, ["0:pooled", "2:pooled"])(lambda: model(X))
    assert_close(read["0:pooled"], X.mean((2, 3)))
    assert_close(read["2:pooled"], model[0](X).mean((2, 3)))


def test_the_classifier_is_what_timm_says_or_the_last_layer_that_gives_logits():
    timm, torchvision = pytest.importorskip("timm"), pytest.importorskip("torchvision")
    assert classifier(timm.create_model("resnet18")) == "fc"
    assert classifier(timm.create_model("test_vit")) == "head"
    assert classifier(timm.create_model("test_convnext")) == "head.fc"
    assert classifier(timm.create_model("deit_tiny_distilled_patch16_224")) == "head"
    assert classifier(timm.create_model("resnet18", num_classes=0)) is None
    assert classifier(torchvision.models.squeezenet1_1()) == "classifier.1"
    assert classifier(torchvision.models.mobilenet_v2()) == "classifier.1"


def test_the_head_is_the_linear_classifier_with_so_many_classes(model):
    assert head(model, 5) is model[4]
    assert head(model, 6) is None
    assert head(nn.Sequential(nn.Conv2d(3, 5, 1)), 5) is None
    assert head(nn.ReLU(), 5) is None


def test_leaves_the_root_mean_square_of_all_channels():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 1), Answers(lambda x: x.permute(0, 2, 3, 1)), Answers(lambda x: x.flatten(1, 2))
    )
    read = Taps(model, ["0:rms", "0:input:rms", "1:map:rms", "2:rms", "0"])(lambda: model(X))
    wanted = read["0"].square().mean(1, keepdim=True).sqrt()
    assert_close(read["0:rms"], wanted)
    assert_close(read["1:map:rms"], wanted)
    assert_close(read["2:rms"], wanted.flatten(2).transpose(1, 2))
    assert_close(read["0:input:rms"], X.square().mean(1, keepdim=True).sqrt())


def test_the_root_mean_square_of_nothing_has_a_gradient_of_0():
    model = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False))
    x = torch.zeros(1, 3, 2, 2)
    Taps(model, ["0:rms"])(lambda: model(x))["0:rms"].sum().backward()
    assert model[0].weight.grad.eq(0).all()


def test_the_root_mean_square_of_vectors_is_refused(model):
    with pytest.raises(InputError, match=r"expected maps or tokens at tap '4:rms', found \[2, 5\]"):
        Taps(model, ["4:rms"])(lambda: model(X))
