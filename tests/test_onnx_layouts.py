# SPDX-License-Identifier: Apache-2.0
"""Orders of axes: what is free, what takes a transpose, and where the batch may lie."""

import numpy as np
import pytest
from onnx import helper
from onnx_models import assert_equals_onnx, model_of, outputs_of, refusal, saved, seeded

from bitblocks import import_onnx, quantise
from bitblocks.layers import Linear

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
    assert "Rearrange" not in kinds(graph)


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
def test_reorderings_are_put_where_an_order_is_needed(tmp_path, nodes, frame, constants, count):
    model = model_of(nodes, {"x": frame}, ["y"], constants)
    graph = assert_equals_onnx(model, tmp_path, {"x": frame})
    assert kinds(graph).count("Rearrange") == count


def test_batch_elsewhere_is_refused_where_it_matters(tmp_path):
    moved = node("Transpose", ["x"], ["a"], perm=[1, 0, 2], name="swap")
    model = model_of([moved], {"x": (3, 4)}, ["a"])
    assert refusal(model, tmp_path) == "output 'a' must have the batch on axis 0, not 1"
    flatten = node("Flatten", ["a"], ["y"], name="flat")
    model = model_of([moved, flatten], {"x": (3, 4)}, ["y"])
    assert refusal(model, tmp_path) == "Flatten node 'flat' must have the batch on axis 0, not 1"


SENSELESS = {
    "perm of another rank": node("Transpose", ["x"], ["y"], perm=[0, 2, 1, 3]),
    "perm that repeats": node("Transpose", ["x"], ["y"], perm=[0, 1, 1]),
    "squeezed axis that is longer": node("Squeeze", ["x", "one"], ["y"]),
    "squeezed batch": node("Squeeze", ["x", "zero"], ["y"]),
    "squeezed axis that is not there": node("Squeeze", ["x", "three"], ["y"]),
    "axis made twice": node("Unsqueeze", ["x", "twice"], ["y"]),
    "gather beyond the end": node("Gather", ["x", "three"], ["y"], axis=1),
    "parts that do not add up": node("Split", ["x", "twice"], ["y", "z"], axis=1),
    "blocks that do not divide": node("SpaceToDepth", ["x"], ["y"], blocksize=2),
}


@pytest.mark.parametrize("what", SENSELESS.values(), ids=SENSELESS)
@pytest.mark.parametrize("batch", ["N", 1])
def test_moves_without_sense_are_refused(tmp_path, what, batch):
    constants = {"zero": ints(0), "one": ints(1), "three": ints(3), "twice": ints(1, 1)}
    model = model_of([what], {"x": (3, 4)}, ["y"], constants, batch=batch)
    rule = f"{what.op_type} node that gives 'y' must make sense to ONNX: "
    have = refusal(model, tmp_path)
    assert have.startswith(rule)
    assert "ShapeInferenceError" not in have


def nodes_of(operator, attributes, names):
    return [node(operator, ["x", *names], ["y"], **attributes)]


PARTS = {  # operator, attributes, frame, other inputs, operator set
    "slice": ("Slice", {}, (3, 4, 5), {"s": ints(1, -4), "e": ints(3, -1), "a": ints(1, -1)}, 17),
    "slice with steps": (
        "Slice",
        {},
        (3, 4, 5),
        {"s": ints(0, 4), "e": ints(3, -9), "a": ints(2, 3), "n": ints(2, -1)},
        17,
    ),
    "slice of old": ("Slice", {"starts": [1], "ends": [3], "axes": [2]}, (3, 4, 5), {}, 9),
    "gather": ("Gather", {"axis": 2}, (3, 4, 5), {"i": np.array([[3, 0], [-1, 3]])}, 17),
    "gather of one": ("Gather", {"axis": 1}, (3, 4), {"i": np.array(2)}, 17),
    "pad": ("Pad", {}, (2, 3, 4), {"p": ints(0, 1, 0, 2, 0, 0, 3, 0)}, 17),
    "pad with a value": (
        "Pad",
        {},
        (2, 3, 4),
        {"p": ints(0, 1, 0, 2, 0, 0, 3, 0), "v": np.float32(-0.5)},
        17,
    ),
    "pad of some axes": (
        "Pad",
        {},
        (2, 3, 4),
        {"p": ints(1, 2), "v": np.float32(1), "a": ints(-1)},
        18,
    ),
    "pad by the edge": ("Pad", {"mode": "edge"}, (2, 3), {"p": ints(0, 1, 1, 0, 2, 1)}, 17),
    "pad by reflection": ("Pad", {"mode": "reflect"}, (3, 4), {"p": ints(0, 2, 1, 0, 1, 3)}, 17),
    "pad by wrapping": ("Pad", {"mode": "wrap"}, (3, 4), {"p": ints(0, 2, 1, 0, 1, 3)}, 19),
    "pad of old": ("Pad", {"pads": [0, 1, 0, 0, 0, 2], "value": 0.25}, (2, 3), {}, 10),
    "expand": ("Expand", {}, (3, 1, 2), {"s": ints(1, 3, 4, 1)}, 17),
    "tile": ("Tile", {}, (2, 3), {"r": ints(1, 2, 3)}, 17),
    "depth to space": ("DepthToSpace", {"blocksize": 2}, (8, 2, 3), {}, 17),
    "depth to space by columns": (
        "DepthToSpace",
        {"blocksize": 2, "mode": "CRD"},
        (8, 2, 3),
        {},
        17,
    ),
    "space to depth": ("SpaceToDepth", {"blocksize": 2}, (2, 4, 6), {}, 17),
}


@pytest.mark.parametrize(
    ("operator", "attributes", "frame", "constants", "opset"), PARTS.values(), ids=PARTS
)
@pytest.mark.parametrize("batch", ["N", 1])
def test_moves_equal_onnx(tmp_path, operator, attributes, frame, constants, opset, batch):
    nodes = nodes_of(operator, attributes, constants)
    model = model_of(nodes, {"x": frame}, ["y"], constants, opset=opset, batch=batch)
    graph = assert_equals_onnx(model, tmp_path, {"x": frame}, 1 if batch == 1 else 3)
    free = operator in ("DepthToSpace", "SpaceToDepth")
    assert kinds(graph).count("Rearrange") == 1
    assert graph.inputs[0].axes == (1, 2, 0) if len(frame) == 3 and not free else True


CUT = {  # axes, pads, what is cut, what is added
    "cut": (None, [0, -1, 0, 0, 0, -2], np.s_[:, 1:, :-2], [(0, 0), (0, 0), (0, 0)]),
    "cut and padded": (None, [0, -1, 2, 0, 1, -2], np.s_[:, 1:, :-2], [(0, 0), (0, 1), (2, 0)]),
    "of one axis": ([-1], [-2, 3], np.s_[:, :, 2:], [(0, 0), (0, 0), (0, 3)]),
}


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect"])
@pytest.mark.parametrize(("axes", "pads", "cut", "added"), CUT.values(), ids=CUT)
@pytest.mark.parametrize("opset", [10, 18])
def test_negative_pads_cut(tmp_path, axes, pads, cut, added, mode, opset):
    attributes, constants = {"mode": mode}, {}
    if opset == 10:
        whole = pads if axes is None else [0, 0, pads[0], 0, 0, pads[1]]
        attributes |= {"pads": whole} | ({"value": 0.5} if mode == "constant" else {})
    else:
        constants = {"p": ints(*pads), "v": np.float32(0.5)}
        constants |= {} if axes is None else {"a": ints(*axes)}
    nodes = [node("Pad", ["x", *constants], ["y"], **attributes)]
    model = model_of(nodes, {"x": (4, 6)}, ["y"], constants, opset=opset)
    x = seeded(2, 4, 6)
    value = {"constant_values": 0.5} if mode == "constant" else {}
    want = np.pad(x[cut], added, mode, **value)
    (have,) = outputs_of(import_onnx(saved(model, tmp_path)), x).values()
    np.testing.assert_array_equal(have, want)


SCALES = np.array([1, 1, 2, 1.5], np.float32)
RESIZED = {
    mode: {"coordinate_transformation_mode": mode}
    for mode in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")
}
RESIZED |= {
    rule: {"nearest_mode": rule, "coordinate_transformation_mode": "half_pixel"}
    for rule in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
}


@pytest.mark.parametrize("attributes", RESIZED.values(), ids=RESIZED)
@pytest.mark.parametrize(
    ("names", "constants"),
    [
        (["x", "", "scales"], {"scales": SCALES}),
        (["x", "", "scales"], {"scales": np.array([1, 1, 0.5, 3], np.float32)}),
        (["x", "", "", "sizes"], {"sizes": ints(1, 2, 5, 8)}),
    ],
    ids=["scales", "down and up", "sizes"],
)
def test_resize_to_the_nearest_equals_onnx(tmp_path, attributes, names, constants):
    nodes = [node("Resize", names, ["y"], mode="nearest", **attributes)]
    model = model_of(nodes, {"x": (2, 4, 4)}, ["y"], constants, batch=1)
    graph = assert_equals_onnx(model, tmp_path, {"x": (2, 4, 4)}, 1)
    assert kinds(graph) == ["Rearrange"]


@pytest.mark.parametrize(("operator", "opset"), [("Upsample", 7), ("Upsample", 9), ("Resize", 10)])
def test_resizing_of_old_repeats_numbers(tmp_path, operator, opset):
    scales = {"scales": [1.0, 1.0, 2.0, 3.0]} if opset == 7 else {}
    names = [] if opset == 7 else ["s"]
    nodes = [node(operator, ["x", *names], ["y"], mode="nearest", **scales)]
    constants = {"s": np.array([1, 1, 2, 3], np.float32)}
    model = model_of(nodes, {"x": (2, 3, 4)}, ["y"], constants if names else {}, opset=opset)
    x = seeded(2, 2, 3, 4)
    (have,) = outputs_of(import_onnx(saved(model, tmp_path)), x).values()
    np.testing.assert_array_equal(have, x.repeat(2, 2).repeat(3, 3))


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("antialias", [0, 1])
def test_resizing_that_interpolates_is_a_matrix_along_each_axis(tmp_path, mode, antialias):
    nodes = [node("Resize", ["x", "", "s"], ["y"], mode=mode, antialias=antialias)]
    constants = {"s": np.array([1, 1, 0.5, 3], np.float32)}
    model = model_of(nodes, {"x": (2, 6, 4)}, ["y"], constants, opset=18)
    graph = assert_equals_onnx(model, tmp_path, {"x": (2, 6, 4)})
    linears = [layer for layer in graph.nodes if type(layer).__name__ == "Linear"]
    assert sorted(layer.weight.shape for layer in linears) == [(3, 6), (12, 4)]


def test_resizing_of_frames_together_is_refused(tmp_path):
    constants = {"wrong": np.array([1, 1], np.float32), "x4": np.array([2, 1, 1, 1], np.float32)}
    cases = {
        "must have a scale or a size above 0 for each of 4 axes": "wrong",
        "must not mix the frames": "x4",
    }
    for rule, scales in cases.items():
        nodes = [node("Resize", ["x", "", scales], ["y"])]
        model = model_of(nodes, {"x": (2, 4, 4)}, ["y"], constants, opset=18)
        assert refusal(model, tmp_path) == f"Resize node that gives 'y' {rule}"


def test_split_equals_onnx(tmp_path):
    nodes = [
        node("Split", ["x", "parts"], ["a", "b", "c"], axis=1),
        node("Relu", ["c"], ["d"]),
        node("Concat", ["d", "a", "c"], ["y"], axis=1),
    ]
    model = model_of(nodes, {"x": (6, 2, 2)}, ["y", "a"], {"parts": ints(1, 3, 2)})
    graph = assert_equals_onnx(model, tmp_path, {"x": (6, 2, 2)})
    assert [layer.name for layer in graph.nodes] == ["split1_1", "split1_3", "relu1", "concat1"]


@pytest.mark.parametrize("axis", [1, 2, -1])
def test_concat_of_both_orders_equals_onnx(tmp_path, axis):
    nodes = [
        node("Transpose", ["x"], ["a"], perm=[0, 2, 1]),
        node("Concat", ["a", "x", "a"], ["y"], axis=axis),
    ]
    model = model_of(nodes, {"x": (4, 4)}, ["y"])
    graph = assert_equals_onnx(model, tmp_path, {"x": (4, 4)})
    assert kinds(graph) == ["Rearrange", "Concat"]


def test_concat_of_flattened_images_leaves_their_order_to_the_matrix(tmp_path):
    nodes = [
        node("Flatten", ["a"], ["fa"]),
        node("Flatten", ["b"], ["fb"]),
        node("Concat", ["fa", "fb"], ["c"], axis=-1),
        node("Gemm", ["c", "w"], ["y"]),
    ]
    inputs = {"a": (2, 3, 2), "b": (3, 2, 2)}
    model = model_of(nodes, inputs, ["y"], {"w": seeded(24, 5)})
    graph = assert_equals_onnx(model, tmp_path, inputs)
    assert kinds(graph) == ["Reshape", "Reshape", "Concat", "Linear"]
    assert {port.axes for port in graph.inputs} == {(1, 2, 0)}


MIXING = {
    "slice": [node("Slice", ["x", "zero", "one", "zero"], ["y"])],
    "gather": [node("Gather", ["x", "two"], ["y"], axis=0)],
    "expand": [node("Expand", ["x", "two3"], ["y"])],
    "tile": [node("Tile", ["x", "two3"], ["y"])],
    "concat": [node("Concat", ["x", "x"], ["y"], axis=0)],
}


@pytest.mark.parametrize("nodes", MIXING.values(), ids=MIXING)
@pytest.mark.parametrize("batch", ["N", 1, 7])
def test_what_mixes_frames_is_refused(tmp_path, nodes, batch):
    constants = {"zero": ints(0), "one": ints(1), "two": ints(0, 0)}
    constants |= {"two3": ints(2, 1, 1)}
    model = model_of(nodes, {"x": (3, 4)}, ["y"], constants, batch=batch)
    kind = nodes[0].op_type
    rule = "must not mix the frames"
    if kind == "Concat":
        rule = "attribute 'axis' must leave the batch alone, not be 0"
    if kind == "Expand":
        rule = "must make sense to ONNX"
    begin = f"{kind} node that gives 'y' {rule}"
    if kind == "Tile":  # each frame twice is no output, though it might be joined again
        begin = "output 'y' must have the batch alone on axis 0"
    assert refusal(model, tmp_path).startswith(begin)


def test_reordering_becomes_a_block(tmp_path):
    nodes, frame, constants, _ = MOVED["matrix along both axes"]
    graph = import_onnx(saved(model_of(nodes, {"x": frame}, ["y"], constants), tmp_path))
    network, report = quantise(graph, seeded(100, *frame), 14, 14)
    assert [type(node.block).__name__ for node in network.nodes] == [
        "Linear",
        "Rearrange",
        "Linear",
    ]
    assert report.layers[-1].signal_to_noise > 60


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
