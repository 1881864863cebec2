"""One ``.pt2`` archive: the graph that `torch.export` traced, with the preprocessing inside."""

import io
import json
import pathlib
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .parity import Agree, Parity, deliver
from .standalone import Finish, Standalone, checked_pictures


def to_pt2(
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
    """Write ``model.pt2``, which `torch.export.load` opens, and check it.

    The graph takes pictures in [0, 1], float32 ``[batch, C, H, W]`` for any batch, and gives logits.
    The archive's extra file ``classes.json`` names the classes.

    Args:
        model: Any module; its ``preprocess`` becomes part of the graph. It is copied, not changed.
        folder: Where ``model.pt2`` and ``parity.json`` go.
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
        ModelError: The model cannot be traced, or the file disagrees with it; nothing is written.
        RunError: The folder cannot be written.
    """
    pictures = checked_pictures(sample_inputs, input_shape)
    standalone = Standalone(model, finish)
    program = standalone.trace(pictures, any_size=any_size)
    archive = io.BytesIO()  # PyTorch aborts the process where it cannot finish an archive on disk
    torch.export.save(program, archive, extra_files={"classes.json": json.dumps(list(classes))})
    return deliver(
        folder,
        "model.pt2",
        write=lambda path: _write(path, archive),
        opened=lambda path: torch.export.load(path).module(),
        model=standalone,
        pictures=pictures,
        tolerance=tolerance,
        agree=agree,
        any_size=any_size,
    )


def _write(path: pathlib.Path, archive: io.BytesIO) -> None:
    path.write_bytes(archive.getbuffer())
