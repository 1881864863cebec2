"""Frames of a video: neighbours are nearly the same picture, and count as one."""

import itertools
import re
from collections.abc import Sequence

import torch
from torch import Tensor

FRAMES = 10
"""So many frames that follow each other in a video count as one."""


def blocks_of(parts: Sequence[Sequence[str]], frames: int | None) -> tuple[Tensor | None, list[str]]:
    """Number of the block of each picture, as its name tells: `frames` that follow each other in one sequence.

    Args:
        parts: Names of the pictures of each split, as ``SEQUENCE_NUMBER`` behind the last slash.
        frames: How many make a block; below 2 none. None: `FRAMES` where all names look like every so manyth frame.

    Returns:
        The numbers, int64, of all splits one after the other, or None without blocks; and what was guessed.

    Example:
        >>> blocks_of([["a_1", "a_3", "b_1", "a_2"]], 2)[0]
        tensor([0, 1, 2, 0])
    """
    numbered = [[_frame(name) for name in part] for part in parts]
    notes: list[str] = []
    if frames is None:
        if not all(_is_video(part) for part in numbered):
            return None, []
        frames = FRAMES
        sequences = len({frame[0] for part in numbered for frame in part if frame is not None})
        notes.append(
            f"the names look like frames of {sequences} videos: {frames} that follow each other count as one for the "
            "verdict, and are cut together (data.frames=0 counts each)."
        )
    if frames < 2:
        return None, notes
    blocks, block, first = torch.empty(sum(map(len, numbered)), dtype=torch.int64), -1, 0
    for part in numbered:
        last, count = None, 0
        for number in sorted(range(len(part)), key=lambda n: part[n] or ("", n)):
            sequence = (part[number] or ("", 0))[0]
            if sequence != last or count == frames:
                block, count, last = block + 1, 0, sequence
            blocks[first + number], count = block, count + 1
        first += len(part)
    return blocks, notes


def _frame(name: str) -> tuple[str, int] | None:
    """The sequence of a frame and its number, from ``SEQUENCE_NUMBER``."""
    match = re.fullmatch(r"(.*?[^0-9])(\d+)", name.rpartition("/")[2])
    return None if match is None else (match[1], int(match[2]))


def _is_video(part: Sequence[tuple[str, int] | None]) -> bool:
    """Whether numbers go on in equal steps of more than one: every so many frames of a video was marked."""
    frames = sorted(frame for frame in part if frame is not None)
    if len(frames) < len(part) or len(frames) < 8:
        return False
    steps = [b[1] - a[1] for a, b in itertools.pairwise(frames) if a[0] == b[0]]
    return bool(steps) and sum(1 < step <= 100 for step in steps) >= 0.9 * len(frames) - len({f[0] for f in frames})
