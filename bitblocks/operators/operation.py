# SPDX-License-Identifier: Apache-2.0
"""One node of an ONNX file, as the handler of its operator sees it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from bitblocks import layers
from bitblocks.graph import Floats, Shape
from bitblocks.onnx_model import BATCHES, PerBatch, shown
from bitblocks.operators.evaluation import evaluated
from bitblocks.operators.registry import Operator
from bitblocks.ordering import Order, Value, channels_last, moves, order_of, raster

if TYPE_CHECKING:
    from bitblocks.onnx_import import Importer


@dataclass(frozen=True)
class Operation:
    """A node with its attributes, and what a handler needs to turn it into layers.

    A handler reads ``attributes``, inputs by their number, and gives for each output a Value (that
    differs from frame to frame) or a constant; None for one that nobody reads.

    Parameters
    ----------
    attributes : values by name; those that the node leaves out have the standard's default, or
        None, as have those that its operator set does not know
    """

    importer: Importer
    node: Any
    operator: Operator
    attributes: dict[str, Any]

    def refuse(self, rule: str) -> NoReturn:
        """Raise InputError that the node breaks ``rule``."""
        self.importer.refuse(self.node, rule)

    # -- inputs -------------------------------------------------------------------------------

    def has(self, index: int) -> bool:
        """Whether an optional input is there."""
        return index < len(self.node.input) and bool(self.node.input[index])

    def is_constant(self, index: int) -> bool:
        """Whether an input is the same for all frames."""
        return self.has(index) and self.node.input[index] in self.importer.model.constants

    def is_read(self, index: int) -> bool:
        """Whether anything reads an output."""
        name = self.node.output[index] if index < len(self.node.output) else ""
        return bool(name) and name in self.importer.used

    def value(self, index: int, batch: int | None = 0, joined: bool = False) -> Value:
        """An input that differs from frame to frame, its batch on that axis, or on any for None.

        ``joined`` says that other axes may be one with the batch.
        """
        if self.is_constant(index):
            self.refuse("of a constant is not supported")
        value = self.importer.values[self.node.input[index]]
        if self.importer.whole and batch is not None and value.batch_axis != batch:
            value = value.reshaped(tuple(value.lengths(1)), joined=(0, 1))  # one is anywhere
        if batch is not None and value.batch_axis != batch:
            self.refuse(f"must have the batch on axis {batch}, not {value.batch_axis}")
        if any(value.joined) and not joined and self.importer.whole:
            self.refuse("is not supported without a batch")
        if any(value.joined) and not joined:
            self.refuse(f"must have the batch alone on axis {value.batch_axis}")
        return value

    def array(self, index: int, what: str) -> NDArray[Any]:
        """A constant input as the file types it; ``what`` is its name in messages."""
        if not self.is_constant(index):
            self.refuse(f"must have a constant {what}")
        return self.importer.model.array(self.node.input[index])

    def floats(self, index: int, what: str) -> Floats:
        """A constant input in float64."""
        self.array(index, what)
        return self.importer.model.floats(self.node.input[index])

    def evaluated(
        self, node: Any, world: int, known: dict[str, NDArray[Any]]
    ) -> list[NDArray[Any]]:
        """What ONNX's evaluator makes of ``node`` for ``known`` inputs and constant ones.

        ``world`` is the length of the batch, as an index of BATCHES.
        """
        model, inputs = self.importer.model, []
        for name in node.input:
            if name and name not in known and name not in model.constants:
                self.refuse(f"must have constant inputs but for the first, unlike {shown(name)}")
            constant = model.constant(name) if name and name not in known else None
            own = constant[world] if isinstance(constant, PerBatch) else constant
            inputs.append(known.get(name, own))
        try:
            return evaluated(model, node, inputs)
        except ValueError as error:
            self.importer.refuse_senseless(self.node, error)

    def flag(self, index: int, default: bool) -> bool:
        """A constant boolean input."""
        if not self.has(index):
            return default
        if not self.is_constant(index):
            self.refuse(f"input {index} must be constant")
        array = self.importer.model.constant(self.node.input[index])
        if isinstance(array, PerBatch) or array.size != 1:
            self.refuse(f"input {index} must be one number")
        return bool(array.any())

    def lengths(self, index: int, what: str) -> tuple[list[int], list[int]]:
        """A constant list of int64, for a batch of BATCHES[0] and for one of BATCHES[1]."""
        if not self.is_constant(index):
            self.refuse(f"must have a constant {what}")
        constant = self.importer.model.constant(self.node.input[index])
        first, second = constant if isinstance(constant, PerBatch) else (constant, constant)
        for array in (first, second):
            if array.ndim != 1 or array.dtype != np.int64:
                self.refuse(f"must have a {what} of int64, one per axis")
        if first.shape != second.shape:
            self.refuse(f"must have a {what} of one length, whatever the batch")
        return first.tolist(), second.tolist()

    def full_shape(self, index: int) -> tuple[list[int], list[int]]:
        """Lengths of all axes of a Value for each of BATCHES."""
        value = self.importer.values[self.node.input[index]]
        first, second = (value.lengths(batch) for batch in BATCHES)
        return first, second

    def axis(self, axis: int, rank: int, name: str = "axis") -> int:
        """An attribute that counts axes, from 0 to rank - 1."""
        if not -rank <= axis < rank:
            self.refuse(f"attribute '{name}' must be in [{-rank}, {rank - 1}], not {axis}")
        return axis % rank

    def frame_axis(self, value: Value, axis: int, name: str = "axis") -> int:
        """An attribute that counts axes, as an axis of the frame: never the batch."""
        axis = self.axis(axis, value.rank, name)
        if axis == value.batch_axis:
            self.refuse(f"attribute '{name}' must leave the batch alone, not be {axis}")
        return axis + (sum(value.joined) - 1 if axis > value.batch_axis else 0)

    # -- layers -------------------------------------------------------------------------------

    @property
    def label(self) -> str:
        """What the node's layer is called; each use without a name in the file counts up."""
        return self.importer.label_of(self.node, self.operator.label)

    def add(
        self, kind: Any, label: str, sources: tuple[str, ...], *arguments: Any, **named: Any
    ) -> Any:
        """A new layer, named ``label`` or nearly so."""
        return self.importer.add(kind, label, sources, *arguments, **named)

    def elementwise(self, kind: Any, value: Value, *arguments: Any) -> Value:
        """What a layer gives that treats numbers one by one."""
        layer = self.add(kind, self.label, (value.name,), *arguments)
        return replace(value, name=layer.name)

    def viewed(self, name: str, shape: Shape) -> str:
        """The graph tensor ``name`` under another shape of the same raster order."""
        return self.importer.viewed(name, shape)

    def reordered(self, value: Value, order: Order, shape: Shape) -> str:
        """The graph tensor of ``shape`` that has the numbers of ``value`` in that order."""
        return self.viewed(self.importer.reordered(value, order, shape).name, shape)

    def arranged(self, value: Value, axes: Shape) -> str:
        """The graph tensor with frame axes ``axes`` of the model as its own, slowest first."""
        shape = tuple(value.shape[axis] for axis in axes)
        return self.reordered(value, order_of(value.shape, axes), shape)

    def framed(self, value: Value) -> tuple[str, Shape]:
        """The graph tensor whose axes are the model's in some order, and that order.

        Frame axis a of the model is axis ``axes.index(a)`` of the tensor.
        """
        axes = self.importer.axes(value)
        axes = tuple(range(len(value.shape))) if axes is None else axes
        return self.arranged(value, axes), axes

    def given(
        self,
        name: str,
        shape: Shape,
        axes: Shape,
        batch: int = 0,
        joined: tuple[int, int] = (0, 0),
    ) -> Value:
        """The graph tensor ``name`` as a Value of the model's ``shape`` whose axes travel so."""
        return Value(name, shape, order_of(shape, axes), batch, joined)

    def first_channels(self, name: str) -> Value:
        """The graph tensor ``name`` with channels last as a Value that has them first."""
        *spatial, channels = self.importer.shapes[name]
        shape = (channels, *spatial)
        return self.given(name, shape, channels_last(len(shape)))

    def rearranged(
        self,
        label: str,
        value: Value,
        index: NDArray[np.int64],
        batch: int,
        fill: float = 0.0,
        joined: tuple[int, int] = (0, 0),
    ) -> Value:
        """Elements ``index`` of ``value`` in the model's order, -1 for ``fill``.

        Its axes travel like those of ``value`` if they are as many.
        """
        axes = self.importer.axes(value)
        if axes is None or len(axes) != index.ndim:
            axes = channels_last(index.ndim) if index.ndim > 2 else tuple(range(index.ndim))
        places = np.append(moves(value.order, None, math.prod(value.shape)), -1)[index]
        layer = self.add(layers.Rearrange, label, (value.name,), places.transpose(axes), fill)
        return self.given(layer.name, index.shape, axes, batch, joined)

    # -- constants beside frames --------------------------------------------------------------

    def frame_constant(self, index: int, value: Value) -> Floats:
        """A constant broadcast to one frame of ``value``, in the model's order."""
        model, name = self.importer.model, self.node.input[index]
        constant = model.constant(name)
        if isinstance(constant, PerBatch):  # one for all frames, repeated
            axis = value.batch_axis - value.rank + constant.first.ndim
            if 0 <= axis and all((x == x.take([0], axis)).all() for x in constant):
                array = constant.first.take([0], axis).astype(np.float64)
                return self._one_frame(index, value, array)
        return self._one_frame(index, value, model.floats(name))

    def frame_flags(self, index: int, value: Value) -> NDArray[np.bool_]:
        """A constant of truth values, likewise."""
        array = self.importer.model.constant(self.node.input[index])
        if isinstance(array, PerBatch) or array.dtype != np.bool_:
            self.refuse(f"constant {shown(self.node.input[index])} must be of truth values")
        return self._one_frame(index, value, array)

    def _one_frame(self, index: int, value: Value, array: NDArray[Any]) -> NDArray[Any]:
        full = array[(np.newaxis,) * (value.rank - array.ndim)]
        try:
            if self.importer.whole and value.joined == (0, 1):
                return np.broadcast_to(full, value.shape)
            if full.ndim > value.rank or full.shape[value.batch_axis] != 1:
                raise ValueError
            alone = (*range(value.batch_axis, value.batch_axis + sum(value.joined)),)
            one = np.expand_dims(full.squeeze(value.batch_axis), alone)
            return np.broadcast_to(one, value.shape)
        except ValueError:
            self.refuse(
                f"constant {shown(self.node.input[index])} must fit one frame of shape "
                f"{list(value.shape)}, not have shape {list(array.shape)}"
            )

    def widened(self, index: int, value: Value) -> Value:
        """``value`` with as many axes as a constant, repeated along those of length 1 where that is
        longer."""
        array = self.importer.model.constant(self.node.input[index])
        shape = array.first.shape if isinstance(array, PerBatch) else array.shape
        if set(shape[: -value.rank]) == {1}:
            value = self.deeper(value, len(shape))
        if isinstance(array, PerBatch) or array.ndim > value.rank:
            return value
        full = (1,) * (value.rank - array.ndim) + array.shape
        axis, apart = value.batch_axis, sum(value.joined)
        if full[axis] != 1:
            return value
        frame = full[:axis] + (1,) * apart + full[axis + 1 :]
        pairs = list(zip(value.shape, frame, strict=True))
        if all(a == b or 1 in (a, b) for a, b in pairs):
            return self.repeated(value, tuple(max(pair) for pair in pairs))
        return value

    def deeper(self, value: Value, rank: int) -> Value:
        """``value`` with axes of length 1 before its own, ``rank`` in all."""
        more = rank - value.rank
        return value.reshaped((1,) * more + value.shape, value.batch + more, value.joined)

    def repeated(self, value: Value, shape: Shape) -> Value:
        """``value`` along a longer ``shape`` of as many axes."""
        if value.shape == shape:
            return value
        index = np.broadcast_to(raster(value.shape), shape)
        label = f"{value.name}_repeat"
        return self.rearranged(label, value, index, value.batch, joined=value.joined)

    def is_endless(self, index: int) -> bool:
        """Whether a constant is -inf throughout."""
        array = self.importer.model.constant(self.node.input[index])
        return not isinstance(array, PerBatch) and bool(np.isneginf(array).all())

    def masked(self, index: int) -> Value | None:
        """The other of two inputs with a constant added that is -inf here and there, if it is."""
        array = self.importer.model.constant(self.node.input[index])
        if (
            isinstance(array, PerBatch)
            or not np.isneginf(array).any()
            or self.is_constant(1 - index)
        ):
            return None
        value = self.value(1 - index, None, joined=True)
        full = self._one_frame(index, value, array.astype(np.float64))
        shown = ~np.isneginf(full)
        addend = np.where(shown, full, 0.0)
        if addend.any():
            value = self.scaled(value, np.ones_like(addend), addend)
        return self.elementwise(layers.Mask, value, self.streamed(value, shown))

    def streamed(self, value: Value, array: NDArray[Any]) -> NDArray[Any]:
        """One frame of numbers in the model's order, as the graph tensor of ``value`` has them."""
        order = slice(None) if value.order is None else value.order
        return array.ravel()[order].reshape(self.importer.shapes[value.name])

    def check_finite(self, *arrays: Floats) -> None:
        """Refuse what overflows."""
        if not all(np.isfinite(array).all() for array in arrays):
            self.refuse("must give finite weights, not overflow")

    def scaled(self, value: Value, weight: Floats, bias: Floats) -> Value:
        """``weight * value + bias``, both of the frame's shape in the model's order."""
        self.check_finite(weight, bias)
        parts = (self.streamed(value, part) for part in (weight, bias))
        return self.elementwise(layers.Scale, value, *parts)
