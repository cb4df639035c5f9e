# SPDX-License-Identifier: Apache-2.0
"""The catalogue of all blocks: one suite asks the same questions of each entry."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from hdl import Target
from quant import Format, Overflow, Rounding, dot_bounds, product_format, sum_format

from .block import Lanes, Tensor, divisors
from .elementwise import Add, Identity, ReLU
from .linear import Folded, Linear, Neuron, Unrolled
from .network import Network, Node
from .planner import plan
from .reshape import Reshape
from .weight import Weight


@dataclass(frozen=True, eq=False)
class Configuration:
    """A block and one way to map it."""

    block: Any
    plan: Any


@dataclass(frozen=True)
class Entry:
    """A block of the catalogue.

    Parameters
    ----------
    kind : its class
    configurations : random generator, index -> Configuration; the first few are degenerate, and
        sizes grow with the index
    """

    kind: type
    configurations: Callable[[np.random.Generator, int], Configuration]

    def configuration(self, index: int) -> Configuration:
        """The configuration of an index, the same every time.

        From the second on every bit of every output is alive: it changes, and not as another does.
        """
        random = np.random.default_rng([index, len(self.kind.__name__)])
        for _ in range(100):
            made = self.configurations(random, index)
            if index == 0 or _alive(made.block):
                break
        return made

    def first(self, count: int) -> Iterator[Configuration]:
        """The first configurations."""
        return (self.configuration(index) for index in range(count))


def _alive(block: Any) -> bool:
    """Whether no bit of any output channel is constant or a copy of another bit of its number."""
    random = np.random.default_rng(1)
    frames = [
        random.integers(t.format.min, t.format.max, (300, *t.shape), np.int64, endpoint=True)
        for t in block.inputs.values()
    ]
    results = block.reference(*frames)
    for y, tensor in zip(
        results if isinstance(results, tuple) else (results,), block.outputs.values(), strict=True
    ):
        bits = y.reshape(-1, tensor.shape[-1], 1) >> np.arange(tensor.format.width) & 1
        for channel in bits.transpose(1, 2, 0):
            if len({*map(bytes, channel.astype(np.uint8))}) < len(channel):
                return False
            if (channel == channel[:, :1]).all(axis=1).any():
                return False
    return True


def _format(random: np.random.Generator, index: int) -> Format:
    """One bit first, then up to 10 bits, the point anywhere."""
    signed = bool(random.integers(2))
    if index == 0:
        return Format(1, 0, signed)
    width = int(random.integers(2, 11))
    return Format(width, int(random.integers(-1, width + 2)), signed)


def _modes(random: np.random.Generator, index: int) -> tuple[Rounding, Overflow]:
    """Half of the time the usual pair, else any of the 28."""
    if index % 2:
        return Rounding.RND, Overflow.SAT
    rounding = list(Rounding)[random.integers(len(Rounding))]
    return rounding, list(Overflow)[random.integers(len(Overflow))]


def _shape(random: np.random.Generator, index: int) -> tuple[int, ...]:
    """One number first; then one to three axes that grow slowly."""
    if index == 0:
        return (1,)
    largest = 3 + index // 4
    axes = [int(n) for n in random.integers(1, largest + 1, random.integers(1, 4))]
    axes[-1] = int(random.integers(1, 2 * largest))
    return tuple(axes)


def _near(random: np.random.Generator, source: Format) -> Format:
    """A format to narrow ``source`` to: a few bits and places away."""
    width = max(1, source.width + int(random.integers(-4, 3)))
    frac = source.frac + int(random.integers(-3, 2))
    return Format(min(width, 20), frac, bool(random.integers(2)))


def _fitting(random: np.random.Generator, low: int, high: int, frac: int) -> Format:
    """A format that keeps the upper bits of numbers from ``low`` to ``high``, about as they are.

    Up to two bits short of the largest, so that some saturate; unsigned now and then, as a ReLU is.
    """
    signed = low < 0 and (high <= 0 or bool(random.integers(3)))
    bits = max(abs(low), abs(high), 1).bit_length() - int(random.integers(0, 3))
    dropped = int(random.integers(-1, max(1, bits)))
    return Format(max(1, bits - dropped) + signed, frac - dropped, signed)


def _lanes(random: np.random.Generator, size: int) -> Lanes:
    return Lanes(int(random.choice([d for d in divisors(size) if d <= 16])))


def _integers(random: np.random.Generator, number: Format, shape: tuple[int, ...]) -> np.ndarray:
    """Random numbers of a format, its smallest and its largest among them."""
    values = random.integers(number.min, number.max, shape, np.int64, endpoint=True)
    if values.size > 1:
        values.flat[0], values.flat[-1] = number.min, number.max
    return values


def _identity(random: np.random.Generator, index: int) -> Configuration:
    tensor = Tensor(_shape(random, index), _format(random, index))
    target = tensor.format if index == 1 else _near(random, tensor.format)
    block = Identity(tensor, target, *_modes(random, index))
    return Configuration(block, _lanes(random, tensor.size))


def _relu(random: np.random.Generator, index: int) -> Configuration:
    tensor = Tensor(_shape(random, index), _format(random, index))
    block = ReLU(tensor, _near(random, tensor.format), *_modes(random, index))
    return Configuration(block, _lanes(random, tensor.size))


def _add(random: np.random.Generator, index: int) -> Configuration:
    shape = _shape(random, index)
    a = Tensor(shape, _format(random, index))
    b = Tensor(shape, a.format if index == 1 else _near(random, a.format))
    block = Add(a, b, _near(random, a.format), *_modes(random, index))
    return Configuration(block, _lanes(random, a.size))


def _reshape(random: np.random.Generator, index: int) -> Configuration:
    tensor = Tensor(_shape(random, index), _format(random, index))
    first = int(random.choice(divisors(tensor.size)))
    block = Reshape(tensor, (first, tensor.size // first))
    return Configuration(block, _lanes(random, tensor.size))


def _weight(random: np.random.Generator, index: int) -> Configuration:
    tensor = Tensor(_shape(random, index), _format(random, index))
    number = _format(random, index)
    modes = _modes(random, index)
    kind = index % 3
    shape = ((), tensor.shape[-1:])[kind - 1]
    weight: Any = Tensor(tensor.shape, number) if kind == 0 else _integers(random, number, shape)
    extremes = np.array([number.min, number.max]) if kind == 0 else weight
    corners = [int(w) * x for w in extremes.ravel() for x in (tensor.format.min, tensor.format.max)]
    frac = tensor.format.frac + number.frac
    target = _fitting(random, min(corners), max(corners), frac)
    block = Weight(tensor, weight, number, target, *modes)
    period = tensor.shape[-1] if kind == 2 else tensor.size
    return Configuration(block, _lanes(random, period))


def _linear_parts(random: np.random.Generator, index: int, outputs: int) -> dict[str, Any]:
    """Arguments of a Linear."""
    inputs = 1 if index == 0 else int(random.integers(1, 6 + index))
    shape = (*_shape(random, index)[:-2], inputs)
    tensor = Tensor(shape, _format(random, index))
    number = _format(random, index)
    weight = _integers(random, number, (outputs, tensor.shape[-1]))
    frac = tensor.format.frac + number.frac
    lows, highs = dot_bounds(weight, tensor.format)
    low, high = int(lows.min()), int(highs.max())
    bias = random.integers(low // 2 - 1, high // 2 + 2, outputs)
    target = _fitting(random, low + int(bias.min()), high + int(bias.max()), frac)
    rounding, overflow = _modes(random, index)
    return {
        "input": tensor,
        "weight": weight,
        "bias": bias,
        "weight_format": number,
        "output_format": target,
        "rounding": rounding,
        "overflow": overflow,
    }


def _linear_plan(random: np.random.Generator, block: Linear, index: int) -> Folded | Unrolled:
    plans = [candidate.plan for candidate in block.plans(Target.named("ecp5"))]
    folded = [p for p in plans if isinstance(p, Folded) and p.pe * p.simd <= 64]
    if not folded or index % 3 == 2:
        return Unrolled(1 + index % 2)
    return folded[random.integers(len(folded))]


def _linear(random: np.random.Generator, index: int) -> Configuration:
    outputs = 1 if index == 0 else int(random.integers(1, 6 + index // 2))
    parts = _linear_parts(random, index, outputs)
    shift = random.integers(0, 5, outputs) if index % 2 else None
    block = Linear(**parts, shift=shift)
    return Configuration(block, _linear_plan(random, block, index))


def _neuron(random: np.random.Generator, index: int) -> Configuration:
    parts = _linear_parts(random, index, 1)
    parts["weight"], parts["bias"] = parts["weight"][0], int(parts["bias"][0])
    block = Neuron(**parts)
    return Configuration(block, _linear_plan(random, block.linear, index))


def _network(random: np.random.Generator, index: int) -> Configuration:
    network = random_network(random, 2 + index % 9)
    intervals = [1 << int(n) for n in random.integers(2, 8, 1)]
    for interval in (*intervals, 1 << 12):
        try:
            return Configuration(network, plan(network, Target.named("ecp5"), interval))
        except ValueError:  # too fast for one of the blocks
            continue
    raise RuntimeError("a network must have a plan for an interval of 4096 cycles")


def random_network(random: np.random.Generator, size: int) -> Network:
    """A network of ``size`` blocks of any kind with up to four joins, odd sizes and formats.

    One or two inputs, one or a few outputs, nested now and then; every tensor is used. Every bit
    between two blocks is alive where it is: it changes, not as another of its word does, and the
    block that it goes to depends on it. Other bits would be found by synthesis alone.
    """
    width = int(random.integers(2, 9))
    shape = (width,) if random.integers(2) else (int(random.integers(1, 4)), width)
    inputs = {f"x{n}": Tensor(shape, _format(random, 1)) for n in range(random.integers(1, 3))}
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
                kind = int(random.integers(0 if joins < 4 else 2, 8))
            block, sources = _random_node(random, kind, n, tensors, unused)
            frames = [values[source] for source in sources]
            y = block.reference(*frames)
            if _all_alive(y, block.outputs["o"]) and _all_read(block, frames):
                break
        else:
            continue
        name = f"n{n}"
        nodes.append(Node(name, block, sources))
        tensors[name], values[name] = block.outputs["o"], y
        unused = [t for t in unused if t not in sources] + [name]
    return Network(inputs, nodes, {f"y{n}": source for n, source in enumerate(unused)})


def _random_node(
    random: np.random.Generator, kind: int, n: int, tensors: dict[str, Tensor], unused: list[str]
) -> tuple[Any, tuple[str, ...]]:
    """A block of a kind, 0 to 7, and the tensors that it is fed."""
    source = unused[0] if random.integers(3) else str(random.choice(list(tensors)))
    tensor = tensors[source]
    twins = [name for name, t in tensors.items() if t.shape == tensor.shape]
    block: Any
    if kind <= 1:
        other = str(random.choice([t for t in twins if t in unused] or twins))
        a, b = tensor.format, tensors[other].format
        total = sum_format(a, b)
        target = _fitting(random, total.min, total.max, total.frac)
        return Add(tensor, tensors[other], target, *_modes(random, n)), (source, other)
    if kind == 2:
        x = tensor.format
        block = ReLU(tensor, _fitting(random, 0, x.max, x.frac), *_modes(random, n))
    elif kind == 3:
        block = Reshape(tensor, (*tensor.shape, 1) if n % 2 else (tensor.size,))
    elif kind <= 5:
        number = _format(random, 1)
        weight = _integers(random, number, (tensor.shape[-1],))
        x = product_format(tensor.format, number)
        target = _fitting(random, x.min, x.max, x.frac)
        block = Weight(tensor, weight, number, target)
    else:
        outputs = tensor.shape[-1] if random.integers(2) else int(random.integers(1, 9))
        number = Format(int(random.integers(2, 7)), 3)
        weight = _integers(random, number, (outputs, tensor.shape[-1]))
        bias = random.integers(-50, 50, outputs)
        lows, highs = dot_bounds(weight, tensor.format)
        ends = int(lows.min()) - 50, int(highs.max()) + 50
        target = _fitting(random, *ends, tensor.format.frac + 3)
        target = Format(min(8, target.width), target.frac, target.signed)
        block = Linear(tensor, weight, bias, number, target)
    if n % 5 == 4:
        block = Network({"inner": tensor}, (Node("part", block, ("inner",)),), {"y": "part"})
    return block, (source,)


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
        others[place] = flipped
        changed = block.reference(*others) != y
        if not changed.reshape(len(bits), -1).any(axis=1).all():
            return False
    return True


CATALOGUE: dict[str, Entry] = {
    entry.kind.__name__: entry
    for entry in (
        Entry(Identity, _identity),
        Entry(ReLU, _relu),
        Entry(Add, _add),
        Entry(Reshape, _reshape),
        Entry(Weight, _weight),
        Entry(Neuron, _neuron),
        Entry(Linear, _linear),
        Entry(Network, _network),
    )
}
