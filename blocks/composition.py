# SPDX-License-Identifier: Apache-2.0
"""Building networks step by step, and the steps that several composed blocks share."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from quant import Format, accumulator_format

from .linear import Linear
from .movement import expand
from .network import Network, Node
from .pooling import MaxPool
from .reshape import Reshape

ONE = Format(2, 0)
"""Format of a weight of 1."""


def lossless(kind: Any, *arguments: Any) -> Any:
    """A block of a kind whose output format holds every result exactly."""
    made = kind(*arguments, output_format=Format(2, 0))
    names = "exact_format", "sum_format", "product_format"
    exact = next(getattr(made, name) for name in names if hasattr(made, name))
    return replace(made, output_format=exact)


class Composition:
    """A network in the making.

    Parameters
    ----------
    inputs : name -> Tensor of one frame
    """

    def __init__(self, **inputs: Any):
        self.inputs, self.nodes = inputs, list[Node]()
        self.tensors = dict(inputs)

    def add(self, name: str, block: Callable[..., Any] | Any, *sources: str) -> str:
        """Add a block; a function makes it from the tensors of its sources."""
        if callable(block):
            block = block(*(self.tensors[source] for source in sources))
        node = Node(name, block, sources)
        self.nodes.append(node)
        self.tensors |= {n: block.outputs[port] for n, port in node.tensors.items()}
        return name

    def network(self, **outputs: str) -> Network:
        """The network that ends in these tensors."""
        return Network(self.inputs, self.nodes, outputs)

    def reshaped(self, name: str, source: str, shape: tuple[int, ...]) -> str:
        """The same numbers in another shape."""
        if self.tensors[source].shape == shape:
            return source
        return self.add(name, lambda x: Reshape(x, shape), source)

    def total(self, name: str, source: str, bias: int = 0) -> str:
        """Exact sums over the last axis, which stays with a length of 1, plus ``bias``."""
        x = self.tensors[source]
        count, number = x.shape[-1], x.format
        ends = count * number.min + bias, count * number.max + bias
        wide = accumulator_format(*ends, number.frac, name)
        weight, constant = np.ones((1, count), np.int64), np.array([bias])
        return self.add(name, Linear(x, weight, constant, ONE, wide), source)

    def largest(self, name: str, source: str) -> str:
        """The largest number of the last axis, which stays with a length of 1."""
        shape = self.tensors[source].shape
        rows, count = self.tensors[source].size // shape[-1], shape[-1]
        flat = self.reshaped(f"{name}_rows", source, (rows, count, 1))
        pool = MaxPool(self.tensors[flat], (1, count), (1, count))
        return self.reshaped(f"{name}_shape", self.add(name, pool, flat), (*shape[:-1], 1))

    def spread(self, name: str, source: str, shape: tuple[int, ...]) -> str:
        """Numbers repeated along axes of length 1 up to ``shape``."""
        if self.tensors[source].shape == shape:
            return source
        return self.add(name, lambda x: expand(x, shape), source)
