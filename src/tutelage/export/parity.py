"""Does the exported file say what the model says?"""

import json
import os
import pathlib
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from tutelage.errors import ModelError, RunError

from .standalone import Standalone

Runtime = Callable[[Tensor], Tensor]
"""Pictures ``[B, C, H, W]`` -> logits, computed by an exported file."""

Agree = Callable[[Tensor, Tensor], float]
"""Found and expected outputs -> the share in which they come to the same, in [0, 1]."""

CHUNK = 64


@dataclass(frozen=True)
class Parity:
    """How far an exported file is from the model it came from.

    Args:
        file: Its name.
        samples: How many pictures were compared.
        max_difference: Largest absolute difference between logits.
        largest_logit: Largest absolute logit of the model.
        agreement: Share of equal arg-max over dimension 1 (or what the task counts as equal), in [0, 1].
        tolerance: What `max_difference` may be, as a share of `largest_logit` or of 1, whichever is more.
        scores: What model and file reach on pictures with a truth, where that was looked at.
    """

    file: str
    samples: int
    max_difference: float
    largest_logit: float
    agreement: float
    tolerance: float
    scores: Mapping[str, float] | None = None

    @property
    def holds(self) -> bool:
        """Whether the difference is within the tolerance; a NaN never is."""
        return self.max_difference <= self.tolerance * max(1.0, self.largest_logit)


def same_class(found: Tensor, expected: Tensor) -> float:
    """Share of equal arg-max over dimension 1."""
    return (found.argmax(1) == expected.argmax(1)).double().mean().item()


def compare(
    model: Standalone, runtime: Runtime, pictures: Tensor, *, file: str, tolerance: float, agree: Agree | None = None
) -> Parity:
    """Run model and file on the same pictures: the first alone, the others in batches.

    Args:
        model: The model in plain PyTorch.
        runtime: The file.
        pictures: ``[n, C, H, W]`` in [0, 1].
        file: The file's name.
        tolerance: See `Parity`.
        agree: See `Parity`; by default `same_class`.

    Returns:
        What was found, whether or not it holds.
    """
    batches = [pictures[:1], *(torch.split(pictures[1:], CHUNK) if len(pictures) > 1 else ())]
    with torch.no_grad():
        expected = torch.cat([model(batch) for batch in batches])
    found = torch.cat([runtime(batch) for batch in batches])
    if found.shape != expected.shape:
        raise ModelError(
            f"{file}: expected an output of {tuple(expected.shape)}, found {tuple(found.shape)}. "
            "The model's shapes depend on the batch."
        )
    return Parity(
        file=file,
        samples=len(pictures),
        max_difference=(found - expected).abs().max().item(),
        largest_logit=expected.abs().max().item(),
        agreement=(agree or same_class)(found, expected),
        tolerance=tolerance,
    )


def deliver(
    folder: pathlib.Path,
    file: str,
    *,
    write: Callable[[pathlib.Path], None],
    opened: Callable[[pathlib.Path], Runtime],
    model: Standalone,
    pictures: Tensor,
    tolerance: float,
    agree: Agree | None = None,
    any_size: bool = False,
    scored: Callable[[Runtime], Mapping[str, float]] | None = None,
) -> Parity:
    """Write a file, check it, and only then let it appear, with its line in ``parity.json``.

    Args:
        folder: Where; made if it is missing.
        file: The file's name.
        write: Writes the file to a path.
        opened: Opens it from there.
        model: What it must agree with.
        pictures: On which.
        tolerance: See `Parity`.
        agree: See `Parity`.
        any_size: Whether it must also take pictures of another size: a part of the first.
        scored: What is found out about a file that agrees; it may refuse it, too.

    Returns:
        The parity, which holds.

    Raises:
        ModelError: The parity does not hold; the folder is as it was.
        RunError: The folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", dir=folder) as scratch:
            fresh = pathlib.Path(scratch)
            write(fresh / file)
            runtime = opened(fresh / file)
            parity = compare(model, runtime, pictures, file=file, tolerance=tolerance, agree=agree)
            if any_size and parity.holds:
                height, width = (max(8, side * 3 // 4) for side in pictures.shape[2:])
                part = pictures[:1, :, :height, :width]
                other = compare(model, runtime, part, file=file, tolerance=tolerance, agree=agree)
                parity = parity if other.holds else other
            if not parity.holds:
                raise ModelError(
                    f"{file}: expected logits within {tolerance:g} of the model's (largest: "
                    f"{parity.largest_logit:.3g}), found a difference of {parity.max_difference:.3g} on "
                    f"{parity.samples} pictures; equal arg-max: {parity.agreement:.1%}. Nothing was written."
                )
            if scored is not None:
                parity = replace(parity, scores=scored(runtime))
            lines = {**_stored(folder / "parity.json"), file: asdict(parity)}
            (fresh / "parity.json").write_text(json.dumps(lines, indent=2) + "\n", encoding="utf-8")
            for name in (file, "parity.json"):
                os.replace(fresh / name, folder / name)
    except OSError as error:
        raise RunError(f"cannot write to {folder}: {error.strerror or error}. Choose another folder.") from error
    return parity


def _stored(path: pathlib.Path) -> dict[str, object]:
    """The lines of the other formats."""
    try:
        lines: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return lines
