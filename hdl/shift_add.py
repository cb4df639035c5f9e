# SPDX-License-Identifier: Apache-2.0
"""Hardware of adder graphs: ``y = W @ x`` for a constant W, one x per clock cycle."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

from amaranth import Cat, Const, Module, Signal, Value
from amaranth.hdl import ClockSignal, Instance, Shape
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .adder_graph import ZERO, AdderGraph, bits_of

Bits = tuple[int, ...]
"""Bits of a number, lowest first: ``node * 64 + index`` of what a node computes, or ZERO."""


def _extended(bits: Bits, shift: int, width: int, signed: bool) -> Bits:
    """The lowest ``width`` bits of a number shifted up."""
    filling = bits[-1] if signed else ZERO
    return ((ZERO,) * shift + bits + (filling,) * (width - shift - len(bits)))[:width]


def _runs(bits: Iterable[int]) -> list[tuple[int, int, int]]:
    """Bits as (node, first index, count) of neighbours; node is ZERO for zeros."""
    runs: list[tuple[int, int, int]] = []
    for bit in bits:
        node, index = (ZERO, 0) if bit == ZERO else divmod(bit, 64)
        last, first, count = runs[-1] if runs else (None, 0, 0)
        if last == node and (node == ZERO or first + count == index):
            runs[-1] = node, first, count + 1
        else:
            runs.append((node, index, 1))
    return runs


def _members(node: int, mask: int) -> Bits:
    """The bits of a node in a mask."""
    return tuple(node * 64 + index for index in range(mask.bit_length()) if mask >> index & 1)


@dataclass(frozen=True)
class Sum:
    """One adder cell: ``left + right`` or ``left - right``, all of one width."""

    node: int
    left: Bits
    right: Bits
    subtract: bool
    level: int

    @property
    def width(self) -> int:
        return len(self.left)

    @property
    def wired(self) -> int:
        """Bits that but for the carry are an operand alone, or the same as the bit below."""
        pairs = list(zip(self.left, self.right, strict=True))
        alone = [pair == (ZERO, ZERO) or (ZERO in pair and not self.subtract) for pair in pairs]
        same = [False, *(pair == below for below, pair in pairwise(pairs))]
        return sum(a or b for a, b in zip(alone, same, strict=True))


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
    skipped : low bits of each output that nobody reads and y leaves out; none by default
    kept : most bits of each output above those that somebody reads; all by default
    gaps : masks of bits of each output that nobody reads, which are zeros; none by default
    held : whether x stays until y is taken: then each value has one register at most, which waits
        for nobody, and ``enable`` has no bit
    """

    graph: AdderGraph
    adders_per_stage: int = 2
    skipped: tuple[int, ...] = ()
    kept: tuple[int, ...] = ()
    gaps: tuple[int, ...] = ()
    held: bool = False

    def __post_init__(self) -> None:
        if self.adders_per_stage < 1:
            raise ValueError(
                f"Pipeline adders_per_stage must be at least 1, not {self.adders_per_stage}"
            )

    @cached_property
    def _lowered(self) -> tuple[list[Bits], list[Sum]]:
        """The bits of every node, and the adder cells, operands first."""
        graph, count = self.graph, len(self.graph.inputs)
        widths = [bits_of(*bounds) for bounds in graph.bounds]
        signed = [low < 0 for low, _ in graph.bounds]
        numbers = [tuple(range(node * 64, node * 64 + widths[node])) for node in range(count)]
        cells: list[Sum] = []
        known: dict[tuple, int] = {}  # operands: node of the cell
        same = _Functions()
        levels = [0] * (count + len(graph.adders))
        for node, adder in enumerate(graph.adders, count):
            width = widths[node] + adder.drop
            left: Bits = (ZERO,) * width
            if adder.left != ZERO:
                bits = numbers[adder.left]
                left = _extended(bits, adder.left_shift, width, signed[adder.left])
            bits = numbers[adder.right]
            right = _extended(bits, adder.right_shift, width, signed[adder.right])
            low = _wires(left, right, adder.subtract)
            left, right = left[len(low) :], right[len(low) :]
            if left:
                key = left, right, adder.subtract
                if key not in known:
                    known[key] = node
                    sources = [bit // 64 for bit in left + right if bit != ZERO]
                    levels[node] = 1 + max(levels[source] for source in sources)
                    cells.append(Sum(node, left, right, adder.subtract, levels[node]))
                first = known[key]
                own = same.bits(first, left, right, adder.subtract, levels)
                low += own if adder.subtract else _passed(own, left, right)
            numbers.append(low[adder.drop :])
        return numbers, cells

    @cached_property
    def outputs(self) -> tuple[Bits, ...]:
        """Bits of every output; a flagged negation is left to the consumer."""
        numbers, _ = self._lowered
        result = []
        for output, shape, skip, kept in zip(
            self.graph.outputs, self.output_shapes, self._skipped, self._kept, strict=True
        ):
            bits = (ZERO,) if output is None or not kept else numbers[output.node]
            shift = 0 if output is None else output.shift
            result.append(_extended(bits, shift, skip + shape.width, shape.signed)[skip:])
        gaps = self.gaps or (0,) * len(result)
        return tuple(
            tuple(ZERO if gap >> place & 1 else bit for place, bit in enumerate(bits))
            for bits, gap in zip(result, gaps, strict=True)
        )

    @cached_property
    def sums(self) -> tuple[Sum, ...]:
        """The adder cells, operands first, without what nobody needs."""
        live: set[int] = set()
        for bits in self.outputs:
            live.update(bits)
        result = []
        for cell in reversed(self._lowered[1]):
            width = cell.width
            while width and cell.node * 64 + width - 1 not in live:
                width -= 1
            if width:
                left, right = cell.left[:width], cell.right[:width]
                result.append(Sum(cell.node, left, right, cell.subtract, cell.level))
                live.update(left, right)
        levels = max((cell.level for cell in result), default=1)
        stages = -(-levels // self.adders_per_stage)
        return tuple(
            sorted(self._settled(result, stages), key=lambda cell: (cell.level, cell.node))
        )

    def _settled(self, cells: list[Sum], stages: int) -> list[Sum]:
        """The cells, consumers first, each moved to where it and its operands wait the least.

        Within the levels that its neighbours leave it, a cell goes to the stage that costs the
        fewest register bits: a stage later saves those of its result, but costs those of operand
        bits that nobody else needs that late.
        """
        level = {cell.node: cell.level for cell in cells}
        last: dict[int, int] = {}  # bit: latest stage that needs it
        own: dict[int, int] = {}  # node: bits that are needed
        latest = dict.fromkeys(level, stages * self.adders_per_stage)
        for bits in self.outputs:
            last.update(dict.fromkeys(bits, stages))
        for bit in last:
            own[bit // 64] = own.get(bit // 64, 0) + 1
        moved = []
        for cell in cells:
            operands = dict.fromkeys(bit for bit in cell.left + cell.right if bit != ZERO)
            sources = dict.fromkeys(bit // 64 for bit in operands)
            low = 1 + max(level.get(source, 0) for source in sources)
            high = latest[cell.node]
            waits = [last.get(bit, -1) for bit in operands]
            first = (low - 1) // self.adders_per_stage
            stage, least = 0, None
            for tried in range((high - 1) // self.adders_per_stage, first - 1, -1):
                cost = sum(tried - wait for wait in waits if wait < tried)
                cost -= tried * own.get(cell.node, 0)
                if least is None or cost < least:
                    stage, least = tried, cost
            new = min(high, (stage + 1) * self.adders_per_stage)
            level[cell.node] = new
            moved.append(replace(cell, level=new))
            for source in sources:
                latest[source] = min(latest.get(source, new), new - 1)
            for bit, wait in zip(operands, waits, strict=True):
                if wait < 0:
                    own[bit // 64] = own.get(bit // 64, 0) + 1
                last[bit] = max(wait, stage)
        return moved

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

        def hold(bits: Bits, until: int) -> None:
            for bit in bits:
                if bit != ZERO:
                    node, index = divmod(bit, 64)
                    first = self._stage[node]
                    last = min(until, first + 1) if self.held else until
                    for stage in range(max(0, first), last):
                        registers[stage][node] = registers[stage].get(node, 0) | 1 << index

        for cell in self.sums:
            hold(cell.left + cell.right, self._stage[cell.node])
        for bits in self.outputs:
            hold(bits, self.stages)
        return tuple(dict(sorted(stage.items())) for stage in registers)

    @cached_property
    def needed(self) -> tuple[int, ...]:
        """For each element of x the mask of its bits that somebody needs."""
        masks = [0] * len(self.graph.inputs)
        for bits in (*self.outputs, *(cell.left + cell.right for cell in self.sums)):
            for bit in bits:
                if bit != ZERO and bit // 64 < len(masks):
                    masks[bit // 64] |= 1 << bit % 64
        return tuple(masks)

    @property
    def flip_flops(self) -> int:
        """Register bits; the control of the stages not included."""
        return sum(mask.bit_count() for stage in self.registers for mask in stage.values())

    @property
    def input_shape(self) -> Shape:
        """Shape of the elements of x: one for all, as narrow as their intervals allow."""
        low = min(low for low, _ in self.graph.inputs)
        high = max(high for _, high in self.graph.inputs)
        return Shape(bits_of(low, high), low < 0)

    @cached_property
    def output_shapes(self) -> tuple[Shape, ...]:
        """Exact shape of each element of y, before the negations that are left to the consumer."""
        shapes: list[Shape] = []
        for output, (low, high) in zip(self.graph.outputs, self.graph.output_bounds, strict=True):
            if output is not None and output.negate:
                low, high = -high, -low
            skip, kept = self._skipped[len(shapes)], self._kept[len(shapes)]
            width = bits_of(low >> skip, high >> skip)
            shapes.append(Shape(max(1, min(width, kept)), low < 0))
        return tuple(shapes)

    @property
    def _skipped(self) -> tuple[int, ...]:
        return self.skipped or (0,) * len(self.graph.outputs)

    @property
    def _kept(self) -> tuple[int, ...]:
        return self.kept or (64,) * len(self.graph.outputs)


class ShiftAdd(wiring.Component):
    """Adder graph in elastic stages; y leaves :attr:`Pipeline.stages` enables after its x.

    Members
    -------
    x : In(ArrayLayout of ``Pipeline.input_shape``), the element k in its interval
    enable : In(one bit per stage), a stage takes what the one before it holds; none if held
    y : Out(one field per output, by its number, in ``Pipeline.output_shapes``), from registers

    Where the platform has a dictionary ``rtlil_modules`` (``hdl.verilog`` has one), the circuit
    goes into it as text, and Amaranth sees an instance only: a millisecond less for each adder.
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
            "enable": In(0 if pipeline.held else pipeline.stages),
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


class _Functions:
    """Finds result bits that equal bits of earlier adders, so that none has two registers.

    The lowest bits of a + b, a - b and b - a are equal, that of 0 - b is that of b. Functions of up
    to six input bits are compared whole: synthesis sees through such small adders, and would
    otherwise remove registers that were counted.
    """

    _VARIABLES = 6

    def __init__(self) -> None:
        self.parities: dict[tuple[int, int], int] = {}
        self.functions: dict[int, tuple[Bits, int] | None] = {ZERO: ((), 0)}
        self.known: dict[tuple[Bits, int], int] = {((), 0): ZERO}

    def bits(self, node: int, left: Bits, right: Bits, subtract: bool, levels: list[int]) -> Bits:
        """The result bits of a cell, earlier bits where these are equal and ready in time."""
        bits = list(range(node * 64, node * 64 + len(left)))
        tables = self._tables(left, right, subtract)
        if tables is not None:
            for place, function in enumerate(tables):
                bit = self.known.setdefault(function, bits[place])
                self.functions[bits[place]] = function
                if bit == ZERO or levels[bit // 64] <= levels[node]:
                    bits[place] = bit
            return tuple(bits)
        self.functions.update(dict.fromkeys(bits))
        lowest = min(left[0], right[0]), max(left[0], right[0])
        parity = self.parities.setdefault(lowest, bits[0])
        if left[0] == ZERO:
            bits[0] = right[0]
        elif levels[parity // 64] <= levels[node]:
            bits[0] = parity
        return tuple(bits)

    def _function(self, bit: int) -> tuple[Bits, int] | None:
        """A bit as (input bits, truth table), None if it is too complex."""
        if bit not in self.functions:  # an input
            self.functions[bit] = (bit,), 0b10
            self.known[(bit,), 0b10] = bit
        return self.functions[bit]

    def _tables(self, left: Bits, right: Bits, subtract: bool) -> list[tuple[Bits, int]] | None:
        """Functions of the result bits of an adder."""
        operands = [self._function(bit) for bit in left + right]
        variables: set[int] = set()
        for function in operands:
            if function is None:
                return None
            variables.update(function[0])
            if len(variables) > self._VARIABLES:
                return None
        names = tuple(sorted(variables))
        ones = (1 << (1 << len(names))) - 1
        wide = [_widened(*function, names) for function in operands if function is not None]
        carry = ones if subtract else 0
        results = []
        for a, b in zip(wide[: len(left)], wide[len(left) :], strict=True):
            b = b ^ ones if subtract else b
            results.append(_narrowed(names, a ^ b ^ carry))
            carry = a & b | carry & (a | b)
        return results


def _widened(names: Bits, table: int, wanted: Bits) -> int:
    """A truth table as one of more variables."""
    places = [wanted.index(name) for name in names]
    result = 0
    for row in range(1 << len(wanted)):
        index = sum((row >> place & 1) << k for k, place in enumerate(places))
        result |= (table >> index & 1) << row
    return result


def _narrowed(names: Bits, table: int) -> tuple[Bits, int]:
    """A function without the variables that it does not depend on."""
    place = 0
    while place < len(names):
        rows = [row for row in range(1 << len(names)) if not row >> place & 1]
        step = 1 << place
        if all((table >> row & 1) == (table >> row + step & 1) for row in rows):
            table = sum((table >> row & 1) << k for k, row in enumerate(rows))
            names = names[:place] + names[place + 1 :]
        else:
            place += 1
    return names, table


def _wires(left: Bits, right: Bits, subtract: bool) -> Bits:
    """The lowest bits of a sum or difference that need no adder."""
    bits: list[int] = []
    for one, other in zip(left, right, strict=True):
        if other == ZERO:
            bits.append(one)
        elif one == ZERO and not subtract:
            bits.append(other)
        elif one == other and subtract:
            bits.append(ZERO)
        else:
            break
    return tuple(bits)


def _passed(own: Bits, left: Bits, right: Bits) -> Bits:
    """Bits of a sum: above two zeros, where a carry ends, single operand bits pass as wires."""
    bits, carry = list(own), True
    for place, (one, other) in enumerate(zip(left, right, strict=True)):
        if one == other == ZERO:
            bits[place] = bits[place] if carry else ZERO
            carry = False
        elif ZERO not in (one, other):
            carry = True
        elif not carry:
            bits[place] = other if one == ZERO else one
    return tuple(bits)


_GROUP = 64  # numbers in one signal: each statement costs Amaranth time, and so does a wide signal


def _module(component: ShiftAdd) -> Module:
    """The graph in plain Amaranth."""
    m = Module()
    pipeline = component.pipeline
    lane, x = pipeline.input_shape.width, Value.cast(component.x)
    inputs = range(len(pipeline.graph.inputs))
    held = {node: (x, node * lane, -1) for node in inputs}  # node: signal, place, bits held

    def value(bits: Bits) -> Value:
        parts: list[Value] = []
        for node, start, length in _runs(bits):
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
                    left, right = value(cell.left), value(cell.right)
                    total = left - right if cell.subtract else left + right
                    entries.append((cell.node, -1, total[: cell.width]))
            held.update(assign(m.d.comb, f"sums_{level}", entries))
        entries = [(node, mask, value(_members(node, mask))) for node, mask in registers.items()]
        with m.If(1 if pipeline.held else component.enable[stage]):
            after = assign(m.d.sync, f"stage_{stage}", entries)
        held = {**held, **after} if pipeline.held else after
    y = Value.cast(component.y)
    m.d.comb += y.eq(Cat(value(bits) for bits in pipeline.outputs))
    return m


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
        f"wire width {0 if pipeline.held else pipeline.stages} input 2 \\enable",
        f"wire width {count * lane} input 3 \\x",
        f"wire width {width} output 4 \\y",
    ]
    cells: list[str] = []
    held = {node: ("\\x", node * lane, -1) for node in range(count)}

    def value(bits: Bits) -> str:
        parts = []
        for node, start, length in _runs(bits):
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
            operands = {"A": value(one.left), "B": value(one.right), "Y": name}
            cell("sub" if one.subtract else "add", f"$sum_{one.node}", sizes, operands)
            held[one.node] = (name, 0, -1)
        after = {}
        for node, mask in registers.items():
            name, size = f"\\stage_{stage}_{node}", mask.bit_count()
            wires.append(f"wire width {size} {name}")
            sizes = {"CLK_POLARITY": 1, "WIDTH": size}
            ports = {"CLK": "\\clk", "D": value(_members(node, mask)), "Q": name}
            if pipeline.held:
                cell("dff", f"$stage_{stage}_{node}", sizes, ports)
            else:
                enable = {"EN": f"\\enable [{stage}]"}
                cell("dffe", f"$stage_{stage}_{node}", {**sizes, "EN_POLARITY": 1}, ports | enable)
            after[node] = (name, 0, mask)
        held = {**held, **after} if pipeline.held else after
    y = tuple(bit for bits in pipeline.outputs for bit in bits)
    lines = [*wires, *cells, f"connect \\y {value(y)}"]
    return f"module \\{_NAME}\n" + "".join(f"  {line}\n" for line in lines) + "end\n"
