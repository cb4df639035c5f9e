# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of timed event graphs, compiled: firings by the hundred million.

Apart from :mod:`hdl.events`, which imports it when the first schedule is wanted, because importing
a compiler takes its time. It is compiled once an installation, on first use.

The firings of a frame are numbered through, event after event: ``first[e] + k`` is firing k of
event e, which has ``firings[e]``. The edges to event e are those from ``begin[e]`` to
``begin[e + 1]``; what edge n says of firing k stands at ``row[n] + k`` of ``index`` and ``delay``.
"""

import numpy as np

from quant.compiled import compiled


@compiled
def order(firings, first, begin, source, row, index, frames):
    """Firings of the first ``frames`` frames in an order in which each follows what it waits for.

    Also the number of firings of each event that there is such an order for. Each event goes as far
    as it can, then waits for one other event, which wakes it.
    """
    events = len(firings)
    sequence = np.empty(frames * firings.sum(), np.int64)
    length = 0
    done = np.zeros(events, np.int64)
    todo = np.arange(events)[::-1].copy()
    height = events
    waiting = np.full(events, -1)  # first event that waits for an event
    following = np.full(events, -1)  # next that waits for the same event
    needed = np.zeros(events, np.int64)  # firing that an event waits for
    while height:
        height -= 1
        event = todo[height]
        begun, count = done[event], firings[event]
        frame = begun // count
        k = begun - frame * count
        blocked = False
        while frame < frames:
            for edge in range(begin[event], begin[event + 1]):
                other = source[edge]
                cause = frame * firings[other] + index[row[edge] + k]
                if cause >= done[other]:
                    following[event], waiting[other] = waiting[other], event
                    needed[event] = cause
                    blocked = True
                    break
            if blocked:
                break
            sequence[length] = first[event] + k
            length += 1
            done[event] += 1
            k += 1
            if k == count:
                frame, k = frame + 1, 0
        if done[event] > begun:
            other, still = waiting[event], -1
            while other >= 0:
                after = following[other]
                if needed[other] < done[event]:
                    todo[height] = other
                    height += 1
                else:
                    following[other] = still
                    still = other
                other = after
            waiting[event] = still
    return sequence[:length], done


@compiled
def causes(sequence, firings, first, begin, source, row, index, delay, awaited):
    """What each firing of a frame waits for, in the order of ``sequence``: (end, back, cycles).

    The causes of its n-th firing end before ``end[n]``, where those of the next begin. Each is the
    firing ``back`` places before the frame's first, behind it if negative. An ``index`` below
    ``awaited`` is none.
    """
    total = len(sequence)
    event_of = np.empty(total, np.int32)
    for event in range(len(firings)):
        event_of[first[event] : first[event] + firings[event]] = event
    end = np.empty(total, np.int64)
    back = np.empty(len(index), np.int64)
    cycles = np.empty(len(index), np.int64)
    length = 0
    for n in range(total):
        event = event_of[sequence[n]]
        k = sequence[n] - first[event]
        for edge in range(begin[event], begin[event + 1]):
            place = index[row[edge] + k]
            if place >= awaited:
                other = source[edge]
                if place < 0:
                    earlier = (firings[other] - 1 - place) // firings[other]
                    place += earlier * firings[other]
                    back[length] = earlier * total - first[other] - place
                else:
                    back[length] = -first[other] - place
                cycles[length] = delay[row[edge] + k]
                length += 1
        end[n] = length
    return end, back[:length], cycles[:length]


@compiled
def evaluate(times, known, sequence, end, back, cycles):
    """Fill ``times``, shape (frames, firings), whose first ``known`` frames are."""
    frames, total = times.shape
    flat = times.reshape(frames * total)
    for frame in range(known, frames):
        base = frame * total
        cause = 0
        for n in range(total):
            time = 0
            while cause < end[n]:
                place = base - back[cause]
                if place >= 0:
                    time = max(time, flat[place] + cycles[cause])
                cause += 1
            flat[base + sequence[n]] = time
