# SPDX-License-Identifier: Apache-2.0
"""Trains the residual convolutional network on the digits and writes ``digits_cnn.onnx``.

Needs the extra ``train`` and two minutes. Run in the project's root:
``python -m examples.digits_cnn.train``.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from examples.digits.data import digits
from examples.training import export, fit, predict, shifted


class Residual(nn.Module):
    """``y = relu(x + norm(conv(relu(norm(conv(x))))))``, shape (N, channels, H, W) kept."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu(x + self.norm2(self.conv2(y)))


class DigitsCnn(nn.Module):
    """Convolution, residual module, pooling, convolution, mean of all positions, 10 logits."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(8)
        self.residual = Residual(8)
        self.pool = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(8, 16, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(16)
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(16, 10)

    def forward(self, image: Tensor) -> Tensor:
        """Image (N, 1, 8, 8) -> logits (N, 10)."""
        x = torch.relu(self.norm1(self.conv1(image)))
        x = self.pool(self.residual(x))
        x = torch.relu(self.norm2(self.conv2(x)))
        return self.fc(self.mean(x).flatten(1))


def main() -> None:
    torch.manual_seed(1)
    torch.set_num_threads(1)
    (images, labels), (held_images, held_labels) = digits()
    network = DigitsCnn()
    loss = nn.CrossEntropyLoss(label_smoothing=0.05)
    fit(network, loss, images, labels, epochs=60, rate=0.02, augment=shifted)
    right = (predict(network, held_images).argmax(1) == held_labels).mean()
    print(f"{sum(p.numel() for p in network.parameters())} parameters, accuracy {right:.4f}")
    export(network, images[:2], Path(__file__).with_name("digits_cnn.onnx"), ("image", "logits"))


if __name__ == "__main__":
    main()
