# SPDX-License-Identifier: Apache-2.0
"""What circuits cost on a target, priced operator by operator without any tool."""

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Cost:
    """Resources of a circuit on one target; costs add, and ``sum`` of costs works.

    Members
    -------
    lut : look-up tables, counted per family as ``hdl.synthesis`` counts them
    ff : flip-flops that remain flip-flops
    carry : carry cells (CCU2C, SB_CARRY, ALU, CARRY4), told beside ``lut``, not added to it
    dsp : hard multipliers
    bram : block RAMs of 18 Kbit (ice40: of 4 Kbit)
    ff_in_dsp, ff_in_srl : register bits that Xilinx tools put into multipliers and into
        shift-register look-up tables; elsewhere 0

    >>> sum([Cost(lut=3, ff=2), Cost(lut=1, dsp=1)])
    Cost(lut=4, ff=2, carry=0, dsp=1, bram=0, ff_in_dsp=0, ff_in_srl=0)
    """

    lut: int = 0
    ff: int = 0
    carry: int = 0
    dsp: int = 0
    bram: int = 0
    ff_in_dsp: int = 0
    ff_in_srl: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            count = getattr(self, field.name)
            if not isinstance(count, int) or isinstance(count, bool):
                kind = type(count).__name__
                raise TypeError(f"Cost {field.name} must be an int, not {kind}")
            if count < 0:
                raise ValueError(f"Cost {field.name} must not be negative, not {count}")

    @property
    def register_bits(self) -> int:
        """All registers, wherever the tool puts them."""
        return self.ff + self.ff_in_dsp + self.ff_in_srl

    def __add__(self, other: "Cost") -> "Cost":
        if not isinstance(other, Cost):
            return NotImplemented
        return Cost(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Cost)))

    def __radd__(self, other: object) -> "Cost":
        if isinstance(other, int) and other == 0:  # the start of sum()
            return self
        return NotImplemented

    def __mul__(self, count: int) -> "Cost":
        if not isinstance(count, int):
            return NotImplemented
        return Cost(*(getattr(self, f.name) * count for f in fields(Cost)))

    __rmul__ = __mul__
