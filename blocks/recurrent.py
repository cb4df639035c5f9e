# SPDX-License-Identifier: Apache-2.0
"""RNN, LSTM and GRU: cells composed of other blocks, in the loop of a Recur."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np

from hdl import Target
from quant import (
    FUNCTIONS,
    Approximation,
    Format,
    Function,
    Ints,
    Overflow,
    candidates,
    check_shape,
)

from .binary import Add, Mul, Sub
from .block import Tensor, check_format, check_formats, check_tensor
from .composition import Composition, lossless
from .configurations import Configuration
from .deinterleave import Deinterleave
from .elementwise import Identity, ReLU
from .linear import Linear
from .movement import Concat, Rearrange, cut
from .network import Network, Node
from .nonlinearity import Nonlinearity
from .planner import plan, quick_plan
from .recur import Recur
from .weight import Weight

Chooser = Callable[[str, Format, Format], Approximation]

Activation = str | Callable[[Tensor, Format], Any]
"""Name of a function, or (input, output format) -> block that treats numbers one by one."""


def rnn(
    input: Tensor,
    weight: Ints,
    recurrent: Ints,
    bias: Ints,
    weight_format: Format,
    recurrent_format: Format,
    sum_format: Format,
    output_format: Format,
    activation: Activation = "tanh",
    shift: Ints | None = None,
    recurrent_shift: Ints | None = None,
    choose: Chooser | None = None,
    **loop: Any,
) -> Network:
    """``h = tanh(narrow(W x + R h + b))`` step by step, or another function of it.

    Error: less than 1 unit of each tanh; sums and products are exact

    Source: J. L. Elman, Finding Structure in Time, 1990; ONNX RNN
    (https://onnx.ai/onnx/operators/onnx__RNN.html)

    Parameters
    ----------
    input : Tensor of x, shape (steps, inputs), or (steps, streams, inputs) for independent streams
    weight, recurrent : ints of W and R, shapes (units, inputs) and (units, units)
    bias : ints with ``weight_format.frac + input.format.frac`` fraction bits, shape (units,)
    weight_format, recurrent_format, output_format : Format of W, R and h
    sum_format : Format of what tanh is taken of, 16 bits at most
    activation : name of a function in place of tanh, or (input, output format) -> its block; "relu"
        takes exact sums
    shift, recurrent_shift : ints 0 to 4, shape of the bias: by how many fraction bits rows of W and
        of R have less, as the shift of :class:`Linear`; 0 left out
    choose : (name, input format, output format) -> Approximation of a named function; left out, the
        one of degree 0 or 1 that stores least: a degree is two stages more in the loop
    loop : ``initial``, ``sequences``, ``finals``, ``kept`` of the :class:`Recur`; zeros, ("h",),
        () and False left out

    Raises
    ------
    TypeError, ValueError : as blocks do

    >>> W, R = np.random.default_rng(0).integers(-64, 64, (2, 4, 4))
    >>> x, y, number = Tensor((4, 4), Format(8, 4)), Format(8, 7), Format(8, 7)
    >>> block = rnn(x, W, R, np.zeros(4, int), number, number, Format(8, 4), y)
    >>> print(block.reference(np.arange(16).reshape(4, 4))[-1])
    [  38 -121    8   53]
    """
    units = _check("rnn", input, weight, recurrent, bias, (), (shift, recurrent_shift))
    _check_functions("rnn", (activation,), 1, choose, "relu")
    check_formats(
        "rnn",
        weight_format=weight_format,
        recurrent_format=recurrent_format,
        output_format=output_format,
        **({} if activation == "relu" else {"sum_format": sum_format}),
    )
    net = _cell(input, h=Tensor((units,), output_format))
    narrowed = None if activation == "relu" else sum_format
    of_x = _Rows(weight, weight_format, shift)
    of_h = _Rows(recurrent, recurrent_format, recurrent_shift)
    _both_sums(net, of_x, of_h, np.asarray(bias), narrowed)
    if activation == "relu":
        net.add("h_next", lambda x: ReLU(x, output_format), "sums")
    else:
        function(net, "h_next", activation, "sums", output_format, choose)
    return looped(net, input, {"h": "h_next"}, loop)


def lstm(
    input: Tensor,
    weight: Ints,
    recurrent: Ints,
    bias: Ints,
    weight_format: Format,
    recurrent_format: Format,
    sum_format: Format,
    gate_format: Format,
    tanh_format: Format,
    cell_format: Format,
    output_format: Format,
    peephole: Ints | None = None,
    peephole_format: Format | None = None,
    projection: Ints | None = None,
    projection_format: Format | None = None,
    activations: tuple[Activation, Activation, Activation] = ("sigmoid", "tanh", "tanh"),
    shift: Ints | None = None,
    recurrent_shift: Ints | None = None,
    projection_shift: Ints | None = None,
    choose: Chooser | None = None,
    **loop: Any,
) -> Network:
    """Long short-term memory, step by step.

    ``i, f, o = sigmoid(narrow(W x + R h + b))`` and ``g = tanh(...)`` likewise, ``c = narrow(f c +
    i g)``, rounded once, ``h = narrow(o tanh(c))``, or ``narrow(P narrow(o tanh(c)))`` with a
    projection. With peepholes ``p c`` is added to the sums of i and f, and ``p c`` of the new c to
    that of o.

    Error: less than 1 unit of each sigmoid and tanh; sums and products are exact

    Source: S. Hochreiter, J. Schmidhuber, Long Short-Term Memory, 1997; F. A. Gers, J. Schmidhuber,
    Recurrent Nets that Time and Count, 2000; H. Sak et al., Long Short-Term Memory Based Recurrent
    Neural Network Architectures, 2014; ONNX LSTM (https://onnx.ai/onnx/operators/onnx__LSTM.html)

    Parameters
    ----------
    input : Tensor of x, shape (steps, inputs), or (steps, streams, inputs) for independent streams
    weight, recurrent : ints of W and R, shapes (4, units, inputs) and (4, units, outputs): of the
        gates i, f, g, o; there are as many outputs as units, or rows of the projection
    bias : ints with ``weight_format.frac + input.format.frac`` fraction bits, shape (4, units)
    weight_format, recurrent_format : Format of W and R
    sum_format : Format of what sigmoid and tanh are taken of, 16 bits at most
    gate_format, tanh_format : Format of i, f, o, and of g, tanh(c) and what is projected; 0 to 1
        and -1 to 1 saturate
    cell_format, output_format : Format of c, 16 bits at most, and of h
    peephole, peephole_format : ints, shape (3, units): of i, f, o
    projection, projection_format : ints of P, shape (outputs, units)
    activations : of i, f and o, of g, and of c, as of :func:`rnn`
    shift, recurrent_shift, projection_shift : ints 0 to 4, shape of the bias, and (outputs,), as of
        :func:`rnn`
    choose : (name, input format, output format) -> Approximation of a named function; left out, the
        one of degree 0 or 1 that stores least: a degree is two stages more in the loop
    loop : ``initial`` (h, c), ``sequences``, ``finals``, ``kept`` of the :class:`Recur`; zeros,
        ("h",), () and False left out

    Raises
    ------
    TypeError, ValueError : as blocks do

    >>> W, R = np.random.default_rng(0).integers(-64, 64, (2, 4, 4, 4))
    >>> x, y, number = Tensor((4, 4), Format(8, 4)), Format(8, 7), Format(8, 7)
    >>> gates, cells, bias = Format(8, 8, signed=False), Format(10, 6), np.zeros((4, 4), int)
    >>> block = lstm(x, W, R, bias, number, number, Format(8, 4), gates, y, cells, y)
    >>> print(block.reference(np.arange(16).reshape(4, 4))[-1])
    [-15 -15 -50  -7]
    """
    _check_functions("lstm", activations, 3, choose)
    check_formats(
        "lstm",
        weight_format=weight_format,
        recurrent_format=recurrent_format,
        sum_format=sum_format,
        gate_format=gate_format,
        tanh_format=tanh_format,
        cell_format=cell_format,
        output_format=output_format,
    )
    outputs = None
    if projection is not None:
        check_shape(projection, ("outputs", "units"), "lstm projection")
        outputs = len(projection)
    units = _check("lstm", input, weight, recurrent, bias, (4,), (shift, recurrent_shift), outputs)
    cell = Tensor((units,), cell_format)
    net = _cell(input, h=Tensor((outputs or units,), output_format), c=cell)
    of_x = _Rows(weight, weight_format, shift).interleaved
    of_h = _Rows(recurrent, recurrent_format, recurrent_shift).interleaved
    narrowed = sum_format if peephole is None else None
    _both_sums(net, of_x, of_h, _interleaved(bias), narrowed)
    sums = parts = _parted(net, "gates", "sums", 4)
    if peephole is not None:
        check_shape(peephole, (3, units), "lstm peephole")
        check_format(peephole_format, "lstm peephole_format")

        def seen(name: str, part: str, weights: Ints, source: str) -> str:
            """A sum to which the cell's share is added, rounded once."""
            looked = net.add(
                f"{name}_peephole",
                lambda x: lossless(Weight, x, weights, peephole_format),
                source,
            )
            return net.add(f"{name}_sum", lambda a, b: Add(a, b, sum_format), part, looked)

        part_i, part_f, part_g, part_o = parts
        sums = [
            seen("input", part_i, peephole[0], "c"),
            seen("forget", part_f, peephole[1], "c"),
            _narrowed(net, "candidate_sum", part_g, sum_format),
            part_o,
        ]
    share, content, shown = activations
    function(net, "input", share, sums[0], gate_format, choose)
    function(net, "forget", share, sums[1], gate_format, choose)
    function(net, "candidate", content, sums[2], tanh_format, choose)
    net.add("kept", lambda a, b: lossless(Mul, a, b), "forget", "c")
    net.add("written", lambda a, b: lossless(Mul, a, b), "input", "candidate")
    net.add("c_next", lambda a, b: Add(a, b, cell_format), "kept", "written")
    if peephole is not None:
        sums[3] = seen("output", sums[3], peephole[2], "c_next")
    function(net, "output", share, sums[3], gate_format, choose)
    function(net, "c_tanh", shown, "c_next", tanh_format, choose)
    mixed_format = output_format if projection is None else tanh_format
    net.add("h_next", lambda a, b: Mul(a, b, mixed_format), "output", "c_tanh")
    last = "h_next"
    if projection is not None:
        check_shape(projection, (len(projection), units), "lstm projection")
        if projection_shift is not None:
            check_shape(projection_shift, (len(projection),), "lstm projection_shift")
        check_format(projection_format, "lstm projection_format")
        assert projection_format is not None
        rows = _Rows(projection, projection_format, projection_shift)
        last = _sums(net, "projected", "h_next", rows, None, output_format)
    return looped(net, input, {"h": last, "c": "c_next"}, loop)


def gru(
    input: Tensor,
    weight: Ints,
    recurrent: Ints,
    bias: Ints,
    weight_format: Format,
    recurrent_format: Format,
    sum_format: Format,
    gate_format: Format,
    output_format: Format,
    recurrent_bias: Ints | None = None,
    reset_after: bool = True,
    activations: tuple[Activation, Activation] = ("sigmoid", "tanh"),
    shift: Ints | None = None,
    recurrent_shift: Ints | None = None,
    choose: Chooser | None = None,
    **loop: Any,
) -> Network:
    """Gated recurrent unit, step by step.

    ``z, r = sigmoid(narrow(W x + R h + b))``, ``n = tanh(narrow(W x + b + r (R h + d)))``, or
    ``tanh(narrow(W x + b + R narrow(r h) + d))`` with the reset before the product, and ``h =
    narrow(n + z (h - n))``. n has the format of h. Where z is from 0 to 1 at every code, h lies
    between n and the former h before it is rounded and after, and cannot overflow; else it
    saturates.

    Error: less than 1 unit of each sigmoid and tanh; sums and products are exact

    Source: K. Cho et al., Learning Phrase Representations using RNN Encoder-Decoder, 2014
    (https://arxiv.org/abs/1406.1078); ONNX GRU (https://onnx.ai/onnx/operators/onnx__GRU.html)

    Parameters
    ----------
    input : Tensor of x, shape (steps, inputs), or (steps, streams, inputs) for independent streams
    weight, recurrent : ints of W and R, shapes (3, units, inputs) and (3, units, units): of the
        gates z, r, n
    bias : ints with ``weight_format.frac + input.format.frac`` fraction bits, shape (3, units)
    weight_format, recurrent_format : Format of W and R
    sum_format : Format of what sigmoid and tanh are taken of, 16 bits at most
    gate_format, output_format : Format of z and r, and of h and n; 0 to 1 and -1 to 1 saturate
    recurrent_bias : ints of d with ``recurrent_format.frac + output_format.frac`` fraction bits,
        shape (units,); zeros if left out
    reset_after : whether the reset gate acts on ``R h + d`` instead of on h
    activations : of z and r, and of n, as of :func:`rnn`
    shift, recurrent_shift : ints 0 to 4, shape of the bias, as of :func:`rnn`
    choose : (name, input format, output format) -> Approximation of a named function; left out, the
        one of degree 0 or 1 that stores least: a degree is two stages more in the loop
    loop : ``initial``, ``sequences``, ``finals``, ``kept`` of the :class:`Recur`; zeros, ("h",),
        () and False left out

    Raises
    ------
    TypeError, ValueError : as blocks do

    >>> W, R = np.random.default_rng(0).integers(-64, 64, (2, 3, 4, 4))
    >>> x, y, number = Tensor((4, 4), Format(8, 4)), Format(8, 7), Format(8, 7)
    >>> gates, bias = Format(8, 8, signed=False), np.zeros((3, 4), int)
    >>> block = gru(x, W, R, bias, number, number, Format(8, 4), gates, y)
    >>> print(block.reference(np.arange(16).reshape(4, 4))[-1])
    [-32 -66 -80  -4]
    """
    _check_functions("gru", activations, 2, choose)
    check_formats(
        "gru",
        weight_format=weight_format,
        recurrent_format=recurrent_format,
        sum_format=sum_format,
        gate_format=gate_format,
        output_format=output_format,
    )
    units = _check("gru", input, weight, recurrent, bias, (3,), (shift, recurrent_shift))
    own = np.zeros(units, np.int64) if recurrent_bias is None else recurrent_bias
    check_shape(own, (units,), "gru recurrent_bias")
    if type(reset_after) is not bool:
        raise TypeError(f"gru reset_after must be a bool, not {reset_after!r}")
    net = _cell(input, h=Tensor((units,), output_format))
    of_x = _Rows(weight, weight_format, shift)
    _sums(net, "x_sums", "x", of_x.interleaved, _interleaved(bias))
    x_parts = _parted(net, "x_gates", "x_sums", 3)
    gates = 3 if reset_after else 2
    constants = np.zeros((gates, units), np.int64)
    if reset_after:
        constants[2] = own
    of_h = _Rows(recurrent, recurrent_format, recurrent_shift)
    rows = of_h.part(slice(gates)).interleaved
    _sums(net, "h_sums", "h", rows, _interleaved(constants))
    h_parts = _parted(net, "h_gates", "h_sums", gates)
    for gate, a, b in zip(("update", "reset"), x_parts, h_parts, strict=False):
        net.add(f"{gate}_sum", lambda x, y: Add(x, y, sum_format), a, b)
        function(net, gate, activations[0], f"{gate}_sum", gate_format, choose)
    if reset_after:
        net.add("seen", lambda a, b: lossless(Mul, a, b), "reset", h_parts[2])
    else:
        net.add("left", lambda a, b: Mul(a, b, output_format), "reset", "h")
        _sums(net, "seen", "left", of_h.part(2), own)
    net.add("candidate_sum", lambda a, b: Add(a, b, sum_format), x_parts[2], "seen")
    function(net, "candidate", activations[1], "candidate_sum", output_format, choose)
    net.add("distance", lambda a, b: lossless(Sub, a, b), "h", "candidate")
    net.add("moved", lambda a, b: lossless(Mul, a, b), "update", "distance")
    least, most = extremes(net, "update")
    between = least >= 0 and most <= 1 << gate_format.frac  # n and the former h: it never wraps
    overflow = Overflow.WRAP if between else Overflow.SAT
    net.add(
        "h_next", lambda a, b: Add(a, b, output_format, overflow=overflow), "candidate", "moved"
    )
    return looped(net, input, {"h": "h_next"}, loop)


def bidirectional(forward: Network, backward: Network) -> Network:
    """Two recurrent layers side by side, one from the first step to the last, one back again.

    Each output of both is joined along its last axis; those of every step keep the order of x.

    Parameters
    ----------
    forward, backward : of :func:`rnn`, :func:`lstm` or :func:`gru`, with constant initial states
    """
    for name, part in (("forward", forward), ("backward", backward)):
        if isinstance(part, Network) and part.kept:
            raise ValueError(
                "bidirectional layers must see whole frames, not keep a state from frame to frame"
            )
        if not isinstance(part, Network) or len(part.inputs) != 1:
            raise ValueError(
                f"bidirectional {name} must be a recurrent layer with x alone, not {part!r}"
            )
    if forward.output_names != backward.output_names:
        raise ValueError(
            f"bidirectional backward must give {', '.join(forward.output_names)} like forward, "
            f"not {', '.join(backward.output_names)}"
        )
    (x,) = forward.inputs.values()
    net = Composition(x=x)
    net.add("forward", forward, "x")
    net.add("reversed", _backwards, "x")
    net.add("backward", backward, "reversed")
    outputs = {}
    several = len(forward.outputs) > 1
    for name in forward.output_names:
        first, second = (f"{n}.{name}" if several else n for n in ("forward", "backward"))
        if not name.endswith("_last"):
            second = net.add(f"{name}_back", _backwards, second)
        outputs[name] = net.add(f"{name}_both", _side_by_side, first, second)
    return net.network(**outputs)


def _backwards(tensor: Tensor) -> Rearrange:
    return cut(tensor, (slice(None, None, -1),))


def _side_by_side(a: Tensor, b: Tensor) -> Concat:
    return Concat((a, b), len(a.shape) - 1)


def _check(
    name: str,
    input: Tensor,
    weight: Ints,
    recurrent: Ints,
    bias: Ints,
    gates: tuple[int, ...],
    shifts: tuple[Ints | None, Ints | None],
    outputs: int | None = None,
) -> int:
    """Units of a layer; its arrays must fit each other."""
    check_tensor(input, f"{name} input")
    if len(input.shape) not in (2, 3):
        raise ValueError(f"{name} input must have 2 or 3 axes, not {len(input.shape)}")
    check_shape(weight, (*gates, "units", input.shape[-1]), f"{name} weight")
    units = np.shape(weight)[-2]
    check_shape(recurrent, (*gates, units, outputs or units), f"{name} recurrent")
    check_shape(bias, (*gates, units), f"{name} bias")
    for field, shift in zip(("shift", "recurrent_shift"), shifts, strict=True):
        if shift is not None:
            check_shape(shift, (*gates, units), f"{name} {field}")
    return units


def _check_functions(name: str, activations: Any, count: int, choose: Any, *more: str) -> None:
    """Raise an error unless ``activations`` are so many functions, and ``choose`` one or None."""
    if choose is not None and not callable(choose):
        raise TypeError(f"{name} choose must be a function, not {choose!r}")
    if not isinstance(activations, tuple) or len(activations) != count:
        raise ValueError(f"{name} activations must be a tuple of {count}, not {activations!r}")
    for activation in activations:
        if not callable(activation) and activation not in (*FUNCTIONS, *more):
            raise ValueError(
                f"{name} activation must be a function, a name of one or relu of rnn, "
                f"not {activation!r}"
            )


def extremes(net: Composition | Network, name: str) -> tuple[int, int]:
    """The smallest and largest number that a node gives which treats numbers one by one."""
    block = next(node.block for node in net.nodes if node.name == name)
    (tensor,) = block.inputs.values()
    codes = np.arange(tensor.format.min, tensor.format.max + 1)
    values = block.reference(np.resize(codes, (-(-codes.size // tensor.size), *tensor.shape)))
    return int(values.min()), int(values.max())


def _cell(input: Tensor, **states: Tensor) -> Composition:
    return Composition(x=Tensor(input.shape[-1:], input.format), **states)


def _interleaved(values: Ints) -> Ints:
    """Rows unit by unit: all gates of unit 0, then those of unit 1, ..."""
    values = np.asarray(values)
    return values.swapaxes(0, 1).reshape(-1, *values.shape[2:])


class _Rows(NamedTuple):
    """A matrix, and by how many fraction bits each row has less than the format."""

    weight: Ints
    format: Format
    shift: Ints | None = None

    def part(self, gates: Any) -> "_Rows":
        """Those of some gates."""
        shift = None if self.shift is None else np.asarray(self.shift)[gates]
        return _Rows(np.asarray(self.weight)[gates], self.format, shift)

    @property
    def interleaved(self) -> "_Rows":
        """Those of all gates, unit by unit."""
        shift = None if self.shift is None else _interleaved(self.shift)
        return _Rows(_interleaved(self.weight), self.format, shift)


def _both_sums(
    net: Composition, of_x: _Rows, of_h: _Rows, bias: Ints, number: Format | None
) -> None:
    """``sums``, W x + R h + b in a format, or exact.

    Where the formats allow it x and h meet one matrix, x first, so that only the later columns wait
    for h; else their sums are added.
    """
    x, h = net.tensors["x"], net.tensors["h"]
    none = np.zeros_like(bias)
    a, b = (none if rows.shift is None else rows.shift for rows in (of_x, of_h))
    if (x.format, of_x.format) == (h.format, of_h.format) and np.array_equal(a, b):
        net.add("joined", lambda a, b: Concat((a, b)), "x", "h")
        both = of_x._replace(weight=np.concatenate([of_x.weight, of_h.weight], axis=1))
        _sums(net, "sums", "joined", both, bias, number)
        return
    _sums(net, "x_sums", "x", of_x, bias)
    _sums(net, "h_sums", "h", of_h, None)
    kind = partial(Add, output_format=number) if number else partial(lossless, Add)
    net.add("sums", kind, "x_sums", "h_sums")


def _sums(
    net: Composition,
    name: str,
    source: str,
    rows: _Rows,
    bias: Ints | None,
    number: Format | None = None,
) -> str:
    """A matrix product in a format, or exact."""
    weight = rows.weight
    arrays = weight, np.zeros(len(weight), np.int64) if bias is None else bias, rows.format
    kind = partial(lossless, Linear) if number is None else partial(Linear, output_format=number)
    return net.add(name, lambda x: kind(x, *arrays, shift=rows.shift), source)


def _parted(net: Composition, name: str, source: str, parts: int) -> list[str]:
    net.add(name, lambda x: Deinterleave(x, parts), source)
    return [f"{name}.{n}" for n in range(parts)]


def _narrowed(net: Composition, name: str, source: str, number: Format) -> str:
    return net.add(name, lambda x: Identity(x, number), source)


def function(
    net: Composition,
    name: str,
    activation: Activation,
    source: str,
    number: Format,
    choose: Chooser | None,
) -> str:
    """A node that is a function of one variable."""
    if callable(activation):
        return net.add(name, lambda x: activation(x, number), source)
    chosen = (choose or smallest)(activation, net.tensors[source].format, number)
    return net.add(name, lambda x: Nonlinearity(x, chosen), source)


@lru_cache(maxsize=64)
def smallest(of: str | Function, number: Format, target: Format) -> Approximation:
    """The form of a function, of degree 0 or 1, that stores least."""
    real = FUNCTIONS[of] if isinstance(of, str) else of
    forms = candidates(real, number, target, degrees=(0, 1))
    return min(forms, key=lambda form: (form.storage_bits, form.degree))


def looped(
    net: Composition, input: Tensor, states: dict[str, str], options: dict[str, Any]
) -> Network:
    """The network of the loop alone, its tensors named like those of the cell."""
    cell = net.network(**states)
    names = cell.input_names[1:]
    zeros = tuple(np.zeros(cell.inputs[f"i_{name}"].shape, np.int64) for name in names)
    settings = {"initial": zeros, "sequences": ("h",), **options}
    streams = input.shape[1] if len(input.shape) == 3 else 1
    loop = Recur(cell, input.shape[0], streams=streams, **settings)
    inputs = loop.entries
    given = (*loop.sequences, *(f"{name}_last" for name in loop.finals))
    node = Node("loop", loop, tuple(inputs))
    return Network(inputs, (node,), dict(zip(given, node.tensors, strict=True)))


def _arguments(random: np.random.Generator, index: int, gates: tuple[int, ...]) -> dict[str, Any]:
    """What all three kinds have in common, the sizes growing with the index."""
    units, inputs = (1, 1) if index == 0 else (int(n) for n in random.integers(2, 5, 2))
    steps = int(random.integers(1, 4))
    if index and index % 5 != 3:  # a single step reads a state only if it is kept
        steps = max(2, steps)
    streams = (2,) if index % 4 == 3 else ()
    output = Format(6, 5)
    x = output if index % 2 else Format(int(random.integers(6, 8)), 3)
    number = Format(5, 3)
    parts = {
        "input": Tensor((steps, *streams, inputs), x),
        "weight": random.integers(-16, 16, (*gates, units, inputs)),
        "recurrent": random.integers(-16, 16, (*gates, units, units)) | 1,
        "bias": random.integers(-20, 20, (*gates, units)),
        "weight_format": number,
        "recurrent_format": number if index % 2 else Format(5, 4),
        "sum_format": Format(7, 4),
        "output_format": output,
    }
    if index % 5 == 4:
        parts |= {
            "shift": random.integers(0, 3, (*gates, units)),
            "recurrent_shift": random.integers(0, 3, (*gates, units)),
        }
    return parts


def _planned(network: Network, random: np.random.Generator, index: int) -> Configuration:
    """Every fourth with a plan that is searched for, which takes its time."""
    loops = [node.block for node in network.flat.nodes if isinstance(node.block, Recur)]
    target, interval = Target.named("ecp5"), int(random.choice([80, 150, 400]))
    if index % 4 == 2:
        return Configuration(network, plan(network, target, loops[0].rounds * interval))
    return Configuration(network, quick_plan(network, target, interval))


def rnn_configuration(random: np.random.Generator, index: int) -> Configuration:
    parts = _arguments(random, index, ())
    if index % 3 == 2:
        parts |= {"activation": "relu", "output_format": Format(6, 3, False)}
    if index % 4 == 2:
        parts |= {"sequences": (), "finals": ("h",)}
    parts["kept"] = index % 5 == 3
    return _planned(rnn(**parts), random, index)


def lstm_configuration(random: np.random.Generator, index: int) -> Configuration:
    parts = _arguments(random, index, (4,))
    units = parts["bias"].shape[1]
    parts |= {"gate_format": Format(5, 5, False), "tanh_format": Format(5, 4)}
    parts["cell_format"] = Format(8, 5)
    if index % 3 == 1:
        weights = random.integers(-16, 16, (3, units))
        parts |= {"peephole": weights, "peephole_format": Format(5, 4)}
    if index % 3 == 2:
        rows = 1 + units // 2
        parts |= {"projection": random.integers(-16, 16, (rows, units))}
        parts |= {"projection_format": Format(5, 4), "recurrent": parts["recurrent"][..., :rows]}
        if "shift" in parts:
            parts["projection_shift"] = random.integers(0, 3, rows)
    if index % 4 == 2:
        parts |= {"finals": ("h", "c"), "initial": (None, random.integers(-99, 99, units))}
    elif index % 5 == 3:
        state = parts["recurrent"].shape[-1], units
        parts |= {"kept": True, "initial": tuple(random.integers(-30, 30, n) for n in state)}
    return _planned(lstm(**parts), random, index)


def gru_configuration(random: np.random.Generator, index: int) -> Configuration:
    parts = _arguments(random, index, (3,))
    parts["gate_format"] = Format(5, 5, False)
    parts["recurrent_bias"] = random.integers(-20, 20, parts["bias"].shape[1])
    parts["reset_after"] = index % 3 != 2
    parts["kept"] = index % 5 == 3 and index % 4 != 1
    network = gru(**parts)
    if index % 4 == 1:
        backward = _arguments(random, index, (3,)) | {"gate_format": Format(5, 5, False)}
        backward["input"] = parts["input"]
        for name in ("weight", "recurrent", "bias", "shift", "recurrent_shift"):
            if name in parts:
                values = random.permutation(parts[name].ravel())
                backward[name] = values.reshape(parts[name].shape)
        network = bidirectional(network, gru(**backward))
    return _planned(network, random, index)
