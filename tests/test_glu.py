# SPDX-License-Identifier: Apache-2.0
"""GLU: its error from outside, as ONNX has it, and what is refused."""

import numpy as np
import pytest
from mpmath import mp
from onnx import helper
from onnx_models import assert_equals_onnx, model_of, saved, seeded
from refusal import refused

from bitblocks import import_onnx, quantise
from blocks import Tensor, glu
from quant import Format

S6 = Format(6, 3)


@pytest.mark.parametrize("error", [1.0, 0.6])
def test_every_pair_of_codes_is_less_than_the_error_wrong(error):
    target = Format(7, 4)
    block = glu(Tensor((2,), S6), target, error=error)
    codes = np.array([(a, b) for a in range(-32, 32) for b in range(-32, 32)])
    y = block.reference(codes)[:, 0]
    for (a, b), have in zip(codes.tolist(), y.tolist(), strict=True):
        want = mp.mpf(a) / 8 / (1 + mp.exp(-mp.mpf(b) / 8)) * 16
        want = min(max(want, mp.mpf(target.min)), mp.mpf(target.max))
        assert abs(have - want) < error, (a, b)


def test_halves_lie_along_any_axis():
    x = np.random.default_rng(1).integers(-32, 32, (9, 3, 4, 2))
    wanted = glu(Tensor((4,), S6), S6).reference(x.transpose(0, 1, 3, 2))
    for axis in (1, -2):
        block = glu(Tensor((3, 4, 2), S6), S6, axis)
        np.testing.assert_array_equal(block.reference(x), wanted.transpose(0, 1, 3, 2))


def test_as_pytorch_exports_it(tmp_path):
    """Split, Sigmoid, Mul; as integers the blocks that glu is made of."""
    nodes = [
        helper.make_node("Split", ["x"], ["a", "b"], axis=1, num_outputs=2),
        helper.make_node("Sigmoid", ["b"], ["s"]),
        helper.make_node("Mul", ["a", "s"], ["y"]),
    ]
    model = model_of(nodes, {"x": (6, 5)}, ["y"], opset=18)
    assert_equals_onnx(model, tmp_path, {"x": (6, 5)})
    graph = import_onnx(saved(model, tmp_path))
    network, _ = quantise(graph, seeded(40, 6, 5))
    made = [type(node.block).__name__ for node in network.nodes]
    blocks = [type(node.block).__name__ for node in glu(Tensor((6, 5), S6), S6, 0).nodes]
    assert sorted(made) == sorted(blocks)


X = Tensor((6, 3), S6)
REFUSALS = {
    "input": (lambda: glu(3, S6), TypeError, "glu input must be a Tensor, not 3"),
    "format": (lambda: glu(X, 8), TypeError, "glu output_format must be a Format, not 8"),
    "axis": (lambda: glu(X, S6, 2), ValueError, "glu axis must be from -2 to 1, not 2"),
    "odd": (
        lambda: glu(X, S6),
        ValueError,
        "glu input must have an even length along axis 1, not 3",
    ),
    "error kind": (lambda: glu(X, S6, 0, "1"), TypeError, "glu error must be a number, not '1'"),
    "error": (lambda: glu(X, S6, 0, 0.5), ValueError, "glu error must be above 1/2, not 0.5"),
}


@pytest.mark.parametrize("case", REFUSALS.values(), ids=REFUSALS)
def test_what_is_wrong_is_refused(case):
    make, kind, text = case
    with refused(kind, text):
        make()
