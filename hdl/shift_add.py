# SPDX-License-Identifier: Apache-2.0
"""Hardware of adder graphs: ``y = W @ x`` for a constant W, one x per clock cycle."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from amaranth import Cat, Const, Module, Signal, Value
from amaranth.hdl import ClockSignal, Instance, Shape
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .adder_graph import ZERO, AdderGraph, bits_of, wired_bits


class Piece(NamedTuple):
    """``length`` bits from ``start`` of what ``node`` computes; zeros if it is ``ZERO``."""

    node: int
    start: int
    length: int


Pieces = tuple[Piece, ...]  # from the lowest bit


def _slice(pieces: Pieces, start: int, stop: int, signed: bool) -> Pieces:
    """Bits ``start`` to ``stop`` of a number, extended beyond its end."""
    result: list[Piece] = []
    place = 0
    for node, first, length in pieces:
        low, high = max(start - place, 0), min(stop - place, length)
        if low < high:
            result.append(Piece(node, first + low, high - low))
        place += length
    beyond = stop - max(start, place)
    if beyond > 0:
        node, first, length = pieces[-1]
        sign = Piece(node, first + length - 1, 1) if signed else Piece(ZERO, 0, 1)
        result += [sign] * beyond if signed else [Piece(ZERO, 0, beyond)]
    return tuple(result)


@dataclass(frozen=True)
class Sum:
    """One adder cell: ``left + right`` or ``left - right``, all of ``width`` bits."""

    node: int
    left: Pieces
    right: Pieces
    width: int
    subtract: bool
    level: int


@dataclass(frozen=True)
class Pipeline:
    """An adder graph cut into elastic stages.

    Stage s ends in registers that move with ``enable[s]``; the last ones are the outputs. A value
    that a later stage needs waits in one register per stage, whoever needs it; only bits that
    somebody needs have registers, and bits that are wires from an operand have no own ones.

    Parameters
    ----------
    graph : AdderGraph
    adders_per_stage : int, adders in a row within one clock cycle
    """

    graph: AdderGraph
    adders_per_stage: int = 2

    def __post_init__(self) -> None:
        if self.adders_per_stage < 1:
            raise ValueError(
                f"Pipeline adders_per_stage must be at least 1, not {self.adders_per_stage}"
            )

    @cached_property
    def _lowered(self) -> tuple[list[Pieces], dict[int, Sum]]:
        """Every node as pieces, and the adder cells by node, in order."""
        graph, count = self.graph, len(self.graph.inputs)
        numbers: list[Pieces] = [
            (Piece(node, 0, bits_of(low, high)),) for node, (low, high) in enumerate(graph.inputs)
        ]
        signed = [low < 0 for low, _ in graph.bounds]
        sums: dict[int, Sum] = {}
        known: dict[tuple, Piece] = {}
        levels: dict[int, int] = {ZERO: 0, **dict.fromkeys(range(count), 0)}
        zero = ((Piece(ZERO, 0, 1),), False)
        for node, adder in enumerate(graph.adders, count):
            width = bits_of(*graph.bounds[node]) + adder.drop
            wires = min(width, wired_bits(graph, adder))
            left = zero if adder.left == ZERO else (numbers[adder.left], signed[adder.left])
            right = numbers[adder.right], signed[adder.right]
            lower = left if adder.left_shift <= adder.right_shift else right
            shifted = []
            for (pieces, sign), shift in ((left, adder.left_shift), (right, adder.right_shift)):
                padded = (Piece(ZERO, 0, shift), *pieces) if shift else pieces
                shifted.append((padded, sign))
            if wires == width:  # the upper operand stands on the lower one
                start = max(adder.left_shift, adder.right_shift)
                upper = right if lower is left else left
                low_part = _slice(lower[0], 0, min(start, width), lower[1])
                numbers.append(low_part + _slice(upper[0], 0, width - start, upper[1]))
                continue
            low_part = _slice(lower[0], 0, wires, lower[1]) if wires else ()
            first, second = (_slice(pieces, wires, width, sign) for pieces, sign in shifted)
            key = (first, second, adder.subtract)
            if key not in known:
                level = 1 + max(levels[piece.node] for piece in first + second)
                sums[node] = Sum(node, first, second, width - wires, adder.subtract, level)
                levels[node] = level
                known[key] = Piece(node, 0, width - wires)
            numbers.append(_slice((*low_part, known[key]), adder.drop, width, False))
        return numbers, sums

    @cached_property
    def outputs(self) -> tuple[Pieces, ...]:
        """Bits of every output, from the lowest; a flagged negation is left to the consumer."""
        numbers, _ = self._lowered
        result: list[Pieces] = []
        for output, shape in zip(self.graph.outputs, self.output_shapes, strict=True):
            if output is None:
                result.append((Piece(ZERO, 0, 1),))
            else:
                zeros = (Piece(ZERO, 0, output.shift),) if output.shift else ()
                pieces = zeros + numbers[output.node]
                result.append(_slice(pieces, 0, shape.width, shape.signed))
        return tuple(result)

    @cached_property
    def sums(self) -> tuple[Sum, ...]:
        """The adder cells, operands first, without what nobody needs."""
        live: dict[int, int] = {}

        def need(pieces: Iterable[Piece]) -> None:
            for node, start, length in pieces:
                live[node] = live.get(node, 0) | ((1 << length) - 1) << start

        for pieces in self.outputs:
            need(pieces)
        result = []
        for cell in reversed(self._lowered[1].values()):
            width = live.get(cell.node, 0).bit_length()
            if width:
                operands = (_slice(cell.left, 0, width, False), _slice(cell.right, 0, width, False))
                result.append(Sum(cell.node, *operands, width, cell.subtract, cell.level))
                need(operands[0])
                need(operands[1])
        return tuple(reversed(result))

    @cached_property
    def stages(self) -> int:
        """Stages, each with its registers: the latency in cycles."""
        levels = max((cell.level for cell in self.sums), default=0)
        return max(1, -(-levels // self.adders_per_stage))

    @cached_property
    def _stage(self) -> dict[int, int]:
        """Stage in which a node is computed; -1 for inputs."""
        stage = dict.fromkeys(range(len(self.graph.inputs)), -1)
        stage.update((cell.node, (cell.level - 1) // self.adders_per_stage) for cell in self.sums)
        return stage

    @cached_property
    def registers(self) -> tuple[dict[int, int], ...]:
        """For each stage, the bits of each node that it holds, as a mask by node."""
        registers: tuple[dict[int, int], ...] = tuple({} for _ in range(self.stages))

        def hold(pieces: Iterable[Piece], until: int) -> None:
            for node, start, length in pieces:
                if node != ZERO:
                    mask = ((1 << length) - 1) << start
                    for stage in range(max(0, self._stage[node]), until):
                        registers[stage][node] = registers[stage].get(node, 0) | mask

        for cell in self.sums:
            hold(cell.left + cell.right, self._stage[cell.node])
        for pieces in self.outputs:
            hold(pieces, self.stages)
        return tuple(dict(sorted(stage.items())) for stage in registers)

    @property
    def flip_flops(self) -> int:
        """Register bits; the control of the stages not included."""
        return sum(mask.bit_count() for stage in self.registers for mask in stage.values())

    @cached_property
    def operators(self) -> tuple[tuple[str, int], ...]:
        """The adder cells as (``"add"`` or ``"subtract"``, width), in order."""
        return tuple(("subtract" if cell.subtract else "add", cell.width) for cell in self.sums)

    @property
    def input_shape(self) -> Shape:
        """Shape of the elements of x: one for all, as narrow as their intervals allow."""
        low = min(low for low, _ in self.graph.inputs)
        high = max(high for _, high in self.graph.inputs)
        return Shape(bits_of(low, high), low < 0)

    @cached_property
    def output_shapes(self) -> tuple[Shape, ...]:
        """Exact shape of each element of y, before the negations that are left to the consumer."""
        shapes = []
        for output, (low, high) in zip(self.graph.outputs, self.graph.output_bounds, strict=True):
            if output is not None and output.negate:
                low, high = -high, -low
            shapes.append(Shape(bits_of(low, high), low < 0))
        return tuple(shapes)


class ShiftAdd(wiring.Component):
    """Adder graph in elastic stages; y leaves :attr:`Pipeline.stages` enables after its x.

    Members
    -------
    x : In(ArrayLayout of ``Pipeline.input_shape``), the element k in its interval
    enable : In(one bit per stage), a stage takes what the one before it holds
    y : Out(one field per output, by its number, in ``Pipeline.output_shapes``), from registers
    """

    def __init__(self, pipeline: Pipeline):
        self.pipeline = pipeline
        fields, offset = {}, 0
        for number, shape in enumerate(pipeline.output_shapes):
            fields[number] = data.Field(shape, offset)
            offset += shape.width
        count = len(pipeline.graph.inputs)
        members = {
            "x": In(data.ArrayLayout(pipeline.input_shape, count)),
            "enable": In(pipeline.stages),
            "y": Out(data.FlexibleLayout(offset, fields)),
        }
        super().__init__(members)

    def elaborate(self, platform):
        modules = getattr(platform, "rtlil_modules", None)
        if modules is None:
            return _module(self)
        text = rtlil(self.pipeline)
        name = f"shift_add_{hashlib.sha256(text.encode()).hexdigest()[:12]}"
        modules[name] = text.replace(_NAME, name)
        m = Module()
        m.submodules.graph = Instance(
            name,
            i_clk=ClockSignal(),
            i_enable=self.enable,
            i_x=Value.cast(self.x),
            o_y=Value.cast(self.y),
        )
        return m


_GROUP = 64  # numbers in one signal: each statement costs Amaranth time, and so does a wide signal


def _module(component: ShiftAdd) -> Module:
    """The graph in plain Amaranth."""
    m = Module()
    pipeline = component.pipeline
    lane, x = pipeline.input_shape.width, Value.cast(component.x)
    inputs = range(len(pipeline.graph.inputs))
    held = {node: (x, node * lane, -1) for node in inputs}  # node: signal, place, bits held

    def bits(pieces: Iterable[Piece]) -> Value:
        parts: list[Value] = []
        for node, start, length in pieces:
            if node == ZERO:
                parts.append(Const(0, length))
            else:
                signal, place, mask = held[node]
                first = place + (mask & ((1 << start) - 1)).bit_count()
                parts.append(signal[first : first + length])
        return Cat(parts)

    def assign(domain, name: str, entries: list[tuple[int, int, Value]]) -> dict:
        found = {}
        for first in range(0, len(entries), _GROUP):
            group = entries[first : first + _GROUP]
            values = Cat(value for _, _, value in group)
            signal = Signal(len(values), name=f"{name}_{first // _GROUP}", reset_less=True)
            domain += signal.eq(values)
            place = 0
            for node, mask, value in group:
                found[node] = signal, place, mask
                place += len(value)
        return found

    cells = sorted(pipeline.sums, key=lambda cell: cell.level)
    for stage, registers in enumerate(pipeline.registers):
        first = stage * pipeline.adders_per_stage + 1
        for level in range(first, first + pipeline.adders_per_stage):
            entries = []
            for cell in cells:
                if cell.level == level:
                    left, right = bits(cell.left), bits(cell.right)
                    total = left - right if cell.subtract else left + right
                    entries.append((cell.node, -1, total[: cell.width]))
            held.update(assign(m.d.comb, f"sums_{level}", entries))
        entries = [(node, mask, bits(_runs(node, mask))) for node, mask in registers.items()]
        with m.If(component.enable[stage]):
            held = assign(m.d.sync, f"stage_{stage}", entries)
    y = Value.cast(component.y)
    m.d.comb += y.eq(Cat(bits(pieces) for pieces in pipeline.outputs))
    return m


def _runs(node: int, mask: int) -> list[Piece]:
    """The bits of a mask as pieces."""
    pieces, start = [], 0
    while mask >> start:
        start += ((mask >> start) & -(mask >> start)).bit_length() - 1
        length = (~(mask >> start) & -~(mask >> start)).bit_length() - 1
        pieces.append(Piece(node, start, length))
        start += length
    return pieces


_NAME = "NAME"


def rtlil(pipeline: Pipeline) -> str:
    """The graph as the text of one RTLIL module ``\\NAME`` with ports clk, enable, x, y.

    The same circuit as the plain Amaranth one, whose way through Amaranth takes a millisecond and
    more for each adder.
    """
    lane = pipeline.input_shape.width
    count = len(pipeline.graph.inputs)
    width = sum(shape.width for shape in pipeline.output_shapes)
    wires = [
        "wire width 1 input 1 \\clk",
        f"wire width {pipeline.stages} input 2 \\enable",
        f"wire width {count * lane} input 3 \\x",
        f"wire width {width} output 4 \\y",
    ]
    cells: list[str] = []
    held = {node: ("\\x", node * lane, -1) for node in range(count)}

    def bits(pieces: Iterable[Piece]) -> str:
        parts = []
        for node, start, length in pieces:
            if node == ZERO:
                parts.append(f"{length}'{'0' * length}")
            else:
                name, place, mask = held[node]
                first = place + (mask & ((1 << start) - 1)).bit_count()
                parts.append(f"{name} [{first + length - 1}:{first}]")
        return parts[0] if len(parts) == 1 else f"{{ {' '.join(reversed(parts))} }}"

    def cell(kind: str, name: str, parameters: dict[str, int], connections: dict[str, str]) -> None:
        cells.append(f"cell ${kind} {name}")
        cells.extend(f"  parameter \\{key} {value}" for key, value in parameters.items())
        cells.extend(f"  connect \\{key} {value}" for key, value in connections.items())
        cells.append("end")

    sums = sorted(pipeline.sums, key=lambda cell: cell.level)
    done = 0
    for stage, registers in enumerate(pipeline.registers):
        while done < len(sums) and sums[done].level <= (stage + 1) * pipeline.adders_per_stage:
            one = sums[done]
            done += 1
            name, size = f"\\sum_{one.node}", one.width
            wires.append(f"wire width {size} {name}")
            sizes = {
                "A_SIGNED": 0,
                "B_SIGNED": 0,
                "A_WIDTH": size,
                "B_WIDTH": size,
                "Y_WIDTH": size,
            }
            operands = {"A": bits(one.left), "B": bits(one.right), "Y": name}
            cell("sub" if one.subtract else "add", f"$sum_{one.node}", sizes, operands)
            held[one.node] = (name, 0, -1)
        after = {}
        for node, mask in registers.items():
            name, size = f"\\stage_{stage}_{node}", mask.bit_count()
            wires.append(f"wire width {size} {name}")
            sizes = {"CLK_POLARITY": 1, "EN_POLARITY": 1, "WIDTH": size}
            ports = {"CLK": "\\clk", "EN": f"\\enable [{stage}]", "D": bits(_runs(node, mask))}
            cell("dffe", f"$stage_{stage}_{node}", sizes, {**ports, "Q": name})
            after[node] = (name, 0, mask)
        held = after
    y = [piece for pieces in pipeline.outputs for piece in pieces]
    lines = [*wires, *cells, f"connect \\y {bits(y)}"]
    return f"module \\{_NAME}\n" + "".join(f"  {line}\n" for line in lines) + "end\n"
