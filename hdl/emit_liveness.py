# SPDX-License-Identifier: Apache-2.0
"""Which nets are needed, and rewriting of operations of which only some bits are."""

from collections.abc import Iterable
from typing import Any

from hdl.emit_netlist import (
    LOWER_BITS,
    SAME_BIT,
    Bits,
    Instance,
    Module,
    Operation,
    extend,
    low_zeros,
)


def find_live(modules: dict[str, Module], top: str) -> None:
    """Fill ``live`` of every module and memory: the nets that an output of ``top`` depends on."""
    for module in modules.values():
        module.live.clear()
        for memory in module.memories:
            memory.live.clear()
    searches = {name: _Search(module, modules) for name, module in modules.items()}
    for module in modules.values():
        for instance in module.instances:
            searches[instance.module].parents.append((searches[module.name], instance))
    for port in modules[top].ports.values():
        if not port.is_input:
            searches[top].want(port.bits)
    pending = [searches[top]]
    while pending:
        pending.extend(pending.pop().search(searches))


class _Search:
    """Marks live nets backwards from what is wanted, within one module at a time."""

    def __init__(self, module: Module, modules: dict[str, Module]):
        self.live = module.live
        self.port_live = module.port_live
        self.port_live.update((port, set()) for port in module.ports)
        self.pending: Bits = []
        self.parents: list[tuple[_Search, Instance]] = []
        self.reached: list[_Search] = []
        self.driver: dict[int, tuple[Any, Any, int]] = {}
        for operation in module.operations:
            progress = [operation, -1]  # shared by all bits: the operand bits already wanted
            for at, bit in enumerate(operation.result):
                self.driver[bit] = (self.of_operation, progress, at)
        for memory in module.memories:
            for read in memory.reads:
                for at, bit in enumerate(read.data):
                    self.driver[bit] = (self.of_memory, (memory, read), at)
        for instance in module.instances:
            for port in modules[instance.module].ports.values():
                if not port.is_input:
                    for at, bit in enumerate(instance.connections.get(port.name, [])):
                        self.driver[bit] = (self.of_instance, (instance.module, port), at)
        for port in module.ports.values():
            if port.is_input:
                for at, bit in enumerate(port.bits):
                    self.driver[bit] = (self.of_input, port.name, at)

    def want(self, bits: Iterable[int]) -> None:
        live, pending = self.live, self.pending
        for bit in bits:
            if bit > 1 and bit not in live:
                live.add(bit)
                pending.append(bit)

    def search(self, searches: "dict[str, _Search]") -> "list[_Search]":
        """Follow everything wanted so far; the searches of other modules that got wants."""
        self.reached = []
        self.searches = searches
        while self.pending:
            bit = self.pending.pop()
            follow, what, at = self.driver[bit]
            follow(what, at)
        return self.reached

    def of_operation(self, progress: Any, at: int) -> None:
        operation, done = progress
        if operation.kind in SAME_BIT:
            self.want([word[at] for word in operation.words()])
        elif operation.kind in LOWER_BITS:
            if at > done:
                for word in operation.words():
                    self.want(word[done + 1 : at + 1])
                progress[1] = at
        elif done < 0:
            for word in operation.operands:
                self.want(word)
        if done < 0:
            for bits in operation.controls():
                self.want(bits)
            progress[1] = max(progress[1], 0)

    def of_memory(self, what: Any, at: int) -> None:
        memory, read = what
        self.want([*read.address, read.enable, *([read.clock.bit] if read.clock else [])])
        if at not in memory.live:
            memory.live.add(at)
            for write in memory.writes:
                self.want([write.data[at], write.enable[at], write.clock.bit, *write.address])

    def of_instance(self, what: Any, at: int) -> None:
        module, port = what
        child = self.searches[module]
        child.port_live[port.name].add(at)
        child.want([port.bits[at]])
        self.reached.append(child)

    def of_input(self, name: str, at: int) -> None:
        self.port_live[name].add(at)
        for parent, instance in self.parents:
            parent.want([instance.connections[name][at]])
            self.reached.append(parent)


def simplify(modules: dict[str, Module], top: str) -> None:
    """Find what is live, and rewrite operations of which only some bits are.

    Sums of which only the higher bits are live, as rounding half up leaves them: ``(a + 1) >> 1``
    becomes ``(a >> 1) + a[0]``, so that nothing is computed for its carry alone. Right shifts
    become part selects where that takes little padding.
    """
    find_live(modules, top)
    selections = 0
    for module in modules.values():
        for operation in module.operations:
            if operation.kind == "add":
                _drop_carry_only_bit(operation, module.live)
            elif operation.kind == "shr":
                selections += _make_selection(operation, module.live)
    if selections:  # they may need less
        find_live(modules, top)


def _drop_carry_only_bit(operation: Operation, live: set[int]) -> None:
    for one, other in ((1, 0), (0, 1)):
        constant, value = operation.operands[one], operation.operands[other]
        if constant[0] == 1 and not any(constant[1:]) and len(operation.result) > 1:
            if operation.result[0] not in live:
                carry = [value[0]] + [0] * (len(value) - 2)
                operation.operands = [value[1:], carry]
                operation.result = operation.result[1:]
                operation.signed = False
            return


def _make_selection(operation: Operation, live: set[int]) -> bool:
    """Turn a right shift into a part select, clearer and quicker, where padding stays small."""
    value, amount = operation.operands
    width = max((at + 1 for at, bit in enumerate(operation.result) if bit in live), default=0)
    steps = low_zeros(amount)
    top = len(amount)
    while top > steps and amount[top - 1] == 0:
        top -= 1
    if width == 0 or top == steps or top > 16:
        return False
    reach = (((1 << (top - steps)) - 1) << steps) + width
    needed = len(value)
    while not operation.signed and needed > 1 and value[needed - 1] == 0:
        needed -= 1
    if reach > 2 * needed + width:
        return False
    index = extend(amount[:top], (reach - 1).bit_length(), False)
    operation.kind = "select"
    operation.result = operation.result[:width]
    operation.operands = [extend(value, reach, operation.signed), index]
    return True
