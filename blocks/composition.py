# SPDX-License-Identifier: Apache-2.0
"""Building networks step by step, and the steps that several composed blocks share."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from quant import Format, product_format

from .binary import Mul
from .elementwise import Identity
from .movement import expand
from .network import Network, Node
from .reduce import Reduce
from .reshape import Reshape

ONE = Format(2, 0)
"""Format of a weight of 1."""


def lossless(kind: Any, *arguments: Any, **options: Any) -> Any:
    """A block of a kind whose output format holds every result exactly."""
    made = kind(*arguments, output_format=Format(2, 0), **options)
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

    def reduced(
        self,
        name: str,
        source: str,
        function: str,
        target: Format | None = None,
        *modes: Any,
        axis: int = -1,
    ) -> str:
        """A Reduce of an axis, which stays with a length of 1; exact without ``target``."""
        x = self.tensors[source]
        if x.shape[axis] == 1:
            if target in (None, x.format):
                return source
            return self.add(name, Identity(x, target, *modes), source)
        axes = (axis % len(x.shape),)
        target = target or Reduce(x, function, axes, x.format).exact_format
        return self.add(name, Reduce(x, function, axes, target, *modes), source)

    def multiplied(
        self, name: str, a: str, b: str, target: Format | None = None, *modes: Any
    ) -> str:
        """Products, exact without ``target``; last axes of b may be 1 where a's are not."""
        left, right = self.tensors[a], self.tensors[b]
        target = target or product_format(left.format, right.format, name)
        return self.add(name, Mul(left, right, target, *modes), a, b)

    def spread(self, name: str, source: str, shape: tuple[int, ...]) -> str:
        """Numbers repeated along axes of length 1 up to ``shape``."""
        if self.tensors[source].shape == shape:
            return source
        return self.add(name, lambda x: expand(x, shape), source)
