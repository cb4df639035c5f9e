# SPDX-License-Identifier: Apache-2.0
"""Nodes that ONNX's own reference evaluator computes when the file is read."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitblocks.onnx_model import BATCHES, ONNX_DOMAINS, Constant, Model, PerBatch

Array = NDArray[Any]

FOLDED = frozenset(
    """Abs Add And Cast CastLike Ceil Clip Compress Concat ConstantOfShape DepthToSpace Div Dropout
    Equal Expand Flatten Floor Gather GatherElements GatherND Greater GreaterOrEqual Identity
    Less LessOrEqual Max Min Mod Mul Neg Not Or Pad Range Reciprocal ReduceMax ReduceMin Relu
    Reshape Round ScatterElements ScatterND Shape Sign Size Slice SpaceToDepth Split Sqrt
    Squeeze Sub Sum Tile Transpose Trilu Unsqueeze Where Xor""".split()
)
"""Operators that are evaluated where all their inputs are constant: each moves numbers, or
computes them one by one as IEEE 754 says, so that every machine finds the same."""
FOLDED_INTEGERS = frozenset(("CumSum", "ReduceProd", "ReduceSum"))
"""Operators that are evaluated where all their inputs are constant integers, or have no elements:
sums of floats have an order."""
POWERS = {0.5: "Sqrt", 1.0: "Identity", -1.0: "Reciprocal"}
"""Exponents with which Pow of constants is another operator; libraries differ on others."""
ELEMENTS_LIMIT = 2**24
"""Most elements of a constant that is larger than what it is made of."""
VALUES_LIMIT = 64
"""Most elements of a constant whose values decide how large another one is."""


def foldable(model: Model, node: Any) -> bool:
    """Whether a node is evaluated now."""
    names = list(filter(None, node.input))
    if not names or node.domain not in ONNX_DOMAINS or not model.constants.keys() >= {*names}:
        return False
    if node.op_type in FOLDED_INTEGERS:
        found = [model.constant(name) for name in names]
        arrays = [x.first if isinstance(x, PerBatch) else x for x in found]
        return all(np.issubdtype(a.dtype, np.integer) or not a.size for a in arrays)
    if node.op_type == "MatMul":  # sums of zeros have no order
        return any(_is_zero(model.constant(name)) for name in names)
    return node.op_type in FOLDED or _power(model, node) is not None


def _is_zero(constant: Constant) -> bool:
    worlds = [*constant] if isinstance(constant, PerBatch) else [constant]
    return not any(world.any() for world in worlds)


def _power(model: Model, node: Any) -> Any:
    """The node of another operator that Pow is, None if it is not."""
    if node.op_type != "Pow" or len(node.input) != 2:
        return None
    exponents = model.constant(node.input[1])
    if isinstance(exponents, PerBatch) or len(np.unique(exponents)) != 1:
        return None
    name = POWERS.get(float(exponents.flat[0]))
    same = type(node)(op_type=name, input=node.input[:1], output=node.output)
    return same if name else None


def fold(model: Model, node: Any) -> list[Constant]:
    """What a foldable node gives; raises ValueError where that is nothing."""
    node = _power(model, node) or node
    inputs = [model.constant(name) if name else None for name in node.input]
    if not any(isinstance(x, PerBatch) for x in inputs):
        return [*evaluated(model, node, [x for x in inputs if not isinstance(x, PerBatch)])]
    worlds = [
        evaluated(model, node, [x[n] if isinstance(x, PerBatch) else x for x in inputs])
        for n in range(len(BATCHES))
    ]
    return [
        first if np.array_equal(first, second) else PerBatch(first, second)
        for first, second in zip(*worlds, strict=True)
    ]


def _check_parts(node: Any, inputs: Sequence[NDArray[Any] | None]) -> None:
    """Raise ValueError for a Split into more or fewer parts than outputs: ONNX's own inference ends
    the process there."""
    if node.op_type != "Split":
        return
    counts = [len(a.ints) if a.name == "split" else a.i for a in node.attribute if a.name != "axis"]
    counts += [x.size for x in inputs[1:] if x is not None]
    for count in counts:
        if count != len(node.output):
            raise ValueError(f"it must have {len(node.output)} parts, not {count}")


def evaluated(model: Model, node: Any, inputs: Sequence[NDArray[Any] | None]) -> list[NDArray[Any]]:
    """The outputs as ONNX's own reference evaluator computes them, none of them endless."""
    from onnx.reference import ReferenceEvaluator

    _check_parts(node, inputs)
    helper, opsets = model.onnx.helper, {"": model.opset}
    named = {name: x for name, x in zip(node.input, inputs, strict=True) if x is not None}
    graph = helper.make_graph(
        [node],
        "node",
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
            for name, x in named.items()
        ],
        [model.onnx.ValueInfoProto(name=name) for name in node.output if name],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", model.opset)])
    small = {name: x for name, x in named.items() if x.size <= VALUES_LIMIT}
    proto.graph.initializer.extend(
        model.onnx.numpy_helper.from_array(x, name) for name, x in small.items()
    )
    largest = max(ELEMENTS_LIMIT, sum(x.size for x in named.values()))
    try:
        inferred = model.onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)
        for output in inferred.graph.output:
            shape = output.type.tensor_type.shape.dim
            known = output.type.tensor_type.HasField("shape")
            if not known or not all(length.HasField("dim_value") for length in shape):
                raise ValueError("its size is unknown")
            if math.prod(length.dim_value for length in shape) > largest:
                raise ValueError(f"it has more than {largest} elements")
        with np.errstate(all="ignore"):
            results = ReferenceEvaluator(graph, opsets).run(None, named)
    except Exception as error:  # whatever the library makes of a node without sense
        raise ValueError(str(error)) from error
    return [np.asarray(result) for result in results]
