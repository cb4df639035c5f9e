# SPDX-License-Identifier: Apache-2.0
"""Clips of small moving shapes in noise, the same on every machine."""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from examples.draws import Draws

FRAMES, ROWS, COLUMNS = 8, 12, 12
SHAPES = {
    "square": ["111", "101", "111"],
    "cross": ["010", "111", "010"],
}
MOVES = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}
CLASSES = [f"{shape} {move}" for shape in SHAPES for move in MOVES]

Clips = tuple[NDArray[np.float32], NDArray[np.int64]]


def clips(seed: int, count: int) -> Clips:
    """``(clips, labels)``, shapes (count, 1, 8, 12, 12) and (count,); labels index ``CLASSES``.

    One shape moves by one pixel a frame, over a background of another brightness, and comes in
    again where it left. Brightness is as an 8-bit camera delivers it, multiples of 2**-8 from 0 to
    1 - 2**-8; the shape is 0.23 to 0.47 brighter than the background, the noise has a standard
    deviation of 0.11.
    """
    draws = Draws(seed)
    labels = draws.below(len(CLASSES), count)
    masks = np.array([[[int(p) for p in row] for row in shape] for shape in SHAPES.values()])
    background = 40 + draws.below(61, count, 1, 1, 1)
    contrast = 60 + draws.below(61, count, 1, 1, 1)
    moves = np.array(list(MOVES.values()))[labels % len(MOVES)]
    start = np.stack([draws.below(ROWS, count), draws.below(COLUMNS, count)], axis=1)
    frames = np.arange(FRAMES)
    shown = np.zeros((count, FRAMES, ROWS, COLUMNS), np.int64)
    clip = np.arange(count)[:, np.newaxis]
    for row in range(3):
        for column in range(3):
            rows = (start[:, :1] + moves[:, :1] * frames + row) % ROWS
            columns = (start[:, 1:] + moves[:, 1:] * frames + column) % COLUMNS
            shown[clip, frames, rows, columns] = masks[labels // len(MOVES), row, column, None]
    noise = draws.noise(*shown.shape) * 48 + 2**15 >> 16  # standard deviation 27.7
    codes = np.clip(background + contrast * shown + noise, 0, 255)
    return (codes * 2.0**-8).astype(np.float32)[:, np.newaxis], labels


def training() -> Clips:
    """The 4096 clips for training; the first 256 serve as calibration data."""
    return clips(1, 4096)


def held_out() -> Clips:
    """The 512 clips for checking."""
    return clips(2, 512)


def write(folder: Path) -> None:
    """Write ``calibration.npy``, ``held_out.npy`` and ``held_out_labels.npy`` into ``folder``."""
    shown, labels = held_out()
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "calibration.npy", training()[0][:256])
    np.save(folder / "held_out.npy", shown)
    np.save(folder / "held_out_labels.npy", labels)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=write.__doc__)
    parser.add_argument("folder", type=Path)
    write(parser.parse_args().folder)
