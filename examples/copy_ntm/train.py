# SPDX-License-Identifier: Apache-2.0
"""Trains the Neural Turing Machine to copy and writes ``copy_ntm.npz``.

Needs the extra ``train`` and five minutes. Run in the project's root:
``python -m examples.copy_ntm.train``.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from examples.copy_ntm.data import BITS, TRAINED, held_out, sequences
from examples.copy_ntm.machine import EPSILON, WIDTH, WORDS, run
from examples.draws import Draws

HIDDEN = 32
BATCHES = 3000


class CopyNtm(nn.Module):
    """The machine of ``machine.py`` again, so that PyTorch can differentiate it."""

    def __init__(self) -> None:
        super().__init__()
        address = WIDTH + 5  # key, strength, gate and three shifts
        self.controller = nn.Linear(BITS + 1 + WIDTH, HIDDEN)
        self.reader = nn.Linear(HIDDEN, address)
        self.writer = nn.Linear(HIDDEN, address + 2 * WIDTH)
        self.output = nn.Linear(HIDDEN + WIDTH, BITS)

    def forward(self, x: Tensor) -> Tensor:
        """x (N, steps, 9) -> logits (N, steps, 8)."""
        memory = x.new_zeros(len(x), WORDS, WIDTH)
        read = x.new_zeros(len(x), WIDTH)
        reading = writing = nn.functional.one_hot(x.new_zeros(len(x)).long(), WORDS).to(x)
        logits = []
        for now in x.unbind(1):
            hidden = torch.tanh(self.controller(torch.cat([now, read], 1)))
            reading, _ = self.moved(self.reader(hidden), memory, reading)
            writing, rest = self.moved(self.writer(hidden), memory, writing)
            read = (reading[:, None] @ memory)[:, 0]
            erase, add = rest.split(WIDTH, 1)
            kept = 1 - writing[..., None] * torch.sigmoid(erase)[:, None]
            memory = memory * kept + writing[..., None] * torch.tanh(add)[:, None]
            logits.append(self.output(torch.cat([hidden, read], 1)))
        return torch.stack(logits, 1)

    def moved(self, raw: Tensor, memory: Tensor, head: Tensor) -> tuple[Tensor, Tensor]:
        key, strength, gate, shift, rest = raw.split([WIDTH, 1, 1, 3, raw.shape[1] - 21], 1)
        key = torch.tanh(key)
        lengths = torch.sqrt((memory**2).sum(2) + 1e-12) * key.norm(dim=1)[:, None]
        cosine = (memory @ key[..., None])[..., 0] / (lengths + EPSILON)
        content = torch.softmax(nn.functional.softplus(strength) * cosine, 1)
        head = torch.lerp(head, content, torch.sigmoid(gate))
        back, stay, on = torch.softmax(shift, 1).split(1, 1)
        head = back * head.roll(-1, 1) + stay * head + on * head.roll(1, 1)
        return head**2 / (head**2).sum(1, keepdim=True), rest


def main() -> None:
    torch.manual_seed(1)
    torch.set_num_threads(1)
    draws = Draws(1)
    network = CopyNtm()
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=BATCHES)
    loss_of = nn.BCEWithLogitsLoss()
    for batch in range(BATCHES):
        length = 1 + int(draws.below(TRAINED, 1)[0])
        x, bits = map(torch.from_numpy, sequences(draws, 32, length))
        loss = loss_of(network(x)[:, length:], bits)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if batch % 250 == 0:
            print(f"batch {batch}: loss {loss.item():.4f}", flush=True)
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    x, bits = held_out()
    answers = run(weights, x)
    with torch.no_grad():
        difference = np.abs(network(torch.from_numpy(x)).numpy() - answers).max()
    right = ((answers[:, bits.shape[1] :] > 0) == bits).mean()
    print(f"{sum(p.numel() for p in network.parameters())} parameters, {right:.4f} of bits right")
    print(f"numpy and PyTorch differ by {difference:.1e} at most")
    np.savez(Path(__file__).with_name("copy_ntm.npz"), **weights)


if __name__ == "__main__":
    main()
