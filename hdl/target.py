# SPDX-License-Identifier: Apache-2.0
"""The device families that circuits are synthesised for and priced on."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class DspShape:
    """One hard multiplier as yosys fills it: both operands signed or unsigned, A the wider one.

    A product of ``a_width >= a_minimum`` by ``b_width >= b_minimum`` bits (``y_minimum`` bits of
    result) goes into multipliers of at most ``a_maximum`` by ``b_maximum`` bits; wider operands
    are cut into slices of ``a_slice`` and ``b_maximum``. ``signed_only`` multipliers spend a bit
    on unsigned operands.
    """

    cell: str
    a_minimum: int
    b_minimum: int
    a_maximum: int
    b_maximum: int
    a_slice: int
    y_minimum: int = 0
    signed_only: bool = False


@dataclass(frozen=True)
class Target:
    """One device family: what it is made of, as far as rules of cost and of memories need it.

    Members
    -------
    name : what users write, one of ``Target.names()``
    lut_size : inputs of one look-up table
    dsp : shapes of the hard multipliers in the order yosys tries them, empty if it uses none
    dsp_registers : yosys moves registers and adders into the multipliers
    shift_registers : yosys turns chains of three and more registers into look-up tables
    lut_ram : small memories may live in look-up tables
    device : the device a placement is tried on, None where none can be
    speed_grade : of that device, None where there is one only; the slowest if not said otherwise
    """

    name: str
    lut_size: int
    dsp: tuple[DspShape, ...]
    dsp_registers: bool
    shift_registers: bool
    lut_ram: bool
    device: str | None = None
    speed_grade: int | None = None

    known: ClassVar[dict[str, "Target"]] = {}

    @classmethod
    def named(cls, name: str) -> "Target":
        """The target called ``name``.

        >>> Target.named("ecp5").lut_size
        4
        >>> Target.named("ecp6")
        Traceback (most recent call last):
        ValueError: Target name must be one of ecp5, ice40, gowin, xilinx7, xilinxup, not 'ecp6'
        """
        if not isinstance(name, str):
            raise TypeError(f"Target name must be a string, not {type(name).__name__}")
        if name not in cls.known:
            known = ", ".join(cls.known)
            raise ValueError(f"Target name must be one of {known}, not {name!r}")
        return cls.known[name]

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """All known names.

        >>> Target.names()
        ('ecp5', 'ice40', 'gowin', 'xilinx7', 'xilinxup')
        """
        return tuple(cls.known)

    def __str__(self) -> str:
        return self.name


_LATTICE = DspShape("MULT18X18D", 2, 2, 18, 18, 18)
_XILINX7 = DspShape("DSP48E1", 2, 2, 25, 18, 18, y_minimum=9, signed_only=True)
_XILINXUP = DspShape("DSP48E2", 2, 2, 27, 18, 18, y_minimum=9, signed_only=True)
_GOWIN = (
    DspShape("MULT36X36", 22, 22, 36, 36, 36),
    DspShape("MULT18X18", 10, 4, 18, 18, 18),
    DspShape("MULT9X9", 4, 4, 9, 9, 9),
)

Target.known.update(
    {
        target.name: target
        for target in (
            Target(
                name="ecp5",
                lut_size=4,
                dsp=(_LATTICE,),
                dsp_registers=False,
                shift_registers=False,
                lut_ram=True,
                device="LFE5U-85F",
                speed_grade=6,
            ),
            Target(
                name="ice40",
                lut_size=4,
                dsp=(),
                dsp_registers=False,
                shift_registers=False,
                lut_ram=False,
                device="HX8K",
            ),
            Target(
                name="gowin",
                lut_size=4,
                dsp=_GOWIN,
                dsp_registers=False,
                shift_registers=False,
                lut_ram=True,
            ),
            Target(
                name="xilinx7",
                lut_size=6,
                dsp=(_XILINX7,),
                dsp_registers=True,
                shift_registers=True,
                lut_ram=True,
            ),
            Target(
                name="xilinxup",
                lut_size=6,
                dsp=(_XILINXUP,),
                dsp_registers=False,
                shift_registers=True,
                lut_ram=True,
            ),
        )
    }
)
