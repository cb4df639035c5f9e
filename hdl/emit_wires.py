# SPDX-License-Identifier: Apache-2.0
"""The wires of one module: what drives what, which parts of it are needed, and how it is named."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from hdl.emit_netlist import (
    LOWER_BITS,
    SAME_BIT,
    Bits,
    Instance,
    Memory,
    Module,
    Name,
    Operation,
    ReadPort,
)
from hdl.names import legal_name

_SHORT = {"reduce_and": "all", "reduce_or": "any", "reduce_bool": "any", "logic_not": "none"}


@dataclass(slots=True, eq=False)
class Wire:
    """A declared vector; ``bits`` are the nets that it carries, lowest first."""

    bits: Bits
    name: str = ""
    is_register: bool = False
    is_port: bool = False
    is_named: bool = True  # after something of the designer's, not after its operation alone
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


def live_positions(module: Module, port: str, is_top: bool) -> list[int]:
    """The bits of a port that exist in the text: all of the top's, elsewhere the live ones."""
    bits = module.ports[port].bits
    if is_top:
        return list(range(len(bits)))
    wanted = module.port_live[port]
    return [at for at in range(len(bits)) if at in wanted]


class ModuleWires:
    """Everything of one module that stands in the text, every wire with its name.

    Members
    -------
    where : dict of (wire, place) by net
    exact : dict of the designer's names that no wire got, by the nets that they name
    taken : the identifiers in use, in lower case
    """

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
        # A signal named like a module would hide it.
        self.taken |= {module_name.lower() for module_name in module_names.values()}
        self.counts: dict[str, int] = {}
        self.where: dict[int, tuple[Wire, int]] = {}
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
        self.sync_reads: list[tuple[Wire, Memory, ReadPort]] = []
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

    def name_everything(self) -> None:
        """The designer's names first, then names after what a wire is part of or serves."""
        within = self.index_names()
        driven = [wire for wire, _ in self.registers]
        driven += [wire for wire, _, _ in self.sync_reads]
        driven += [wire for wire, _ in self.from_instances]
        driven += [item.wire for item in self.items]
        for wire in [*self.inputs, *driven]:
            self.where.update((bit, (wire, at)) for at, bit in enumerate(wire.bits))
        hints = {id(wire): hint for wire, hint in self.from_instances}
        unnamed = [wire for wire in driven if not self.name_exactly(wire, id(wire) in hints)]
        for memory in self.memories:
            text = memory.name
            if text.startswith("$"):  # not the designer's
                text = self.numbered("memory" if memory.writes else "rom")
            memory.label = legal_name(text, self.taken)
        later = []
        for wire in unnamed:
            hint = hints.get(id(wire)) or _part_of(wire.bits, within)
            if hint or wire.is_register:
                wire.name = legal_name(hint or self.numbered("register"), self.taken)
            else:
                later.append(wire)
        self.name_by_role(later)

    def index_names(self) -> dict[int, tuple[Name, int]]:
        """Fill ``exact``; per net the shortest named vector that it lies in, and where."""
        module = self.module
        names = sorted(module.names, key=_preference)
        self.exact: dict[tuple[int, ...], Name] = {}
        for name in names:
            core = core_bits(name.bits, module.live)
            if core and name.name not in module.ports:
                self.exact.setdefault(tuple(core), name)
        within: dict[int, tuple[Name, int]] = {}
        for name in sorted(names, key=lambda name: len(name.bits)):
            for at, bit in enumerate(name.bits):
                within.setdefault(bit, (name, at))
        self.port_of: dict[tuple[int, ...], str] = {}
        for port, bits in self.ports.items():
            if not module.ports[port].is_input:
                self.port_of.setdefault(tuple(bits), port)
        self.output_wires: dict[str, Wire] = {}
        return within

    def name_exactly(self, wire: Wire, has_hint: bool) -> bool:
        """Give ``wire`` the name of the output port, or else of the signal, that it is."""
        port = self.port_of.get(tuple(wire.bits))
        if port is not None:
            wire.name, wire.is_port = self.own_ports[port], True
            self.output_wires[port] = wire
            return True
        match = self.exact.pop(tuple(core_bits(wire.bits, self.module.live)), None)
        if match is None or ("$" in match.name and has_hint):
            return False
        wire.name, wire.attributes = legal_name(match.name, self.taken), match.attributes
        return True

    def name_by_role(self, wires: list[Wire]) -> None:
        """Names after the register that a wire feeds, or else after the operation and a number."""
        roles: dict[tuple[int, ...], str] = {}
        for wire, register in self.registers:
            roles.setdefault(tuple(register.operands[0]), f"{wire.name}_next")
        for wire, register in self.registers:
            for control, role in ((register.enable, "enable"), (register.reset, "reset")):
                if control is not None:
                    roles.setdefault((control.bit,), f"{wire.name}_{role}")
        kinds = {}
        for item in self.items:
            kind = item.operation.kind if item.operation is not None else "read"
            kinds[id(item.wire)] = _SHORT.get(kind, kind)
        for wire in wires:
            role = roles.get(tuple(wire.bits), "")
            wire.is_named = bool(role)
            wire.name = legal_name(role or self.numbered(kinds[id(wire)]), self.taken)

    def numbered(self, stem: str) -> str:
        self.counts[stem] = self.counts.get(stem, 0) + 1
        return f"{stem}_{self.counts[stem]}"


def _preference(name: Name) -> tuple[bool, bool, int, str]:
    """Order of names of the same nets: a signal's own, then of a part of one, then of a copy."""
    text = name.name
    return "$" in text, "[" in text or "." in text, len(text), text


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


def core_bits(bits: Bits, live: set[int]) -> Bits:
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
