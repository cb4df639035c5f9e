# SPDX-License-Identifier: Apache-2.0
"""What a design looks like from outside, and what is to be done with it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

STALLS: tuple[tuple[float, float], ...] = (
    (1.0, 1.0),
    (1.0, 0.3),
    (0.3, 1.0),
    (0.5, 0.5),
    (1.0, 0.05),
    (0.05, 1.0),
)
"""The six standard stall patterns: chance per cycle that a source offers, that a sink accepts."""


def _check_name(name: str, what: str) -> None:
    if not isinstance(name, str):
        raise TypeError(f"{what} must be a str, not {name!r}")
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_$]*", name):
        raise ValueError(f"{what} must be a plain Verilog identifier, not {name!r}")


@dataclass(frozen=True)
class StreamPort:
    """One valid/ready stream of a design, with the Verilog names of its signals.

    Parameters
    ----------
    name : str
        What jobs and results call this port.
    direction : "in" or "out"
        As the design sees it.
    valid, ready, payload : str
    bits : int
        Width of ``payload``.
    last : str or None
        Signal that marks the last transfer of a frame.
    user : str or None
        Of an input, a bit beside each transfer.
    """

    name: str
    direction: str
    valid: str
    ready: str
    payload: str
    bits: int
    last: str | None = None
    user: str | None = None

    def __post_init__(self) -> None:
        if self.direction not in ("in", "out"):
            raise ValueError(f"StreamPort direction must be 'in' or 'out', not {self.direction!r}")
        if type(self.bits) is not int:
            raise TypeError(f"StreamPort bits must be an int, not {self.bits!r}")
        if self.bits < 1:
            raise ValueError(f"StreamPort bits must be at least 1, not {self.bits}")
        for signal in (self.valid, self.ready, self.payload, self.last, self.user):
            if signal is not None:
                _check_name(signal, "StreamPort signal")
        if self.user is not None and self.direction != "in":
            raise ValueError(f"StreamPort user must be of an input, not of output {self.name}")

    @classmethod
    def plain(cls, name: str, direction: str, bits: int) -> "StreamPort":
        """The port ``name`` of a block: ``i_valid``, ``i_ready``, ``i_payload``."""
        return cls(name, direction, f"{name}_valid", f"{name}_ready", f"{name}_payload", bits)

    @classmethod
    def axi(cls, name: str, direction: str, bits: int, user: bool = False) -> "StreamPort":
        """The AXI4-Stream port ``name``: ``s_axis_tvalid``, ``_tready``, ``_tdata``, ``_tlast``.

        ``user`` : whether it has ``_tuser``
        """
        return cls(
            name,
            direction,
            f"{name}_tvalid",
            f"{name}_tready",
            f"{name}_tdata",
            bits,
            f"{name}_tlast",
            f"{name}_tuser" if user else None,
        )

    @property
    def word_bits(self) -> int:
        """Width of one transfer: the payload and, above it, ``last`` and ``user``."""
        return self.bits + (self.last is not None) + (self.user is not None)

    @property
    def user_bit(self) -> int:
        """Place of ``user`` in a transfer."""
        return self.bits + (self.last is not None)


@dataclass(frozen=True)
class Clocking:
    """Names of the clock and the synchronous reset of a design."""

    clock: str = "clk"
    reset: str = "rst"
    active_low: bool = False

    def __post_init__(self) -> None:
        _check_name(self.clock, "Clocking clock")
        _check_name(self.reset, "Clocking reset")


PLAIN = Clocking()
AXI = Clocking("aclk", "aresetn", active_low=True)


@dataclass(frozen=True)
class Design:
    """A Verilog module with stream ports.

    Parameters
    ----------
    verilog : str
        Text that holds the module and all it instantiates.
    top : str
        Name of the module, and what jobs call the design.
    ports : sequence of StreamPort, at most 30
    clocking : Clocking
    monitors : sequence of str
        Signals below ``top`` by hierarchical name (``fifo_3.level``), at most 32 bits wide, whose
        largest value in each job is wanted.
    """

    verilog: str
    top: str
    ports: tuple[StreamPort, ...]
    clocking: Clocking = PLAIN
    monitors: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "ports", tuple(self.ports))
        object.__setattr__(self, "monitors", tuple(self.monitors))
        _check_name(self.top, "Design top")
        if not 1 <= len(self.ports) <= 30:
            raise ValueError(f"Design ports must be between 1 and 30, not {len(self.ports)}")
        names = [port.name for port in self.ports]
        if len(set(names)) < len(names):
            raise ValueError(f"Design ports must have different names, not {', '.join(names)}")

    def port(self, name: str) -> StreamPort:
        """The port called ``name``; raises ValueError if there is none."""
        for port in self.ports:
            if port.name == name:
                return port
        raise ValueError(
            f"Design {self.top} port must be one of "
            f"{', '.join(port.name for port in self.ports)}, not {name!r}"
        )


@dataclass(frozen=True)
class Job:
    """One scenario: reset, then data through every port until all outputs have come.

    Cycle 0 is the first one after the reset: stall patterns begin there, and a source or sink
    without stalls offers or accepts from there on.

    Parameters
    ----------
    inputs : dict from port name to the words it offers, each an int in [0, 2**bits)
    outputs : dict from port name to the number of words expected
    design : str
        Top of the design; may be left out where there is only one.
    name : str
        What messages call the job.
    stalls : (float, float)
        Chance per cycle that an idle source offers, and that a sink accepts.
    patterns : dict from port name to a string of 0 and 1, repeated for ever, or "wait"
        Replaces the chance for that port; a sink that waits accepts only after it has seen valid,
        which finds a valid that depends on ready.
    last : dict from port name to transfers per frame, or one bool per word
        For inputs that have a last signal; without an entry it is low.
    user : dict from port name to one bool per word
        For inputs that have a user signal; without an entry it is low.
    seed : int
    reset_cycles : int, at least 1
    cut : int or None
        Cycle in which the reset of the next job interrupts this one; what has come until then is
        the result.
    patience : int
        Cycles without a transfer on any port after which the design is said to hang.
    drain : int
        Cycles at the end in which no output may offer anything more.
    """

    inputs: Mapping[str, Sequence[int]]
    outputs: Mapping[str, int]
    design: str = ""
    name: str = ""
    stalls: tuple[float, float] = (1.0, 1.0)
    patterns: Mapping[str, str] = field(default_factory=dict)
    last: Mapping[str, int | Sequence[bool]] = field(default_factory=dict)
    user: Mapping[str, Sequence[bool]] = field(default_factory=dict)
    seed: int = 0
    reset_cycles: int = 1
    cut: int | None = None
    patience: int = 10_000
    drain: int = 16

    def __post_init__(self) -> None:
        for chance in self.stalls:
            if not 0 < chance <= 1:
                raise ValueError(f"Job stalls must be above 0 and at most 1, not {chance!r}")
        for name, pattern in self.patterns.items():
            if pattern != "wait" and not re.fullmatch("0*1[01]*", pattern):
                raise ValueError(
                    f"Job pattern of {name} must be 'wait' or 0s and 1s with a 1, not {pattern!r}"
                )
        for field_name in ("reset_cycles", "cut", "patience"):
            value = getattr(self, field_name)
            if value is not None and value < 1:
                raise ValueError(f"Job {field_name} must be at least 1, not {value}")

    def words(self, port: StreamPort) -> list[int]:
        """The words this job offers at ``port``, with ``last`` and ``user`` as their top bits."""
        words = [int(word) for word in self.inputs[port.name]]
        for word in words:
            if not 0 <= word < 1 << port.bits:
                raise ValueError(
                    f"Job word for {port.name} must be in [0, 2**{port.bits}), not {word:#x}"
                )
        if port.user is not None and port.name in self.user:
            words = self._with(words, port, "user", self.user[port.name], port.user_bit)
        if port.last is None:
            return words
        last = self.last.get(port.name, 0)
        if isinstance(last, int):
            last = [last > 0 and not k % last for k in range(1, len(words) + 1)]
        return self._with(words, port, "last", last, port.bits)

    @staticmethod
    def _with(
        words: list[int], port: StreamPort, what: str, flags: Sequence[bool], place: int
    ) -> list[int]:
        """Words with a bit more each."""
        if len(flags) != len(words):
            raise ValueError(
                f"Job {what} of {port.name} must have {len(words)} entries, not {len(flags)}"
            )
        return [w | bool(flag) << place for w, flag in zip(words, flags, strict=True)]
