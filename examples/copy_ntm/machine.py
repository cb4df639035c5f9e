# SPDX-License-Identifier: Apache-2.0
"""The Neural Turing Machine in floating point: what ``copy_ntm.npz`` means.

Source: A. Graves, G. Wayne, I. Danihelka, Neural Turing Machines, 2014, sections 3.1 to 3.4.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

WORDS, WIDTH = 64, 16
"""Rows and columns of the memory."""
EPSILON = 1e-3
"""Added to the product of norms, so that empty rows have a cosine of 0."""


class State(NamedTuple):
    """Memory (N, 64, 16), the last vector read (N, 16), and where the two heads are (N, 64)."""

    memory: NDArray
    read: NDArray
    reading: NDArray
    writing: NDArray


def start(count: int) -> State:
    """Memory and vector are 0, both heads are at row 0."""
    head = np.zeros((count, WORDS))
    head[:, 0] = 1
    return State(np.zeros((count, WORDS, WIDTH)), np.zeros((count, WIDTH)), head, head)


def step(weights: Mapping[str, NDArray], x: NDArray, state: State) -> tuple[NDArray, State]:
    """``(logits, state)`` after input x (N, 9); a logit above 0 is a bit that is 1.

    The controller is one layer of tanh over x and the vector read last. Both heads move; the read
    head reads; only then does the write head write. Logits come from controller and vector.
    """

    def linear(name: str, *parts: NDArray) -> NDArray:
        return np.concatenate(parts, 1) @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    hidden = np.tanh(linear("controller", x, state.read))
    reading, _ = _moved(linear("reader", hidden), state.memory, state.reading)
    writing, rest = _moved(linear("writer", hidden), state.memory, state.writing)
    read = np.einsum("nr,nrc->nc", reading, state.memory)
    erase, add = _sigmoid(rest[:, np.newaxis, :WIDTH]), np.tanh(rest[:, np.newaxis, WIDTH:])
    memory = state.memory * (1 - writing[..., np.newaxis] * erase) + writing[..., np.newaxis] * add
    return linear("output", hidden, read), State(memory, read, reading, writing)


def run(weights: Mapping[str, NDArray], x: NDArray) -> NDArray:
    """Logits of all steps; x (N, steps, 9) -> (N, steps, 8)."""
    state, logits = start(len(x)), []
    for column in x.swapaxes(0, 1):
        y, state = step(weights, column, state)
        logits.append(y)
    return np.stack(logits, axis=1)


def _moved(raw: NDArray, memory: NDArray, head: NDArray) -> tuple[NDArray, NDArray]:
    """Where the head goes, and what is left of ``raw`` behind its 21 address parameters."""
    key, strength, gate = np.tanh(raw[:, :WIDTH]), np.logaddexp(0, raw[:, 16:17]), raw[:, 17:18]
    lengths = np.linalg.norm(memory, axis=2) * np.linalg.norm(key, axis=1)[:, np.newaxis]
    cosine = np.einsum("nc,nrc->nr", key, memory) / (lengths + EPSILON)
    gate = _sigmoid(gate)
    head = gate * _softmax(strength * cosine) + (1 - gate) * head
    back, stay, on = _softmax(raw[:, 18:21]).T[..., np.newaxis]
    head = back * np.roll(head, -1, 1) + stay * head + on * np.roll(head, 1, 1)
    head = head**2  # sharpened with the constant exponent 2
    return head / head.sum(axis=1, keepdims=True), raw[:, 21:]


def _sigmoid(x: NDArray) -> NDArray:
    return 1 / (1 + np.exp(-x))


def _softmax(x: NDArray) -> NDArray:
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)
