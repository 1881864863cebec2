"""One ONNX file, from the shared picture to logits."""

import json
import pathlib
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from tutelage.errors import MissingExtra, ModelError

from .parity import Agree, Parity, Runtime, deliver
from .standalone import Finish, Standalone, checked_pictures

LARGEST = 2**31 - 2**20
"""Bytes of weights that one ONNX file can hold."""


def to_onnx(
    model: nn.Module,
    folder: pathlib.Path,
    *,
    input_shape: tuple[int, int, int],
    sample_inputs: Tensor,
    classes: Sequence[str] = (),
    tolerance: float = 1e-3,
    finish: Finish | None = None,
    agree: Agree | None = None,
    any_size: bool = False,
) -> Parity:
    """Write ``model.onnx`` with the preprocessing inside, and check it with ONNX Runtime.

    The graph takes ``image``, float32 ``[batch, C, H, W]`` in [0, 1] for any batch, and gives ``logits``.
    Its metadata hold ``classes`` (a JSON list), ``input_range`` and ``input_layout``.

    Args:
        model: Any module; its ``preprocess`` becomes part of the graph. It is copied, not changed.
        folder: Where ``model.onnx`` and ``parity.json`` go.
        input_shape: Channels, height and width of a picture.
        sample_inputs: Real pictures for the check, float ``[n, C, H, W]`` in [0, 1].
        classes: Names of the classes, in the order of the logits.
        tolerance: Largest difference between logits that passes, as a share of the largest logit or of 1.
        finish: The last step of the graph, `Task.finish`.
        agree: How two outputs are compared beside their largest difference, `Task.agree`; by default by arg-max.
        any_size: Let the graph take pictures of any height and width.

    Returns:
        How close the file is to the model.

    Raises:
        InputError: The pictures are not what they should be.
        ModelError: The model cannot be traced or translated, or the file disagrees; nothing is written.
        MissingExtra: ``onnx``, ``onnxscript`` or ``onnxruntime`` is not installed.
        RunError: The folder cannot be written.
    """
    try:
        import onnx  # noqa: F401  (what torch.onnx needs, asked for here to name the extra)
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingExtra(f"to_onnx needs {error.name}: pip install 'tutelage[export]'") from error
    pictures = checked_pictures(sample_inputs, input_shape)
    standalone = Standalone(model, finish)
    if (size := sum(tensor.nbytes for tensor in standalone.state_dict().values())) > LARGEST:
        raise ModelError(f"an ONNX file holds at most 2 GB, found {size / 2**30:.1f} GB of weights. Export to pt2.")
    program = _translated(standalone.trace(pictures, any_size=any_size), classes, any_size)
    return deliver(
        folder,
        "model.onnx",
        write=lambda path: program.save(path, external_data=False),
        opened=opened,
        model=standalone,
        pictures=pictures,
        tolerance=tolerance,
        agree=agree,
        any_size=any_size,
    )


def opened(path: pathlib.Path) -> Runtime:
    """A file of `to_onnx`, run by ONNX Runtime on the CPU with as many threads as torch has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda batch: torch.from_numpy(session.run(["logits"], {"image": batch.numpy()})[0])


def _translated(traced: ExportedProgram, classes: Sequence[str], any_size: bool) -> torch.onnx.ONNXProgram:
    try:
        program = torch.onnx.export(
            traced,
            dynamo=True,
            verbose=False,
            input_names=["image"],
            output_names=["logits"],
            # The tracing is done: this only names the dimensions.
            dynamic_shapes=({0: "batch", **({2: "height", 3: "width"} if any_size else {})},),
        )
    except torch.onnx.OnnxExporterError as error:
        raise ModelError(
            f"the model has an operation that ONNX cannot express: {str(error).strip().splitlines()[0]}"
        ) from error
    assert program is not None
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # module paths and file names of this machine
    program.model.metadata_props.update(
        classes=json.dumps(list(classes)), input_range="[0.0, 1.0]", input_layout="NCHW"
    )
    return program
