# SPDX-License-Identifier: Apache-2.0
"""The word-level netlist that Verilog is written from: Yosys' JSON, made regular, and what is live.

A bit is an integer: 0 and 1 are the constants, everything above is a net of its module. Every
operand gets the width at which its operation works, so that no later step thinks about widths.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

Bits = list[int]

# Bit k of the result needs ... of each operand.
SAME_BIT = {"and", "or", "xor", "xnor", "not", "mux", "pmux", "register"}  # bit k
LOWER_BITS = {"add", "sub", "neg", "mul", "shl"}  # bits 0 to k
# Any other operation needs every bit.
COMPARISONS = {"eq", "ne", "lt", "le", "gt", "ge"}
REDUCTIONS = {"reduce_and", "reduce_or", "reduce_xor", "reduce_xnor", "reduce_bool", "logic_not"}
TWO_OPERANDS = {"and", "or", "xor", "xnor", "add", "sub", "mul"}
DIVISIONS = {"div": False, "mod": False, "divfloor": True, "modfloor": True}  # rounds down?


@dataclass(slots=True)
class Control:
    """One control input of a register: the bit, and the value at which it acts."""

    bit: int
    level: int


@dataclass(slots=True)
class Operation:
    """One word-level cell with one result; ``operands`` are as wide as the operation works."""

    kind: str
    result: Bits
    operands: list[Bits]
    signed: bool = False
    # registers only
    clock: Control | None = None
    enable: Control | None = None
    reset: Control | None = None
    reset_value: Bits = field(default_factory=list)
    asynchronous: bool = False
    enable_first: bool = False  # the enable holds back the reset, too

    def controls(self) -> list[Bits]:
        """Inputs that every bit of the result needs."""
        if self.kind in {"mux", "pmux"}:
            return self.operands[:1]
        if self.kind == "register":
            wanted = (self.clock, self.enable, self.reset)
            return [[control.bit] for control in wanted if control is not None]
        return self.operands[1:] if self.kind == "shl" else []

    def words(self) -> list[Bits]:
        """Inputs of which a bit of the result needs only some bits."""
        if self.kind in {"mux", "pmux"}:
            return self.operands[1:]
        return self.operands[:1] if self.kind == "shl" else self.operands


@dataclass(slots=True)
class ReadPort:
    """One read port of a memory; asynchronous without ``clock``."""

    data: Bits
    address: Bits
    enable: int
    clock: Control | None
    reset: Control | None = None


@dataclass(slots=True)
class WritePort:
    """One write port of a memory; ``enable`` has one bit per bit of ``data``."""

    data: Bits
    address: Bits
    enable: Bits
    clock: Control


@dataclass(slots=True)
class Memory:
    """``depth`` words of ``width`` bits; ``contents`` word after word when nothing writes it."""

    name: str
    width: int
    depth: int
    contents: Bits
    reads: list[ReadPort]
    writes: list[WritePort]
    attributes: dict[str, str]
    live: set[int] = field(default_factory=set)  # columns that somebody reads
    label: str = ""  # its name in the text


@dataclass(slots=True)
class Instance:
    """A submodule; ``connections`` by port name."""

    name: str
    module: str
    connections: dict[str, Bits]


@dataclass(slots=True)
class Port:
    name: str
    is_input: bool
    bits: Bits


@dataclass(slots=True)
class Name:
    """A name that the designer gave to these bits."""

    name: str
    bits: Bits
    attributes: dict[str, str]


@dataclass(slots=True)
class Module:
    """One module: everything in it in a fixed order, and the set of its ``live`` nets."""

    name: str
    ports: dict[str, Port]
    operations: list[Operation] = field(default_factory=list)
    memories: list[Memory] = field(default_factory=list)
    instances: list[Instance] = field(default_factory=list)
    names: list[Name] = field(default_factory=list)
    live: set[int] = field(default_factory=set)
    port_live: dict[str, set[int]] = field(default_factory=dict)  # positions that are needed


def _number(text: Any) -> int:
    """A parameter as an integer: Yosys' JSON spells it in binary digits, or as a number."""
    return text if isinstance(text, int) else int(text.replace("x", "0").replace("z", "0"), 2)


def _constant(text: str) -> Bits:
    """A parameter as bits, lowest first."""
    return [int(digit == "1") for digit in reversed(text)]


def extend(bits: Bits, width: int, signed: bool) -> Bits:
    """``bits`` cut or extended to ``width``."""
    if len(bits) >= width:
        return bits[:width]
    return bits + [bits[-1] if signed and bits else 0] * (width - len(bits))


# What a designer may say to synthesis tools about a register, a wire or a memory.
KEPT_ATTRIBUTES = ("keep", "ram_style", "rom_style", "shreg_extract", "use_dsp")
_NUMBER = re.compile("[01]{32}")  # how an integer looks in Yosys' JSON


def _attributes(attributes: dict[str, Any]) -> dict[str, str]:
    """The attributes that a synthesis tool acts upon, in a fixed order."""
    found = {name: attributes[name] for name in KEPT_ATTRIBUTES if name in attributes}
    return {name: str(int(a, 2)) if _NUMBER.fullmatch(a) else a for name, a in found.items()}


class _Reader:
    """Turns one module of Yosys' JSON into a :class:`Module`."""

    def __init__(self, name: str, source: dict[str, Any], modules: dict[str, Any]):
        self.source = source
        self.modules = modules
        self.alias: dict[int, int] = {}
        self.fillers = 0
        self.module = Module(name, {})

    def read(self) -> Module:
        module = self.module
        for name, cell in self.source["cells"].items():
            self.cell(name, cell)
        for name, port in self.source["ports"].items():
            if port["direction"] not in {"input", "output"}:
                raise ValueError(f"Verilog port {name} must be an input or output, not inout")
            bits = self.bits(port["bits"])
            module.ports[name] = Port(name, port["direction"] == "input", bits)
        for name, net in self.source["netnames"].items():
            if not net["hide_name"]:
                attributes = _attributes(net["attributes"])
                module.names.append(Name(name, self.bits(net["bits"]), attributes))
        if self.alias:
            self.resolve_all()
        return module

    def bits(self, source: Iterable[int | str]) -> Bits:
        return [bit if isinstance(bit, int) else int(bit == "1") for bit in source]

    def resolve(self, bits: Bits) -> Bits:
        alias = self.alias
        found = []
        for bit in bits:
            while bit in alias:
                bit = alias[bit]
            found.append(bit)
        return found

    def resolve_all(self) -> None:
        """Replace every bit that turned out to be another one."""
        module, resolve = self.module, self.resolve
        for operation in module.operations:
            operation.operands = [resolve(bits) for bits in operation.operands]
            for control in (operation.clock, operation.enable, operation.reset):
                if control is not None:
                    (control.bit,) = resolve([control.bit])
        for memory in module.memories:
            for read in memory.reads:
                read.address = resolve(read.address)
                (read.enable,) = resolve([read.enable])
            for write in memory.writes:
                write.address = resolve(write.address)
                write.data = resolve(write.data)
                write.enable = resolve(write.enable)
        for instance in module.instances:
            for port, bits in instance.connections.items():
                if self.modules[instance.module]["ports"][port]["direction"] == "input":
                    instance.connections[port] = resolve(bits)
        for port_ in module.ports.values():
            if not port_.is_input:
                port_.bits = resolve(port_.bits)
        for name in module.names:
            name.bits = resolve(name.bits)

    def equate(self, result: Bits, source: Bits) -> None:
        self.alias.update(zip(result, source, strict=True))

    def cell(self, name: str, cell: dict[str, Any]) -> None:
        kind = cell["type"]
        if kind in self.modules:
            connections = {port: self.bits(bits) for port, bits in cell["connections"].items()}
            self.module.instances.append(Instance(name, kind, connections))
        elif kind == "$mem_v2":
            self.memory(name, cell)
        elif kind in _REGISTERS:
            self.register(cell)
        elif kind.startswith("$"):
            self.operation(kind[1:], cell)
        else:
            raise ValueError(
                f"Verilog instance {name} must be of a module of the design, not {kind}"
            )

    def operation(self, kind: str, cell: dict[str, Any]) -> None:
        ports = {port: self.bits(bits) for port, bits in cell["connections"].items()}
        parameters = cell["parameters"]
        result = ports["Y"] if "Y" in ports else []
        a, b = ports.get("A", []), ports.get("B", [])
        signed = bool(_number(parameters.get("A_SIGNED", 0)))
        width = len(result)
        add = self.module.operations.append
        if kind == "mux":
            add(Operation(kind, result, [ports["S"], a, b]))
        elif kind == "pmux":
            choices = [b[start : start + width] for start in range(0, len(b), width)]
            add(Operation(kind, result, [ports["S"], a, *choices]))
        elif kind == "pos":
            self.equate(result, extend(a, width, signed))
        elif kind in {"not", "neg"}:
            add(Operation(kind, result, [extend(a, width, signed)], signed))
        elif kind in TWO_OPERANDS:
            signed &= bool(_number(parameters["B_SIGNED"]))
            a, b = extend(a, width, signed), extend(b, width, signed)
            if kind in {"add", "sub"}:
                result, a, b = self.withoutlow_zeros(kind, result, a, b)
            if result:
                add(Operation(kind, result, [a, b], signed))
        elif kind in COMPARISONS or kind in DIVISIONS:
            signed &= bool(_number(parameters["B_SIGNED"]))
            wide = max(len(a), len(b), 1 if kind in COMPARISONS else width + signed)
            operands = [extend(a, wide, signed), extend(b, wide, signed)]
            if kind in COMPARISONS and (known := _certain(kind, operands, signed)) is not None:
                self.equate(result, [known] + [0] * (len(result) - 1))
            elif kind in COMPARISONS:
                self.one_bit(kind, result, operands, signed)
            else:
                add(Operation(kind, self.fill(result, wide), operands, signed))
        elif kind in REDUCTIONS:
            self.one_bit(kind, result, [a], False)
        elif kind in {"logic_and", "logic_or"}:
            self.one_bit(kind, result, [a, b], False)
        elif kind in {"shl", "sshl"}:
            self.refuse_signed_amount(kind, parameters)
            add(Operation("shl", result, [extend(a, width, signed), b]))
        elif kind in {"shr", "sshr", "shift", "shiftx"}:
            self.refuse_signed_amount(kind, parameters)
            value = extend(a, max(width, len(a)), signed)
            # $shr fills with zeros whatever its operand; the others fill with the sign.
            add(
                Operation(
                    "shr", self.fill(result, len(value)), [value, b], signed and kind != "shr"
                )
            )
        else:
            raise ValueError(f"Verilog cell must be a circuit's, not ${kind}")

    def one_bit(self, kind: str, result: Bits, operands: list[Bits], signed: bool) -> None:
        """A yes or no, whose higher bits are zero."""
        self.equate(result[1:], [0] * (len(result) - 1))
        self.module.operations.append(Operation(kind, result[:1], operands, signed))

    def fill(self, result: Bits, width: int) -> Bits:
        """``result`` with new nets, below zero, that nobody reads, up to ``width``."""
        missing = width - len(result)
        self.fillers += missing
        return result + [-self.fillers + at for at in range(missing)]

    def refuse_signed_amount(self, kind: str, parameters: dict[str, Any]) -> None:
        if _number(parameters.get("B_SIGNED", 0)):
            raise ValueError(f"Verilog ${kind} must shift by an unsigned amount, not a signed one")

    def withoutlow_zeros(
        self, kind: str, result: Bits, a: Bits, b: Bits
    ) -> tuple[Bits, Bits, Bits]:
        """Leave out the low bits at which zero is added: they are the other operand's."""
        if kind == "add" and low_zeros(a) > low_zeros(b):
            a, b = b, a
        zeros = low_zeros(b)
        self.equate(result[:zeros], a[:zeros])
        return result[zeros:], a[zeros:], b[zeros:]

    def register(self, cell: dict[str, Any]) -> None:
        ports = {port: self.bits(bits) for port, bits in cell["connections"].items()}
        parameters = cell["parameters"]

        def control(port: str, polarity: str) -> Control | None:
            if port not in ports:
                return None
            return Control(ports[port][0], _number(parameters[polarity]))

        asynchronous = "ARST" in ports
        reset = "ARST" if asynchronous else "SRST"
        self.module.operations.append(
            Operation(
                "register",
                ports["Q"],
                [ports["D"]],
                clock=control("CLK", "CLK_POLARITY"),
                enable=control("EN", "EN_POLARITY"),
                reset=control(reset, f"{reset}_POLARITY"),
                reset_value=_constant(parameters.get(f"{reset}_VALUE", "")),
                asynchronous=asynchronous,
                enable_first=cell["type"] == "$sdffce",
            )
        )

    def memory(self, name: str, cell: dict[str, Any]) -> None:
        ports = {port: self.bits(bits) for port, bits in cell["connections"].items()}
        parameters = cell["parameters"]
        width, depth = _number(parameters["WIDTH"]), _number(parameters["SIZE"])
        address_width = _number(parameters["ABITS"])
        needed = (depth - 1).bit_length()

        def flags(parameter: str) -> Bits:
            return _constant(parameters[parameter])

        def slices(port: str, wide: int, count: int) -> list[Bits]:
            return [ports[port][at * wide : (at + 1) * wide] for at in range(count)]

        if _number(parameters["OFFSET"]):
            raise ValueError(f"Verilog memory {name} must start at word 0")
        if any(flags("RD_TRANSPARENCY_MASK")):
            raise ValueError(f"Verilog memory {name} must not have a transparent read port")
        count = _number(parameters["RD_PORTS"])
        data = slices("RD_DATA", width, count)
        address = [extend(bits, needed, False) for bits in slices("RD_ADDR", address_width, count)]
        clocks = [
            Control(ports["RD_CLK"][at], flags("RD_CLK_POLARITY")[at])
            if flags("RD_CLK_ENABLE")[at]
            else None
            for at in range(count)
        ]
        enables = ports["RD_EN"][:count]
        reads = [ReadPort(*port) for port in zip(data, address, enables, clocks, strict=True)]
        count = _number(parameters["WR_PORTS"])
        writes = [
            WritePort(
                data, extend(address, needed, False), enable, Control(ports["WR_CLK"][at], polarity)
            )
            for at, (data, address, enable, polarity) in enumerate(
                zip(
                    slices("WR_DATA", width, count),
                    slices("WR_ADDR", address_width, count),
                    slices("WR_EN", width, count),
                    flags("WR_CLK_POLARITY")[:count],
                    strict=True,
                )
            )
        ]
        contents = extend(_constant(parameters["INIT"]), width * depth, False)
        if writes and any(contents):
            raise ValueError(f"Verilog memory {name} must start at zero, for it is written")
        attributes = _attributes(cell["attributes"])
        self.module.memories.append(Memory(name, width, depth, contents, reads, writes, attributes))


_REGISTERS = {"$dff", "$dffe", "$sdff", "$sdffe", "$sdffce", "$adff", "$adffe"}


def _certain(kind: str, operands: list[Bits], signed: bool) -> int | None:
    """The answer of a comparison with the least or greatest number, if it is always the same."""
    width = len(operands[0])
    if kind in {"eq", "ne"}:
        return None
    least = [0] * (width - 1) + [1] if signed else [0] * width
    greatest = [1 - bit for bit in least]
    never = {"lt": (greatest, least), "gt": (least, greatest)}  # a < b, if a or b is this
    if kind in never:
        a, b = never[kind]
        return 0 if operands[0] == a or operands[1] == b else None
    a, b = never["gt" if kind == "le" else "lt"]
    return 1 if operands[0] == a or operands[1] == b else None


def low_zeros(bits: Bits) -> int:
    return next((at for at, bit in enumerate(bits) if bit != 0), len(bits))


def read_netlist(source: dict[str, Any]) -> tuple[dict[str, Module], str]:
    """Modules by name, and the name of the top, of Yosys' JSON after ``proc`` and optimisation."""
    sources = source["modules"]
    modules = {name: _Reader(name, module, sources).read() for name, module in sources.items()}
    (top,) = [
        name for name, module in sources.items() if _number(module["attributes"].get("top", 0))
    ]
    return modules, top
