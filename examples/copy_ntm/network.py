# SPDX-License-Identifier: Apache-2.0
"""The machine of ``machine.py`` in integers: all of 8 bits, but weightings of 12."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blocks import Network, NetworkPlan, Tensor, neural_turing_machine, quick_plan
from examples.copy_ntm.data import BITS, TESTED
from examples.copy_ntm.machine import EPSILON, WORDS, run
from hdl import Target
from quant import Format, from_float

FORMATS = {
    "controller_format": Format(8, 6),
    "head_format": Format(8, 6),
    "output_weight_format": Format(8, 5),
    "sum_format": Format(8, 4),
    "hidden_format": Format(8, 7),
    "key_format": Format(8, 7),
    "strength_format": Format(8, 5, False),
    "gate_format": Format(8, 8, False),
    "shift_format": Format(8, 8, False),
    "score_format": Format(8, 5),
    "weighting_format": Format(12, 12, False),
    "memory_format": Format(8, 6),
    "read_format": Format(8, 6),
    "output_format": Format(8, 3),
}
"""From the ranges of the float machine over its training sequences."""


def weights() -> dict[str, NDArray]:
    """The trained weights, by name."""
    with np.load(Path(__file__).with_name("copy_ntm.npz")) as file:
        return {name: value.astype(np.float64) for name, value in file.items()}


def network(steps: int = 2 * TESTED, rows: int = WORDS) -> Network:
    """x of shape (steps, 9), bits as they are, -> logits of shape (steps, 8)."""
    trained, f = weights(), FORMATS
    heads = f["hidden_format"].frac + f["head_format"].frac
    controller = f["controller_format"].frac + f["read_format"].frac
    output = f["output_weight_format"].frac + f["hidden_format"].frac
    arrays = {}
    for name, number, frac in (
        ("controller", f["controller_format"], controller),
        ("reader", f["head_format"], heads),
        ("writer", f["head_format"], heads),
        ("output", f["output_weight_format"], output),
    ):
        arrays[name] = from_float(trained[f"{name}.weight"], number)
        arrays[f"{name}_bias"] = from_float(trained[f"{name}.bias"], Format(24, frac))
    for name in ("reader", "reader_bias", "writer", "writer_bias"):
        arrays[name] = arrays[name][np.newaxis]  # one head
    x = Tensor((steps, BITS + 1), Format(1, 0, False))
    return neural_turing_machine(x, rows, **arrays, **f, epsilon=EPSILON)


def mapping(machine: Network) -> NetworkPlan:
    """For ecp5, with 512 cycles for each part of a step."""
    return quick_plan(machine, Target.named("ecp5"), 512)


def floats(x: NDArray) -> NDArray:
    """What the float machine gives."""
    return run(weights(), x)
