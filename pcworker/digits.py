"""The shape in which a data set travels, apart from torch so that fetching one needs no torch."""

from typing import NamedTuple

import numpy as np


class Digits(NamedTuple):
    """A data set of images and labels, all uint8: images [samples, pixels], labels [samples]."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
