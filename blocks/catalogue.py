# SPDX-License-Identifier: Apache-2.0
"""The catalogue of all blocks: one suite asks the same questions of each entry."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import Any

import numpy as np

from hdl import Deadlock, Target
from quant import (
    FUNCTIONS,
    Approximation,
    Format,
    Symmetry,
    approximate,
    dot_bounds,
    product_format,
)

from .activation import Piecewise, PReLU, piecewise_configuration, prelu_configuration
from .attention import (
    attention,
    attention_configuration,
    gate,
    gate_configuration,
    multi_head_attention,
    multi_head_attention_configuration,
)
from .binary import Add, Gate, Maximum, Minimum, Mul, Prompt, Sub, binary_configurations
from .block import Lanes, TableLanes, Tensor
from .configurations import (
    Configuration,
    draw_fitting,
    draw_format,
    draw_frames,
    draw_integers,
    draw_modes,
)
from .convolution import (
    Columns,
    Convolution,
    TransposedConvolution,
    convolution_configuration,
    transposed_configuration,
)
from .deinterleave import Deinterleave, deinterleave_configuration
from .division import (
    Divide,
    SquareRoot,
    divide_configuration,
    square_root_configuration,
)
from .elementwise import Identity, ReLU, identity_configuration, relu_configuration
from .embedding import Embedding, Reads, embedding_configuration
from .extremum import ArgMax, ArgMin, arg_configuration
from .glu import glu, glu_configuration
from .linear import (
    Folded,
    Linear,
    Neuron,
    Unrolled,
    linear_configuration,
    neuron_configuration,
)
from .matmul import matmul, matmul_configuration
from .memory import Heads, Memory, memory_configuration
from .movement import (
    Concat,
    Moves,
    Rearrange,
    concat_configuration,
    gather,
    rearrange_configuration,
    transpose,
)
from .network import Network, NetworkPlan, Node
from .nonlinearity import Nonlinearity, nonlinearity_configuration
from .normalisation import (
    group_norm,
    group_norm_configuration,
    layer_norm,
    layer_norm_configuration,
    rms_norm,
    rms_norm_configuration,
)
from .planner import plan
from .pooling import (
    AveragePool,
    MaxPool,
    Pooled,
    WholeWindows,
    average_pool_configuration,
    max_pool_configuration,
)
from .recur import Recur, recur_configuration
from .recurrent import (
    gru,
    gru_configuration,
    lstm,
    lstm_configuration,
    rnn,
    rnn_configuration,
)
from .reduce import Accumulators, Reduce, reduce_configuration
from .rescale import Rescale, rescale_configuration
from .reshape import Reshape, reshape_configuration
from .softmax import (
    log_softmax,
    log_softmax_configuration,
    softmax,
    softmax_configuration,
    softmin,
    softmin_configuration,
)
from .topk import TopK, topk_configuration
from .turing import (
    content_addressing,
    content_addressing_configuration,
    location_addressing,
    location_addressing_configuration,
    neural_turing_machine,
    neural_turing_machine_configuration,
    soft_write,
    soft_write_configuration,
)
from .weight import Weight, weight_configuration


@dataclass(frozen=True)
class Entry:
    """A block of the catalogue.

    Parameters
    ----------
    kind : its class, or the function that composes it of other blocks
    configurations : random generator, index -> Configuration; the first few are degenerate, and
        sizes grow with the index
    parts : other classes that are saved with it: its plans, and what its fields hold
    """

    kind: Any
    configurations: Callable[[np.random.Generator, int], Configuration]
    parts: tuple[type, ...] = ()

    @property
    def composed(self) -> bool:
        """Whether it consists of blocks that are all in the catalogue by themselves."""
        return not isinstance(self.kind, type) or self.kind is Recur

    def configuration(self, index: int) -> Configuration:
        """The configuration of an index, the same every time.

        From the second on every bit of every output is alive: it changes, and not as another does;
        and so is every input: outputs change with it.
        (What is composed of other blocks is as it comes.)
        """
        random = np.random.default_rng([index, len(self.kind.__name__)])
        for _ in range(100):
            made = self.configurations(random, index)
            if index == 0 or self.composed or _alive(made.block):
                break
        return made


def _results(block: Any, frames: list[Any]) -> tuple[Any, ...]:
    results = block.reference(*frames)
    return results if isinstance(results, tuple) else (results,)


def _alive(block: Any) -> bool:
    """Whether no bit of any output channel is constant or a copy of another bit of its number, and
    no input is one that nobody reads.
    """
    random = np.random.default_rng(1)
    frames = [draw_frames(random, tensor, 300) for tensor in block.inputs.values()]
    results = _results(block, frames)
    for n, tensor in enumerate(block.inputs.values()):
        other = [*frames[:n], draw_frames(random, tensor, 300), *frames[n + 1 :]]
        if all(map(np.array_equal, results, _results(block, other))):
            return False
    for y, tensor in zip(results, block.outputs.values(), strict=True):
        bits = y.reshape(-1, tensor.shape[-1], 1) >> np.arange(tensor.format.width) & 1
        for channel in bits.transpose(1, 2, 0):
            if len({*map(bytes, channel.astype(np.uint8))}) < len(channel):
                return False
            if (channel == channel[:, :1]).all(axis=1).any():
                return False
    return True


def network_configuration(random: np.random.Generator, index: int) -> Configuration:
    network = random_network(random, 2 + index % 9)
    intervals = [1 << int(n) for n in random.integers(2, 8, 1)]
    for interval in (*intervals, 1 << 12):
        try:
            made = plan(network, Target.named("ecp5"), interval)
            return Configuration(network, _wired(random, network, made) if index % 3 == 1 else made)
        except ValueError:  # too fast for one of the blocks
            continue
    raise RuntimeError("a network must have a plan for an interval of 4096 cycles")


def _wired(random: np.random.Generator, network: Network, made: NetworkPlan) -> NetworkPlan:
    """The plan with wires instead of some buffers, as far as nothing hangs.

    Not before multipliers, which on some targets take in registers of the block before.
    """
    for route in network.flat.routes:
        if not network.buffered(route) or not random.integers(2):
            continue
        if route.node and isinstance(network.flat.node(route.node).block, Mul):
            continue
        fewer = replace(made, depths={**made.depths, route.name: 0})
        try:
            network.timing(fewer).times(3)
        except Deadlock:
            continue
        made = fewer
    return made


def random_network(random: np.random.Generator, size: int) -> Network:
    """A network of ``size`` blocks of any kind with up to four joins, odd sizes and formats.

    One or two inputs, one or a few outputs, nested now and then; every tensor is used. Every bit
    between two blocks is alive where it is: it changes, not as another of its word does, and the
    block that it goes to depends on it. Other bits would be found by synthesis alone.
    """
    width = int(random.integers(2, 9))
    shape = (width,) if random.integers(2) else (int(random.integers(1, 4)), width)
    inputs = {f"x{n}": Tensor(shape, draw_format(random, 1)) for n in range(random.integers(1, 3))}
    tensors = dict(inputs)
    values = {
        name: random.integers(t.format.min, t.format.max, (200, *shape), np.int64, endpoint=True)
        for name, t in inputs.items()
    }
    unused = list(inputs)
    nodes: list[Node] = []
    for n in range(size):
        for attempt in range(200):
            if attempt % 50 == 0:
                joins = sum(len(node.sources) > 1 for node in nodes)
                kind = int(random.integers(0 if joins < 4 else 4, KINDS))
            made = _random_node(random, kind, n, tensors, unused)
            if made is None:
                continue
            block, sources = made
            frames = [values[source] for source in sources]
            y = block.reference(*frames)
            (given,) = block.outputs.values()
            if _all_alive(y, given) and _all_read(block, frames):
                break
        else:
            continue
        nodes.append(Node(f"n{n}", block, sources))
        (name,) = nodes[-1].tensors
        tensors[name], values[name] = given, y
        unused = [t for t in unused if t not in sources] + [name]
    return Network(inputs, nodes, {f"y{n}": source for n, source in enumerate(unused)})


KINDS = 18
"""Kinds of nodes of random networks; the frequent ones count several times."""


def _random_node(
    random: np.random.Generator, kind: int, n: int, tensors: dict[str, Tensor], unused: list[str]
) -> tuple[Any, tuple[str, ...]] | None:
    """A block of a kind below KINDS and the tensors that it is fed; None if they do not suit it."""
    source = unused[0] if random.integers(3) else str(random.choice(list(tensors)))
    tensor = tensors[source]
    x, shape, channels = tensor.format, tensor.shape, tensor.shape[-1]
    twins = [name for name, t in tensors.items() if t.shape == tensor.shape]
    modes = draw_modes(random, n)
    block: Any
    if kind <= 2:
        other = str(random.choice([t for t in twins if t in unused] or twins))
        join: Any = (Add, Add, Sub, Mul, Minimum, Maximum)[random.integers(6)] if kind else Add
        target = _narrow(random, join(tensor, tensors[other], x))
        return join(tensor, tensors[other], target, *modes), (source, other)
    if kind == 3:
        alike = [name for name in twins if name != source and tensors[name].format == x]
        if not alike:
            return None
        other = str(random.choice(alike))
        axis = int(random.integers(len(shape)))
        return Concat((tensor, tensors[other]), axis), (source, other)
    if kind == 4:
        block = ReLU(tensor, draw_fitting(random, 0, x.max, x.frac), *modes)
    elif kind == 5:
        block = Reshape(tensor, (*shape, 1) if n % 2 else (tensor.size,))
    elif kind <= 7:
        number = draw_format(random, 1)
        weight = draw_integers(random, number, (channels,))
        whole = product_format(x, number)
        target = draw_fitting(random, whole.min, whole.max, whole.frac)
        block = Weight(tensor, weight, number, target)
    elif kind <= 10:
        outputs = channels if random.integers(2) else int(random.integers(1, 9))
        number = Format(int(random.integers(2, 7)), 3)
        weight = draw_integers(random, number, (outputs, channels))
        bias = random.integers(-50, 50, outputs)
        lows, highs = dot_bounds(weight, x)
        ends = int(lows.min()) - 50, int(highs.max()) + 50
        target = _at_most_8(draw_fitting(random, *ends, x.frac + 3))
        block = Linear(tensor, weight, bias, number, target)
    elif kind == 11:
        if x.width > 8:
            return None
        name = ("tanh", "gelu", "softsign", "silu")[random.integers(4)]
        form = approximate(FUNCTIONS[name], x, Format(int(random.integers(3, 8)), 3), degree=0)
        block = Nonlinearity(tensor, form)
    elif kind == 12:
        length = int(random.integers(1, max(shape) + 1))
        order = random.permutation(max(shape))[:length] if random.integers(2) else None
        axis = shape.index(max(shape))
        turned = transpose(tensor, random.permutation(len(shape)).tolist())
        block = turned if order is None else gather(tensor, order, axis)
    elif kind == 13:
        first = int(random.integers(len(shape)))
        axes = tuple(range(first, int(random.integers(first + 1, len(shape) + 1))))
        if prod(shape[axis] for axis in axes) < 2:
            return None
        function = ("sum", "mean", "maximum", "minimum")[random.integers(4)]
        target = _narrow(random, Reduce(tensor, function, axes, x))
        block = Reduce(tensor, function, axes, target, *modes)
    elif kind == 14:
        if channels < 2:
            return None
        gives = ("values", "indices")[random.integers(2)]
        count = int(random.integers(1, min(4, channels) + 1))
        block = TopK(tensor, count, bool(random.integers(2)), gives)
    else:
        axes_count = len(shape) - 1
        if not 1 <= axes_count <= 3:
            return None
        kernel = tuple(int(random.integers(1, min(3, size) + 1)) for size in shape[:-1])
        stride = tuple(random.integers(1, 3, axes_count).tolist())
        around = tuple((int(random.integers(size)), 0) for size in kernel)
        if kind == 15:
            number = Format(int(random.integers(2, 6)), 2)
            weight = draw_integers(random, number, (int(random.integers(1, 5)), *kernel, channels))
            zeros = np.zeros(len(weight), np.int64)
            exact = Convolution(tensor, weight, zeros, number, x, stride, padding=around)
            block = replace(exact, output_format=_narrow(random, exact))
        elif kind == 16:
            block = MaxPool(tensor, kernel, stride, padding=around)
        else:
            target = _at_most_8(draw_fitting(random, x.min, x.max, x.frac))
            block = AveragePool(tensor, kernel, target, stride, padding=around)
    if n % 5 == 4:
        port = "part" if "o" in block.outputs else f"part.{next(iter(block.outputs))[2:]}"
        block = Network({"inner": tensor}, (Node("part", block, ("inner",)),), {"y": port})
    return block, (source,)


def _narrow(random: np.random.Generator, block: Any) -> Format:
    """A format of at most 8 bits for the exact results of a block."""
    exact = block.sum_format if isinstance(block, Convolution) else block.exact_format
    return _at_most_8(draw_fitting(random, exact.min, exact.max, exact.frac))


def _at_most_8(number: Format) -> Format:
    return Format(min(8, number.width), number.frac, number.signed)


def _all_alive(y: np.ndarray, tensor: Tensor) -> bool:
    """Whether every bit of the numbers of a position changes, and not as another of them does."""
    numbers = y.reshape(-1, tensor.shape[-1], 1)
    bits = (numbers >> np.arange(tensor.format.width) & 1).astype(np.uint8)
    columns = {bytes(column) for column in bits.reshape(len(bits), -1).T}
    constants = {bytes(len(bits)), bytes([1]) * len(bits)}
    return len(columns - constants) == tensor.shape[-1] * tensor.format.width


def _all_read(block: Any, frames: list[np.ndarray]) -> bool:
    """Whether a block depends on every bit of every channel of its inputs."""
    y = block.reference(*frames)
    for place, tensor in enumerate(block.inputs.values()):
        number, channels = tensor.format, tensor.shape[-1]
        bits = (1 << np.arange(number.width))[:, None, None] * np.eye(channels, dtype=np.int64)
        bits = bits.reshape(-1, 1, *[1] * (len(tensor.shape) - 1), channels)
        flipped = (frames[place] ^ bits) & ((1 << number.width) - 1)
        if number.signed:
            flipped -= flipped >> (number.width - 1) << number.width
        others = [np.broadcast_to(frame, (len(bits), *frame.shape)) for frame in frames]
        low, high = np.transpose(tensor.channels)
        inside = (low <= flipped) & (flipped <= high)
        others[place] = np.where(inside, flipped, frames[place])
        changed = block.reference(*others) != y
        if not changed.reshape(len(bits), -1).any(axis=1).all():
            return False
    return True


CATALOGUE: dict[str, Entry] = {
    entry.kind.__name__: entry
    for entry in (
        Entry(Identity, identity_configuration, (Lanes,)),
        Entry(ReLU, relu_configuration, (Lanes,)),
        *(
            Entry(kind, binary_configurations(kind), (Lanes, Prompt))
            for kind in (Add, Sub, Mul, Minimum, Maximum, Gate)
        ),
        Entry(Piecewise, piecewise_configuration, (Lanes,)),
        Entry(Divide, divide_configuration, (Lanes,)),
        Entry(SquareRoot, square_root_configuration, (Lanes,)),
        Entry(Nonlinearity, nonlinearity_configuration, (TableLanes, Approximation, Symmetry)),
        Entry(PReLU, prelu_configuration, (Lanes,)),
        Entry(Reshape, reshape_configuration, (Lanes,)),
        Entry(Rearrange, rearrange_configuration, (Moves,)),
        Entry(Concat, concat_configuration, (Lanes,)),
        Entry(Deinterleave, deinterleave_configuration, (Lanes,)),
        Entry(Embedding, embedding_configuration, (Reads,)),
        Entry(Memory, memory_configuration, (Heads,)),
        Entry(Weight, weight_configuration, (TableLanes,)),
        *(Entry(kind, partial(arg_configuration, kind), (Lanes,)) for kind in (ArgMax, ArgMin)),
        Entry(TopK, topk_configuration, (Lanes,)),
        Entry(Rescale, rescale_configuration, (Lanes,)),
        Entry(Neuron, neuron_configuration, (Folded, Unrolled)),
        Entry(Linear, linear_configuration, (Folded, Unrolled)),
        Entry(Convolution, convolution_configuration, (Folded, Columns, Unrolled)),
        Entry(TransposedConvolution, transposed_configuration, (Folded, Unrolled)),
        Entry(MaxPool, max_pool_configuration, (Pooled, WholeWindows)),
        Entry(AveragePool, average_pool_configuration, (Pooled, WholeWindows)),
        Entry(Reduce, reduce_configuration, (Accumulators,)),
        Entry(softmax, softmax_configuration),
        Entry(softmin, softmin_configuration),
        Entry(log_softmax, log_softmax_configuration),
        Entry(layer_norm, layer_norm_configuration),
        Entry(rms_norm, rms_norm_configuration),
        Entry(group_norm, group_norm_configuration),
        Entry(glu, glu_configuration),
        Entry(matmul, matmul_configuration),
        Entry(Recur, recur_configuration),
        Entry(rnn, rnn_configuration),
        Entry(lstm, lstm_configuration),
        Entry(gru, gru_configuration),
        Entry(gate, gate_configuration),
        Entry(attention, attention_configuration),
        Entry(multi_head_attention, multi_head_attention_configuration),
        Entry(content_addressing, content_addressing_configuration),
        Entry(location_addressing, location_addressing_configuration),
        Entry(soft_write, soft_write_configuration),
        Entry(neural_turing_machine, neural_turing_machine_configuration),
        Entry(Network, network_configuration, (NetworkPlan,)),
    )
}
