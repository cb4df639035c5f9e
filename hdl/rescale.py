# SPDX-License-Identifier: Apache-2.0
"""Products with constants, rounded and fitted: the twin of :func:`quant.rescale`."""

import numpy as np

from quant import Format, Ints, Overflow, Rounding, Rule

from .cost import Inventory
from .events import Events, chain
from .parallel import Parallel, ParallelArray
from .requantise import FIRST_DROP, Requantiser, requantised
from .scale import Scale, ScaleArray
from .series import Series


class Scaling:
    """``y = narrow((w[g] * x << shift[g]) + bias[g])``; g counts transfers, round and round.

    Constants are shift-add graphs where each lane always meets the same one, else a multiplier a
    lane with a table.

    Parameters
    ----------
    number : Format of x
    weight, shift, bias : ints, shape (groups, lanes)
    frac, target, rounding, overflow, offset, left : of :class:`Requantisation`
    positive : constant that numbers from 0 on meet instead of w
    style : "block" or "logic", what the memories of the constants become
    """

    def __init__(
        self,
        number: Format,
        weight: Ints,
        shift: Ints,
        bias: Ints,
        frac: int,
        target: Format,
        rounding: Rounding,
        overflow: Overflow,
        offset: int = 0,
        left: Ints | None = None,
        positive: int | None = None,
        style: str = "logic",
    ):
        self.products: Parallel | Scale
        if positive is None and (weight == weight[0]).all():
            self.products = Parallel(np.diag(weight[0]), number, 1)
        else:
            self.products = Scale(weight, number, style, positive=positive)
        rows = [shift, bias, np.zeros_like(shift) if left is None else left]
        if all((row == row[0]).all() for row in rows):  # no tables, then
            rows = [row[:1] for row in rows]
        shift, bias, row_left = (row.ravel() for row in rows)
        self.products, self.requantisation = requantised(
            self.products,
            shift,
            bias,
            frac,
            target,
            rounding,
            overflow,
            offset,
            None if left is None else row_left,
            style=style,
        )

    def inventory(self) -> Inventory:
        """What it is made of."""
        return self.products.inventory() + self.requantisation.inventory()

    def events(self, words: int) -> Events:
        """Transfers of ``i`` and ``o``, ``words`` a frame."""
        part = self.products
        products = part.events(words) if isinstance(part, Scale) else part.events().repeated(words)
        return chain(products, self.requantisation.events().repeated(words))

    def circuit(self) -> Series:
        """A new circuit: streams ``i`` of x and ``o`` of y."""
        part = self.products
        products = ScaleArray(part) if isinstance(part, Scale) else ParallelArray(part)
        return Series(products=products, narrow=Requantiser(self.requantisation))


def rescaling(
    number: Format,
    multiplier: Ints,
    shift: Ints,
    target: Format,
    rule: Rule,
    overflow: Overflow,
    zero_in: int = 0,
    zero_out: int = 0,
) -> Scaling:
    """``y = zero_out + round((x - zero_in) * multiplier / 2**shift)``, ``lanes`` numbers at a time.

    Parameters
    ----------
    number : Format of x
    multiplier, shift : ints, shape (groups, lanes), taken round and round
    target, rule, overflow : what y is narrowed to, and how
    zero_in, zero_out : ints
    """
    first, *second = rule.roundings
    target = Format(target.width, 0, target.signed)
    bias = -zero_in * multiplier
    if second and shift.max() > FIRST_DROP:
        before = np.maximum(FIRST_DROP - shift, 0)
        drop = int(shift.max()) - FIRST_DROP
        left = drop - np.maximum(shift - FIRST_DROP, 0)
        modes = target, second[0], overflow, zero_out, left
        return Scaling(number, multiplier, before, bias << before, drop, *modes)
    drop = int(shift.max())
    gained = drop - shift
    modes_once = target, first, overflow, zero_out
    return Scaling(number, multiplier, gained, bias << gained, drop, *modes_once)
