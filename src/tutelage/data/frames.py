"""Frames of a video: neighbours are nearly the same picture, and count as one."""

import itertools
import re
from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

FRAMES = 10
"""So many frames that follow each other in a video count as one."""
ENOUGH = 6
"""With fewer blocks in the test split there is no verdict."""

Frame = tuple[str, int]
"""The sequence of a frame and its number in it."""


def blocks_of(parts: Mapping[str, Sequence[str]], frames: int | None, test: float) -> tuple[Tensor | None, list[str]]:
    """Number of the block of each picture, as its name tells: `frames` that follow each other in one sequence.

    Args:
        parts: Names of the pictures of each part, as ``SEQUENCE_NUMBER`` behind the last slash.
        frames: How many make a block; below 2 none. None: `FRAMES` where all names look like every so manyth frame, and
            the test split has `ENOUGH` blocks.
        test: Share that is cut as the test split where there is none.

    Returns:
        The numbers, int64, of all parts one after the other, or None without blocks; and what was guessed.

    Example:
        >>> blocks_of({"train": ["a_1", "a_3", "b_1", "a_2"]}, 2, 0.2)[0]
        tensor([0, 1, 2, 0])
    """
    numbered = {part: [_frame(name) for name in names] for part, names in parts.items()}
    if frames is not None:
        return (_blocks(numbered, frames) if frames > 1 else None), []
    if not all(map(_is_video, numbered.values())):
        return None, []
    blocks = _blocks(numbered, FRAMES)
    sequences = len({frame[0] for part in numbered.values() for frame in part if frame is not None})
    tested = _blocks({"test": numbered["test"]}, FRAMES) if "test" in numbered else blocks
    if len(set(tested.tolist())) * (1 if "test" in numbered else test) < ENOUGH:
        return None, [
            f"the names look like frames of {sequences} videos, too few for a verdict on blocks of them: each counts "
            f"for itself, though neighbours may be in two splits (data.frames={FRAMES} cuts {FRAMES} together)."
        ]
    return blocks, [
        f"the names look like frames of {sequences} videos: {FRAMES} that follow each other count as one for the "
        "verdict, and are cut together (data.frames=0 counts each)."
    ]


def _blocks(numbered: Mapping[str, Sequence[Frame | None]], frames: int) -> Tensor:
    blocks, block, first = torch.empty(sum(map(len, numbered.values())), dtype=torch.int64), -1, 0
    for part in numbered.values():
        last, count = None, 0
        for number in sorted(range(len(part)), key=lambda n: part[n] or ("", n)):
            sequence = (part[number] or ("", 0))[0]
            if sequence != last or count == frames:
                block, count, last = block + 1, 0, sequence
            blocks[first + number], count = block, count + 1
        first += len(part)
    return blocks


def _frame(name: str) -> Frame | None:
    """The sequence of a frame and its number, from ``SEQUENCE_NUMBER``."""
    match = re.fullmatch(r"(.*?[^0-9])(\d+)", name.rpartition("/")[2])
    return None if match is None else (match[1], int(match[2]))


def _is_video(part: Sequence[Frame | None]) -> bool:
    """Whether each sequence goes on in one step of more than one: every so many frames of a video was marked."""
    frames = sorted(frame for frame in part if frame is not None)
    if len(frames) < len(part) or len(frames) < 8:
        return False
    steps: dict[str, Counter[int]] = {}
    for first, second in itertools.pairwise(frames):
        if first[0] == second[0]:
            steps.setdefault(first[0], Counter())[second[1] - first[1]] += 1
    usual = [each.most_common(1)[0] for each in steps.values()]
    repeats = sum(count - 1 for step, count in usual if 1 < step <= 100)
    possible = sum(each.total() - 1 for each in steps.values())  # one step alone repeats nothing
    return possible >= len(frames) / 2 and repeats >= 0.9 * possible
