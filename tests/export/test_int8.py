"""Int8: the file computes with integers, says what the model says, and what it may lose is a limit."""

import json
import sys

import pytest
import torch
from torch import nn

from tutelage.errors import MissingExtra, ModelError
from tutelage.export import to_int8, to_onnx
from tutelage.models import Preprocess

onnxruntime = pytest.importorskip("onnxruntime")
PICTURES = torch.rand(70, 3, 16, 16, generator=torch.Generator().manual_seed(0))
GIVEN = {"input_shape": (3, 16, 16), "sample_inputs": PICTURES, "calibration": PICTURES}


def small():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU())
    model = model.extend([nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 4)]).eval()
    model.preprocess = Preprocess((0.4, 0.5, 0.6), (0.2, 0.2, 0.3), classes=(3, 1, 0))
    return model


def test_the_file_is_small_says_the_same_and_can_be_read_alone(tmp_path):
    model = small()
    parity = to_int8(model, tmp_path, classes=["a", "b", "c"], **GIVEN)
    to_onnx(model, tmp_path, input_shape=(3, 16, 16), sample_inputs=PICTURES)
    assert 0 < parity.max_difference < 0.05 * max(parity.largest_logit, 1.0)
    assert parity.scores is None
    whole, eight = (tmp_path / name for name in ("model.onnx", "model_int8.onnx"))
    assert eight.stat().st_size < 0.6 * whole.stat().st_size
    assert sorted(json.loads((tmp_path / "parity.json").read_text())) == ["model.onnx", "model_int8.onnx"]
    session = onnxruntime.InferenceSession(eight, providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == ["batch", 3, 16, 16]
    assert json.loads(session.get_modelmeta().custom_metadata_map["classes"]) == ["a", "b", "c"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "model_int8.onnx", "parity.json"]


def test_the_layers_compute_with_integers(tmp_path):
    onnx = pytest.importorskip("onnx")
    to_int8(small(), tmp_path, **GIVEN)
    graph = onnx.load(tmp_path / "model_int8.onnx").graph
    makers = {output: node.op_type for node in graph.node for output in node.output}
    layers = [node for node in graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    assert len(layers) == 3
    assert all(makers[name] == "DequantizeLinear" for node in layers for name in node.input[:2])
    weights = [tensor for tensor in graph.initializer if tensor.dims[:1] == [32]]
    assert {tensor.data_type for tensor in weights if len(tensor.dims) == 4} == {onnx.TensorProto.INT8}


@pytest.mark.parametrize(("higher", "scores"), [(True, (0.9, 0.88)), (False, (0.88, 0.9))])
def test_a_file_that_loses_too_much_is_not_written(tmp_path, higher, scores):
    said = iter(scores)
    with pytest.raises(ModelError, match=f"within 0.01 of the model's {scores[0]:.4f}, found {scores[1]:.4f}"):
        to_int8(small(), tmp_path, score=lambda runtime: next(said), higher_is_better=higher, **GIVEN)
    assert not list(tmp_path.iterdir())


def test_what_it_costs_stands_in_the_parity(tmp_path):
    said = iter((0.9, 0.95))
    parity = to_int8(small(), tmp_path, score=lambda runtime: next(said), **GIVEN)
    assert parity.scores == {"model": 0.9, "file": 0.95}
    assert json.loads((tmp_path / "parity.json").read_text())["model_int8.onnx"]["scores"] == parity.scores


def test_a_missing_package_is_an_install_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime.quantization", None)
    with pytest.raises(MissingExtra, match=r"pip install 'tutelage\[export\]'"):
        to_int8(small(), tmp_path, **GIVEN)


class Bounded(nn.Module):
    """A layer with a clip behind it, and a clip of sums at the end, as of boxes."""

    def __init__(self):
        super().__init__()
        self.layer, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3)
        self.layer.weight.data *= 50

    def forward(self, image):
        return (100 * self.last(nn.functional.relu6(self.layer(image))).mean(dim=(2, 3))).clamp(-7, 200)


def test_ranges_are_taken_behind_the_clip_of_a_layer_and_other_clips_stay_float(tmp_path):
    onnx = pytest.importorskip("onnx")
    to_int8(Bounded().eval(), tmp_path, **GIVEN)
    graph = onnx.load(tmp_path / "model_int8.onnx").graph
    makers = {name: node.op_type for node in graph.node for name in node.output}
    assert [makers[node.input[0]] for node in graph.node if node.op_type == "Clip"] == ["Mul"]
    assert makers["logits"] == "Clip"
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    behind = [node for node in graph.node if node.op_type == "QuantizeLinear" and makers.get(node.input[0]) == "Conv"]
    assert values[behind[0].input[1]] <= 6 / 255 + 1e-6
