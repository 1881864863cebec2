"""One ONNX file whose convolutions and matrix products compute with 8-bit integers."""

import contextlib
import logging
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from tutelage.errors import MissingExtra, ModelError

from .onnx import opened, to_onnx
from .parity import Agree, Parity, Runtime, deliver
from .standalone import Finish, Standalone, checked_pictures

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "MaxPool", "GlobalAveragePool")
"""What is computed in 8 bits. Sums stay float32: those that make boxes of a detector's answers bear no rounding."""

BOUNDS = ("Relu", "Clip")
"""Where they follow a layer, its range is taken behind them, where it is narrower; elsewhere they stay float32."""

AT_ONCE = 16
"""Pictures in a batch from which ranges are taken."""


def to_int8(
    model: nn.Module,
    folder: pathlib.Path,
    *,
    input_shape: tuple[int, int, int],
    sample_inputs: Tensor,
    calibration: Tensor,
    classes: Sequence[str] = (),
    finish: Finish | None = None,
    agree: Agree | None = None,
    any_size: bool = False,
    score: Callable[[Runtime], float] | None = None,
    higher_is_better: bool = True,
    most_lost: float = 0.01,
) -> Parity:
    """Write ``model_int8.onnx``: as `to_onnx`, with weights and activations of 8 bits, and check what that costs.

    Weights have a scale for each channel, activations one for each tensor, from the range they have on `calibration`
    (static quantisation, QDQ format). Nothing is trained.

    Args:
        model: As for `to_onnx`.
        folder: Where ``model_int8.onnx`` and ``parity.json`` go.
        input_shape: Channels, height and width of a picture.
        sample_inputs: Real pictures for the comparison with the model, float ``[n, C, H, W]`` in [0, 1].
        calibration: Real pictures to take ranges from, best some hundred of the training data; of any size with
            `any_size`, else the same.
        classes: Names of the classes, in the order of the logits.
        finish: The last step of the graph, `Task.finish`.
        agree: As for `to_onnx`.
        any_size: Let the graph take pictures of any height and width.
        score: What a runtime reaches on pictures with a truth; None to do without that check.
        higher_is_better: Whether more of it is better.
        most_lost: By how much its score may be worse than the model's, 0 or more.

    Returns:
        How close the file is to the model; `Parity.scores` has both scores.

    Raises:
        InputError: The pictures are not what they should be.
        ModelError: The model cannot be translated, or the file loses more than it may; nothing is written.
        MissingExtra: ``onnx``, ``onnxscript`` or ``onnxruntime`` is not installed.
        RunError: The folder cannot be written.
    """
    try:
        from onnxruntime.quantization import quant_pre_process, quantize_static
    except ImportError as error:
        raise MissingExtra(f"to_int8 needs {error.name}: pip install 'tutelage[export]'") from error
    pictures = checked_pictures(sample_inputs, input_shape)
    height, width = calibration.shape[2:] if any_size else input_shape[1:]
    seen = checked_pictures(calibration, (input_shape[0], height, width))
    standalone = Standalone(model, finish)

    def write(path: pathlib.Path) -> None:
        with tempfile.TemporaryDirectory() as scratch, _quiet():
            place = pathlib.Path(scratch)
            to_onnx(
                model,
                place,
                input_shape=input_shape,
                sample_inputs=pictures,
                classes=classes,
                finish=finish,
                agree=agree,
                any_size=any_size,
            )
            quant_pre_process(place / "model.onnx", place / "folded.onnx", skip_symbolic_shape=True)
            quantize_static(
                place / "folded.onnx",
                path,
                _Batches(seen),
                op_types_to_quantize=[*LAYERS, *BOUNDS],
                per_channel=True,
            )

    def scored(runtime: Runtime) -> dict[str, float]:
        assert score is not None
        with torch.no_grad():
            whole, eight = score(standalone), score(runtime)
        lost = whole - eight if higher_is_better else eight - whole
        if not lost <= most_lost:
            raise ModelError(
                f"model_int8.onnx: expected a score within {most_lost:g} of the model's {whole:.4f}, found "
                f"{eight:.4f}. Nothing was written. Take the float file, or allow more (most_lost, --most-lost)."
            )
        return {"model": whole, "file": eight}

    return deliver(
        folder,
        "model_int8.onnx",
        write=write,
        opened=opened,
        model=standalone,
        pictures=pictures,
        tolerance=1.0,
        agree=agree,
        any_size=any_size,
        scored=None if score is None else scored,
    )


class _Batches:
    """Pictures as ONNX Runtime's calibration asks for them."""

    def __init__(self, pictures: Tensor) -> None:
        self._left: Iterator[Tensor] = iter(torch.split(pictures, AT_ONCE))

    def get_next(self) -> dict[str, object] | None:
        batch = next(self._left, None)
        return None if batch is None else {"image": batch.numpy()}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the advice that ONNX Runtime logs on the way: it is followed already."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
