# SPDX-License-Identifier: Apache-2.0
"""Soft memories: rows that are addressed, read and written all at once, each by its share.

The pieces are networks of other blocks, each usable by itself: a weighting says for each head how
much of each row it means, and the memory is a tensor that goes in and comes out. In the loop of a
Recur it is a state, all of which every step reads and writes.

Source: A. Graves, G. Wayne, I. Danihelka, Neural Turing Machines, 2014, sections 3.1 to 3.4.
"""

from fractions import Fraction
from math import floor, log2
from typing import Any

import numpy as np

from hdl import Target
from quant import Format, Ints, check_shape, product_format

from .attention import first_largest
from .binary import Add, Mul, Sub
from .block import Tensor, check_format, check_formats, check_tensor
from .composition import ONE, Composition, lossless
from .configurations import Configuration
from .deinterleave import Deinterleave
from .division import Divide, SquareRoot
from .linear import Linear
from .matmul import matmul
from .movement import Rearrange, cut
from .network import Network
from .planner import plan, quick_plan
from .recurrent import Chooser, function, looped
from .softmax import softmax
from .weight import Weight


def content_scores(
    memory: Tensor,
    key: Tensor,
    strength: Tensor,
    output_format: Format,
    epsilon: float = 1e-3,
) -> Network:
    """``strength * (row . key) / (|row| |key| + epsilon)`` for every head and row.

    The dot products and squares are exact, and so is the quotient, rounded once; the root and
    epsilon have as many bits as keep y less than ``1/2 + strength / 4`` units wrong.

    Parameters
    ----------
    memory : Tensor, shape (rows, columns)
    key : Tensor, shape (heads, columns)
    strength : Tensor, shape (heads,)
    output_format : Format of y, shape (heads, rows)
    epsilon : above 0, less than 1

    Error: less than ``1/2 + strength / 4`` units of the output

    Source: A. Graves, G. Wayne, I. Danihelka, Neural Turing Machines, 2014, section 3.3.1.
    """
    _check("content_scores", memory=(memory, 2), key=(key, 2), strength=(strength, 1))
    (rows, columns), (heads, depth) = memory.shape, key.shape
    if depth != columns:
        raise ValueError(f"content_scores key must have {columns} columns like memory, not {depth}")
    if strength.shape != (heads,):
        raise ValueError(
            f"content_scores strength must be one for each of {heads} heads, not {strength.shape}"
        )
    check_format(output_format, "content_scores output_format")
    if isinstance(epsilon, bool) or not isinstance(epsilon, int | float) or not 0 < epsilon < 1:
        raise ValueError(
            f"content_scores epsilon must be a number above 0, less than 1, not {epsilon!r}"
        )
    net = Composition(memory=memory, key=key, strength=strength)
    whole = heads, rows, columns
    m = net.spread("rows", net.reshaped("rows_once", "memory", (1, rows, columns)), whole)
    k = net.spread("keys", net.reshaped("keys_once", "key", (heads, 1, columns)), whole)
    dots = net.reduced("dot", net.multiplied("product", m, k), "sum")
    dots = net.reshaped("dots", dots, (heads, rows))
    by = net.reshaped("strengths", "strength", (heads, 1))
    scaled = net.multiplied("scaled", dots, by)
    row_squares = net.reduced("row_squares", _squared(net, "row_square", "memory"), "sum")
    row_squares = net.reshaped("row_each", row_squares, (1, rows))
    row_squares = net.spread("row_lengths", row_squares, (heads, rows))
    key_squares = net.reduced("key_squares", _squared(net, "key_square", "key"), "sum")
    lengths = net.multiplied("lengths", row_squares, key_squares)
    square = net.tensors[lengths].format
    frac = max(0, output_format.frac) - floor(log2(epsilon))
    bits = (square.width - square.frac + 1) // 2 + 1
    root = Format(max(1, bits + frac), frac, False)
    net.add("root", lambda x: SquareRoot(x, root), lengths)
    least = round(Fraction(epsilon) * (1 << frac))
    length = Format(root.width + 1, frac, False)
    net.add("length", lambda x: Weight(x, np.array(1), ONE, length, bias=np.array(least)), "root")
    net.add("score", lambda a, b: Divide(a, b, output_format, None), scaled, "length")
    return net.network(y="score")


def content_addressing(
    memory: Tensor,
    key: Tensor,
    strength: Tensor,
    score_format: Format,
    output_format: Format,
    epsilon: float = 1e-3,
    hard: bool = False,
) -> Network:
    """:func:`softmax` of :func:`content_scores`: how much like the key of each head a row is.

    Parameters
    ----------
    memory, key, strength, epsilon : of :func:`content_scores`
    score_format : Format of the scores, 16 bits at most
    output_format : Format of y, shape (heads, rows)
    hard : whether the row of the largest score, the first of equal ones, is all that is meant

    Error: less than 1 unit of the output for the scores, which are less than ``1/2 + strength / 4``
    of theirs wrong

    Source: A. Graves, G. Wayne, I. Danihelka, Neural Turing Machines, 2014, section 3.3.1
    (https://arxiv.org/abs/1410.5401)

    >>> x, share = Format(8, 6), Format(8, 8, signed=False)
    >>> memory, key, strength = Tensor((8, 4), x), Tensor((1, 4), x), Tensor((1,), Format(8, 4))
    >>> block = content_addressing(memory, key, strength, Format(8, 4), share)
    >>> rows = np.random.default_rng(0).integers(-64, 64, (8, 4))
    >>> print(block.reference(rows, rows[3:4], [80]))
    [[  1   0  26 201  19   1   1   8]]
    """
    _check("content_addressing", memory=(memory, 2), key=(key, 2), strength=(strength, 1))
    check_formats("content_addressing", score_format=score_format, output_format=output_format)
    net = Composition(memory=memory, key=key, strength=strength)
    net.add(
        "score",
        lambda m, k, s: content_scores(m, k, s, score_format, epsilon),
        "memory",
        "key",
        "strength",
    )
    if hard:
        if memory.shape[0] < 2:
            raise ValueError(
                "content_addressing memory must have at least 2 rows to choose from, not 1"
            )
        one = one_of(output_format)
        return net.network(y=first_largest(net, "score", None, one, output_format))
    net.add("share", lambda x: softmax(x, output_format), "score")
    return net.network(y="share")


def location_addressing(
    content: Tensor,
    former: Tensor,
    gate: Tensor,
    shift: Tensor,
    mixed_format: Format,
    output_format: Format,
    exponent: int = 2,
) -> Network:
    """A weighting by content or the former one, moved by a few rows, and sharpened.

    ``m = narrow(former + gate (content - former))``, ``s`` the sum of m moved round by each number
    of rows, times its share, narrowed once, and ``y = narrow(s**exponent / sum(s**exponent))``, 0
    where the sum is.

    Parameters
    ----------
    content, former : Tensor, shape (heads, rows)
    gate : Tensor, shape (heads,)
    shift : Tensor, shape (heads, places): the shares of moves by ``-(places // 2)``, ... rows
    mixed_format : Format of m and s, unsigned
    output_format : Format of y
    exponent : 1 or 2

    Error: exact, rounded three times

    Source: A. Graves, G. Wayne, I. Danihelka, Neural Turing Machines, 2014, section 3.3.2
    (https://arxiv.org/abs/1410.5401)

    >>> w, g = Format(8, 8, signed=False), Tensor((1,), Format(8, 8, signed=False))
    >>> rows, shift = Tensor((1, 8), w), Tensor((1, 3), w)
    >>> block = location_addressing(rows, rows, g, shift, w, w)
    >>> content, former = (np.eye(1, 8, n, int) * 255 for n in (5, 0))
    >>> print(block.reference(content, former, [64], [[9, 38, 209]]))
    [[  7 223   0   0   0   1  25   0]]
    """
    tensors = {"content": (content, 2), "former": (former, 2), "gate": (gate, 1)}
    _check("location_addressing", **tensors, shift=(shift, 2))
    heads, rows = content.shape
    for name, tensor, shape in (
        ("former", former, (heads, rows)),
        ("gate", gate, (heads,)),
        ("shift", shift, (heads, shift.shape[1])),
    ):
        if tensor.shape != shape:
            raise ValueError(
                f"location_addressing {name} must have shape {shape}, not {tensor.shape}"
            )
    places = shift.shape[1]
    if places < 3 or not places % 2:
        raise ValueError(
            f"location_addressing shift must have 3 places or an odd number more, not {places}"
        )
    check_formats("location_addressing", mixed_format=mixed_format, output_format=output_format)
    if mixed_format.signed:
        raise ValueError(f"location_addressing mixed_format must be unsigned, not {mixed_format}")
    if type(exponent) is not int or exponent not in (1, 2):
        raise ValueError(f"location_addressing exponent must be 1 or 2, not {exponent!r}")
    net = Composition(content=content, former=former, gate=gate, shift=shift)
    net.add("distance", lambda a, b: lossless(Sub, a, b), "content", "former")
    by = net.reshaped("gates", "gate", (heads, 1))
    way = net.multiplied("way", "distance", by)
    net.add("mixed", lambda a, b: Add(a, b, mixed_format), "former", way)
    net.add("shares", lambda x: Deinterleave(x, places), "shift")
    total = ""
    for place in range(places):
        move = place - places // 2
        name = f"moved_{place}"
        moved = net.add(name, lambda x, move=move: _turned(x, move), "mixed") if move else "mixed"
        part = net.multiplied(f"part_{place}", moved, f"shares.{place}")
        if not total:
            total = part
        elif place < places - 1:
            total = net.add(f"sum_{place}", lambda a, b: lossless(Add, a, b), total, part)
        else:
            net.add("shifted", lambda a, b: Add(a, b, mixed_format), total, part)
    return net.network(y=_sharpened(net, "shifted", output_format, exponent))


def _turned(weighting: Tensor, move: int) -> Rearrange:
    index = np.arange(weighting.size).reshape(weighting.shape)
    return Rearrange(weighting, np.roll(index, move, axis=1))


def _sharpened(net: Composition, source: str, output_format: Format, exponent: int) -> str:
    power = _squared(net, "power", source) if exponent == 2 else source
    shape = net.tensors[power].shape
    total = net.spread("total_each", net.reduced("total", power, "sum"), shape)
    return net.add("sharp", lambda a, b: Divide(a, b, output_format, 0), power, total)


def _squared(net: Composition, name: str, source: str) -> str:
    """Exact squares, which have no sign."""
    number = net.tensors[source].format
    square = product_format(number, number, name)
    unsigned = Format(square.width, square.frac, False)
    return net.add(name, lambda a, b: Mul(a, b, unsigned), source, source)


def soft_read(weighting: Tensor, memory: Tensor, output_format: Format) -> Network:
    """``weighting @ memory``: for every head the sum of all rows, each by its share.

    Parameters
    ----------
    weighting : Tensor, shape (heads, rows)
    memory : Tensor, shape (rows, columns)
    output_format : Format of y, shape (heads, columns)

    Error: exact, rounded once

    Source: A. Graves, G. Wayne, I. Danihelka, Neural Turing Machines, 2014, section 3.1.
    """
    _check("soft_read", weighting=(weighting, 2), memory=(memory, 2))
    check_format(output_format, "soft_read output_format")
    if weighting.shape[1] != memory.shape[0]:
        raise ValueError(
            f"soft_read weighting must have {memory.shape[0]} rows like memory, "
            f"not {weighting.shape[1]}"
        )
    return matmul(weighting, memory, output_format)


def soft_write(
    memory: Tensor,
    weighting: Tensor,
    erase: Tensor,
    add: Tensor,
    output_format: Format | None = None,
) -> Network:
    """``narrow(memory * (1 - w e) + w a)``: each row erased and added to by its share.

    Computed as ``memory + w (a - e * memory)``, which is the same number, and rounded once.

    Parameters
    ----------
    memory : Tensor, shape (rows, columns)
    weighting : Tensor of w, shape (rows,)
    erase, add : Tensor of e and a, shape (columns,)
    output_format : Format of y; that of memory if left out

    Error: exact, rounded once

    Source: A. Graves, G. Wayne, I. Danihelka, Neural Turing Machines, 2014, section 3.2
    (https://arxiv.org/abs/1410.5401)

    >>> x, w = Format(8, 6), Format(8, 8, signed=False)
    >>> vector = Tensor((4,), x)
    >>> block = soft_write(Tensor((8, 4), x), Tensor((8,), w), Tensor((4,), w), vector)
    >>> rows, shares = np.arange(32).reshape(8, 4), [0, 0, 192, 64, 0, 0, 0, 0]
    >>> print(block.reference(rows, shares, [255] * 4, [60, 40, -40, -60])[1:4])
    [[  4   5   6   7]
     [ 47  32 -27 -42]
     [ 24  20   1  -4]]
    """
    _check(
        "soft_write", memory=(memory, 2), weighting=(weighting, 1), erase=(erase, 1), add=(add, 1)
    )
    rows, columns = memory.shape
    for name, tensor, count in (
        ("weighting", weighting, rows),
        ("erase", erase, columns),
        ("add", add, columns),
    ):
        if tensor.shape != (count,):
            raise ValueError(
                f"soft_write {name} must have shape ({count},) for memory of {memory.shape}, "
                f"not {tensor.shape}"
            )
    if output_format is not None:
        check_format(output_format, "soft_write output_format")
    net = Composition(memory=memory, weighting=weighting, erase=erase, add=add)
    each = {
        name: net.spread(
            f"{name}_each", net.reshaped(f"{name}_once", name, (1, columns)), (rows, columns)
        )
        for name in ("erase", "add")
    }
    erased = net.multiplied("erased", "memory", each["erase"])
    net.add("change", lambda a, b: lossless(Sub, a, b), each["add"], erased)
    by = net.reshaped("shares", "weighting", (rows, 1))
    net.multiplied("written", "change", by)
    target = output_format or memory.format
    net.add("y", lambda a, b: Add(a, b, target), "memory", "written")
    return net.network(y="y")


def one_of(number: Format) -> int:
    """The integer nearest to 1 in a format."""
    return min(number.max, 1 << max(0, number.frac))


def _check(name: str, **tensors: tuple[Tensor, int]) -> None:
    for argument, (tensor, axes) in tensors.items():
        check_tensor(tensor, f"{name} {argument}")
        if len(tensor.shape) != axes:
            raise ValueError(
                f"{name} {argument} must have {axes} {'axis' if axes == 1 else 'axes'}, "
                f"not {len(tensor.shape)}"
            )


def neural_turing_machine(
    input: Tensor,
    rows: int,
    controller: Ints,
    controller_bias: Ints,
    reader: Ints,
    reader_bias: Ints,
    writer: Ints,
    writer_bias: Ints,
    output: Ints,
    output_bias: Ints,
    controller_format: Format,
    head_format: Format,
    output_weight_format: Format,
    sum_format: Format,
    hidden_format: Format,
    key_format: Format,
    strength_format: Format,
    gate_format: Format,
    shift_format: Format,
    score_format: Format,
    weighting_format: Format,
    memory_format: Format,
    read_format: Format,
    output_format: Format,
    exponent: int = 2,
    epsilon: float = 1e-3,
    choose: Chooser | None = None,
    **loop: Any,
) -> Network:
    """A controller with a soft memory, step by step.

    ``h = tanh(narrow(W [x, r] + b))``, r being what was read last. Of h every head makes its key
    (tanh), strength (softplus), gate (sigmoid) and shares of moves (softmax), by which it moves:
    :func:`content_addressing`, then :func:`location_addressing`. All heads see the memory of the
    step before; the read heads read it, then each write head in turn erases (sigmoid) and adds
    (tanh). ``y = narrow(V [h, r] + c)`` with what was read now.

    Parameters
    ----------
    input : Tensor of x, shape (steps, inputs), or (steps, streams, inputs) for independent streams
    rows : int, of the memory
    controller : ints of W, shape (units, inputs + reads * columns)
    reader : ints, shape (reads, columns + 2 + places, units): of each read head the rows for key,
        strength, gate and the moves by ``-(places // 2)``, ... rows
    writer : ints, shape (writes, 3 * columns + 2 + places, units): of each write head likewise, and
        behind them the rows for what it erases and adds
    output : ints of V, shape (outputs, units + reads * columns)
    controller_bias, output_bias : ints with the fraction bits of W r and of V h
    reader_bias, writer_bias : ints with ``head_format.frac + hidden_format.frac`` fraction bits,
        shapes as those of the weights without the last axis
    controller_format, head_format, output_weight_format : Format of the weights
    sum_format : Format of what functions are taken of, 16 bits at most
    hidden_format, key_format : Format of h, and of keys and what is added
    strength_format, gate_format, shift_format : Format of strengths, of gates and what is erased,
        and of the shares of moves
    score_format, weighting_format : Format of content_scores and of all weightings, unsigned
    memory_format, read_format, output_format : Format of the memory, of r and of y
    exponent, epsilon : of :func:`location_addressing` and :func:`content_scores`
    choose : as of :func:`lstm`
    loop : ``initial`` (memory, read, weighting of all heads), ``sequences``, ``finals``, ``kept``
        of the :class:`Recur`; left out, zeros with all heads at row 0, ("y",), () and False

    Error: that of its parts

    Source: A. Graves, G. Wayne, I. Danihelka, Neural Turing Machines, 2014
    (https://arxiv.org/abs/1410.5401)

    >>> x, share, frame = Format(8, 5), Format(8, 8, signed=False), Tensor((2, 2), Format(8, 5))
    >>> sizes = (4, 4), (4,), (1, 7, 4), (1, 7), (1, 11, 4), (1, 11), (2, 6), (2,)
    >>> arrays = [np.random.default_rng(0).integers(-64, 64, size) for size in sizes]
    >>> block = neural_turing_machine(frame, 4, *arrays, *[x] * 6, *[share] * 3, x, share, *[x] * 3)
    >>> print(block.reference([[16, 32], [-48, 64]]))
    [[ 12   6]
     [-63  84]]
    """
    name = "neural_turing_machine"
    check_tensor(input, f"{name} input")
    if len(input.shape) not in (2, 3):
        raise ValueError(f"{name} input must have 2 or 3 axes, not {len(input.shape)}")
    if type(rows) is not int or rows < 1:
        raise ValueError(f"{name} rows must be an int from 1, not {rows!r}")
    check_formats(
        name,
        controller_format=controller_format,
        head_format=head_format,
        output_weight_format=output_weight_format,
        sum_format=sum_format,
        hidden_format=hidden_format,
        key_format=key_format,
        strength_format=strength_format,
        gate_format=gate_format,
        shift_format=shift_format,
        score_format=score_format,
        weighting_format=weighting_format,
        memory_format=memory_format,
        read_format=read_format,
        output_format=output_format,
    )
    units, inputs = len(controller_bias), input.shape[-1]
    reads, writes = len(reader), len(writer)
    size = np.shape(writer)[1] - np.shape(reader)[1]
    columns, places = size // 2, np.shape(reader)[1] - size // 2 - 2
    heads = reads + writes
    check_shape(controller, (units, inputs + reads * columns), f"{name} controller")
    check_shape(reader, (reads, columns + 2 + places, units), f"{name} reader")
    check_shape(reader_bias, (reads, columns + 2 + places), f"{name} reader_bias")
    check_shape(writer, (writes, 3 * columns + 2 + places, units), f"{name} writer")
    check_shape(writer_bias, (writes, 3 * columns + 2 + places), f"{name} writer_bias")
    check_shape(output, ("outputs", units + reads * columns), f"{name} output")
    check_shape(output_bias, (len(output),), f"{name} output_bias")
    net = Composition(
        x=Tensor(input.shape[-1:], input.format),
        memory=Tensor((rows, columns), memory_format),
        read=Tensor((reads * columns,), read_format),
        weighting=Tensor((heads, rows), weighting_format),
    )

    def matrix(name: str, source: str, weight: Ints, bias: Ints | None, number: Format) -> str:
        added = np.zeros(len(weight), np.int64) if bias is None else bias
        return net.add(name, lambda x: lossless(Linear, x, weight, added, number), source)

    matrix("x_sums", "x", controller[:, :inputs], None, controller_format)
    matrix("read_sums", "read", controller[:, inputs:], controller_bias, controller_format)
    net.add("controller", lambda a, b: Add(a, b, sum_format), "x_sums", "read_sums")
    function(net, "hidden", "tanh", "controller", hidden_format, choose)

    ends = np.cumsum([columns, 1, 1, places, columns])
    weights, biases = _by_part(reader, writer, ends), _by_part(reader_bias, writer_bias, ends)
    weight, bias = np.concatenate(weights), np.concatenate(biases)
    net.add("heads", lambda x: Linear(x, weight, bias, head_format, sum_format), "hidden")
    stops = np.cumsum([len(part) for part in biases]).tolist()

    def part(name: str, place: int, *shape: int) -> str:
        """The sums of a part of all heads."""
        rows = slice(stops[place] - len(biases[place]), stops[place])
        net.add(f"{name}_flat", lambda x: cut(x, (rows,)), "heads")
        return net.reshaped(f"{name}_sums", f"{name}_flat", shape)

    function(net, "key", "tanh", part("key", 0, heads, columns), key_format, choose)
    function(net, "strength", "softplus", part("strength", 1, heads), strength_format, choose)
    function(net, "gate", "sigmoid", part("gate", 2, heads), gate_format, choose)
    net.add("shift", lambda x: softmax(x, shift_format), part("shift", 3, heads, places))
    function(net, "erase", "sigmoid", part("erase", 4, writes, columns), gate_format, choose)
    function(net, "add", "tanh", part("add", 5, writes, columns), key_format, choose)
    found = score_format, weighting_format, epsilon
    sources: tuple[str, ...] = "memory", "key", "strength"
    net.add("content", lambda m, k, s: content_addressing(m, k, s, *found), *sources)
    mixed = weighting_format, weighting_format, exponent
    sources = "content", "weighting", "gate", "shift"
    net.add("moved", lambda c, w, g, s: location_addressing(c, w, g, s, *mixed), *sources)
    net.add("reading", lambda x: cut(x, (slice(reads),)), "moved")
    net.add("read_rows", lambda w, m: soft_read(w, m, read_format), "reading", "memory")
    net.reshaped("read_next", "read_rows", (reads * columns,))
    memory = "memory"
    for head in range(writes):
        own = []
        for source, row in (("moved", reads + head), ("erase", head), ("add", head)):
            label = f"{source}_{head}"
            shape, one = net.tensors[source].shape, source
            if shape[0] > 1:
                one = net.add(f"{label}_row", lambda x, n=row: cut(x, (slice(n, n + 1),)), source)
            own.append(net.reshaped(label, one, shape[1:]))
        memory = net.add(f"memory_{head}", soft_write, memory, *own)
    matrix("hidden_outputs", "hidden", output[:, :units], output_bias, output_weight_format)
    matrix("read_outputs", "read_next", output[:, units:], None, output_weight_format)
    net.add("y", lambda a, b: Add(a, b, output_format), "hidden_outputs", "read_outputs")
    at_start = np.zeros((heads, rows), np.int64)
    at_start[:, 0] = one_of(weighting_format)
    zeros = (np.zeros((rows, columns), np.int64), np.zeros(reads * columns, np.int64))
    options = {"initial": (*zeros, at_start), "sequences": ("y",), **loop}
    results = {"y": "y", "memory": memory, "read": "read_next", "weighting": "moved"}
    return looped(net, input, results, options)


def _by_part(reader: Ints, writer: Ints, ends: Ints) -> list[Ints]:
    """Rows for the keys of all heads, the read heads first, then for their strengths, ..."""
    parts = np.split(writer, ends, axis=1)
    shared = zip(np.split(reader, ends[:3], axis=1), parts[:4], strict=True)
    parts[:4] = [np.concatenate(both) for both in shared]
    return [part.reshape(-1, *part.shape[2:]) for part in parts]


def _weights(random: np.random.Generator, index: int) -> tuple[int, int, int, Format]:
    """Heads, rows, columns, and a format of weightings."""
    heads, rows, columns = (1, 2, 1) if index == 0 else (int(n) for n in random.integers(1, 5, 3))
    return heads, rows + (index > 0), columns, Format(int(random.integers(5, 9)), 7, False)


def content_addressing_configuration(random: np.random.Generator, index: int) -> Configuration:
    heads, rows, columns, weighting = _weights(random, index)
    memory, key = (Format(int(random.integers(3, 7)), int(random.integers(1, 5))) for _ in range(2))
    tensors = (
        Tensor((rows, columns), memory),
        Tensor((heads, columns), key),
        Tensor((heads,), Format(4, 2, bool(index % 2))),
    )
    formats = Format(int(random.integers(4, 7)), int(random.integers(0, 4))), weighting
    epsilon = float(2.0 ** -random.integers(1, 9))
    network = content_addressing(*tensors, *formats, epsilon, hard=index % 4 == 3)
    return Configuration(network, plan(network, Target.named("ecp5"), 1 << 10))


def location_addressing_configuration(random: np.random.Generator, index: int) -> Configuration:
    heads, rows, _, weighting = _weights(random, index)
    former = Tensor((heads, rows), weighting)
    content = former if index % 3 else Tensor((heads, rows), Format(6, 6, False))
    share = Format(int(random.integers(3, 7)), int(random.integers(3, 7)), False)
    shift = Tensor((heads, 3 if index % 3 else 5), share)
    gate = Tensor((heads,), Format(4, 4, False))
    width, frac = (int(n) for n in random.integers(5, 9, 2))
    whole = max(t.format.width - t.format.frac for t in (content, former))
    mixed = Format(width, max(frac, width - whole), False)  # no larger than both
    network = location_addressing(content, former, gate, shift, mixed, weighting, 1 + index % 2)
    return Configuration(network, plan(network, Target.named("ecp5"), 1 << 10))


def soft_write_configuration(random: np.random.Generator, index: int) -> Configuration:
    _, rows, columns, _ = _weights(random, index)
    weighting = Format(int(random.integers(2, 5)), 2, False)
    memory, add = (Format(int(random.integers(3, 7)), int(random.integers(1, 5))) for _ in range(2))
    erase = Format(int(random.integers(2, 4)), 1, False)
    vectors = Tensor((rows,), weighting), Tensor((columns,), erase), Tensor((columns,), add)
    target = Format(8, 5) if index % 2 else None
    network = soft_write(Tensor((rows, columns), memory), *vectors, target)
    return Configuration(network, plan(network, Target.named("ecp5"), 1 << 10))


def machine_arguments(random: np.random.Generator, index: int) -> dict[str, Any]:
    """Of a small machine: one or two heads of a kind, now and then with several streams, a memory
    that is given and told, or a state that is kept.
    """
    reads, writes, columns = 1 + index % 2, 1 + (index % 3 == 2), 1 + index % 2
    units, inputs, outputs = (int(n) for n in random.integers(1, 3, 3))
    steps, rows = 2 + index % 2, int(random.integers(2, 4))
    streams = (2,) if index % 4 == 3 else ()
    x, weight, number = Format(4, 2), Format(4, 2), Format(4, 3)
    arguments: dict[str, Any] = {
        "input": Tensor((steps, *streams, inputs), x),
        "rows": rows,
        "controller_format": weight,
        "head_format": weight,
        "output_weight_format": weight,
        "sum_format": Format(5, 2),
        "hidden_format": number,
        "key_format": number,
        "strength_format": Format(4, 2, False),
        "gate_format": Format(4, 4, False),
        "shift_format": Format(3, 3, False),
        "score_format": Format(4, 1),
        "weighting_format": Format(int(random.integers(4, 6)), 4, False),
        "memory_format": Format(int(random.integers(3, 6)), 3),
        "read_format": number,
        "output_format": Format(6, 3),
        "exponent": 1 + index % 2,
        "epsilon": float(2.0 ** -random.integers(1, 4)),
    }
    for name, *shape in (
        ("controller", units, inputs + reads * columns),
        ("reader", reads, columns + 5, units),
        ("writer", writes, 3 * columns + 5, units),
        ("output", outputs, units + reads * columns),
    ):
        arguments[name] = random.integers(weight.min, weight.max + 1, shape)
        arguments[f"{name}_bias"] = random.integers(-50, 50, shape[:-1])
    if index % 5 == 4:
        arguments |= {"kept": True, "finals": ("memory",)}
    elif index % 8 == 7:
        read = random.integers(-4, 4, reads * columns)
        weighting = random.integers(0, 8, (reads + writes, rows))
        arguments |= {"initial": (None, read, weighting), "finals": ("memory",)}
    return arguments


def neural_turing_machine_configuration(random: np.random.Generator, index: int) -> Configuration:
    network = neural_turing_machine(**machine_arguments(random, index))
    return Configuration(network, quick_plan(network, Target.named("ecp5"), 40))
