# SPDX-License-Identifier: Apache-2.0
"""Independent statement of a Neural Turing Machine: its paper's equations, a number at a time.

Everything is exact and rounded where the docstrings say so; of the blocks it has nothing but the
tables of functions, each of which is asked by itself.
"""

from fractions import Fraction
from math import floor, isqrt, log2
from typing import Any

import numpy as np
from oracle_numbers import fit, number, rounded

from blocks import Nonlinearity, Tensor, softmax
from blocks.recurrent import smallest
from quant import Format, Ints

State = tuple[list[list[int]], list[int], list[list[int]]]
"""Rows of the memory, what was read last, and a weighting for each head, read heads first."""


def fitted(value: Fraction, form: Format) -> int:
    """Round half up, then saturate."""
    return fit(rounded(value * Fraction(2) ** form.frac, "RND"), form, "SAT")


class Machine:
    """The machine of the arguments of :func:`neural_turing_machine`, as equations."""

    def __init__(self, arguments: dict[str, Any]):
        self.given = arguments
        self.reads, self.writes = len(arguments["reader"]), len(arguments["writer"])
        self.rows = arguments["rows"]
        size = arguments["writer"].shape[1] - arguments["reader"].shape[1]
        self.columns = size // 2
        self.places = arguments["reader"].shape[1] - self.columns - 2

    def start(self) -> State:
        """What is given, or zeros and all heads at row 0."""
        given = self.given.get("initial", (None, None, None))
        form, heads = self.form("weighting"), self.reads + self.writes
        head = [min(2**form.frac, form.max)] + [0] * (self.rows - 1)
        memory, read, weighting = (None if part is None else part.tolist() for part in given)
        return (
            memory or [[0] * self.columns for _ in range(self.rows)],
            read or [0] * (self.reads * self.columns),
            weighting or [head] * heads,
        )

    def form(self, name: str) -> Format:
        return self.given[f"{name}_format"]

    def values(self, name: str, codes: Any) -> list[Fraction]:
        return [number(code, self.form(name)) for code in codes]

    def function(self, name: str, sums: list[Fraction], target: str) -> list[Fraction]:
        """A function of narrowed sums, in the numbers of a format."""
        table = smallest(name, self.form("sum"), self.form(target))
        codes = [fitted(value, self.form("sum")) for value in sums]
        return self.values(target, table.reference(np.array(codes)).tolist())

    def matrix(self, name: str, place: Any, x: list[Fraction], weight: str, frac: int) -> list:
        """Rows of weights times x and their biases."""
        rows, biases = self.given[name][place], self.given[f"{name}_bias"][place]
        unit = Fraction(1, 2) ** frac
        return [
            sum((a * b for a, b in zip(self.values(weight, row), x, strict=True)), bias * unit)
            for row, bias in zip(rows.tolist(), biases.tolist(), strict=True)
        ]

    def shares(self, codes: list[int], form: Format, target: Format) -> list[int]:
        """Softmax: exponentials by a table, one exact quotient each."""
        nodes = softmax(Tensor((1, len(codes)), form), target).nodes
        table = next(n.block.form for n in nodes if isinstance(n.block, Nonlinearity))
        powers = table.reference(max(codes) - np.array(codes)).tolist()
        return [fitted(Fraction(power, sum(powers)), target) for power in powers]

    def score(self, row: list[Fraction], key: list[Fraction], strength: Fraction) -> int:
        """strength * cosine, the length's root rounded to the bits that it has."""
        form, epsilon = self.form("score"), Fraction(self.given["epsilon"])
        frac = max(0, form.frac) - floor(log2(epsilon))
        square = sum(a * a for a in row) * sum(a * a for a in key) * 4**frac
        whole = isqrt(floor(square))
        root = whole + (square >= Fraction(2 * whole + 1, 2) ** 2)
        length = Fraction(root + round(epsilon * 2**frac), 2**frac)
        return fitted(strength * sum(a * b for a, b in zip(row, key, strict=True)) / length, form)

    def moved(self, head: int, sums: list[Fraction], memory: list, former: list[int]) -> list[int]:
        """The weighting of a head: by content, by its gate, round by its shares, sharpened."""
        at, form = self.columns, self.form("weighting")
        key = self.function("tanh", sums[:at], "key")
        (strength,) = self.function("softplus", sums[at : at + 1], "strength")
        (gate,) = self.function("sigmoid", sums[at + 1 : at + 2], "gate")
        moves = [fitted(value, self.form("sum")) for value in sums[at + 2 : at + 2 + self.places]]
        moves = self.shares(moves, self.form("sum"), self.form("shift"))
        scores = [self.score(row, key, strength) for row in memory]
        content = self.shares(scores, self.form("score"), form)
        mixed = [
            fitted(gate * number(new, form) + (1 - gate) * number(old, form), form)
            for new, old in zip(content, former, strict=True)
        ]
        shifted = []
        for row in range(self.rows):
            parts = (
                number(share, self.form("shift"))
                * number(mixed[(row - (place - self.places // 2)) % self.rows], form)
                for place, share in enumerate(moves)
            )
            shifted.append(fitted(sum(parts, Fraction(0)), form))
        powers = [number(code, form) ** self.given["exponent"] for code in shifted]
        total = sum(powers)
        return [fitted(power / total, form) if total else 0 for power in powers]

    def step(self, x: list[int], state: State) -> tuple[list[int], State]:
        """y and the state after it."""
        memory_codes, read_codes, former = state
        memory = [self.values("memory", row) for row in memory_codes]
        seen = [number(code, self.given["input"].format) for code in x]
        seen += self.values("read", read_codes)
        frac = self.form("controller").frac + self.form("read").frac
        sums = self.matrix("controller", slice(None), seen, "controller", frac)
        hidden = self.function("tanh", sums, "hidden")
        frac = self.form("head").frac + self.form("hidden").frac
        wanted = [
            self.matrix(kind, head, hidden, "head", frac)
            for kind, count in (("reader", self.reads), ("writer", self.writes))
            for head in range(count)
        ]
        weightings = [
            self.moved(head, sums, memory, former[head]) for head, sums in enumerate(wanted)
        ]
        found = []
        for head in range(self.reads):  # what the memory was before this step
            shares = self.values("weighting", weightings[head])
            for column in zip(*memory, strict=True):
                total = sum(a * b for a, b in zip(shares, column, strict=True))
                found.append(fitted(total, self.form("read")))
        for head in range(self.reads, self.reads + self.writes):
            rest = wanted[head][self.columns + 2 + self.places :]
            erase = self.function("sigmoid", rest[: self.columns], "gate")
            add = self.function("tanh", rest[self.columns :], "key")
            for row, share in enumerate(self.values("weighting", weightings[head])):
                codes = [
                    fitted(cell * (1 - share * e) + share * a, self.form("memory"))
                    for cell, e, a in zip(memory[row], erase, add, strict=True)
                ]
                memory[row] = self.values("memory", codes)
        shown = [*hidden, *self.values("read", found)]
        frac = self.form("output_weight").frac + self.form("hidden").frac
        sums = self.matrix("output", slice(None), shown, "output_weight", frac)
        scale = Fraction(2) ** self.form("memory").frac
        after = [[int(cell * scale) for cell in row] for row in memory]
        return [fitted(value, self.form("output")) for value in sums], (after, found, weightings)

    def sequence(self, x: Ints, state: State) -> tuple[list[list[int]], State]:
        """All y of x, shape (steps, inputs), and the state behind the last."""
        given = []
        for now in x.tolist():
            y, state = self.step(now, state)
            given.append(y)
        return given, state
