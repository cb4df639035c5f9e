# SPDX-License-Identifier: Apache-2.0
"""Noisy signals made of sinusoids and steps, the same on every machine."""

import argparse
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from examples.draws import Draws

LENGTH = 64
CIRCLE = 4096
"""Phases of a full circle."""

# no sine is within 1e-4 of halfway between two integers, so that every libm gives this table
SINE = np.array([round(2**14 * math.sin(2 * math.pi * n / CIRCLE)) for n in range(CIRCLE)])

Signals = tuple[NDArray[np.float32], NDArray[np.float32]]


def signals(seed: int, count: int) -> Signals:
    """``(noisy, clean)``, each of shape (count, 1, 64).

    Clean is the sum of two sinusoids of a half to three and a half periods and, in half of the
    signals, of a step up or down. Noisy is clean and bell-shaped noise of standard deviation 0.22,
    as an 8-bit converter delivers it: multiples of 2**-6, saturated to -2 and 2 - 2**-6.
    """
    draws = Draws(seed)
    time = np.arange(LENGTH)
    clean = np.zeros((count, LENGTH), np.int64)  # in units of 2**-20
    for _ in range(2):
        frequency = 32 + draws.below(193, count, 1)  # phases a sample
        phase = draws.below(CIRCLE, count, 1)
        amplitude = 10 + draws.below(23, count, 1)
        clean += amplitude * SINE[(frequency * time + phase) % CIRCLE]
    stepped = draws.below(2, count, 1)
    height = (20 + draws.below(21, count, 1)) * (2 * draws.below(2, count, 1) - 1)
    after = time >= 8 + draws.below(LENGTH - 16, count, 1)
    clean += stepped * height * np.where(after, 2**13, -(2**13))
    codes = np.clip((clean + 6 * draws.noise(count, LENGTH) + 2**13) >> 14, -128, 127)
    return (
        (codes * 2.0**-6).astype(np.float32)[:, np.newaxis],
        (clean * 2.0**-20).astype(np.float32)[:, np.newaxis],
    )


def training() -> Signals:
    """The 4096 signals for training; the first 256 serve as calibration data."""
    return signals(1, 4096)


def held_out() -> Signals:
    """The 512 signals for checking."""
    return signals(2, 512)


def gain(noisy: NDArray, clean: NDArray, denoised: NDArray) -> float:
    """By how many dB the signal-to-noise ratio of ``denoised`` exceeds that of ``noisy``."""
    before, after = (np.sum(np.square(x - clean, dtype=np.float64)) for x in (noisy, denoised))
    return 10 * math.log10(before / after)


def write(folder: Path) -> None:
    """Write ``calibration.npy``, ``held_out.npy`` and ``held_out_clean.npy`` into ``folder``."""
    noisy, clean = held_out()
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "calibration.npy", training()[0][:256])
    np.save(folder / "held_out.npy", noisy)
    np.save(folder / "held_out_clean.npy", clean)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=write.__doc__)
    parser.add_argument("folder", type=Path)
    write(parser.parse_args().folder)
