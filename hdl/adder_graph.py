# SPDX-License-Identifier: Apache-2.0
"""Constant matrices as graphs of two-operand adders that share what they have in common."""

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from quant import Ints, check_shape

ZERO = -1
"""Operand of an adder that stands for the constant 0."""


class Adder(NamedTuple):
    """``((left << left_shift) + (right << right_shift)) >> drop``, or ``-`` when ``subtract``.

    The ``drop`` lowest bits of the sum are always 0. ``left`` is ``ZERO`` in a negation.
    """

    left: int
    right: int
    left_shift: int
    right_shift: int
    subtract: bool
    drop: int = 0


class Output(NamedTuple):
    """``node << shift``, negated where ``negate``."""

    node: int
    shift: int
    negate: bool


@dataclass(frozen=True)
class AdderGraph:
    """``y = W @ x`` for one constant integer matrix W, in adders of two operands.

    Nodes 0 to ``len(inputs) - 1`` are the inputs, node ``len(inputs) + k`` is ``adders[k]``, and an
    adder uses only nodes before it. No two nodes are equal up to sign and a power of two, so no
    adder computes what another one does.

    Parameters
    ----------
    inputs : (lowest, highest) integer of each element of x
    adders : tuple of Adder
    outputs : one Output for each element of y, None where the row of W is all zero
    """

    inputs: tuple[tuple[int, int], ...]
    adders: tuple[Adder, ...]
    outputs: tuple[Output | None, ...]

    @cached_property
    def bounds(self) -> tuple[tuple[int, int], ...]:
        """Lowest and highest value of every node: both are attained, since W x is linear in x."""
        rows = self.coefficients()
        low = np.array([low for low, _ in self.inputs], dtype=object)
        high = np.array([high for _, high in self.inputs], dtype=object)
        positive, negative = np.maximum(rows, 0), np.minimum(rows, 0)
        lows = positive @ low + negative @ high
        highs = positive @ high + negative @ low
        return tuple((int(a), int(b)) for a, b in zip(lows, highs, strict=True))

    @cached_property
    def output_bounds(self) -> tuple[tuple[int, int], ...]:
        """Lowest and highest value of every element of y, both attained.

        Where an output is flagged ``negate`` these are still the bounds of y, not of its node.
        """
        result = []
        for output in self.outputs:
            low, high = (0, 0) if output is None else self.bounds[output.node]
            if output is not None:
                low, high = low << output.shift, high << output.shift
                low, high = (-high, -low) if output.negate else (low, high)
            result.append((low, high))
        return tuple(result)

    @cached_property
    def depths(self) -> tuple[int, ...]:
        """Adders on the longest way from an input to every node."""
        depths = [0] * len(self.inputs)
        for adder in self.adders:
            left = 0 if adder.left == ZERO else depths[adder.left]
            depths.append(1 + max(left, depths[adder.right]))
        return tuple(depths)

    @property
    def depth(self) -> int:
        """Adders on the longest way through the graph."""
        return max(self.depths, default=0)

    def adder_bits(self, node: int) -> int:
        """Result bits of an adder that need a full adder; the others are wires from an operand."""
        adder = self.adders[node - len(self.inputs)]
        wires = wired_bits(self, adder)
        return max(0, bits_of(*self.bounds[node]) + adder.drop - wires)

    @cached_property
    def bits(self) -> int:
        """Full adders of the whole graph."""
        first = len(self.inputs)
        return sum(self.adder_bits(first + k) for k in range(len(self.adders)))

    def coefficients(self) -> np.ndarray:
        """Every node as exact integers times x, shape (nodes, inputs): the proof of the graph.

        Raises ArithmeticError where an adder drops bits that are not always 0.
        """
        count = len(self.inputs)
        rows = np.zeros((count + len(self.adders) + 1, count), dtype=object)  # the last: ZERO
        rows[range(count), range(count)] = 1
        for node, adder in enumerate(self.adders, count):
            left, right = rows[adder.left], rows[adder.right] << adder.right_shift
            total = (left << adder.left_shift) + (-right if adder.subtract else right)
            rows[node] = total >> adder.drop
            if adder.drop and ((rows[node] << adder.drop) != total).any():
                raise ArithmeticError(f"AdderGraph node {node} must drop only bits that are 0")
        return rows[:-1]

    def matrix(self) -> np.ndarray:
        """W as exact integers, from :meth:`coefficients`; shape (outputs, inputs)."""
        rows = self.coefficients()
        result = np.zeros((len(self.outputs), len(self.inputs)), dtype=object)
        for row, output in enumerate(self.outputs):
            if output is not None:
                result[row] = (rows[output.node] << output.shift) * (-1 if output.negate else 1)
        return result

    def evaluate(self, x: ArrayLike) -> Ints:
        """y, adder by adder; shape (..., inputs) -> (..., outputs). A check: ``@`` is faster."""
        x = np.asarray(x, dtype=np.int64)
        values = [x[..., k] for k in range(len(self.inputs))]
        zero = np.zeros(x.shape[:-1], dtype=np.int64)
        for adder in self.adders:
            left = zero if adder.left == ZERO else values[adder.left] << adder.left_shift
            right = values[adder.right] << adder.right_shift
            values.append((left - right if adder.subtract else left + right) >> adder.drop)
        columns = []
        for output in self.outputs:
            column = zero if output is None else values[output.node] << output.shift
            columns.append(-column if output is not None and output.negate else column)
        return np.stack(columns, axis=-1)


def bits_of(low: int, high: int) -> int:
    """Bits of the narrowest number that holds ``low`` to ``high``, unsigned if possible."""
    magnitude = max(low if low >= 0 else ~low, high if high >= 0 else ~high)
    return max(1, magnitude.bit_length() + (low < 0))


def wired_bits(graph: AdderGraph, adder: Adder) -> int:
    """Lowest bits of an adder's sum (before ``drop``) that are bits of an operand, not sums.

    Below the lowest bit of the operand that lies higher, a sum is the other operand; the same holds
    for a difference as long as nothing is subtracted there. Where an operand that is never negative
    ends below the other one begins, the whole sum is wires.
    """
    if adder.left == ZERO:
        return 0
    (low, upper) = (adder.left, adder.right)
    start = adder.right_shift
    if adder.left_shift > adder.right_shift:
        if adder.subtract:
            return adder.right_shift
        low, upper, start = adder.right, adder.left, adder.left_shift
    if not adder.subtract:
        lowest, highest = graph.bounds[low]
        if lowest >= 0 and highest >> (start - min(adder.left_shift, adder.right_shift)) == 0:
            return start + bits_of(*graph.bounds[upper])
    return start


# --- construction ---------------------------------------------------------------------------------

_Term = tuple[int, int, int]  # value, shift, 1 if negative


def _digits(number: int) -> Iterable[tuple[int, int]]:
    """Canonical signed digits of ``number`` as (shift, 1 if negative), lowest first.

    Source: G. W. Reitwiesner, Binary Arithmetic, Advances in Computers 1 (1960).
    """
    magnitude, flip = abs(number), int(number < 0)
    nonzero = magnitude ^ (3 * magnitude)  # bit k + 1: digit k is not 0
    negative = magnitude & ~(3 * magnitude)
    while nonzero:
        lowest = nonzero & -nonzero
        yield lowest.bit_length() - 2, int(bool(negative & lowest)) ^ flip
        nonzero ^= lowest


def _weight(numbers: np.ndarray) -> np.ndarray:
    """Count of canonical signed digits of each integer."""
    magnitude = np.abs(numbers)
    return np.bitwise_count(magnitude ^ (3 * magnitude)).astype(np.int64)


class _Values:
    """The distinct values of a graph under construction.

    A value is a vector of coefficients without a common factor of two and of one sign, so that a
    sum that was already computed, shifted, or negated, is found again. Every value has one adder.
    """

    def __init__(self, inputs: Sequence[tuple[int, int]]):
        count = len(inputs)
        self.inputs = tuple(inputs)
        self.low = np.array([low for low, _ in inputs], dtype=np.int64)
        self.high = np.array([high for _, high in inputs], dtype=np.int64)
        self.vectors = list(np.eye(count, dtype=np.int64))
        self.bounds = list(self.inputs)
        self.widths = [bits_of(*bound) for bound in inputs]
        self.depths = [0] * count
        self.adders: list[Adder | None] = [None] * count
        self.index = {v.tobytes(): (n, 0) for n, v in enumerate(self.vectors)}

    def combine(self, left: _Term, right: _Term) -> _Term | None:
        """The sum of two terms as a term of a value that has an adder; None where it is 0."""
        if left[2] and not right[2]:
            left, right = right, left  # b - a, rather than a - b turned round
        (a, a_shift, a_negative), (b, b_shift, b_negative) = left, right
        base = min(a_shift, b_shift)
        a_shift, b_shift = a_shift - base, b_shift - base
        subtract = a_negative != b_negative
        a_vector, b_vector = self.vectors[a] << a_shift, self.vectors[b] << b_shift
        vector = a_vector - b_vector if subtract else a_vector + b_vector
        joined = int(np.bitwise_or.reduce(vector))
        if not joined:
            return None
        drop = (joined & -joined).bit_length() - 1
        if drop:
            vector >>= drop
        depth = 1 + max(self.depths[a], self.depths[b])
        known = self.index.get(vector.tobytes())
        value, flipped = (self._new(vector, depth), 0) if known is None else known
        if known is None or depth < self.depths[value]:
            # b - a instead of a - b turns the value round; a + b cannot be turned
            if subtract and flipped:
                self.adders[value] = Adder(b, a, b_shift, a_shift, True, drop)
                self.depths[value] = depth
            elif not flipped:
                self.adders[value] = Adder(a, b, a_shift, b_shift, subtract, drop)
                self.depths[value] = depth
        return value, base + drop, a_negative ^ flipped

    def _new(self, vector: np.ndarray, depth: int) -> int:
        value = len(self.vectors)
        self.vectors.append(vector)
        self.index[vector.tobytes()] = (value, 0)
        self.index[(-vector).tobytes()] = (value, 1)
        rising = vector > 0
        low = int(vector @ np.where(rising, self.low, self.high))
        high = int(vector @ np.where(rising, self.high, self.low))
        self.bounds.append((low, high))
        self.widths.append(bits_of(low, high))
        self.depths.append(depth)
        self.adders.append(None)
        return value


_SHIFTS = 256  # a shift in a row's digit, 0 to 255
_STEP = 4 * _SHIFTS  # code of a digit: value * _STEP + shift * 2 + negative


class _Sharing:
    """Greedy elimination of two-term subexpressions from rows of signed digits.

    Every step takes the pair of terms (two values, relative shift, relative sign) that occurs most
    often, makes it a value, and puts that value in the place of all its occurrences. Occurrences
    are counted on bit sets, one bit for every row and shift: shifting one value's set onto the
    other's. Counts of a pair never grow, so a heap of outdated counts, corrected when they come to
    the top, finds the best pair.

    A row whose terms have depths d can be summed in depth D if and only if the sum of 2**d is at
    most 2**D: a step is not taken in rows where it would break that. ``limits`` holds 2**D.

    Source: R. I. Hartley, Subexpression Sharing in Filters Using Canonic Signed Digit Multipliers,
    IEEE TCAS-II 43 (1996); depth condition: M. C. Golumbic, Combinatorial Merging, IEEE TC (1976).
    """

    def __init__(
        self,
        values: _Values,
        rows: Sequence[Iterable[_Term]],
        limits: Sequence[int],
        random: Random | None,
    ):
        self.values = values
        self.limits = limits
        self.random = random
        rows = [list(row) for row in rows]
        highest = max((shift for row in rows for _, shift, _ in row), default=0)
        self.span = highest + 5  # room for a carry
        if self.span > _SHIFTS:
            raise ValueError(
                f"AdderGraph weight must have at most {_SHIFTS - 5} bits, not {highest}"
            )
        self.stride = 2 * self.span
        self.sets: list[tuple[dict[int, int], dict[int, int]]] = []
        self.positive: dict[int, int] = {}
        self.negative: dict[int, int] = {}
        self.rows: list[dict[int, None]] = [{} for _ in rows]
        self.loads = [0] * len(rows)
        for row, terms in enumerate(rows):
            for value, shift, negative in terms:
                self._add(row, value, shift, negative)
        self.heap: list[tuple] = []

    def run(self) -> list[_Term | None]:
        """Share, then sum what is left of every row; the rows as terms, None where a row is 0."""
        self._fill()
        heap = self.heap
        while heap:
            entry = heap[0]
            score, _, _, a, b, shift, opposite, overlap = entry
            matches = self._matches(a, b, shift, opposite)
            now = -overlap * matches.bit_count()
            if now > -2 * overlap:
                heapq.heappop(heap)
            elif now > score:
                heapq.heapreplace(heap, (now, *entry[1:]))
            else:
                heapq.heappop(heap)
                chosen = self._possible(matches, a, b, shift)
                now = -overlap * len(chosen)
                if score < now <= -2 * overlap:
                    heapq.heappush(heap, (now, *entry[1:]))
                elif len(chosen) > 1:
                    self._replace(chosen, a, b, shift, opposite)
        return [self._sum(row) for row in range(len(self.rows))]

    def _add(self, row: int, value: int, shift: int, negative: int) -> None:
        """Add a digit to a row; an equal digit in its place carries, an opposite one cancels."""
        digits = self.rows[row]
        code = value * _STEP + shift * 2 + negative
        if code in digits:
            self._remove(row, value, shift, negative)
            self._add(row, value, shift + 1, negative)
        elif code ^ 1 in digits:
            self._remove(row, value, shift, 1 - negative)
        else:
            digits[code] = None
            self.loads[row] += 1 << self.values.depths[value]
            bits = self.negative if negative else self.positive
            bits[value] = bits.get(value, 0) | 1 << (row * self.stride + shift)

    def _remove(self, row: int, value: int, shift: int, negative: int) -> None:
        del self.rows[row][value * _STEP + shift * 2 + negative]
        self.loads[row] -= 1 << self.values.depths[value]
        bits = self.negative if negative else self.positive
        bits[value] ^= 1 << (row * self.stride + shift)

    def _matches(self, a: int, b: int, shift: int, opposite: int) -> int:
        """Bit set of the digits of ``a`` that have a digit of ``b``, ``shift`` above them."""
        positive, negative = self.positive.get(b, 0), self.negative.get(b, 0)
        if opposite:
            positive, negative = negative, positive
        if shift >= 0:
            positive, negative = positive >> shift, negative >> shift
        else:
            positive, negative = positive << -shift, negative << -shift
        return self.positive.get(a, 0) & positive | self.negative.get(a, 0) & negative

    def _possible(self, matches: int, a: int, b: int, shift: int) -> list[tuple[int, int]]:
        """(row, shift) of occurrences that do not overlap and whose row stays shallow enough."""
        depths = self.values.depths
        growth = (2 << max(depths[a], depths[b])) - (1 << depths[a]) - (1 << depths[b])
        room: dict[int, int] = {}
        taken: set[tuple[int, int]] = set()
        chosen = []
        while matches:
            lowest = matches & -matches
            matches ^= lowest
            row, place = divmod(lowest.bit_length() - 1, self.stride)
            if a == b:
                if (row, place) in taken:
                    continue
                taken.add((row, place + shift))
            if growth:
                left = room.get(row, self.limits[row] - self.loads[row]) - growth
                if left < 0:
                    continue
                room[row] = left
            chosen.append((row, place))
        return chosen

    def _replace(
        self, chosen: list[tuple[int, int]], a: int, b: int, shift: int, opposite: int
    ) -> None:
        """Put the value of a pair in the place of its chosen occurrences."""
        a_shift, b_shift = max(0, -shift), max(0, shift)
        new = self.values.combine((a, a_shift, 0), (b, b_shift, opposite))
        places = []
        for row, place in chosen:
            negative = int(self.negative.get(a, 0) >> (row * self.stride + place) & 1)
            self._remove(row, a, place, negative)
            self._remove(row, b, place + shift, negative ^ opposite)
            if new is not None:
                value, new_shift, new_negative = new
                put = place - a_shift + new_shift, negative ^ new_negative
                self._add(row, value, *put)
                places.append((row, *put))
        if new is not None:
            self._count(new[0], places)

    def _fill(self) -> None:
        """The heap of all pairs in the rows as they are."""
        parts = []
        for digits in self.rows:
            codes = np.sort(np.fromiter(digits, np.int64, len(digits)))
            first, second = np.triu_indices(len(codes), 1)
            a, b = codes[first], codes[second]
            step = (b % _STEP >> 1) - (a % _STEP >> 1) + _SHIFTS
            pair = (a // _STEP << 32) | (b // _STEP * _STEP) | step * 2 | (a ^ b) & 1
            parts.append(pair)
        pairs, counts = np.unique(
            np.concatenate(parts or [np.zeros(0, np.int64)]), return_counts=True
        )
        many = counts > 1
        for pair, count in zip(pairs[many].tolist(), counts[many].tolist(), strict=True):
            a, rest = pair >> 32, pair & 0xFFFFFFFF
            b, rest = divmod(rest, _STEP)
            self.heap.append(self._entry(count, a, b, (rest >> 1) - _SHIFTS, rest & 1))
        heapq.heapify(self.heap)

    def _count(self, value: int, places: list[tuple[int, int, int]]) -> None:
        """Push the pairs that a value makes with every other in the places where it has come."""
        parts = []
        for row, place, negative in places:
            digits = self.rows[row]
            codes = np.fromiter(digits, np.int64, len(digits))
            parts.append((codes - 2 * place + 2 * _SHIFTS) ^ negative)
        pairs, counts = np.unique(np.concatenate(parts), return_counts=True)
        many = counts > 1
        for pair, count in zip(pairs[many].tolist(), counts[many].tolist(), strict=True):
            other, rest = divmod(pair, _STEP)
            step = (rest >> 1) - _SHIFTS  # of the other, above this one
            if other != value:
                heapq.heappush(self.heap, self._entry(count, other, value, -step, rest & 1))
            elif step > 0:
                heapq.heappush(self.heap, self._entry(count, value, value, step, rest & 1))

    def _entry(self, count: int, a: int, b: int, shift: int, opposite: int) -> tuple:
        """A pair in the heap, first the one with the most full adders in all its occurrences.

        These are the bits in which the two terms overlap; ties go to the shallow and narrow pair.
        """
        depths, widths = self.values.depths, self.values.widths
        a_width, b_width = (
            (widths[a], widths[b] + shift) if shift >= 0 else (widths[a] - shift, widths[b])
        )
        overlap = max(1, min(a_width, b_width) - abs(shift))
        width = max(a_width, b_width) - abs(shift)
        tie = self.random.random() if self.random else max(depths[a], depths[b])
        return -count * overlap, tie, width, a, b, shift, opposite, overlap

    def _sum(self, row: int) -> _Term | None:
        """Sum what is left of a row: always the pair with the cheapest adder that depth allows."""
        depths = self.values.depths
        terms: list[Any] = []  # _Term, None once used
        load = 0
        for code in self.rows[row]:
            value, rest = divmod(code, _STEP)
            load += 1 << depths[value]
            terms.append((value, rest >> 1, rest & 1))
        pairs = [
            (*self._adder(left, right), first, second)
            for second, right in enumerate(terms)
            for first, left in enumerate(terms[:second])
        ]
        heapq.heapify(pairs)
        limit = max(self.limits[row], _power(load))
        while pairs:
            *_, first, second = heapq.heappop(pairs)
            left, right = terms[first], terms[second]
            if left is None or right is None:
                continue
            used = (1 << depths[left[0]]) + (1 << depths[right[0]])
            if load - used + (2 << max(depths[left[0]], depths[right[0]])) > limit:
                continue
            terms[first] = terms[second] = None
            total = self.values.combine(left, right)
            load -= used
            if total is not None:
                load += 1 << depths[total[0]]
                for place, other in enumerate(terms):
                    if other is not None:
                        heapq.heappush(pairs, (*self._adder(other, total), place, len(terms)))
                terms.append(total)
        return next((term for term in terms if term is not None), None)

    def _adder(self, left: _Term, right: _Term) -> tuple[int, int, int, int]:
        """Full adders, highest bit, depth, distance of a sum, from the intervals of its terms."""
        if left[1] > right[1]:
            left, right = right, left
        low, high = 0, 0
        for value, shift, negative in (left, right):
            bounds = self.values.bounds[value]
            low += (-bounds[1] if negative else bounds[0]) << shift
            high += (-bounds[0] if negative else bounds[1]) << shift
        start = left[1] if left[2] and not right[2] else right[1]
        depth = max(self.values.depths[left[0]], self.values.depths[right[0]])
        top = bits_of(low, high)
        return top - start, top, depth, left[1] - right[1]


def _power(count: int) -> int:
    """The smallest power of two that is at least ``count``."""
    return 1 << max(0, count - 1).bit_length()


def _spanning_tree(rows: np.ndarray, limit: int) -> list[tuple[int, int, int]]:
    """A tree over the rows, in the order it grows: for each row its parent (-1: 0) and its sign.

    A row is ``sign * (row of its parent)`` plus a difference, and the tree keeps the signed digits
    of all differences few. ``limit`` holds down the load of a row, which is the sum over
    its path of the digits of each difference, rounded up to powers of two (see _Sharing).

    Source: R. C. Prim, Shortest Connection Networks, BSTJ 36 (1957); for constant matrices:
    C. Sun et al., da4ml, ACM TRETS 19 (2026), section on the decomposition.
    """
    count = len(rows)
    cost = _weight(rows).sum(axis=1)
    parent = np.full(count, -1)
    sign = np.ones(count, dtype=np.int64)
    load = np.array([_power(int(c)) for c in cost])
    best, loads = cost.copy(), load.copy()
    order, left = [], np.ones(count, dtype=bool)
    for _ in range(count):
        candidates = np.flatnonzero(left)
        row = int(candidates[np.lexsort((candidates, loads[candidates], best[candidates]))[0]])
        left[row] = False
        order.append(row)
        others = np.flatnonzero(left)
        for direction in (1, -1):
            difference = _weight(rows[others] - direction * rows[row]).sum(axis=1)
            power = 1 << np.ceil(np.log2(np.maximum(difference, 1))).astype(np.int64)
            total = loads[row] + power
            better = (total <= limit) & (
                (difference < best[others]) | (difference == best[others]) & (total < loads[others])
            )
            chosen = others[better]
            parent[chosen], sign[chosen] = row, direction
            best[chosen], loads[chosen] = difference[better], total[better]
    return [(row, int(parent[row]), int(sign[row])) for row in order]


def _terms(row: np.ndarray) -> list[_Term]:
    """The signed digits of a row of coefficients."""
    return [
        (column, *digit)
        for column in np.flatnonzero(row).tolist()
        for digit in _digits(int(row[column]))
    ]


def _solve(
    rows: np.ndarray,
    inputs: Sequence[tuple[int, int]],
    limit: int,
    reach: int,
    random: Random | None,
) -> tuple[_Values, list[_Term | None]]:
    """Values and rows as terms; through the tree of differences if ``reach`` is above 0."""
    values = _Values(inputs)
    if not reach:
        sharing = _Sharing(values, [_terms(row) for row in rows], [limit] * len(rows), random)
        return values, sharing.run()
    tree = _spanning_tree(rows, reach)
    differences = rows.copy()
    for row, parent, sign in tree:
        if parent >= 0:
            differences[row] -= sign * rows[parent]
    paths: list[list[tuple[int, int]]] = [[] for _ in rows]  # (difference, sign) whose sum is a row
    for row, parent, sign in tree:
        if parent >= 0:
            paths[row] = [(step, sign * direction) for step, direction in paths[parent]]
        paths[row].append((row, 1))
    weights = [_power(int(w)) for w in _weight(differences).sum(axis=1)]
    slack = [limit] * len(rows)  # by how much the load of a difference may grow
    for row, _, _ in tree:
        load = sum(weights[step] for step, _ in paths[row])
        for step, _ in paths[row]:
            slack[step] = min(slack[step], limit // load)
    limits = [
        weight << spare.bit_length() - 1 for weight, spare in zip(weights, slack, strict=True)
    ]
    steps = _Sharing(values, [_terms(row) for row in differences], limits, random).run()
    sums = []
    for path in paths:
        found = [(steps[step], sign) for step, sign in path]
        sums.append([(t[0], t[1], t[2] ^ (sign < 0)) for t, sign in found if t is not None])
    return values, _Sharing(values, sums, [limit] * len(rows), random).run()


def _graph(values: _Values, results: Sequence[_Term | None], negated: bool) -> AdderGraph:
    """The graph of the values that the results need, in order of depth."""
    count = len(values.inputs)
    wanted: dict[int, Adder] = {}
    straight = {term[0] for term in results if term is not None and not term[2]}
    stack = [term[0] for term in results if term is not None]
    while stack:
        value = stack.pop()
        if value >= count and value not in wanted:
            adder = values.adders[value]
            assert adder is not None  # every value was made by combine
            wanted[value] = adder
            straight.update(adder[:2])
            stack += adder[:2]
    order = sorted(wanted, key=lambda value: (values.depths[value], value))
    number = dict(zip(range(count), range(count), strict=True))
    number.update((value, count + k) for k, value in enumerate(order))
    adders = [
        a._replace(left=number[a.left], right=number[a.right])
        for a in map(wanted.__getitem__, order)
    ]
    opposites: dict[int, int] = {}  # node: node of its negation
    outputs: list[Output | None] = []
    for term in results:
        if term is None:
            outputs.append(None)
            continue
        value, shift, negative = term
        node = number[value]
        if negative and not negated:
            if node not in opposites:
                opposites[node] = _negate(adders, node, count, value in straight)
            node = opposites[node]
        outputs.append(Output(node, shift, bool(negative and negated)))
    return AdderGraph(values.inputs, tuple(adders), tuple(outputs))


def _negate(adders: list[Adder], node: int, inputs: int, keep: bool) -> int:
    """The node of ``-node``: a difference is taken the other way round, anything else from 0."""
    old = adders[node - inputs] if node >= inputs else None
    if old is None or not old.subtract:
        adders.append(Adder(ZERO, node, 0, 0, True))
    else:
        turned = Adder(old.right, old.left, old.right_shift, old.left_shift, True, old.drop)
        if not keep:
            adders[node - inputs] = turned
            return node
        adders.append(turned)
    return inputs + len(adders) - 1


_THOROUGH = 2000  # signed digits up to which every construction is tried, whatever it promises


def _digit_count(rows: np.ndarray) -> int:
    return int(_weight(rows).sum())


def _tree_pays(rows: np.ndarray, limit: int) -> bool:
    """Whether the differences along the tree have a sixth fewer signed digits than the rows."""
    steps = rows.copy()
    for row, parent, sign in _spanning_tree(rows, limit):
        if parent >= 0:
            steps[row] -= sign * rows[parent]
    return 6 * _digit_count(steps) < 5 * _digit_count(rows)


def build_adder_graph(
    weight: ArrayLike,
    inputs: Sequence[tuple[int, int]],
    *,
    extra_depth: int = 1,
    negated: bool = False,
    restarts: int = 0,
) -> AdderGraph:
    """An adder graph of ``y = weight @ x`` with few full adders.

    Several constructions are tried and the one with the fewest adder bits is taken, the first of
    equals; the result depends on nothing but the arguments.

    Parameters
    ----------
    weight : integers, shape (outputs, inputs)
    inputs : (lowest, highest) integer of each element of x
    extra_depth : int, adders by which the longest way may exceed the shortest possible
    negated : bool, whether outputs may stay negated (``Output.negate``), for a consumer that
        subtracts them; otherwise a row without positive digits costs one adder more
    restarts : int, further constructions with ties broken at random (of fixed seeds)
    """
    matrix = _checked(weight, inputs)
    joined = np.bitwise_or.reduce(matrix, axis=1)
    shifts = [(int(j) & -int(j)).bit_length() - 1 if j else 0 for j in joined]
    matrix = matrix >> np.array(shifts)[:, None]
    index: dict[bytes, int] = {}
    places: list[tuple[int, int] | None] = []  # (distinct row, 1 if opposite), None: zero
    distinct: list[np.ndarray] = []
    for row in matrix:
        if not row.any():
            places.append(None)
            continue
        negative = int(
            (row < 0).sum() > (row > 0).sum()
        )  # the orientation with fewer negative digits
        if row.tobytes() not in index:
            index[row.tobytes()] = 2 * len(distinct) + negative
            index[(-row).tobytes()] = 2 * len(distinct) + 1 - negative
            distinct.append(-row if negative else row)
        places.append(divmod(index[row.tobytes()], 2))
    rows = np.array(distinct, dtype=np.int64).reshape(len(distinct), len(inputs))
    most = max((int(w) for w in _weight(rows).sum(axis=1)), default=1)
    limit = _power(most) << extra_depth
    reaches = [0]
    if _digit_count(rows) <= _THOROUGH or _tree_pays(rows, limit):
        reaches += [limit, limit // 2]
    best: AdderGraph | None = None
    for attempt in range(1 + restarts):
        for reach in reaches:
            random = Random(attempt) if attempt else None
            values, found = _solve(rows, inputs, limit, reach, random)
            results: list[_Term | None] = []
            for place, shift in zip(places, shifts, strict=True):
                term = None if place is None else found[place[0]]
                if place is not None and term is not None:
                    term = term[0], term[1] + shift, term[2] ^ place[1]
                results.append(term)
            graph = _graph(values, results, negated)
            if best is None or graph.bits < best.bits:
                best = graph
    assert best is not None
    return best


def _checked(weight: ArrayLike, inputs: Sequence[tuple[int, int]]) -> Ints:
    matrix = np.asarray(weight)
    if not np.issubdtype(matrix.dtype, np.integer):
        raise TypeError(f"AdderGraph weight must be integers, not {matrix.dtype}")
    check_shape(matrix, ("outputs", "inputs"), "AdderGraph weight")
    if len(inputs) != matrix.shape[1]:
        raise ValueError(
            f"AdderGraph inputs must be {matrix.shape[1]} intervals, one for each column, "
            f"not {len(inputs)}"
        )
    for low, high in inputs:
        if low > high:
            raise ValueError(f"AdderGraph inputs must run from low to high, not ({low}, {high})")
    magnitudes = np.array([max(abs(low), abs(high), 1) for low, high in inputs], dtype=object)
    largest = max(np.abs(matrix.astype(object)) @ magnitudes)
    if largest >= 1 << 59:  # so that no intermediate sum leaves int64
        raise ValueError(f"AdderGraph sums must stay below 2**59, not reach {largest}")
    return matrix.astype(np.int64)
