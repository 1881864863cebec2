"""What a model costs: parameters, multiply-accumulates, time for one picture."""

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tutelage.taps import evaluating


def parameters(model: nn.Module) -> int:
    """How many numbers are learned; shared ones count once.

    Example:
        >>> parameters(nn.Linear(3, 2))
        8
    """
    return sum(parameter.numel() for parameter in model.parameters())


def macs(model: nn.Module, input_shape: tuple[int, ...]) -> int:
    """Multiply-accumulates of one forward for one picture.

    Half of the floating-point operations that torch counts: convolutions, matrix products and attention.
    Normalisation, activations, pooling and resizing are not counted.

    Args:
        model: Its `preprocess` is applied first, if it has one: a model that enlarges pictures pays for it.
        input_shape: Of one of the user's pictures, ``(C, H, W)``.

    Example:
        >>> macs(nn.Conv2d(3, 8, 3, padding=1), (3, 4, 4))
        3456
    """
    counter = FlopCounterMode(display=False)
    with _evaluating(model, input_shape) as run, counter:
        run()
    return int(counter.get_total_flops()) // 2


def latency(model: nn.Module, input_shape: tuple[int, ...], *, runs: int = 20) -> float:
    """Median time of one forward for one picture, on one thread.

    Args:
        model: On the device it is to be timed on; its `preprocess` is applied and timed, too.
        input_shape: Of one of the user's pictures, ``(C, H, W)``.
        runs: Timed forwards, after three that are not.

    Returns:
        Milliseconds.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    seconds = []
    try:
        with _evaluating(model, input_shape) as run:
            for _ in range(3):
                run()
            for _ in range(runs):
                start = time.perf_counter()
                run()
                seconds.append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    return 1000 * statistics.median(seconds)


@contextlib.contextmanager
def _evaluating(model: nn.Module, input_shape: tuple[int, ...]) -> Iterator[Callable[[], None]]:
    """A forward of one picture without gradient, in evaluation mode; afterwards the model is as it was."""
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    picture = torch.zeros(1, *input_shape, device=device)
    preprocess: Callable[[Tensor], Tensor] = getattr(model, "preprocess", None) or nn.Identity()

    def run() -> None:
        model(preprocess(picture))
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    with evaluating(model), torch.no_grad():
        yield run
