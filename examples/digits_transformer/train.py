# SPDX-License-Identifier: Apache-2.0
"""Trains a vision transformer on the digits and writes ``digits_transformer.onnx``.

Needs the extra ``train`` and five minutes. Run in the project's root:
``python -m examples.digits_transformer.train``.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from examples.digits.data import digits
from examples.training import export_program, fit, predict, shifted


class DigitsTransformer(nn.Module):
    """16 patches of 2 x 2 pixels become tokens of 16 features; 2 layers of 2 heads; 10 logits."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 16, 2, stride=2)
        self.positions = nn.Parameter(torch.randn(16, 16) * 0.1)
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.fc = nn.Linear(16, 10)

    def forward(self, image: Tensor) -> Tensor:
        """Image (N, 1, 8, 8) -> logits (N, 10)."""
        tokens = self.patches(image).flatten(2).transpose(1, 2) + self.positions
        return self.fc(self.encoder(tokens).mean(1))


def main() -> None:
    torch.manual_seed(1)
    torch.set_num_threads(1)
    (images, labels), (held_images, held_labels) = digits()
    network = DigitsTransformer()
    loss = nn.CrossEntropyLoss(label_smoothing=0.05)
    fit(network, loss, images / 16, labels, epochs=150, rate=0.006, augment=shifted)
    network.patches.weight.data /= 16  # trained on pixels from 0 to 1, used on 0 to 16
    right = (predict(network, held_images).argmax(1) == held_labels).mean()
    print(f"{sum(p.numel() for p in network.parameters())} parameters, accuracy {right:.4f}")
    path = Path(__file__).with_name("digits_transformer.onnx")
    export_program(network, images[:2], path, ("image", "logits"))


if __name__ == "__main__":
    main()
