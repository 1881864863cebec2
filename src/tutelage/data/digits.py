"""The handwritten digits that come with scikit-learn: 1,797 grey pictures of 8 x 8, nothing to download."""

import torch

from tutelage.errors import MissingExtra

from .slices import Slice
from .source import Source


def digits() -> Source:
    """The digits as uint8: their grey values 0 … 16 are spread over 0 … 255.

    Returns:
        One set without a split.

    Raises:
        MissingExtra: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingExtra("the digits need scikit-learn: pip install 'tutelage[train]'") from error
    bunch = load_digits()
    pictures = torch.from_numpy(bunch.images).mul(255 / 16).round().to(torch.uint8)[:, None]
    classes = tuple(str(name) for name in bunch.target_names)
    train = Slice(pictures, torch.from_numpy(bunch.target), classes)
    return Source("digits", "scikit-learn's handwritten digits", {"train": train})
