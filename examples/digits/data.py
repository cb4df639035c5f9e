# SPDX-License-Identifier: Apache-2.0
"""The handwritten digits inside scikit-learn, split for training and for checking."""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

Arrays = tuple[NDArray[np.float32], NDArray[np.int64]]


def digits() -> tuple[Arrays, Arrays]:
    """``(training images, labels), (held-out images, labels)``; every fifth digit is held out.

    Images have shape (N, 1, 8, 8) and whole values 0 to 16; labels are 0 to 9. The first 256
    training images serve as calibration data wherever this project needs some.
    Source: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998.
    """
    bunch = load_digits()
    images = bunch.images.astype(np.float32)[:, np.newaxis]
    labels = bunch.target.astype(np.int64)
    held_out = np.arange(len(labels)) % 5 == 4
    return (images[~held_out], labels[~held_out]), (images[held_out], labels[held_out])


def calibration(count: int = 256) -> NDArray[np.float32]:
    """The first ``count`` training images, shape (count, 1, 8, 8)."""
    return digits()[0][0][:count]


def write(folder: Path) -> None:
    """Write ``calibration.npy``, ``held_out.npy`` and ``held_out_labels.npy`` into ``folder``."""
    _, (images, labels) = digits()
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "calibration.npy", calibration())
    np.save(folder / "held_out.npy", images)
    np.save(folder / "held_out_labels.npy", labels)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=write.__doc__)
    parser.add_argument("folder", type=Path)
    write(parser.parse_args().folder)
