# SPDX-License-Identifier: Apache-2.0
"""A small circuit against its numbers under stalls, and against every cycle of its event graph."""

from collections.abc import Callable
from typing import Any

from amaranth_bench import run

from hdl import Events

CHANCES = ((1.0, 1.0), (0.5, 0.5), (1.0, 0.3), (0.3, 1.0))
"""Chance per cycle that a source offers, that a sink accepts; the first never stalls."""


def plain(payload: Any) -> list[int]:
    """The lanes of a payload."""
    return [int(word) for word in payload]


def check_circuit(
    component: Callable[[], Any],
    inputs: dict[str, list],
    outputs: dict[str, list],
    events: Events,
    frames: int,
    read: Callable[[Any], Any] = plain,
) -> dict[str, list[int]]:
    """Exact outputs under four stall patterns, and without stalls every cycle of the event graph.

    Returns the cycles of the transfers of each port without stalls.
    """
    cycles: dict[str, list[int]] = {}
    counts = {name: len(words) for name, words in outputs.items()}
    for offer, accept in CHANCES:
        found = run(component(), inputs, counts, offer=offer, accept=accept)
        for name, words in outputs.items():
            got = [read(payload) for _, payload in found[name]]
            assert got == words, f"{name} under {offer}, {accept}: {got} is not {words}"
        if offer == accept == 1:
            times = events.times(frames)
            cycles = {name: [cycle for cycle, _ in moved] for name, moved in found.items()}
            for name, taken in cycles.items():
                wanted = times[events.port(name)].ravel().tolist()[: len(taken)]
                assert taken == wanted, f"{name} moves at {taken}, not {wanted}"
    return cycles
