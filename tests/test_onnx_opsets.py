# SPDX-License-Identifier: Apache-2.0
"""Every version of each operator, from operator set 9 on: the same numbers, however it is written.

What was an attribute became an input, names and defaults changed: a sample says what an operator is
told, and the standard of each operator set (``onnx.defs``) where to write it.
"""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx_models import model_of, outputs_of, saved, seeded

from bitblocks import import_onnx
from bitblocks.onnx_model import NEWEST_OPSET
from bitblocks.operators import OPERATORS

OLDEST = 9


def ints(*values):
    return np.array(values, np.int64)


IMAGE = (2, 4, 4)
FOUR, THREE = seeded(4) ** 2 + np.float32(0.5), seeded(3)
NORM = {"scale": FOUR[:2], "B": THREE[:2], "input_mean": THREE[:2], "input_var": FOUR[:2]}
TOLD = {  # frame, what the operator is told by the names that the standard has
    "ArgMax": ((3, 4), {"axis": 2}),
    "ArgMin": ((3, 4), {"axis": 2}),
    "AveragePool": (IMAGE, {"kernel_shape": [2, 2]}),
    "BatchNormalization": (IMAGE, NORM),
    "Clip": ((3, 4), {"min": np.float32(-0.5), "max": np.float32(0.25)}),
    "Concat": ((3, 4), {"axis": 1}),
    "Constant": ((3, 4), {"value": numpy_helper.from_array(FOUR)}),
    "Conv": (IMAGE, {"W": seeded(3, 2, 2, 2)}),
    "ConvTranspose": (IMAGE, {"W": seeded(2, 3, 2, 2)}),
    "DepthToSpace": ((4, 2, 2), {"blocksize": 2}),
    "Dropout": ((3, 4), {"ratio": np.float32(0.5)}),
    "Expand": ((3, 1), {"shape": ints(1, 1, 4)}),
    "Flatten": ((3, 4), {}),
    "Gather": ((3, 4), {"axis": 1, "indices": ints(2, 0)}),
    "Gemm": ((4,), {"B": seeded(4, 3), "C": THREE}),
    "GlobalAveragePool": (IMAGE, {}),
    "GlobalMaxPool": (IMAGE, {}),
    "GroupNormalization": (IMAGE, {"num_groups": 2, "scale": FOUR[:2], "bias": THREE[:2]}),
    "InstanceNormalization": (IMAGE, {"scale": FOUR[:2], "B": THREE[:2]}),
    "LayerNormalization": ((3, 4), {"Scale": FOUR}),
    "MatMul": ((4,), {"B": seeded(4, 3)}),
    "MaxPool": (IMAGE, {"kernel_shape": [2, 2]}),
    "PRelu": ((3, 4), {"slope": FOUR}),
    "Pad": ((3, 4), {"pads": ints(0, 1, 0, 0, 0, 2), "value": np.float32(0.5)}),
    "Pow": ((3, 4), {"Y": np.float32(2)}),
    "RMSNormalization": ((3, 4), {"scale": FOUR}),
    "Reshape": ((3, 4), {"shape": ints(0, 2, 6)}),
    "LogSoftmax": ((4,), {}),
    "Resize": (IMAGE, {"scales": np.array([1, 1, 2, 2], np.float32), "mode": "nearest"}),
    "Softmax": ((4,), {}),
    "Slice": ((3, 4), {"starts": ints(1), "ends": ints(3), "axes": ints(2)}),
    "SpaceToDepth": (IMAGE, {"blocksize": 2}),
    "Split": ((3, 4), {"axis": 1, "split": ints(1, 2)}),
    "Squeeze": ((3, 1), {"axes": ints(2)}),
    "Tile": ((3, 4), {"repeats": ints(1, 2, 1)}),
    "Transpose": ((3, 4), {"perm": [0, 2, 1]}),
    "Unsqueeze": ((3, 4), {"axes": ints(2)}),
    "Upsample": (IMAGE, {"scales": np.array([1, 1, 2, 2], np.float32)}),
    "Where": ((3, 4), {"condition": seeded(4) > 0, "Y": FOUR}),
}
TOLD |= {f"Reduce{kind}": ((3, 4), {"axes": ints(2)}) for kind in ("Max", "Mean", "Min", "Sum")}
TOLD |= {"Attention": ((2, 3, 4), {}), "TopK": ((3, 4), {"k": ints(2)})}
for _kind, _rows in (("RNN", 2), ("GRU", 6), ("LSTM", 8)):
    _told = {"W": seeded(1, _rows, 4), "R": seeded(1, _rows, 2), "B": seeded(1, 2 * _rows)}
    TOLD[_kind] = (3, 4), _told | {"hidden_size": 2}
TURNED = ("RNN", "GRU", "LSTM")
"""Operators that have the batch on axis 1."""
ALIASES = {"K": "k", "constant_value": "value", "mean": "input_mean", "var": "input_var"}
"""Names of inputs that had another one as attributes."""
LAST = {"Upsample": 9}


def versions(name):
    """The operator sets from which on each of its versions is there."""
    opsets = range(OLDEST, LAST.get(name, NEWEST_OPSET) + 1)
    there = {onnx.defs.get_schema(name, n).since_version for n in opsets if known(name, n)}
    return sorted(max(version, OLDEST) for version in there)


def known(name, opset):
    return OPERATORS["", name].schema_in(opset) is not None


def written(name, opset):
    """A model of the sample in an operator set, and its frame."""
    frame, told = TOLD.get(name, ((3, 4), {}))
    if (name, opset) == ("Resize", 11):  # the only set in which it must be there
        told = told | {"roi": np.zeros(0, np.float32)}
    schema = onnx.defs.get_schema(name, opset)
    attributes = {
        n: v.tolist() if isinstance(v, np.ndarray | np.generic) else v
        for n, v in told.items()
        if n in schema.attributes
    }
    sources, constants = ["x"] if schema.max_input else [], {}
    for formal in schema.inputs[len(sources) :]:
        part = ALIASES.get(formal.name, formal.name)
        sources.append(part if part in told else "")
        if part in told:
            constants[part] = np.asarray(told[part])
    if name == "Where":
        sources = ["condition", "x", "Y"]
        constants = {n: told[n] for n in ("condition", "Y")}
    if name == "TopK" and "k" in attributes:
        (attributes["k"],) = attributes["k"]
    if name == "Attention":
        sources = ["x"] * 3
    elif schema.max_input > 9 and name != "Concat":
        sources = ["x", "x"]  # of any number
    elif [formal.name for formal in schema.inputs] == ["A", "B"] and "B" not in told:
        sources = ["x", "x"]
    assert {*told} <= {*attributes, *constants}
    outputs = ["y", "rest"] if name == "Split" else ["y"]
    nodes = [helper.make_node(name, [*trimmed(sources)], outputs, **attributes)]
    if name == "Constant":
        nodes.append(helper.make_node("Mul", ["x", "y"], ["z"]))
    elif name in ("Shape", "Size"):
        nodes.append(helper.make_node("Reshape", ["x", "y"], ["z"]))
    elif name in TURNED:
        nodes.insert(0, helper.make_node("Transpose", ["x"], ["steps"], perm=[1, 0, 2]))
        nodes[1].input[0] = "steps"
        nodes.append(helper.make_node("Transpose", ["y"], ["z"], perm=[2, 0, 1, 3]))
    if name == "Size":  # of all frames, to the batch and one axis
        nodes[1:] = SIZE
    model = model_of(nodes, {"x": frame}, ["y" if len(nodes) == 1 else "z"], constants, opset)
    return model, frame


def trimmed(sources):
    while sources and not sources[-1]:
        sources.pop()
    return sources


SIZE = [
    helper.make_node("Constant", [], ["one"], value=numpy_helper.from_array(ints(1))),
    helper.make_node("Constant", [], ["first"], value=numpy_helper.from_array(ints(0))),
    helper.make_node("Reshape", ["y", "one"], ["count"]),
    helper.make_node("Shape", ["x"], ["lengths"]),
    helper.make_node("Gather", ["lengths", "first"], ["batch"], axis=0),
    helper.make_node("Div", ["count", "batch"], ["size"]),
    helper.make_node("Concat", ["batch", "size"], ["target"], axis=0),
    helper.make_node("Reshape", ["x", "target"], ["z"]),
]
"""Nodes that make use of the size of all frames."""


CASES = [(name, opset) for domain, name in OPERATORS if not domain for opset in versions(name)]


@pytest.mark.parametrize(("name", "opset"), CASES, ids=str)
def test_every_version_gives_the_same_numbers(tmp_path, name, opset):
    x, results = None, []
    for number in (opset, LAST.get(name, NEWEST_OPSET)):
        model, frame = written(name, number)
        x = np.abs(seeded(5, *frame)) + (1 if name == "Acosh" else 0.1)
        x = np.minimum(x, 0.9) if name in ("Asin", "Acos", "Atanh") else x
        graph = import_onnx(saved(model, tmp_path))
        results.append(outputs_of(graph, x))
    assert results[0].keys() == results[1].keys()
    for port, have in results[0].items():
        np.testing.assert_array_equal(have, results[1][port])


def test_all_versions_are_among_the_cases():
    assert {name for name, _ in CASES} == {name for domain, name in OPERATORS if not domain}
    assert ("Clip", 9) in CASES
    assert ("Clip", 13) in CASES
    assert len(CASES) > 200
