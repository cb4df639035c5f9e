# SPDX-License-Identifier: Apache-2.0
"""The catalogue of all blocks: one suite asks the same questions of each entry."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from hdl import Target
from quant import Format, dot_bounds, product_format, sum_format

from .activation import Piecewise, piecewise_configuration
from .binary import Add, Maximum, Minimum, Mul, Sub, binary_configurations
from .block import Lanes, Tensor
from .configurations import (
    Configuration,
    draw_fitting,
    draw_format,
    draw_integers,
    draw_modes,
)
from .elementwise import Identity, ReLU, identity_configuration, relu_configuration
from .linear import (
    Folded,
    Linear,
    Neuron,
    Unrolled,
    linear_configuration,
    neuron_configuration,
)
from .network import Network, NetworkPlan, Node
from .planner import plan
from .reshape import Reshape, reshape_configuration
from .weight import Weight, weight_configuration


@dataclass(frozen=True)
class Entry:
    """A block of the catalogue.

    Parameters
    ----------
    kind : its class
    configurations : random generator, index -> Configuration; the first few are degenerate, and
        sizes grow with the index
    parts : other classes that are saved with it: its plans, and what its fields hold
    """

    kind: type
    configurations: Callable[[np.random.Generator, int], Configuration]
    parts: tuple[type, ...]

    def configuration(self, index: int) -> Configuration:
        """The configuration of an index, the same every time.

        From the second on every bit of every output is alive: it changes, and not as another does.
        Networks are as they come: what one block wastes another finds.
        """
        random = np.random.default_rng([index, len(self.kind.__name__)])
        for _ in range(100):
            made = self.configurations(random, index)
            if index == 0 or self.kind is Network or _alive(made.block):
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


def network_configuration(random: np.random.Generator, index: int) -> Configuration:
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

    One or two inputs, one to three outputs, nested now and then; every tensor is used.
    """
    width = int(random.integers(2, 9))
    shape = (width,) if random.integers(2) else (int(random.integers(1, 4)), width)
    inputs = {f"x{n}": Tensor(shape, draw_format(random, 1)) for n in range(random.integers(1, 3))}
    tensors = dict(inputs)
    unused = list(inputs)
    nodes: list[Node] = []
    joins = 0
    for n in range(size):
        source = unused[0] if random.integers(2) else str(random.choice(list(tensors)))
        tensor = tensors[source]
        twins = [name for name, t in tensors.items() if t.shape == tensor.shape]
        kind = int(random.integers(7))
        block: Any
        sources: tuple[str, ...] = (source,)
        if kind <= 1 and joins < 4:
            joins += 1
            other = str(random.choice([t for t in twins if t in unused] or twins))
            sources = (source, other)
            a, b = tensor.format, tensors[other].format
            total = sum_format(a, b)
            block = Add(
                tensor,
                tensors[other],
                draw_fitting(random, total.min, total.max, total.frac),
                *draw_modes(random, n),
            )
        elif kind == 2:
            x = tensor.format
            block = ReLU(tensor, draw_fitting(random, 0, x.max, x.frac), *draw_modes(random, n))
        elif kind == 3:
            block = Reshape(tensor, (*tensor.shape, 1) if n % 2 else (tensor.size,))
        elif kind == 4:
            number = draw_format(random, 1)
            weight = draw_integers(random, number, (tensor.shape[-1],))
            x = product_format(tensor.format, number)
            target = draw_fitting(random, x.min, x.max, x.frac)
            block = Weight(tensor, weight, number, target)
        else:
            outputs = tensor.shape[-1] if random.integers(2) else int(random.integers(1, 9))
            number = Format(int(random.integers(2, 7)), 3)
            weight = draw_integers(random, number, (outputs, tensor.shape[-1]))
            bias = random.integers(-50, 50, outputs)
            lows, highs = dot_bounds(weight, tensor.format)
            ends = int(lows.min()) - 50, int(highs.max()) + 50
            target = draw_fitting(random, *ends, tensor.format.frac + 3)
            target = Format(min(8, target.width), target.frac, target.signed)
            block = Linear(tensor, weight, bias, number, target)
        if n % 5 == 4 and len(sources) == 1:
            block = Network({"inner": tensor}, (Node("part", block, ("inner",)),), {"y": "part"})
        name = f"n{n}"
        nodes.append(Node(name, block, sources))
        tensors[name] = next(iter(block.outputs.values()))
        unused = [t for t in unused if t not in sources] + [name]
    return Network(inputs, nodes, {f"y{n}": source for n, source in enumerate(unused)})


CATALOGUE: dict[str, Entry] = {
    entry.kind.__name__: entry
    for entry in (
        Entry(Identity, identity_configuration, (Lanes,)),
        Entry(ReLU, relu_configuration, (Lanes,)),
        *(
            Entry(kind, binary_configurations(kind), (Lanes,))
            for kind in (Add, Sub, Mul, Minimum, Maximum)
        ),
        Entry(Piecewise, piecewise_configuration, (Lanes,)),
        Entry(Reshape, reshape_configuration, (Lanes,)),
        Entry(Weight, weight_configuration, (Lanes,)),
        Entry(Neuron, neuron_configuration, (Folded, Unrolled)),
        Entry(Linear, linear_configuration, (Folded, Unrolled)),
        Entry(Network, network_configuration, (NetworkPlan,)),
    )
}
