# SPDX-License-Identifier: Apache-2.0
"""Trains the residual network on the handwritten digits and writes ``digits.onnx``.

Needs the extra ``train`` and half a minute. Run in the project's root:
``python -m examples.digits.train``.
"""

import argparse
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import nn

from examples.digits.data import digits
from examples.training import shifted


class Residual(nn.Module):
    """``y = relu(x + W2 relu(W1 x + b1) + b2)``, shape (N, width) -> (N, width)."""

    def __init__(self, width: int):
        super().__init__()
        self.fc1 = nn.Linear(width, width)
        self.fc2 = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.fc2(torch.relu(self.fc1(x))))


class Digits(nn.Module):
    """64 pixels -> 32 features -> residual module -> 10 logits; image (N, 1, 8, 8)."""

    def __init__(self, width: int = 32):
        super().__init__()
        self.fc1 = nn.Linear(64, width, bias=False)
        self.norm = nn.BatchNorm1d(width)
        self.residual = Residual(width)
        self.fc2 = nn.Linear(width, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.fc1(image.flatten(1))))
        return self.fc2(self.residual(x))


def train(seed: int, epochs: int) -> tuple[Digits, float]:
    """The trained network in evaluation mode, and its accuracy on the held-out digits."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(seed)
    (images, labels), (held_images, held_labels) = digits()
    x, y = torch.from_numpy(images), torch.from_numpy(labels)
    network = Digits()
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.004, weight_decay=0.05)
    batches = (len(x) + 63) // 64
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=epochs * batches)
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.05)
    for _ in range(epochs):
        for chosen in torch.randperm(len(x), generator=generator).split(64):
            optimizer.zero_grad()
            loss_of(network(shifted(x[chosen], generator)), y[chosen]).backward()
            optimizer.step()
            schedule.step()
    network.eval()
    with torch.no_grad():
        predicted = network(torch.from_numpy(held_images)).argmax(1).numpy()
    return network, float(np.mean(predicted == held_labels))


def export(network: Digits, path: Path) -> None:
    """Write ``network`` as one ONNX file, ``image`` (N, 1, 8, 8) -> ``logits`` (N, 10).

    Written node by node rather than by PyTorch's exporter, whose files hold source paths and tool
    versions and change with each release.
    """
    state = {name: value.numpy() for name, value in network.state_dict().items()}
    state = {name: value for name, value in state.items() if value.dtype == np.float32}

    def linear(name: str, x: str, y: str) -> onnx.NodeProto:
        parameters = [p for p in (f"{name}.weight", f"{name}.bias") if p in state]
        return helper.make_node("Gemm", [x, *parameters], [y], name=name, transB=1)

    norm = [f"norm.{p}" for p in ("weight", "bias", "running_mean", "running_var")]
    nodes = [
        helper.make_node("Flatten", ["image"], ["pixels"], name="flatten", axis=1),
        linear("fc1", "pixels", "fc1.y"),
        helper.make_node(
            "BatchNormalization",
            ["fc1.y", *norm],
            ["norm.y"],
            name="norm",
            epsilon=network.norm.eps,
        ),
        helper.make_node("Relu", ["norm.y"], ["features"], name="relu"),
        linear("residual.fc1", "features", "residual.fc1.y"),
        helper.make_node("Relu", ["residual.fc1.y"], ["residual.relu1.y"], name="residual.relu1"),
        linear("residual.fc2", "residual.relu1.y", "residual.fc2.y"),
        helper.make_node(
            "Add", ["features", "residual.fc2.y"], ["residual.add.y"], name="residual.add"
        ),
        helper.make_node("Relu", ["residual.add.y"], ["residual.y"], name="residual.relu2"),
        linear("fc2", "residual.y", "logits"),
    ]
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["N", 1, 8, 8])],
        [helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["N", 10])],
        [numpy_helper.from_array(value, name) for name, value in state.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="train the digits network")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("digits.onnx"))
    arguments = parser.parse_args()
    trained, accuracy = train(arguments.seed, arguments.epochs)
    print(f"seed {arguments.seed}: {accuracy:.4f} of the held-out digits are right")
    export(trained, arguments.output)
