# SPDX-License-Identifier: Apache-2.0
"""Verilog-2005 text of a netlist: one assignment per operation, equal widths, nothing unused."""

from typing import Any

from hdl.emit_expression import Expressions, constant_text
from hdl.emit_netlist import Instance, Memory, Module, Operation
from hdl.emit_wires import Item, ModuleWires, Wire, attributes_text, range_text
from hdl.names import legal_name


def write_design(
    modules: dict[str, Module], top: str, port_order: list[str], comments: dict[str, str]
) -> str:
    """The text of ``top``, named as it is, and of every module below it, named after its path.

    ``comments`` holds a line for some of the modules.
    """
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
    parts: list[str] = []
    pending, written = [top], {top}
    while pending:
        name = pending.pop()
        wires = ModuleWires(modules, name, module_names, port_names, name == top)
        text = _ModuleText(wires).text(order if name == top else {})
        if name in comments:
            text = f"// {comments[name]}\n{text}"
        if parts:
            # Lint asks for one file per module; we ship one file, and say which it would be. The
            # line numbers stay those of the file as it is.
            text = f'\n`line {line + 2} "{module_names[name]}.v" 0\n{text}'
        parts.append(text)
        line += text.count("\n")
        below = dict.fromkeys(instance.module for instance in wires.instances)
        new = [module for module in below if module not in written]
        written.update(new)
        pending.extend(reversed(new))
    return "".join(parts)


class _ModuleText:
    """Writes one module in order of use."""

    def __init__(self, wires: ModuleWires):
        self.wires = wires
        self.module = wires.module
        self.lines: list[str] = []
        self.write = Expressions(wires, self.lines)

    def text(self, port_order: dict[str, int]) -> str:
        module = self.module
        ports = [port for port, bits in self.wires.ports.items() if bits]
        first = {"clk": -2, "rst": -1}
        ports.sort(key=lambda port: port_order.get(port, first.get(port, len(port_order))))
        header = []
        for port in ports:
            direction = "input" if module.ports[port].is_input else "output"
            wire = self.wires.output_wires.get(port)
            kind = " reg" if wire is not None and wire.is_register else ""
            attributes = attributes_text(wire.attributes) if wire is not None else ""
            wide = range_text(len(self.wires.ports[port]))
            header.append(f"    {attributes}{direction}{kind} {wide}{self.wires.own_ports[port]}")
        body = self.body()
        opening = f"module {self.wires.name} (\n" + ",\n".join(header) + "\n);\n"
        return opening + "\n".join(body) + "\nendmodule\n"

    def body(self) -> list[str]:
        lines = self.lines
        for wire, _ in [
            *self.wires.registers,
            *((wire, None) for wire, _, _ in self.wires.sync_reads),
        ]:
            if not wire.is_port:
                lines.append(f"    {wire.declaration()};")
        for memory in self.wires.memories:
            self.declare_memory(memory)
        for wire, _ in self.wires.from_instances:
            if not wire.is_port:
                lines.append(f"    {wire.declaration()};")
        self.write_items()
        for port, bits in self.wires.ports.items():
            if (
                not self.module.ports[port].is_input
                and bits
                and port not in self.wires.output_wires
            ):
                lines.append(f"    assign {self.wires.own_ports[port]} = {self.write.word(bits)};")
        for instance in self.wires.instances:
            self.write_instance(instance)
        self.write_registers()
        for memory in self.wires.memories:
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
                text = f"{item.memory.label}[{self.write.word(item.address)}]"
            elif operation is not None and operation.signed and operation.kind in _FLOORING:
                text = self.write.floored(operation, wire)
            elif operation is not None:
                if operation.kind == "select":
                    self.write.select_from(operation, wire)
                text = self.write.expression(operation)
            if operation is not None and operation.kind == "not" and len(wire.bits) == 1:
                if not wire.is_named and id(wire) not in declared:
                    wire.name = text  # written where it is used
                    continue
            if wire.is_port or id(wire) in declared:
                self.lines.append(f"    assign {wire.name} = {text};")
            else:
                self.lines.append(f"    {wire.declaration()} = {text};")

    def in_order(self) -> tuple[list[Item], list[Item]]:
        driver = {id(item.wire): item for item in self.wires.items}
        state: dict[int, int] = {}  # 1: on the path, 2: done
        ordered: list[Item] = []
        early: list[Item] = []
        for root in self.wires.items:
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
                    wire = id(self.wires.where[bit][0])
                    if wire in driver and wire not in found:
                        found[wire] = driver[wire]
        return list(found.values())

    def write_instance(self, instance: Instance) -> None:
        names = self.wires.port_names[instance.module]
        pins = [
            f"        .{names[port]}({self.write.word(bits)})"
            for is_input in (True, False)
            for port, bits in self.wires.connections(instance, is_input)
        ]
        label = legal_name(instance.name, self.wires.taken)
        head = f"    {self.wires.module_names[instance.module]} {label} (\n"
        self.lines.append(head + ",\n".join(pins) + "\n    );")

    def write_registers(self) -> None:
        """One always block for all registers that share clock, reset and enable."""
        groups: dict[tuple[Any, ...], list[tuple[Wire, Operation]]] = {}
        for wire, register in self.wires.registers:
            controls = (register.clock, register.reset, register.enable)
            key = tuple((c.bit, c.level) if c is not None else None for c in controls)
            way = (register.asynchronous, register.enable_first)
            groups.setdefault((*key, *way), []).append((wire, register))
        for group in groups.values():
            self.write_group(group)

    def write_group(self, group: list[tuple[Wire, Operation]]) -> None:
        one = group[0][1]
        loads = [(wire.name, self.write.word(register.operands[0])) for wire, register in group]
        resets = [(wire.name, constant_text(register.reset_value)) for wire, register in group]
        assert one.clock is not None  # every register has a clock: the reader made it so
        events = self.write.edge(one.clock)
        branches: list[tuple[str, list[tuple[str, str]]]] = []
        if one.reset is not None:
            condition = self.write.condition(one.reset)
            if one.asynchronous:
                events += f" or {self.write.edge(one.reset)}"
            if one.enable_first and one.enable is not None:
                enable = self.write.condition(one.enable)
                self.lines.append(f"    always @({events})")
                self.lines.append(f"        if ({enable}) begin")
                self.branches([(condition, resets), ("", loads)], "            ")
                self.lines.append("        end")
                return
            branches.append((condition, resets))
        branches.append((self.write.condition(one.enable) if one.enable is not None else "", loads))
        self.lines.append(f"    always @({events})")
        self.branches(branches, "        ")

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
                data = self.write.word([write.data[column] for column in columns[low : high + 1]])
                part = "" if len(runs) == 1 else f"[{high}:{low}]" if high > low else f"[{low}]"
                condition = f"if ({self.write.word([enable])}) " if enable != 1 else ""
                if enable != 0:
                    target = f"{name}[{self.write.word(write.address)}]{part}"
                    statements.append(f"{condition}{target} <= {data};")
            if statements:
                self.lines.append(f"    always @({self.write.edge(write.clock)}) begin")
                self.lines.extend(f"        {statement}" for statement in statements)
                self.lines.append("    end")
        for wire, source, read in self.wires.sync_reads:
            if source is memory and read.clock is not None:
                condition = f"if ({self.write.word([read.enable])}) " if read.enable != 1 else ""
                load = f"{wire.name} <= {name}[{self.write.word(read.address)}];"
                self.lines.append(f"    always @({self.write.edge(read.clock)})")
                self.lines.append(f"        {condition}{load}")

    def write_sink(self) -> None:
        """Read what has to exist though nobody needs it: bits of the top's inputs, low sums."""
        live = self.module.live
        wires = [*self.wires.inputs, *(wire for wire, _ in self.wires.registers)]
        wires += [wire for wire, _, _ in self.wires.sync_reads]
        wires += [wire for wire, _ in self.wires.from_instances]
        wires += [item.wire for item in self.wires.items]
        dead: list[str] = []
        for wire in wires:
            bits = [bit for bit in wire.bits if bit not in live]
            if bits:
                dead.extend(reversed(self.write.parts(bits)))
        if dead:
            name = legal_name("unused", self.wires.taken)
            self.lines.append(f"    wire {name} = &{{1'b0, {', '.join(dead)}}};")


_FLOORING = {"divfloor", "modfloor"}
