# SPDX-License-Identifier: Apache-2.0
"""Trains an LSTM on the digits, row by row, and writes ``digits_lstm.onnx``.

Needs the extra ``train`` and two minutes. Run in the project's root:
``python -m examples.digits_lstm.train``.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from examples.digits.data import digits
from examples.training import export, fit, predict, shifted


class DigitsLstm(nn.Module):
    """An LSTM of 32 units reads the rows from the top; its last output gives 10 logits."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 32, batch_first=True)
        self.fc = nn.Linear(32, 10)

    def forward(self, rows: Tensor) -> Tensor:
        """Rows (N, 8, 8) -> logits (N, 10)."""
        return self.fc(self.lstm(rows)[0][:, -1])


def main() -> None:
    torch.manual_seed(1)
    torch.set_num_threads(1)
    (images, labels), (held_images, held_labels) = digits()
    network = DigitsLstm()
    fit(
        network,
        nn.CrossEntropyLoss(label_smoothing=0.05),
        images[:, 0] / 16,
        labels,
        epochs=80,
        rate=0.01,
        augment=lambda rows, generator: shifted(rows[:, None], generator)[:, 0],
    )
    network.lstm.weight_ih_l0.data /= 16  # trained on pixels from 0 to 1, used on 0 to 16
    right = (predict(network, held_images[:, 0]).argmax(1) == held_labels).mean()
    print(f"{sum(p.numel() for p in network.parameters())} parameters, accuracy {right:.4f}")
    export(network, images[:2, 0], Path(__file__).with_name("digits_lstm.onnx"), ("rows", "logits"))


if __name__ == "__main__":
    main()
