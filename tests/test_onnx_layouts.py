# SPDX-License-Identifier: Apache-2.0
"""Orders of axes: what is free, what takes a transpose, and where the batch may lie."""

import numpy as np
import pytest
from onnx import helper
from onnx_models import assert_equals_onnx, model_of, refusal, saved, seeded

from bitblocks import InputError, import_onnx, quantise
from bitblocks.layers import Linear, Transpose

node = helper.make_node


def kinds(graph):
    return [type(layer).__name__ for layer in graph.nodes]


def ints(*values):
    return np.array(values, np.int64)


FREE = {  # nodes from x to y, shape of x, constants; none of them takes a transpose
    "Keras: channels first for the network, last before Flatten": (
        [
            node("Transpose", ["x"], ["a"], perm=[0, 3, 1, 2]),
            node("Relu", ["a"], ["b"]),
            node("Transpose", ["b"], ["c"], perm=[0, 2, 3, 1]),
            node("Flatten", ["c"], ["d"]),
            node("Gemm", ["d", "w"], ["y"]),
        ],
        (3, 4, 2),
        {"w": seeded(24, 5)},
    ),
    "matrix along channels that come first": (
        [
            node("Transpose", ["x"], ["a"], perm=[0, 2, 1]),
            node("MatMul", ["a", "w"], ["b"]),
            node("Transpose", ["b"], ["y"], perm=[0, 2, 1]),
        ],
        (4, 3),
        {"w": seeded(4, 5)},
    ),
    "matrix on the left of planes": (
        [
            node("MatMul", ["w", "x"], ["y"]),
        ],
        (5, 3, 4),
        {"w": seeded(2, 3)},
    ),
    "batch moved and moved back": (
        [
            node("Transpose", ["x"], ["a"], perm=[1, 0, 2]),
            node("Relu", ["a"], ["b"]),
            node("Transpose", ["b"], ["y"], perm=[1, 0, 2]),
        ],
        (3, 4),
        {},
    ),
    "axes of one come and go": (
        [
            node("Unsqueeze", ["x", "two"], ["a"]),
            node("Unsqueeze", ["a", "last"], ["b"]),
            node("Relu", ["b"], ["c"]),
            node("Squeeze", ["c", "two"], ["d"]),
            node("Squeeze", ["d", "last"], ["y"]),
        ],
        (3, 4),
        {"two": ints(2), "last": ints(-1)},
    ),
    "sum of two ways with one order": (
        [
            node("Transpose", ["x"], ["a"], perm=[0, 2, 3, 1]),
            node("Transpose", ["x"], ["b"], perm=[0, 2, 3, 1]),
            node("Add", ["a", "b"], ["y"]),
        ],
        (3, 4, 2),
        {},
    ),
    "flattened in any order before a matrix": (
        [
            node("Transpose", ["x"], ["a"], perm=[0, 2, 1, 3]),
            node("Reshape", ["a", "s"], ["b"]),
            node("Transpose", ["b"], ["c"], perm=[0, 2, 1]),
            node("Flatten", ["c"], ["d"]),
            node("Gemm", ["d", "w"], ["y"]),
        ],
        (3, 4, 2),
        {"w": seeded(24, 5), "s": ints(0, 2, 12)},
    ),
}


@pytest.mark.parametrize(("nodes", "frame", "constants"), FREE.values(), ids=FREE)
def test_free_orders_equal_onnx(tmp_path, nodes, frame, constants):
    model = model_of(nodes, {"x": frame}, ["y"], constants)
    graph = assert_equals_onnx(model, tmp_path, {"x": frame})
    assert "Transpose" not in kinds(graph)


MOVED = {  # the same with the number of transposes that it takes
    "matrix along both axes": (
        [
            node("MatMul", ["x", "w"], ["a"]),
            node("Transpose", ["a"], ["b"], perm=[0, 2, 1]),
            node("MatMul", ["b", "v"], ["y"]),
        ],
        (3, 4),
        {"w": seeded(4, 5), "v": seeded(3, 2)},
        1,
    ),
    "batch moved, axes merged behind it": (
        [
            node("Transpose", ["x"], ["a"], perm=[2, 0, 1, 3]),
            node("Reshape", ["a", "s"], ["b"]),
            node("Transpose", ["b"], ["y"], perm=[1, 0, 2]),
        ],
        (3, 5, 4),
        {"s": ints(5, -1, 12)},
        0,
    ),
    "sum of both orders": (
        [
            node("Transpose", ["x"], ["a"], perm=[0, 2, 1]),
            node("Add", ["a", "x"], ["y"]),
        ],
        (4, 4),
        {},
        1,
    ),
    "rows split by a reshape": (
        [
            node("Transpose", ["x"], ["a"], perm=[0, 2, 1]),
            node("Reshape", ["a", "s"], ["b"]),
            node("MatMul", ["b", "w"], ["c"]),
            node("Add", ["c", "x"], ["y"]),
        ],
        (4, 6),
        {"s": ints(0, 4, 6), "w": seeded(6, 6)},
        1,
    ),
}


@pytest.mark.parametrize(("nodes", "frame", "constants", "count"), MOVED.values(), ids=MOVED)
def test_transposes_are_put_where_an_order_is_needed(tmp_path, nodes, frame, constants, count):
    model = model_of(nodes, {"x": frame}, ["y"], constants)
    graph = assert_equals_onnx(model, tmp_path, {"x": frame})
    assert kinds(graph).count("Transpose") == count


def test_batch_elsewhere_is_refused_where_it_matters(tmp_path):
    moved = node("Transpose", ["x"], ["a"], perm=[1, 0, 2], name="swap")
    model = model_of([moved], {"x": (3, 4)}, ["a"])
    assert refusal(model, tmp_path) == "output 'a' must have the batch on axis 0, not 1"
    flatten = node("Flatten", ["a"], ["y"], name="flat")
    model = model_of([moved, flatten], {"x": (3, 4)}, ["y"])
    assert refusal(model, tmp_path) == "Flatten node 'flat' must have the batch on axis 0, not 1"


REFUSED = {
    "perm of another rank": (
        node("Transpose", ["x"], ["y"], perm=[0, 2, 1, 3]),
        "Transpose node that gives 'y' attribute 'perm' must order 3 axes, not [0, 2, 1, 3]",
    ),
    "perm that repeats": (
        node("Transpose", ["x"], ["y"], perm=[0, 1, 1]),
        "Transpose node that gives 'y' attribute 'perm' must order 3 axes, not [0, 1, 1]",
    ),
    "squeezed axis that is longer": (
        node("Squeeze", ["x", "one"], ["y"]),
        "Squeeze node that gives 'y' must remove axes of length 1, not [1] of [batch, 3, 4]",
    ),
    "squeezed batch": (
        node("Squeeze", ["x", "zero"], ["y"]),
        "Squeeze node that gives 'y' must remove axes of length 1, not [0] of [batch, 3, 4]",
    ),
    "squeezed axis that is not there": (
        node("Squeeze", ["x", "three"], ["y"]),
        "Squeeze node that gives 'y' attribute 'axes' must be in [-3, 2], not 3",
    ),
    "axis made twice": (
        node("Unsqueeze", ["x", "twice"], ["y"]),
        "Unsqueeze node that gives 'y' must name each axis once, not [1, 1]",
    ),
}


@pytest.mark.parametrize(("what", "message"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("batch", ["N", 1])
def test_wrong_axes_are_refused(tmp_path, what, message, batch):
    constants = {"zero": ints(0), "one": ints(1), "three": ints(3), "twice": ints(1, 1)}
    model = model_of([what], {"x": (3, 4)}, ["y"], constants, batch=batch)
    assert refusal(model, tmp_path) == message


def test_transpose_without_a_block_is_refused_when_it_is_built(tmp_path):
    nodes, frame, constants, _ = MOVED["matrix along both axes"]
    graph = import_onnx(saved(model_of(nodes, {"x": frame}, ["y"], constants), tmp_path))
    (moved,) = (layer for layer in graph.nodes if isinstance(layer, Transpose))
    message = f"layer {moved.name} cannot be built: Transpose has no block"
    with pytest.raises(InputError, match=f"^{message}$"):
        quantise(graph, input_format="s8.4")


def random_moves(generator):
    """Random transposes, reshapes, matrices and sums, the batch on axis 0 or elsewhere."""
    frame = tuple(int(n) for n in generator.choice([1, 2, 3, 4], generator.integers(2, 4)))
    nodes, constants, shapes, batches = [], {}, {"x": frame}, {"x": 0}
    for count in range(int(generator.integers(2, 8))):
        source, target = str(generator.choice(list(shapes))), f"t{count}"
        shape, batch = shapes[source], batches[source]
        kind = generator.choice(["Transpose", "Transpose", "Reshape", "MatMul", "Add", "Relu"])
        if kind == "Transpose":
            perm = [int(n) for n in generator.permutation(len(shape) + 1)]
            full = [*shape[:batch], -1, *shape[batch:]]
            nodes.append(node("Transpose", [source], [target], perm=perm))
            full, batch = [full[n] for n in perm], perm.index(batch)
            shape = tuple(n for axis, n in enumerate(full) if axis != batch)
        elif kind == "Reshape" and batch == 0 and len(shape) > 1:
            at = int(generator.integers(len(shape) - 1))
            shape = (*shape[:at], shape[at] * shape[at + 1], *shape[at + 2 :])
            constants[f"c{count}"] = ints(0, *shape)
            nodes.append(node("Reshape", [source, f"c{count}"], [target]))
        elif kind == "MatMul" and batch == 0:
            constants[f"c{count}"] = generator.normal(size=(shape[-1], 3)).astype(np.float32)
            nodes.append(node("MatMul", [source, f"c{count}"], [target]))
            shape = (*shape[:-1], 3)
        elif kind == "Add" and batch == 0:
            equal = [n for n in shapes if shapes[n] == shape and batches[n] == 0]
            nodes.append(node("Add", [source, str(generator.choice(equal))], [target]))
        else:
            nodes.append(node("Relu", [source], [target]))
        shapes[target], batches[target] = shape, batch
    last = [name for name in shapes if batches[name] == 0][-1]
    nodes.append(node("Relu", [last], ["y"]))
    return model_of(nodes, {"x": frame}, ["y"], constants), {"x": frame}


@pytest.mark.parametrize("seed", range(150))
def test_random_moves_equal_onnx(tmp_path, seed):
    model, inputs = random_moves(np.random.default_rng(seed))
    assert_equals_onnx(model, tmp_path, inputs)


def test_matrix_absorbs_the_order_within_its_rows(tmp_path):
    nodes, frame, constants = FREE["flattened in any order before a matrix"]
    graph = import_onnx(saved(model_of(nodes, {"x": frame}, ["y"], constants), tmp_path))
    assert [type(layer) for layer in graph.nodes][-1] is Linear
