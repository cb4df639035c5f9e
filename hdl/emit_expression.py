# SPDX-License-Identifier: Apache-2.0
"""Verilog expressions of exactly the width of what they stand for."""

from hdl.emit_netlist import Bits, Control, Operation
from hdl.emit_wires import ModuleWires, Wire, core_bits, range_text
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


def constant_text(bits: Bits, signed: bool = False) -> str:
    value = sum(bit << at for at, bit in enumerate(bits))
    if signed:
        return f"{len(bits)}'sh{value:x}"
    if len(bits) == 1:
        return f"1'b{value}"
    return f"{len(bits)}'d{value}" if value < 10000 else f"{len(bits)}'h{value:x}"


class Expressions:
    """Expressions over the wires of one module; what they need first goes to ``lines``."""

    def __init__(self, wires: ModuleWires, lines: list[str]):
        self.wires = wires
        self.where = wires.where
        self.taken = wires.taken
        self.lines = lines
        self.aliases: dict[tuple[int, ...], Wire] = {}

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
            core = core_bits(bits, self.wires.module.live)
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
        name = self.wires.exact.get(key)
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

    def edge(self, control: Control) -> str:
        return f"{'posedge' if control.level else 'negedge'} {self.word([control.bit])}"

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


def _slice(wire: Wire, low: int, high: int) -> str:
    if low == 0 and high == len(wire.bits) - 1:
        return wire.name
    return f"{wire.name}[{high}:{low}]" if high > low else f"{wire.name}[{low}]"
