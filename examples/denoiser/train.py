# SPDX-License-Identifier: Apache-2.0
"""Trains the denoiser and writes ``denoiser.onnx``.

Needs the extra ``train`` and two minutes. Run in the project's root:
``python -m examples.denoiser.train``.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from examples.denoiser.data import gain, held_out, training
from examples.training import export, fit, predict


class Denoiser(nn.Module):
    """Two strided convolutions down to 16 positions, one between, two transposed ones up again."""

    def __init__(self) -> None:
        super().__init__()
        self.down1 = nn.Conv1d(1, 8, 5, stride=2, padding=2)
        self.down2 = nn.Conv1d(8, 16, 5, stride=2, padding=2)
        self.middle = nn.Conv1d(16, 16, 3, padding=1)
        self.up1 = nn.ConvTranspose1d(16, 8, 4, stride=2, padding=1)
        self.up2 = nn.ConvTranspose1d(8, 1, 4, stride=2, padding=1)

    def forward(self, noisy: Tensor) -> Tensor:
        """Noisy (N, 1, 64) -> denoised (N, 1, 64)."""
        x = torch.relu(self.down1(noisy))
        x = torch.relu(self.down2(x))
        x = torch.relu(self.middle(x))
        x = torch.relu(self.up1(x))
        return self.up2(x)


def main() -> None:
    torch.manual_seed(1)
    torch.set_num_threads(1)
    noisy, clean = training()
    network = Denoiser()
    fit(network, nn.MSELoss(), noisy, clean, epochs=60, rate=0.01)
    held_noisy, held_clean = held_out()
    improved = gain(held_noisy, held_clean, predict(network, held_noisy))
    print(f"{sum(p.numel() for p in network.parameters())} parameters, {improved:.2f} dB gained")
    export(network, noisy[:2], Path(__file__).with_name("denoiser.onnx"), ("noisy", "denoised"))


if __name__ == "__main__":
    main()
