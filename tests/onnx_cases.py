# SPDX-License-Identifier: Apache-2.0
"""ONNX's own tests of single nodes, put to the importer in several ways.

A case is a model of one node (or of what a function is made of) and published inputs and outputs,
without a word of frames. Either axis 0 is taken for the batch, or the case is *lifted*: a batch
axis of length 1 is put before everything that varies, and what counts axes counts one more; or it
is imported *whole*, without a batch.
"""

import warnings
from functools import cache

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

TYPES = TensorProto.DataType
FLOATS = (TYPES.FLOAT, TYPES.DOUBLE, TYPES.FLOAT16, TYPES.BFLOAT16)
LONE = (
    "Attention AveragePool BatchNormalization Conv ConvTranspose DepthToSpace Flatten Gemm "
    "GlobalAveragePool GlobalMaxPool GroupNormalization InstanceNormalization MaxPool SpaceToDepth"
).split()
"""Operators that know the batch themselves: not to be lifted."""
RECURRENT = ("GRU", "LSTM", "RNN")
"""Operators with the batch on axis 1: to be turned, unless an attribute says otherwise."""
LENGTHS = ("Shape", "Size", "Constant")
"""Operators that give constants; they are seen where they are added to a frame of zeros."""
DEFAULT_AXES = {"ArgMax": 0, "ArgMin": 0, "Gather": 0, "Split": 0, "Shape": 0}
"""What an attribute that counts axes is where it is left out, if it counts from the front."""


@cache
def published():
    """All cases with one set of data, by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        return {case.name: case for case in collect_testcases(None) if case.data_sets}


def operators_of(case):
    """The operators of a case; of one that is expanded, what the function is made of."""
    names = {node.op_type for node in case.model.graph.node if not node.domain}
    return names | {f"{n.domain}.{n.op_type}" for n in case.model.graph.node if n.domain}


def ways(case):
    """(name, model, frames by input, published outputs) for every way to put a case.

    What varies is one of the inputs of floats, or all of them.
    """
    ports = [port.name for port in case.model.graph.input if _is_float(port)]
    choices = {name: {name} for name in ports or [""]} | {"all inputs": {*ports}}
    if "expanded" in case.name:
        choices = dict([*choices.items()][:1])
    lone = not operators_of(case).isdisjoint((*LONE, *RECURRENT))
    known = set()
    for name, varying in choices.items():
        for lifted in (False,) if lone or "expanded" in case.name else (False, True):
            way = _way(case, varying, lifted)
            content = way and way[0].SerializeToString()
            if way and content not in known:
                known.add(content)
                yield f"lifted {name}" if lifted else name, *way
    if "expanded" in case.name:
        return
    for name, varying in choices.items():
        way = _way(case, varying, False)
        content = way and b"whole" + way[0].SerializeToString()
        if way and way[1] and content not in known:
            known.add(content)
            model, frames, outputs = way
            frames = {port: x[np.newaxis] for port, x in frames.items()}
            yield f"whole {name}", model, frames, [np.asarray(y)[np.newaxis] for y in outputs]


def _way(case, varying, lifted):
    model, kept = ModelProto(), {}
    model.CopyFrom(case.model)
    inputs, outputs = case.data_sets[0]
    ports = list(model.graph.input)
    if not all(isinstance(value, np.ndarray | np.generic) for value in inputs):
        return model, {}, outputs
    arrays = {port.name: np.asarray(x) for port, x in zip(ports, inputs, strict=True)}
    if varying == {""}:
        varying = {port.name for port in ports[:1]}
    empty = {name for name in varying if not arrays[name].size}
    if empty and all(np.isfinite(y).all() for y in outputs):  # what is empty does not vary
        varying = varying - empty
    del model.graph.input[:]
    for port in ports:
        if port.name in varying:
            model.graph.input.append(port)
            kept[port.name] = arrays[port.name]
    constants = {name: x for name, x in arrays.items() if name not in kept}
    lengths = model.graph.node[-1].op_type in LENGTHS and len(model.graph.node) == 1
    empty = not lengths and not varying and len(model.graph.node) == 1 and bool(arrays)
    if empty:
        if lifted:
            return None
        outputs = [_shown(model, kept, np.asarray(outputs[0]))]
    elif lifted:
        if len(model.graph.node) != 1 or not _liftable(model.graph.node[0], kept, constants):
            return None
        outputs = [np.asarray(y)[np.newaxis] for y in outputs]
        kept = _lift(model, kept, constants)
        if lengths:
            outputs = [_shown(model, kept, np.asarray(outputs[0])[0])]
    elif lengths:
        return None
    elif model.graph.node[0].op_type in RECURRENT and len(model.graph.node) == 1:
        outputs = _turn(model, kept, outputs)
    model.graph.initializer.extend(numpy_helper.from_array(x, n) for n, x in constants.items())
    return model, kept, outputs


def _turn(model, kept, outputs):
    """Turns what varies, and what is given, so that the batch comes first; what is given then."""
    (node,) = model.graph.node
    if any(a.name == "layout" and a.i for a in node.attribute):
        return outputs
    before, behind = [], []
    for port in model.graph.input:
        name, kept[port.name] = f"{port.name} turned", kept[port.name].swapaxes(0, 1)
        places = [n for n, given in enumerate(node.input) if given == port.name]
        for place in places:
            node.input[place] = name
        before.append(helper.make_node("Transpose", [port.name], [name], perm=[1, 0, 2]))
        kind = port.type.tensor_type.elem_type
        port.CopyFrom(helper.make_tensor_value_info(port.name, kind, kept[port.name].shape))
    turned = []
    for port, y in zip(model.graph.output, outputs, strict=True):
        perm, name = [2, 0, 1, 3] if np.ndim(y) == 4 else [1, 0, 2], f"{port.name} turned"
        node.output[list(node.output).index(port.name)] = name
        behind.append(helper.make_node("Transpose", [name], [port.name], perm=perm))
        port.type.tensor_type.ClearField("shape")
        turned.append(np.transpose(y, perm))
    nodes = [*before, *model.graph.node, *behind]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return turned


def _liftable(node, kept, constants):
    """Vectors have no place in products of matrices with more axes."""
    if node.op_type != "MatMul":
        return True
    return all(x.ndim > 1 for x in (*kept.values(), *constants.values()))


def _is_float(port):
    return port.type.tensor_type.elem_type in FLOATS


def _shown(model, kept, output):
    """Adds what a node gives, a constant, to a frame of zeros; what comes out then."""
    (node,), shape = model.graph.node, output.shape or (1,)
    kept["zeros"] = np.zeros((1, *shape), np.float32)
    more, name = [], node.output[0]
    if node.op_type == "Size":  # of all frames
        more = [helper.make_node("Shape", [node.input[0]], ["batch"], end=1)]
        more += [helper.make_node("Div", [name, "batch"], [name := "size of a frame"])]
    more += [helper.make_node("Cast", [name], ["number"], to=TYPES.FLOAT)]
    more += [helper.make_node("Add", ["zeros", "number"], ["sum"])]
    model.graph.node.extend(more)
    port = helper.make_tensor_value_info("zeros", TYPES.FLOAT, kept["zeros"].shape)
    model.graph.input.append(port)
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("sum", TYPES.FLOAT, None))
    return np.broadcast_to(output.astype(np.float32), (1, *shape))


def _lift(model, kept, constants):
    """Puts a batch axis before what varies; what varies then."""
    (node,) = model.graph.node
    rank = max([x.ndim for x in kept.values()], default=0)
    if node.op_type in ("Expand", "Where"):
        rank = max(
            rank, *(len(x) if node.op_type == "Expand" else x.ndim for x in constants.values())
        )
    ranks = {name: x.ndim for name, x in kept.items()}
    lifted = {n: x.reshape(1, *(1,) * (rank - x.ndim), *x.shape) for n, x in kept.items()}
    if node.op_type == "Gather":
        lifted = {n: x[np.newaxis] for n, x in kept.items()}
    for port in model.graph.input:
        info = helper.make_tensor_value_info(
            port.name, port.type.tensor_type.elem_type, lifted[port.name].shape
        )
        port.CopyFrom(info)
    for port in model.graph.output:
        port.type.tensor_type.ClearField("shape")
    given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if node.op_type in DEFAULT_AXES:
        given.setdefault("start" if node.op_type == "Shape" else "axis", DEFAULT_AXES[node.op_type])
    if node.op_type == "Shape":
        for name in {"start", "end"} & given.keys():
            given[name] = min(max(given[name] + rank * (given[name] < 0), 0), rank)
    if node.op_type == "Transpose":
        given.setdefault("perm", [*range(rank)][::-1])
    changed = {}
    for name in ("axis", "axes", "start", "end"):
        if name in given:
            changed[name] = _counted(given[name])
    if "perm" in given:
        changed["perm"] = [0, *(n + 1 for n in given["perm"])]
    for name, value in changed.items():
        for attribute in [a for a in node.attribute if a.name == name]:
            node.attribute.remove(attribute)
        node.attribute.append(helper.make_attribute(name, value))
    _lift_constants(node, constants, next(iter(ranks.values()), 0), rank, "axes" in given)
    return lifted


def _counted(axes):
    if isinstance(axes, int):
        return axes + (axes >= 0)
    return [n + (n >= 0) for n in axes]


def _lift_constants(node, constants, rank, wide, some):
    """Makes the constants that are lists of axes or of lengths one longer, or count one more."""
    names = dict(enumerate(node.input))

    def change(place, function):
        name = names.get(place)
        if name in constants:
            constants[name] = np.asarray(function(constants[name].tolist()), constants[name].dtype)

    def behind(*first):
        return lambda values: [*first, *values]

    def halves(values):
        half = len(values) // 2
        return [0, *values[:half], *([1] if node.op_type == "Resize" else [0]), *values[half:]]

    kind = node.op_type
    if kind in ("Squeeze", "Unsqueeze"):
        change(1, _counted)
    elif kind.startswith("Reduce"):
        still = any(a.name == "noop_with_empty_axes" and a.i for a in node.attribute)
        if not (names.get(1) and constants[names[1]].size) and not still:
            del node.input[1:]
            node.input.append("all axes")
            constants["all axes"] = np.arange(1, rank + 1)
        else:
            change(1, _counted)
    elif kind == "Slice":
        if not names.get(3):
            count = len(constants[names[1]])
            node.input.extend([""] * (3 - len(node.input)))
            node.input.extend(["axes of the slice"][: 4 - len(node.input)])
            constants["axes of the slice"] = np.arange(1, count + 1)
        change(3, _counted)
    elif kind == "Pad":
        change(3, _counted)
        if not names.get(3):
            change(1, halves)
    elif kind == "Tile":
        change(1, behind(1))
    elif kind == "Reshape":
        change(1, behind(1 if node.attribute else 0))
    elif kind == "Expand":
        change(1, lambda shape: [1, *[1] * (wide - len(shape)), *shape])
    elif kind in ("Resize", "Upsample") and not some:
        for place in (1, 2, 3) if kind == "Resize" else (1,):
            if kind == "Resize" and place == 1:
                change(1, lambda roi: halves(roi) if roi else roi)
            else:
                change(place, lambda values: [1, *values] if values else values)
