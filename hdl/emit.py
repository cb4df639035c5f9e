# SPDX-License-Identifier: Apache-2.0
"""Verilog-2005 text of a netlist: one assignment per operation, equal widths, nothing unused."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from hdl.emit_netlist import (
    LOWER_BITS,
    SAME_BIT,
    Bits,
    Control,
    Instance,
    Memory,
    Module,
    Name,
    Operation,
)
from hdl.names import legal_name

TWO_OPERAND_SIGNS = {
    "and": "&",
    "or": "|",
    "xor": "^",
    "add": "+",
    "sub": "-",
    "mul": "*",
    "eq": "==",
    "ne": "!=",
    "lt": "<",
    "le": "<=",
    "gt": ">",
    "ge": ">=",
    "shl": "<<",
    "div": "/",
    "mod": "%",
    "divfloor": "/",
    "modfloor": "%",
}
ONE_OPERAND_SIGNS = {"not": "~", "neg": "-"}
REDUCTION_SIGNS = {
    "reduce_and": ("&", "&"),  # over one word; between single bits
    "reduce_or": ("|", "|"),
    "reduce_bool": ("|", "|"),
    "reduce_xor": ("^", "^"),
}
NEGATED_REDUCTIONS = {"reduce_xnor": "reduce_xor", "logic_not": "reduce_or"}


@dataclass(slots=True, eq=False)
class Wire:
    """A declared vector; ``bits`` are the nets that it carries, lowest first."""

    bits: Bits
    name: str = ""
    is_register: bool = False
    is_port: bool = False
    attributes: dict[str, str] = field(default_factory=dict)

    def declaration(self) -> str:
        kind = "reg" if self.is_register else "wire"
        return f"{attributes_text(self.attributes)}{kind} {range_text(len(self.bits))}{self.name}"


@dataclass(slots=True, eq=False)
class Item:
    """A combinational operation, or an asynchronous read of a memory, that drives ``wire``."""

    wire: Wire
    operation: Operation | None
    memory: Memory | None = None
    address: Bits = field(default_factory=list)

    def inputs(self) -> Iterable[Bits]:
        if self.operation is None:
            return [self.address]
        return self.operation.operands


def range_text(width: int) -> str:
    return f"[{width - 1}:0] " if width > 1 else ""


def attributes_text(attributes: dict[str, str]) -> str:
    """``(* name = "value" *) `` or nothing; values are cut down to plain characters."""
    if not attributes:
        return ""
    pairs = []
    for name, value in attributes.items():
        plain = "".join(c if c.isalnum() or c in "_-+. " else "_" for c in value if c.isascii())
        pairs.append(f'{name} = "{plain}"')
    return f"(* {', '.join(pairs)} *) "


def constant_text(bits: Bits, signed: bool = False) -> str:
    value = sum(bit << at for at, bit in enumerate(bits))
    if signed:
        return f"{len(bits)}'sh{value:x}"
    if len(bits) == 1:
        return f"1'b{value}"
    return f"{len(bits)}'d{value}" if value < 10000 else f"{len(bits)}'h{value:x}"


def write_design(modules: dict[str, Module], top: str, port_order: list[str]) -> str:
    """The text of ``top``, named as it is, and of every module below it, named after its path."""
    taken: set[str] = set()
    module_names = {top: legal_name(top, taken)}
    for name in modules:
        if name != top:
            path = name.removeprefix(f"{top}.")
            module_names[name] = legal_name(f"{module_names[top]}_{path}", taken)
    port_names = {}
    for name, module in modules.items():
        taken = set()
        port_names[name] = {port: legal_name(port, taken) for port in module.ports}
    order = {port: at for at, port in enumerate(port_order)}
    line = 1
    parts, pending, written = [], [top], {top}
    while pending:
        name = pending.pop()
        writer = _ModuleWriter(modules, name, module_names, port_names, name == top)
        text = writer.text(order if name == top else {})
        if parts:
            # Lint asks for one file per module; we ship one file, and say which it would be. The
            # line numbers stay those of the file as it is.
            text = f'\n`line {line + 2} "{module_names[name]}.v" 0\n{text}'
        parts.append(text)
        line += text.count("\n")
        below = dict.fromkeys(instance.module for instance in writer.instances)
        new = [module for module in below if module not in written]
        written.update(new)
        pending.extend(reversed(new))
    return "".join(parts)


def live_positions(module: Module, port: str, is_top: bool) -> list[int]:
    """The bits of a port that exist in the text: all of the top's, elsewhere the live ones."""
    bits = module.ports[port].bits
    if is_top:
        return list(range(len(bits)))
    wanted = module.port_live[port]
    return [at for at in range(len(bits)) if at in wanted]


class _ModuleWriter:
    """Writes one module: collects what drives what, names it, then writes in order of use."""

    def __init__(
        self,
        modules: dict[str, Module],
        name: str,
        module_names: dict[str, str],
        port_names: dict[str, dict[str, str]],
        is_top: bool,
    ):
        self.modules = modules
        self.module = module = modules[name]
        self.name = module_names[name]
        self.module_names = module_names
        self.port_names = port_names
        self.own_ports = port_names[name]
        self.taken = {port.lower() for port in self.own_ports.values()}
        self.counts: dict[str, int] = {}
        self.where: dict[int, tuple[Wire, int]] = {}
        self.lines: list[str] = []
        self.aliases: dict[tuple[int, ...], Wire] = {}
        self.ports = {
            port: [module.ports[port].bits[at] for at in live_positions(module, port, is_top)]
            for port in module.ports
        }
        self.instances = [instance for instance in module.instances if self.outputs(instance)]
        self.memories = [memory for memory in module.memories if memory.live]
        self.collect()
        self.name_everything()

    def outputs(self, instance: Instance) -> list[tuple[str, Bits]]:
        """Output ports of a submodule that exist, with the nets of this module that they drive."""
        return self.connections(instance, is_input=False)

    def connections(self, instance: Instance, is_input: bool) -> list[tuple[str, Bits]]:
        child = self.modules[instance.module]
        found = []
        for port in child.ports.values():
            if port.is_input == is_input and port.name in instance.connections:
                bits = instance.connections[port.name]
                bits = [bits[at] for at in live_positions(child, port.name, False)]
                if bits:
                    found.append((port.name, bits))
        return found

    # What drives what.

    def collect(self) -> None:
        module = self.module
        self.inputs: list[Wire] = []
        for port, bits in self.ports.items():
            if module.ports[port].is_input and bits:
                self.inputs.append(Wire(bits, self.own_ports[port], is_port=True))
        self.items: list[Item] = []
        self.registers: list[tuple[Wire, Operation]] = []
        for operation in module.operations:
            for piece in self.pieces(operation):
                wire = Wire(piece.result)
                if piece.kind == "register":
                    wire.is_register = True
                    self.registers.append((wire, piece))
                else:
                    self.items.append(Item(wire, piece))
        self.from_instances: list[tuple[Wire, str]] = []
        for instance in self.instances:
            for port, bits in self.outputs(instance):
                name = self.port_names[instance.module][port]
                self.from_instances.append((Wire(bits), f"{instance.name}_{name}"))
        self.sync_reads: list[tuple[Wire, Memory, Any]] = []
        for memory in self.memories:
            columns = sorted(memory.live)
            for read in memory.reads:
                if not any(bit in module.live for bit in read.data):
                    continue
                wire = Wire([read.data[column] for column in columns])
                if read.clock is None:
                    self.items.append(Item(wire, None, memory, read.address))
                else:
                    wire.is_register = True
                    self.sync_reads.append((wire, memory, read))

    def pieces(self, operation: Operation) -> list[Operation]:
        """The parts of an operation that are needed."""
        live = self.module.live
        wanted = [at for at, bit in enumerate(operation.result) if bit in live]
        if not wanted:
            return []
        if operation.kind in SAME_BIT:
            runs = [[wanted[0], wanted[0]]]
            for at in wanted:
                if at > runs[-1][1] + 1:
                    runs.append([at, at])
                runs[-1][1] = at
            if runs == [[0, len(operation.result) - 1]]:
                return [operation]
            return [_cut(operation, low, high + 1) for low, high in runs]
        if operation.kind in LOWER_BITS:
            top = wanted[-1] + 1
            if top < len(operation.result):
                return [_cut(operation, 0, top)]
        return [operation]

    # Names.

    def name_everything(self) -> None:
        module, live = self.module, self.module.live
        ports_of_bits: dict[tuple[int, ...], str] = {}
        for port, bits in self.ports.items():
            if not module.ports[port].is_input:
                ports_of_bits.setdefault(tuple(bits), port)
        exact: dict[tuple[int, ...], Name] = {}
        within: dict[int, tuple[Name, int]] = {}

        def preference(name: Name) -> tuple[bool, bool, int, str]:
            text = name.name
            return "$" in text, "[" in text or "." in text, len(text), text

        names = sorted(module.names, key=preference)
        for name in names:
            core = _core(name.bits, live)
            if core and name.name not in module.ports:
                exact.setdefault(tuple(core), name)
        for name in sorted(names, key=lambda name: len(name.bits)):
            for at, bit in enumerate(name.bits):
                within.setdefault(bit, (name, at))
        self.exact = exact

        driven = [wire for wire, _ in self.registers]
        driven += [wire for wire, _, _ in self.sync_reads]
        driven += [wire for wire, _ in self.from_instances]
        driven += [item.wire for item in self.items]
        hints = {id(wire): hint for wire, hint in self.from_instances}
        self.output_wires: dict[str, Wire] = {}
        unnamed = []
        for wire in [*self.inputs, *driven]:
            for at, bit in enumerate(wire.bits):
                self.where[bit] = (wire, at)
        for wire in driven:
            port = ports_of_bits.get(tuple(wire.bits))
            if port is not None:
                wire.name, wire.is_port = self.own_ports[port], True
                self.output_wires[port] = wire
                continue
            match = exact.pop(tuple(_core(wire.bits, live)), None)
            if match is not None and not ("$" in match.name and id(wire) in hints):
                wire.name, wire.attributes = legal_name(match.name, self.taken), match.attributes
            else:
                unnamed.append(wire)
        for memory in self.memories:
            text = memory.name
            if text.startswith("$"):
                text = self.numbered("memory" if memory.writes else "rom")
            memory.label = legal_name(text, self.taken)
        kinds = {
            id(item.wire): item.operation.kind if item.operation else "read" for item in self.items
        }
        later = []
        for wire in unnamed:
            hint = hints.get(id(wire)) or _part_of(wire.bits, within)
            if hint:
                wire.name = legal_name(hint, self.taken)
            elif wire.is_register:
                wire.name = legal_name(self.numbered("register"), self.taken)
            else:
                later.append(wire)
        roles: dict[tuple[int, ...], str] = {}
        for wire, register in self.registers:
            roles.setdefault(tuple(register.operands[0]), f"{wire.name}_next")
        for wire, register in self.registers:
            for control, role in ((register.enable, "enable"), (register.reset, "reset")):
                if control is not None:
                    roles.setdefault((control.bit,), f"{wire.name}_{role}")
        for wire in later:
            role = roles.get(tuple(wire.bits)) or self.numbered(
                _SHORT.get(kinds[id(wire)], kinds[id(wire)])
            )
            wire.name = legal_name(role, self.taken)

    def numbered(self, stem: str) -> str:
        self.counts[stem] = self.counts.get(stem, 0) + 1
        return f"{stem}_{self.counts[stem]}"

    # Expressions.

    def word(self, bits: Bits, signed: bool = False) -> str:
        """An expression of exactly ``len(bits)`` bits; a signed one if asked for."""
        if all(bit in (0, 1) for bit in bits):
            return constant_text(bits or [0], signed)
        text = self.concatenation(self.named(bits))
        return f"$signed({text})" if signed else text

    def named(self, bits: Bits) -> list[str]:
        """Parts, highest first; a concatenation that the designer named gets its wire."""
        parts = self.parts(bits)
        if len(parts) > 1:
            core = _core(bits, self.module.live)
            low = next((at for at, bit in enumerate(bits) if bit not in (0, 1)), 0)
            alias = self.alias(core)
            if alias is not None:
                below, above = bits[:low], bits[low + len(core) :]
                upper = self.parts(above) if above else []
                lower = self.parts(below) if below else []
                return [*upper, alias.name, *lower]
        return parts

    def alias(self, core: Bits) -> Wire | None:
        key = tuple(core)
        if key in self.aliases:
            return self.aliases[key]
        name = self.exact.get(key)
        parts = self.parts(core) if name is not None else []
        if name is None or len(parts) < 2:
            return None
        wire = Wire(core, legal_name(name.name, self.taken), attributes=name.attributes)
        self.aliases[key] = wire
        self.lines.append(f"    {wire.declaration()} = {self.concatenation(parts)};")
        return wire

    def concatenation(self, parts: list[str]) -> str:
        if len(parts) == 1 and not parts[0].startswith("{"):
            return parts[0]
        return f"{{{', '.join(parts)}}}"

    def parts(self, bits: Bits) -> list[str]:
        """The slices, constants and repetitions that make up ``bits``, highest first."""
        where, found, at, end = self.where, [], 0, len(bits)
        while at < end:
            start, bit = at, bits[at]
            at += 1
            if bit in (0, 1):
                while at < end and bits[at] in (0, 1):
                    at += 1
                found.append(constant_text(bits[start:at]))
                continue
            wire, low = where[bit]
            high = low
            while at < end and bits[at] not in (0, 1) and where[bits[at]] == (wire, high + 1):
                high += 1
                at += 1
            if high == low and at < end and bits[at] == bit:
                while at < end and bits[at] == bit:
                    at += 1
                found.append(f"{{{at - start}{{{_slice(wire, low, high)}}}}}")
            else:
                found.append(_slice(wire, low, high))
        found.reverse()
        return found

    def condition(self, control: Control) -> str:
        return f"{'' if control.level else '!'}{self.word([control.bit])}"

    def expression(self, operation: Operation) -> str:
        kind, operands, signed = operation.kind, operation.operands, operation.signed
        if kind == "mux":
            select, otherwise, chosen = operands
            return f"{self.word(select)} ? {self.word(chosen)} : {self.word(otherwise)}"
        if kind == "pmux":
            select, otherwise, *choices = operands
            chain = "".join(
                f"{self.word([bit])} ? {self.word(choice)} : "
                for bit, choice in zip(select, choices, strict=True)
            )
            return f"{chain}{self.word(otherwise)}"
        if kind == "xnor":
            return f"~({self.word(operands[0])} ^ {self.word(operands[1])})"
        if kind in ONE_OPERAND_SIGNS:
            return f"{ONE_OPERAND_SIGNS[kind]}{self.word(operands[0])}"
        if kind in REDUCTION_SIGNS:
            return self.reduction(kind, operands[0])
        if kind in NEGATED_REDUCTIONS:
            positive = self.reduction(NEGATED_REDUCTIONS[kind], operands[0])
            simple = positive.replace("_", "").isalnum()
            return f"~{positive}" if simple else f"~({positive})"
        if kind in {"logic_and", "logic_or"}:
            a, b = (self.reduction("reduce_or", operand) for operand in operands)
            return f"({a}) {'&' if kind == 'logic_and' else '|'} ({b})"
        if kind == "select":
            words, index = operands
            return f"{self.word(words)}[{self.word(index)} +: {len(operation.result)}]"
        if kind == "shr":
            value, amount = operands
            sign = ">>>" if signed else ">>"
            return f"{self.word(value, signed)} {sign} {self.word(amount)}"
        if kind == "shl":
            return f"{self.word(operands[0])} << {self.word(operands[1])}"
        a, b = (self.word(operand, signed) for operand in operands)
        return f"{a} {TWO_OPERAND_SIGNS[kind]} {b}"

    def reduction(self, kind: str, bits: Bits) -> str:
        whole, between = REDUCTION_SIGNS[kind]
        if len(bits) == 1:
            return self.word(bits)
        parts = self.parts(bits)
        if len(parts) == len(bits) and len(parts) > 1:
            return f" {between} ".join(parts)
        return f"{whole}{self.word(bits)}"

    # Text.

    def text(self, port_order: dict[str, int]) -> str:
        module = self.module
        ports = [port for port, bits in self.ports.items() if bits]
        first = {"clk": -2, "rst": -1}
        ports.sort(key=lambda port: port_order.get(port, first.get(port, len(port_order))))
        header = []
        for port in ports:
            direction = "input" if module.ports[port].is_input else "output"
            wire = self.output_wires.get(port)
            kind = " reg" if wire is not None and wire.is_register else ""
            attributes = attributes_text(wire.attributes) if wire is not None else ""
            wide = range_text(len(self.ports[port]))
            header.append(f"    {attributes}{direction}{kind} {wide}{self.own_ports[port]}")
        body = self.body()
        opening = f"module {self.name} (\n" + ",\n".join(header) + "\n);\n"
        return opening + "\n".join(body) + "\nendmodule\n"

    def body(self) -> list[str]:
        lines = self.lines
        for wire, _ in [*self.registers, *((wire, None) for wire, _, _ in self.sync_reads)]:
            if not wire.is_port:
                lines.append(f"    {wire.declaration()};")
        for memory in self.memories:
            self.declare_memory(memory)
        for wire, _ in self.from_instances:
            if not wire.is_port:
                lines.append(f"    {wire.declaration()};")
        self.write_items()
        for port, bits in self.ports.items():
            if not self.module.ports[port].is_input and bits and port not in self.output_wires:
                lines.append(f"    assign {self.own_ports[port]} = {self.word(bits)};")
        for instance in self.instances:
            self.write_instance(instance)
        self.write_registers()
        for memory in self.memories:
            self.write_ports(memory)
        self.write_sink()
        return lines

    def write_items(self) -> None:
        """Operations, each after those that it needs; loops, which only seem so, declared first."""
        ordered, early = self.in_order()
        for item in early:
            if not item.wire.is_port:
                self.lines.append(f"    {item.wire.declaration()};")
        declared = {id(item.wire) for item in early}
        for item in ordered:
            operation, wire = item.operation, item.wire
            if item.memory is not None:
                text = f"{item.memory.label}[{self.word(item.address)}]"
            elif operation is not None and operation.signed and operation.kind in _FLOORING:
                text = self.floored(operation, wire)
            elif operation is not None:
                if operation.kind == "select":
                    self.select_from(operation, wire)
                text = self.expression(operation)
            if wire.is_port or id(wire) in declared:
                self.lines.append(f"    assign {wire.name} = {text};")
            else:
                self.lines.append(f"    {wire.declaration()} = {text};")

    def select_from(self, operation: Operation, wire: Wire) -> None:
        """Make sure that what is selected from is one wire, as Verilog demands."""
        words = operation.operands[0]
        source = self.where.get(words[0], (None, 0))[0]
        if source is not None and source.bits == words:
            return
        name = legal_name(f"{wire.name}_words", self.taken)
        self.lines.append(f"    wire {range_text(len(words))}{name} = {self.word(words)};")
        fresh = [-(10**9) - len(self.where) - at for at in range(len(words))]
        table = Wire(fresh, name)
        self.where.update((bit, (table, at)) for at, bit in enumerate(fresh))
        operation.operands[0] = fresh

    def floored(self, operation: Operation, wire: Wire) -> str:
        """Signed division that rounds down: Verilog's own rounds towards zero."""
        a, b = (self.word(operand, True) for operand in operation.operands)
        wide = range_text(len(operation.result))
        divisor = operation.operands[1]
        remainder = legal_name(f"{wire.name}_remainder", self.taken)
        self.lines.append(f"    wire {wide}{remainder} = {a} % {b};")
        top = f"{remainder}[{len(divisor) - 1}]" if len(divisor) > 1 else remainder
        below = f"(|{remainder}) & ({top} ^ {self.word(divisor[-1:])})"
        adjust = legal_name(f"{wire.name}_below", self.taken)
        self.lines.append(f"    wire {adjust} = {below};")
        if operation.kind == "modfloor":
            return f"{adjust} ? {remainder} + {self.word(divisor)} : {remainder}"
        quotient = legal_name(f"{wire.name}_quotient", self.taken)
        self.lines.append(f"    wire {wide}{quotient} = {a} / {b};")
        zeros = f"{{{constant_text([0] * (len(divisor) - 1))}, {adjust}}}"
        return f"{quotient} - {zeros if len(divisor) > 1 else adjust}"

    def in_order(self) -> tuple[list[Item], list[Item]]:
        driver = {id(item.wire): item for item in self.items}
        state: dict[int, int] = {}  # 1: on the path, 2: done
        ordered: list[Item] = []
        early: list[Item] = []
        for root in self.items:
            if id(root) in state:
                continue
            state[id(root)] = 1
            stack = [(root, iter(self.needed(root, driver)))]
            while stack:
                item, needs = stack[-1]
                for need in needs:
                    seen = state.get(id(need))
                    if seen is None:
                        state[id(need)] = 1
                        stack.append((need, iter(self.needed(need, driver))))
                        break
                    if seen == 1 and need not in early:
                        early.append(need)
                else:
                    state[id(item)] = 2
                    ordered.append(item)
                    stack.pop()
        return ordered, early

    def needed(self, item: Item, driver: dict[int, Item]) -> list[Item]:
        found: dict[int, Item] = {}
        for bits in item.inputs():
            for bit in bits:
                if bit not in (0, 1):
                    wire = id(self.where[bit][0])
                    if wire in driver and wire not in found:
                        found[wire] = driver[wire]
        return list(found.values())

    def write_instance(self, instance: Instance) -> None:
        names = self.port_names[instance.module]
        pins = [
            f"        .{names[port]}({self.word(bits)})"
            for is_input in (True, False)
            for port, bits in self.connections(instance, is_input)
        ]
        label = legal_name(instance.name, self.taken)
        head = f"    {self.module_names[instance.module]} {label} (\n"
        self.lines.append(head + ",\n".join(pins) + "\n    );")

    def write_registers(self) -> None:
        """One always block for all registers that share clock, reset and enable."""
        groups: dict[tuple[Any, ...], list[tuple[Wire, Operation]]] = {}
        for wire, register in self.registers:
            controls = (register.clock, register.reset, register.enable)
            key = tuple((c.bit, c.level) if c is not None else None for c in controls)
            way = (register.asynchronous, register.enable_first)
            groups.setdefault((*key, *way), []).append((wire, register))
        for group in groups.values():
            self.write_group(group)

    def write_group(self, group: list[tuple[Wire, Operation]]) -> None:
        one = group[0][1]
        loads = [(wire.name, self.word(register.operands[0])) for wire, register in group]
        resets = [(wire.name, constant_text(register.reset_value)) for wire, register in group]
        assert one.clock is not None  # every register has a clock: the reader made it so
        events = self.edge(one.clock)
        branches: list[tuple[str, list[tuple[str, str]]]] = []
        if one.reset is not None:
            condition = self.condition(one.reset)
            if one.asynchronous:
                events += f" or {self.edge(one.reset)}"
            if one.enable_first and one.enable is not None:
                enable = self.condition(one.enable)
                self.lines.append(f"    always @({events})")
                self.lines.append(f"        if ({enable}) begin")
                self.branches([(condition, resets), ("", loads)], "            ")
                self.lines.append("        end")
                return
            branches.append((condition, resets))
        branches.append((self.condition(one.enable) if one.enable is not None else "", loads))
        self.lines.append(f"    always @({events})")
        self.branches(branches, "        ")

    def edge(self, control: Control) -> str:
        return f"{'posedge' if control.level else 'negedge'} {self.word([control.bit])}"

    def branches(self, branches: list[tuple[str, list[tuple[str, str]]]], indent: str) -> None:
        """``if``, ``else if``, ``else``, one after another; a branch without condition is last."""
        text = indent
        for at, (condition, assignments) in enumerate(branches):
            if at:
                text += " else " if text.endswith("end") else f"\n{indent}else "
            if condition:
                text += f"if ({condition}) "
            if len(assignments) == 1 and condition:
                text = f"{text.rstrip()}\n{indent}    {assignments[0][0]} <= {assignments[0][1]};"
            elif len(assignments) == 1:
                text += f"{assignments[0][0]} <= {assignments[0][1]};"
            else:
                inner = "".join(f"\n{indent}    {name} <= {value};" for name, value in assignments)
                text += f"begin{inner}\n{indent}end"
        self.lines.append(text)

    # Memories.

    def declare_memory(self, memory: Memory) -> None:
        columns = sorted(memory.live)
        style = attributes_text(memory.attributes)
        name = memory.label
        wide = range_text(len(columns))
        self.lines.append(f"    {style}reg {wide}{name} [0:{memory.depth - 1}];")
        if memory.writes:
            return
        self.lines.append("    initial begin")
        for at in range(memory.depth):
            row = memory.contents[at * memory.width : (at + 1) * memory.width]
            word = constant_text([row[column] for column in columns])
            self.lines.append(f"        {name}[{at}] = {word};")
        self.lines.append("    end")

    def write_ports(self, memory: Memory) -> None:
        columns = sorted(memory.live)
        name = memory.label
        for write in memory.writes:
            runs: list[list[int]] = []  # first, last position among the live columns
            for at, column in enumerate(columns):
                if runs and write.enable[columns[runs[-1][0]]] == write.enable[column]:
                    runs[-1][1] = at
                else:
                    runs.append([at, at])
            statements = []
            for low, high in runs:
                enable = write.enable[columns[low]]
                data = self.word([write.data[column] for column in columns[low : high + 1]])
                part = "" if len(runs) == 1 else f"[{high}:{low}]" if high > low else f"[{low}]"
                condition = f"if ({self.word([enable])}) " if enable != 1 else ""
                if enable != 0:
                    target = f"{name}[{self.word(write.address)}]{part}"
                    statements.append(f"{condition}{target} <= {data};")
            if statements:
                self.lines.append(f"    always @({self.edge(write.clock)}) begin")
                self.lines.extend(f"        {statement}" for statement in statements)
                self.lines.append("    end")
        for wire, source, read in self.sync_reads:
            if source is memory:
                condition = f"if ({self.word([read.enable])}) " if read.enable != 1 else ""
                load = f"{wire.name} <= {name}[{self.word(read.address)}];"
                self.lines.append(f"    always @({self.edge(read.clock)})")
                self.lines.append(f"        {condition}{load}")

    def write_sink(self) -> None:
        """Read what has to exist though nobody needs it: bits of the top's inputs, low sums."""
        live = self.module.live
        wires = [*self.inputs, *(wire for wire, _ in self.registers)]
        wires += [wire for wire, _, _ in self.sync_reads]
        wires += [wire for wire, _ in self.from_instances]
        wires += [item.wire for item in self.items]
        dead = []
        for wire in wires:
            bits = [bit for bit in wire.bits if bit not in live]
            if bits:
                dead.extend(reversed(self.parts(bits)))
        if dead:
            name = legal_name("unused", self.taken)
            self.lines.append(f"    wire {name} = &{{1'b0, {', '.join(dead)}}};")


_SHORT = {"reduce_and": "all", "reduce_or": "any", "reduce_bool": "any", "logic_not": "none"}
_FLOORING = {"divfloor", "modfloor"}


def _cut(operation: Operation, low: int, high: int) -> Operation:
    """Bits ``low`` to ``high - 1`` of an operation."""
    shared = len(operation.controls()) if operation.kind in {"mux", "pmux"} else 0
    words = [word[low:high] for word in operation.operands[shared:]]
    if operation.kind == "shl":
        words = [operation.operands[0][low:high], operation.operands[1]]
    return Operation(
        operation.kind,
        operation.result[low:high],
        [*operation.operands[:shared], *words],
        operation.signed,
        operation.clock,
        operation.enable,
        operation.reset,
        operation.reset_value[low:high],
        operation.asynchronous,
        operation.enable_first,
    )


def _core(bits: Bits, live: set[int]) -> Bits:
    """``bits`` without constants, copies of the sign and dead nets at either end."""
    high = len(bits)
    while high and (bits[high - 1] not in live or (high > 1 and bits[high - 1] == bits[high - 2])):
        high -= 1
    low = 0
    while low < high and bits[low] not in live:
        low += 1
    return bits[low:high]


def _part_of(bits: Bits, within: dict[int, tuple[Name, int]]) -> str:
    """A name for ``bits`` after the designer's name of the vector that they lie in, or nothing."""
    if bits[0] not in within:
        return ""
    name, low = within[bits[0]]
    for at, bit in enumerate(bits):
        if bit not in within or within[bit][0] is not name or within[bit][1] != low + at:
            return ""
    return f"{name.name}_{low + len(bits) - 1}_{low}" if len(bits) > 1 else f"{name.name}_{low}"


def _slice(wire: Wire, low: int, high: int) -> str:
    if low == 0 and high == len(wire.bits) - 1:
        return wire.name
    return f"{wire.name}[{high}:{low}]" if high > low else f"{wire.name}[{low}]"
