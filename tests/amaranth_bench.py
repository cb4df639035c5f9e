# SPDX-License-Identifier: Apache-2.0
"""Small stream components in Amaranth's own simulator, with the cycle of every transfer."""

import random

from amaranth import ClockDomain, Module
from amaranth.lib import wiring
from amaranth.sim import Simulator


def run(
    component: wiring.Component,
    inputs: dict[str, list],
    outputs: dict[str, int],
    *,
    offer: float = 1.0,
    accept: float = 1.0,
    seed: int = 0,
    max_cycles: int = 20_000,
) -> dict[str, list[tuple[int, object]]]:
    """Feed each input port; return (cycle, payload) of every transfer of every port.

    ``offer`` and ``accept`` are the chances that a source offers and a sink accepts in a cycle.
    """
    transfers: dict[str, list[tuple[int, object]]] = {name: [] for name in (*inputs, *outputs)}
    ports = {name: getattr(component, name) for name in transfers}

    async def bench(ctx):
        chance = random.Random(seed)
        offering = dict.fromkeys(inputs, False)
        for cycle in range(max_cycles):
            for name, words in inputs.items():
                left = len(transfers[name]) < len(words)
                offering[name] = left and (offering[name] or chance.random() < offer)
                ctx.set(ports[name].valid, offering[name])
                if offering[name]:
                    ctx.set(ports[name].payload, words[len(transfers[name])])
            for name in outputs:
                ctx.set(ports[name].ready, chance.random() < accept)
            for name, port in ports.items():
                if ctx.get(port.valid) and ctx.get(port.ready):
                    transfers[name].append((cycle, ctx.get(port.payload)))
                    offering[name] = False
            await ctx.tick()
            if all(len(transfers[name]) >= count for name, count in outputs.items()):
                return
        counts = {name: len(transfers[name]) for name in outputs}
        raise TimeoutError(f"Got {counts} of {outputs} outputs in {max_cycles} cycles")

    top = Module()
    top.domains.sync = ClockDomain()  # a component of wires has none
    top.submodules.component = component
    simulator = Simulator(top)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return transfers
