# SPDX-License-Identifier: Apache-2.0
"""RNN, LSTM and GRU: a layer for each direction."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitblocks import layers
from bitblocks.graph import Floats
from bitblocks.onnx_model import PerBatch
from bitblocks.operators.operation import Operation
from bitblocks.operators.registry import Only, operator
from bitblocks.ordering import Value, raster

FUNCTIONS: dict[str, tuple[str, dict[str, float]]] = {
    "affine": ("affine", {"alpha": 1.0, "beta": 0.0}),
    "elu": ("elu", {"alpha": 1.0}),
    "hardsigmoid": ("hardsigmoid", {"alpha": 0.2, "beta": 0.5}),
    "leakyrelu": ("leaky_relu", {"alpha": 0.01}),
    "relu": ("relu", {}),
    "scaledtanh": ("scaled_tanh", {"alpha": 1.0, "beta": 1.0}),
    "sigmoid": ("sigmoid", {}),
    "softplus": ("softplus", {}),
    "softsign": ("softsign", {}),
    "tanh": ("tanh", {}),
    "thresholdedrelu": ("thresholded_relu", {"alpha": 1.0}),
}
"""Activation in small letters -> function, and its parameters with what they are where left out."""
POSITIVE = ("elu", "scaledtanh")
"""Activations whose parameters must be above 0."""
HONOURED = (
    *("activation_alpha", "activation_beta", "activations", "clip", "direction", "hidden_size"),
    "layout",
)
WAYS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
"""Direction -> whether each layer goes from the last step to the first."""
OUTPUTS = ("h", "h_last", "c_last")
"""Of the operator, as the layer calls them."""


@operator("RNN", honours=HONOURED, outputs=2, label="rnn")
def rnn(op: Operation) -> list[Value | None]:
    def made(weight: Floats, recurrent: Floats, biases: Floats, way: int) -> dict[str, Any]:
        arrays = weight[0], recurrent[0], biases.sum(axis=0)[0]
        return dict(zip(("weight", "recurrent", "bias"), arrays, strict=True))

    return _recurrent(op, layers.Rnn, ("Tanh",), made)


@operator("LSTM", honours=HONOURED, only={"input_forget": Only(0)}, outputs=3, label="lstm")
def lstm(op: Operation) -> list[Value | None]:
    """The standard's order of gates is i, o, f, c."""
    order = [0, 2, 3, 1]

    def made(weight: Floats, recurrent: Floats, biases: Floats, way: int) -> dict[str, Any]:
        arrays = weight[order], recurrent[order], biases.sum(axis=0)[order]
        given = dict(zip(("weight", "recurrent", "bias"), arrays, strict=True))
        if op.has(7):
            units = weight.shape[1]
            peephole = _floats(op, 7, "P", (len(_ways(op)), 3 * units))[way].reshape(3, units)
            given["peephole"] = peephole[[0, 2, 1]]
        return given

    return _recurrent(op, layers.Lstm, ("Sigmoid", "Tanh", "Tanh"), made)


@operator("GRU", honours=(*HONOURED, "linear_before_reset"), outputs=2, label="gru")
def gru(op: Operation) -> list[Value | None]:
    def made(weight: Floats, recurrent: Floats, biases: Floats, way: int) -> dict[str, Any]:
        bias = biases[0].copy()
        bias[:2] += biases[1, :2]
        return {
            "weight": weight,
            "recurrent": recurrent,
            "bias": bias,
            "recurrent_bias": biases[1, 2],
            "reset_after": bool(op.attributes["linear_before_reset"]),
        }

    return _recurrent(op, layers.Gru, ("Sigmoid", "Tanh"), made)


def _recurrent(
    op: Operation,
    kind: Any,
    functions: tuple[str, ...],
    made: Callable[[Floats, Floats, Floats, int], dict[str, Any]],
) -> list[Value | None]:
    """Y, Y_h and Y_c, those that are read; ``made`` gives weights of a layer."""
    layout = op.attributes["layout"] or 0
    if layout not in (0, 1):
        op.refuse(f"attribute 'layout' must be 0 or 1, not {layout}")
    value = op.value(0, batch=1 - layout)
    if value.rank != 3:
        op.refuse(f"must have an input of 3 axes, not {value.rank}")
    (steps, inputs), ways = value.shape, _ways(op)
    (count,) = kind.gates or (1,)
    units = op.attributes["hidden_size"]
    if units is None:
        units = math.isqrt(op.array(2, "R").size // (len(ways) * count))
    rows = count * units
    weight = _floats(op, 1, "W", (len(ways), rows, inputs)).reshape(-1, count, units, inputs)
    recurrent = _floats(op, 2, "R", (len(ways), rows, units)).reshape(-1, count, units, units)
    biases = np.zeros((len(ways), 2, count, units))
    if op.has(3):
        biases = _floats(op, 3, "B", (len(ways), 2 * rows)).reshape(biases.shape)
    _check_lengths(op, steps)
    chosen, clip = _functions(op, functions), _clip(op)
    read = [n for n in range(op.operator.outputs) if op.is_read(n)]
    label, results = op.label, []
    for way, backwards in enumerate(ways):
        x = value.moved(raster(value.shape)[::-1], value.batch) if backwards else value
        sources, initial = [op.arranged(x, (0, 1))], []
        for index, name in zip((5, 6), kind.states, strict=False):
            source, first = _initial(op, label, index, f"initial_{name}", way, units, layout)
            sources += source
            initial.append(first)
        layer = op.add(
            kind,
            f"{label}_back" if way else label,
            tuple(sources),
            **made(weight[way], recurrent[way], biases[way], way),
            outputs=tuple(OUTPUTS[n] for n in read),
            initial=tuple(initial),
            functions=tuple(chosen[way]),
            clip=clip,
        )
        results.append(layer.tensors)
    given: list[Value | None] = [None] * op.operator.outputs
    for place, number in enumerate(read):
        lead = (steps,) if number == 0 else ()
        parts = [Value(tensors[place], (*lead, units)) for tensors in results]
        given[number] = _joined(op, label, parts, ways, layout)
    return given


def _ways(op: Operation) -> tuple[bool, ...]:
    direction = op.attributes["direction"]
    if direction not in WAYS:
        op.refuse(f"attribute 'direction' must be {', '.join(WAYS)}, not {direction}")
    return WAYS[direction]


def _floats(op: Operation, index: int, name: str, shape: tuple[int, ...]) -> Floats:
    array = op.floats(index, name)
    if array.shape != shape:
        op.refuse(f"must have a {name} of shape {[*shape]}, not {[*array.shape]}")
    return array


def _check_lengths(op: Operation, steps: int) -> None:
    """All sequences must be whole."""
    if not op.has(4):
        return
    constant = op.importer.model.constant(op.node.input[4]) if op.is_constant(4) else None
    worlds = [*constant] if isinstance(constant, PerBatch) else [constant]
    if any(world is None or not (world == steps).all() for world in worlds):
        op.refuse(f"input 'sequence_lens' must be {steps} throughout, the whole sequence")


def _clip(op: Operation) -> float:
    clip = op.attributes["clip"]
    if clip is None:
        return np.inf
    if clip <= 0:
        op.refuse(f"attribute 'clip' must be above 0, not {clip:g}")
    return clip


def _functions(op: Operation, usual: tuple[str, ...]) -> list[list[Any]]:
    """The functions of each direction; those that have parameters take them in their order."""
    ways = len(_ways(op))
    names = op.attributes["activations"]
    if not any(a.name == "activations" for a in op.node.attribute):
        names = usual * ways
    if len(names) != ways * len(usual):
        op.refuse(f"attribute 'activations' must name {ways * len(usual)}, not {len(names)}")
    values = {part: [*(op.attributes[f"activation_{part}"] or ())] for part in ("alpha", "beta")}
    found = []
    for name in names:
        if name.lower() not in FUNCTIONS:
            op.refuse(f"attribute 'activations' must not name {name!r}")
        function, defaults = FUNCTIONS[name.lower()]
        taken = {p: values[p].pop(0) if values[p] else default for p, default in defaults.items()}
        for part, number in taken.items():
            if name.lower() in POSITIVE and number <= 0:
                op.refuse(
                    f"attribute 'activation_{part}' must be above 0 for {name}, not {number:g}"
                )
        found.append((function, tuple(taken.values())))
    for part, left in values.items():
        if left:
            op.refuse(
                f"attribute 'activation_{part}' must have a number for each function it is of"
            )
    return [found[way * len(usual) :][: len(usual)] for way in range(ways)]


def _initial(
    op: Operation, label: str, index: int, name: str, way: int, units: int, layout: int
) -> tuple[list[str], Floats | None]:
    """The source of an initial state, or its numbers."""
    ways, batch = len(_ways(op)), 1 - layout
    if not op.has(index):
        return [], np.zeros(units)
    if not op.is_constant(index):
        value = op.value(index, batch=batch)
        if value.shape != (ways, units):
            op.refuse(f"must have an {name} of {[ways, units]} for a frame, not {[*value.shape]}")
        if ways > 1:
            value = op.rearranged(f"{label}_{name}", value, raster(value.shape)[way], 0)
        return [op.reordered(value.reshaped((units,)), None, (units,))], None
    constant = op.importer.model.constant(op.node.input[index])
    worlds = [*constant] if isinstance(constant, PerBatch) else [constant]
    first = None
    for world in worlds:
        array: NDArray[Any] = np.asarray(world)
        wanted = array.ndim == 3 and np.delete(array.shape, batch).tolist() == [ways, units]
        if not wanted or not array.shape[batch]:
            op.refuse(f"must have an {name} of {[ways, units]} for a frame")
        first = array.take(0, batch).astype(np.float64)
        if not (array == np.expand_dims(first, batch)).all():
            op.refuse(f"must have one {name} for all frames, or an input")
    assert first is not None
    return [], first[way]


def _joined(
    op: Operation,
    label: str,
    parts: list[Value],
    ways: tuple[bool, ...],
    layout: int,
) -> Value:
    """What both directions give, one beside the other; steps in the order of the input."""
    *lead, units = parts[0].shape
    parts = [
        part.moved(raster(part.shape)[::-1]) if lead and backwards else part
        for part, backwards in zip(parts, ways, strict=True)
    ]
    value = parts[0]
    if len(parts) > 1:
        axes = tuple(range(len(lead) + 1))
        names = tuple(op.arranged(part, axes) for part in parts)
        layer = op.add(layers.Concat, f"{label}_both", names, len(lead))
        value = op.given(layer.name, (*lead, len(parts) * units), axes)
    batch = 0 if layout else len(lead) + 1
    return value.reshaped((*lead, len(parts), units), batch)
