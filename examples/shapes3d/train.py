# SPDX-License-Identifier: Apache-2.0
"""Trains the network that tells moving shapes apart and writes ``shapes3d.onnx``.

Needs the extra ``train`` and three minutes. Run in the project's root:
``python -m examples.shapes3d.train``.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from examples.shapes3d.data import CLASSES, held_out, training
from examples.training import export, fit, predict


class Shapes3d(nn.Module):
    """Convolution, pooling, convolution, mean of all positions, 8 logits."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(1, 8, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm3d(8)
        self.pool1 = nn.MaxPool3d(2)
        self.conv2 = nn.Conv3d(8, 16, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm3d(16)
        self.mean = nn.AdaptiveAvgPool3d(1)
        self.fc = nn.Linear(16, len(CLASSES))

    def forward(self, clip: Tensor) -> Tensor:
        """Clip (N, 1, 8, 12, 12) -> logits (N, 8)."""
        x = self.pool1(torch.relu(self.norm1(self.conv1(clip))))
        x = torch.relu(self.norm2(self.conv2(x)))
        return self.fc(self.mean(x).flatten(1))


def main() -> None:
    torch.manual_seed(1)
    torch.set_num_threads(1)
    clips, labels = training()
    network = Shapes3d()
    fit(network, nn.CrossEntropyLoss(label_smoothing=0.05), clips, labels, epochs=12, rate=0.02)
    held_clips, held_labels = held_out()
    right = (predict(network, held_clips).argmax(1) == held_labels).mean()
    print(f"{sum(p.numel() for p in network.parameters())} parameters, accuracy {right:.4f}")
    export(network, clips[:2], Path(__file__).with_name("shapes3d.onnx"), ("clip", "logits"))


if __name__ == "__main__":
    main()
