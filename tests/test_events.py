# SPDX-License-Identifier: Apache-2.0
"""Timed event graphs against schedules written by hand and a relaxation that knows no order."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from refusal import refused

from hdl import Deadlock, Events, Fifo, Fork, Gather, Scatter, Schedule, chain, pipeline_events
from hdl.events import MAX_FRAMES, NEVER

ROOT = Path(__file__).parents[1]


def relaxed(graph, frames):
    """Times by relaxation: all 0, then every edge again and again until nothing changes."""
    times = {name: [0] * (n * frames) for name, n in graph.firings.items()}
    changed = True
    rounds = 0
    while changed:
        changed = False
        rounds += 1
        assert rounds < 10_000
        for edge in graph.edges:
            to, source = graph.firings[edge.target], graph.firings[edge.source]
            for frame in range(frames):
                for k, (index, delay) in enumerate(
                    zip(edge.index.tolist(), edge.delay.tolist(), strict=True)
                ):
                    place = frame * source + index
                    if place < 0:
                        continue
                    earliest = times[edge.source][place] + delay
                    if earliest > times[edge.target][frame * to + k]:
                        times[edge.target][frame * to + k] = earliest
                        changed = True
    return {name: np.reshape(values, (frames, -1)).tolist() for name, values in times.items()}


def ring(words, depth, there, back):
    """A source and a sink, ``there`` cycles apart, with ``depth`` words between them."""
    graph = Events()
    graph.event("i", words)
    graph.event("o", words)
    graph.after("o", "i", there)
    graph.after("i", "o", back, np.arange(words) - depth)
    return graph


def random_graph(seed):
    """Events of up to 5 firings; every edge goes forwards in a frame or to an earlier frame."""
    random = np.random.default_rng(seed)
    graph = Events()
    names = [f"e{n}" for n in range(random.integers(1, 6))]
    for name in names:
        graph.event(name, int(random.integers(1, 6)), int(random.integers(1, 4)))
    for _ in range(random.integers(0, 10)):
        a, b = sorted(random.integers(0, len(names), 2).tolist())
        source, target = (names[a], names[b]) if a < b and random.integers(2) else (names[b],) * 2
        if random.integers(3) == 0:
            source, target = names[b], names[a]
        back = names.index(source) >= names.index(target)
        n, m = graph.firings[target], graph.firings[source]
        index = random.integers(-3 * m, -m + 1 if back else m, n)
        index[random.integers(0, 4, n) == 0] = NEVER
        graph.after(target, source, random.integers(0, 7, n), index)
    for name in names:  # as in a circuit nothing runs away from the rest: all hold each other back
        for target, source, back in ((name, names[0], 0), (names[0], name, 4)):
            if target != source:
                n, m = graph.firings[target], graph.firings[source]
                graph.after(target, source, 1, np.arange(n) * m // n - back * m)
    return graph


@pytest.mark.parametrize("seed", range(60))
def test_times_equal_a_relaxation(seed):
    graph = random_graph(seed)
    found = {name: times.tolist() for name, times in graph.times(5).items()}
    assert found == relaxed(graph, 5)


def one_by_one(graph, frames):
    """Times of each event, firing by firing as long as any can be computed; the first event that
    does not get to its end, and how far it gets, if there is one.
    """
    times = {name: [] for name in graph.firings}
    rules = {name: [e for e in graph.edges if e.target == name] for name in graph.firings}
    moved = True
    while moved:
        moved = False
        for name, firings in graph.firings.items():
            while len(times[name]) < frames * firings:
                frame, k = divmod(len(times[name]), firings)
                earliest = [0]
                for edge in rules[name]:
                    place = frame * graph.firings[edge.source] + int(edge.index[k])
                    if place >= len(times[edge.source]):
                        break
                    if place >= 0:
                        earliest.append(times[edge.source][place] + int(edge.delay[k]))
                else:
                    times[name].append(max(earliest))
                    moved = True
                    continue
                break
    for name, firings in graph.firings.items():
        if len(times[name]) < frames * firings:
            return times, (name, len(times[name]))
    return times, None


def tangled_graph(seed):
    """Events with edges from anywhere in this frame or two before: some of them hang."""
    random = np.random.default_rng(seed)
    graph = Events()
    for n in range(random.integers(1, 8)):
        graph.event(f"e{n}", int(random.integers(1, 9)), (None, 0, 1, 3)[random.integers(4)])
    for _ in range(random.integers(0, 12)):
        target, source = random.choice(list(graph.firings), 2)
        n, m = graph.firings[target], graph.firings[source]
        # in step with the source but for a lead or a lag, which decides whether they hang
        index = np.arange(n) * m // n + random.integers(-2 * m, 2) + random.integers(-1, 1, n)
        index[random.integers(0, 4, n) == 0] = NEVER
        graph.after(target, source, random.integers(0, 7, n), index)
    return graph


def test_times_equal_those_of_firings_one_by_one_and_so_does_what_hangs():
    hanging = 0
    for seed in range(400):
        graph = tangled_graph(seed)
        frames = 1 + seed % 4
        wanted, stuck = one_by_one(graph, frames)
        if stuck:
            hanging += 1
            name, firing = stuck
            with refused(
                Deadlock,
                f"Events {name} must not wait for itself, but firing {firing} does: "
                "the circuit would hang",
            ):
                graph.times(frames)
        else:
            found = {name: times.ravel().tolist() for name, times in graph.times(frames).items()}
            assert found == wanted, seed
    assert 100 < hanging < 300


@pytest.mark.parametrize("seed", range(60))
def test_a_schedule_repeats_every_period_for_ever(seed):
    graph = random_graph(seed)
    names = list(graph.firings)
    schedule = graph.schedule(names[:1], names)
    frames = schedule.start + 3 * schedule.period + 6
    times = graph.times(frames)
    for name in names:
        last = times[name][:, -1]
        later = times[name][schedule.start + schedule.period :]
        growth = later - times[name][schedule.start : frames - schedule.period]
        assert (growth == growth[0, 0]).all()
        steps = np.diff(last[schedule.start :][: schedule.period + 1])
        assert schedule.longest_interval >= steps.max()
        assert schedule.interval >= growth[0, 0] / schedule.period
    assert schedule.latency == max(times[n][0, -1] for n in names) - times[names[0]][0, 0]


@pytest.mark.parametrize(
    "graph",
    [
        Fifo.events(3, 4),
        Fork.events(2, 3),
        Gather.events(3, 2),
        Scatter.events(2, 3),
        pipeline_events(3, 2),
        ring(2, 3, 4, 1),
    ],
    ids=["fifo", "fork", "gather", "scatter", "pipeline", "ring"],
)
def test_a_graph_repeated_has_the_same_times(graph):
    for times in (1, 2, 3):
        found = graph.repeated(times).times(4)
        for name, wanted in graph.times(4 * times).items():
            assert found[name].ravel().tolist() == wanted.ravel().tolist()


def test_a_graph_repeated_once_is_itself_and_keeps_its_ports():
    graph = pipeline_events(0, 3)
    assert graph.repeated(1) is graph
    assert graph.repeated(2).port("o") == "i"
    assert graph.repeated(2).firings == {"i": 6}


def test_a_wire_is_one_event():
    graph = pipeline_events(0, 2)
    assert graph.port("i") == graph.port("o") == "i"
    assert graph.port("unknown") == "unknown"
    assert graph.times(2)["i"].tolist() == [[0, 1], [2, 3]]
    schedule = graph.schedule(["i"], ["i"])
    assert (schedule.latency, schedule.interval, schedule.longest_interval) == (1, 2, 2)


def test_a_pipeline_has_its_stages_as_latency():
    schedule = pipeline_events(5, 3).schedule(["i"], ["o"])
    assert (schedule.latency, schedule.interval, schedule.start, schedule.period) == (7, 3, 0, 1)
    assert schedule.completions["o"].tolist()[:4] == [7, 10, 13, 16]


@pytest.mark.parametrize(
    ("depth", "there", "back", "interval"), [(1, 1, 1, 2), (2, 4, 1, 2.5), (3, 7, 1, 8 / 3)]
)
def test_a_ring_has_the_interval_of_its_mean_cycle(depth, there, back, interval):
    """``depth`` words in flight over a way of ``there + back`` cycles."""
    schedule = ring(1, depth, there, back).schedule(["i"], ["o"])
    assert schedule.interval == interval
    assert schedule.longest_interval >= interval


def test_a_period_may_be_longer_than_a_frame():
    """Two words travel a ring of five cycles: 0 1, 5 6, 10 11, a frame being one word."""
    graph = ring(1, 2, 4, 1)
    schedule = graph.schedule(["i"], ["o"])
    assert schedule.times["i"].ravel().tolist()[:6] == [0, 1, 5, 6, 10, 11]
    assert (schedule.start, schedule.period) == (0, 2)
    assert (schedule.interval, schedule.longest_interval, schedule.latency) == (2.5, 4, 4)


def test_a_start_before_the_period_is_seen():
    """The buffer fills during the first frames, then the slow end decides."""
    graph = Events()
    graph.event("i", 1)
    graph.event("o", 1, 4)
    graph.after("o", "i", 1)
    graph.after("i", "o", 1, np.array([-3]))
    schedule = graph.schedule(["i"], ["o"])
    assert schedule.times["i"].ravel().tolist()[:8] == [0, 1, 2, 3, 6, 10, 14, 18]
    assert schedule.times["o"].ravel().tolist()[:8] == [1, 5, 9, 13, 17, 21, 25, 29]
    assert (schedule.start, schedule.period, schedule.interval) == (4, 1, 4)
    assert schedule.occupancy("i", "o") == 3


def test_parts_that_do_not_hang_together_have_periods_of_their_own():
    """The common period is that of all; the slowest output decides the interval."""
    graph = ring(1, 2, 4, 1)
    other = ring(1, 3, 7, 1)
    graph.include(other, "other.")
    schedule = graph.schedule(["i", "other.i"], ["o", "other.o"])
    assert schedule.period == 6  # of 2 and 3
    assert schedule.interval == 8 / 3
    assert schedule.latency == 7
    assert schedule.longest_interval == 6
    assert graph.schedule(["i"], ["o"]).interval == 2.5


def test_an_event_of_many_frames_back_is_awaited():
    graph = Events()
    graph.event("i", 2)
    graph.after("i", "i", 30, np.arange(2) - 9)
    times = graph.times(10)["i"].ravel().tolist()
    assert times == [*range(9), *range(30, 39), 60, 61]
    assert graph.schedule(["i"], ["i"]).period == 9


@pytest.mark.parametrize("seed", range(10))
def test_occupancy_is_the_most_words_at_the_end_of_a_cycle(seed):
    random = np.random.default_rng(seed)
    graph = Events()
    graph.event("write", 4)
    graph.event("read", 4)
    graph.after("write", "write", random.integers(1, 4, 4), np.arange(4) - 1)
    graph.after("read", "read", random.integers(1, 4, 4), np.arange(4) - 1)
    graph.after("read", "write", random.integers(1, 5, 4))
    graph.after("write", "read", 1, np.arange(4) - 6)
    schedule = graph.schedule(["write"], ["read"])
    writes = schedule.times["write"].ravel()
    reads = schedule.times["read"].ravel()
    held = [(writes <= t).sum() - (reads <= t).sum() for t in range(writes[-1] + 1)]
    assert schedule.occupancy("write", "read") == max(held)
    room = schedule.room("write", "read")

    def waits(depth):
        """Whether some word would come before the one whose place it takes is read."""
        return (writes[depth:] <= reads[: len(reads) - depth]).any()

    assert waits(room - 1)
    assert not waits(room)


def test_a_wire_makes_one_event_of_its_ends():
    graph = Fifo.events(2, 3)
    graph.include(Fifo.events(2, 3), "next.")
    graph.ports["x"] = "next.i"
    assert graph.unite([("o", "next.i")]) == {"next.i": "o"}
    assert graph.ports["x"] == "o"
    assert list(graph.firings) == ["i", "o", "next.o"]
    chained = chain(Fifo.events(2, 3), Fifo.events(2, 3)).schedule(["i"], ["o"])
    found = graph.schedule(["i"], ["next.o"])
    assert (found.latency, found.interval) == (chained.latency, chained.interval)


def test_ends_of_a_wire_with_other_numbers_of_firings_are_refused():
    graph = Scatter.events(2, 3)
    with refused(ValueError, "Events i must have 3 firings a frame, not 6"):
        graph.unite([("i", "o")])


def test_a_chain_may_end_with_wires():
    graph = chain(Fifo.events(2, 3), pipeline_events(0, 3))
    assert graph.port("o") == "link_1"
    assert graph.schedule(["i"], ["link_1"]).latency == 3


def test_a_full_buffer_holds_its_depth():
    graph = chain(Fifo.events(3, 4), Scatter.events(4, 4))
    schedule = graph.schedule(["i"], ["o"])
    assert schedule.interval == 16
    assert schedule.occupancy("i", "link_1") == 3


def test_a_chain_joins_the_ports():
    graph = chain(pipeline_events(2, 6), Gather.events(3, 2), pipeline_events(1, 2))
    assert graph.firings == {"i": 6, "link_1": 6, "link_2": 2, "o": 2}
    times = graph.times(1)
    assert times["link_1"].tolist() == [[2, 3, 4, 5, 6, 7]]
    assert times["link_2"].tolist() == [[5, 8]]
    assert times["o"].tolist() == [[6, 9]]


def test_a_chain_of_one_graph_is_that_graph():
    assert chain(Fifo.events(2, 3)).firings == {"i": 3, "o": 3}


def test_a_chain_of_wires_before_its_end_is_refused():
    with refused(ValueError, "chain graphs must have registers between their ports"):
        chain(pipeline_events(0), pipeline_events(1))


def test_events_of_another_number_of_firings_are_refused():
    graph = Fifo.events(2, 3)
    with refused(ValueError, "Events i must have 3 firings a frame, not 4"):
        graph.include(Fifo.events(2, 4))
    with refused(ValueError, "Events link_1 must have 3 firings a frame, not 2"):
        chain(Fifo.events(2, 3), Fifo.events(2, 2))


def test_an_event_of_a_known_name_is_refused():
    graph = Fifo.events(2, 3)
    with refused(ValueError, "Events name must be new, not 'o'"):
        graph.event("o", 1)


def test_events_that_two_parts_share_satisfy_both():
    graph = Events()
    graph.event("o", 1, 5)
    graph.include(pipeline_events(2), rename={"i": "start"})
    assert graph.firings == {"o": 1, "start": 1}
    assert graph.times(3)["o"].ravel().tolist() == [2, 7, 12]


def test_a_circle_without_a_word_is_a_circuit_that_hangs():
    graph = Events()
    graph.event("a", 2)
    graph.event("b", 2)
    graph.after("b", "a", 1)
    graph.after("a", "b", 1, [NEVER, 1])  # the second firing waits for what waits for it
    message = "Events a must not wait for itself, but firing 1 does: the circuit would hang"
    with refused(RuntimeError, message):
        graph.times(2)
    with refused(RuntimeError, message):
        graph.schedule(["a"], ["b"])


def test_a_firing_that_waits_for_a_later_one_is_a_circuit_that_hangs():
    graph = Events()
    graph.event("a", 3)
    graph.after("a", "a", 1, [NEVER, 2, NEVER])
    with refused(
        RuntimeError,
        "Events a must not wait for itself, but firing 1 does: the circuit would hang",
    ):
        graph.times(1)


def test_a_residual_way_too_short_for_its_module_hangs():
    """The module gathers a whole vector before it gives a word; the way around it holds two."""

    def network(depth):
        graph = Events()
        graph.include(Fork.events(2, 4), rename={"i": "i", "o_0": "module", "o_1": "around"})
        graph.include(Gather.events(4, 1), rename={"i": "module", "o": "whole"})
        graph.include(Scatter.events(4, 1), rename={"i": "whole", "o": "o"})
        graph.include(Fifo.events(depth, 4), rename={"i": "around", "o": "o"})
        return graph

    assert network(6).schedule(["i"], ["o"]).interval == 4
    assert network(4).schedule(["i"], ["o"]).interval > 4
    with refused(
        RuntimeError,
        "Events i must not wait for itself, but firing 2 does: the circuit would hang",
    ):
        network(2).times(2)


def test_a_schedule_without_a_period_in_reach_is_refused():
    """A source a cycle faster than its sink, a million words ahead before it feels that."""
    graph = Events()
    graph.event("i", 1)
    graph.event("o", 1)
    graph.after("i", "i", 1000, np.array([-1]))
    graph.after("o", "o", 1001, np.array([-1]))
    graph.after("o", "i", 1_000_000_000)
    graph.after("i", "o", 1, np.array([-1_500_000]))
    with refused(RuntimeError, f"Events schedule must become periodic within {MAX_FRAMES} frames"):
        graph.schedule(["i"], ["o"])


def test_later_evaluations_continue_where_earlier_ended():
    graph = Fifo.events(3, 5)
    long, short = graph.times(9), graph.times(2)
    for name in ("i", "o"):
        assert long[name][:2].tolist() == short[name].tolist()


def test_schedules_are_evaluated_where_compiled_code_cannot_be_kept():
    script = (
        "from numba.core.caching import CacheImpl; CacheImpl._locator_classes = [];"
        "from hdl import Fifo; print(Fifo.events(1, 4).schedule(['i'], ['o']).interval)"
    )
    command = [sys.executable, "-c", script]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (told.stdout, told.stderr) == ("8.0\n", "")


def test_a_schedule_may_be_made_of_times():
    times = {"i": np.array([[0, 1], [4, 5]]), "o": np.array([[2, 3], [6, 9]])}
    schedule = Schedule(times, ("i",), ("o",), 0, 1)
    assert (schedule.latency, schedule.interval, schedule.longest_interval) == (3, 6, 6)
