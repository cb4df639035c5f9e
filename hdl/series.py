# SPDX-License-Identifier: Apache-2.0
"""Circuits one behind the other."""

from typing import Any

from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import connect, flipped


class Series(wiring.Component):
    """Circuits in a row: the stream ``o`` of each is the stream ``i`` of the next.

    Parameters
    ----------
    parts : submodule name -> circuit, in the order of the data

    Members
    -------
    every port of the first circuit but ``o``, and ``o`` of the last
    """

    def __init__(self, **parts: Any):
        self._parts = parts
        first, last = next(iter(parts.values())), list(parts.values())[-1]
        inputs = {n: member for n, member in first.signature.members.items() if n != "o"}
        super().__init__({**inputs, "o": last.signature.members["o"]})

    def elaborate(self, platform):
        m = Module()
        stream = None
        for name, part in self._parts.items():
            m.submodules[name] = part
            if stream is None:
                for port in self.signature.members:
                    if port != "o":
                        connect(m, flipped(getattr(self, port)), getattr(part, port))
            else:
                connect(m, stream, part.i)
            stream = part.o
        connect(m, stream, flipped(self.o))
        return m
