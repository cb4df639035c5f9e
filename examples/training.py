# SPDX-License-Identifier: Apache-2.0
"""What the training scripts of the examples share; needs the extra ``train``."""

import ast
import io
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn


def shifted(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image moved by -1, 0 or 1 pixel either way, with zeros coming in at the border."""
    padded = nn.functional.pad(images, (1, 1, 1, 1))
    moves = torch.randint(0, 3, (len(images), 2), generator=generator)
    # half of the images stay where they are
    moves[torch.rand(len(images), generator=generator) < 0.5] = 1
    rows = moves[:, 0, None] + torch.arange(8)  # (N, 8)
    columns = moves[:, 1, None] + torch.arange(8)
    batch = torch.arange(len(images))[:, None, None]
    return padded[batch, 0, rows[:, :, None], columns[:, None, :]][:, None]


def fit(
    network: nn.Module,
    loss_of: Callable[[Tensor, Tensor], Tensor],
    x: np.ndarray,
    y: np.ndarray,
    epochs: int,
    rate: float,
    augment: Callable[[Tensor, torch.Generator], Tensor] = lambda x, generator: x,
) -> None:
    """Train ``network`` to give y for x in batches of 64, and leave it in evaluation mode.

    AdamW, whose learning rate rises to ``rate`` and falls to 0. Batches are drawn, and augmented,
    with a generator of fixed seed; seeding what the network itself draws is up to the caller.
    """
    generator = torch.Generator().manual_seed(1)
    inputs, targets = torch.from_numpy(x), torch.from_numpy(y)
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=0.05)
    steps = epochs * -(-len(x) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    network.train()
    for _ in range(epochs):
        for chosen in torch.randperm(len(x), generator=generator).split(64):
            optimizer.zero_grad()
            loss_of(network(augment(inputs[chosen], generator)), targets[chosen]).backward()
            optimizer.step()
            schedule.step()
    network.eval()


def predict(network: nn.Module, x: np.ndarray) -> np.ndarray:
    """What ``network`` gives for x."""
    with torch.no_grad():
        return network(torch.from_numpy(x)).numpy()


def export(network: nn.Module, x: np.ndarray, path: Path, names: tuple[str, str]) -> None:
    """Write ``network`` as one ONNX file, by PyTorch's TorchScript exporter.

    ``x`` is an input to trace, ``names`` are those of input and output; axis 0 is the batch.
    Batch normalisations stay nodes of their own.
    """
    file = io.BytesIO()
    torch.onnx.export(
        network,
        (torch.from_numpy(x),),
        file,
        dynamo=False,
        opset_version=17,
        training=torch.onnx.TrainingMode.PRESERVE,
        input_names=names[:1],
        output_names=names[1:],
        dynamic_axes={name: {0: "N"} for name in names},
    )
    _write(onnx.load_from_string(file.getvalue()), path)


def export_program(network: nn.Module, x: np.ndarray, path: Path, names: tuple[str, str]) -> None:
    """The same by PyTorch's newer exporter, which needs far fewer nodes for attention."""
    program = torch.onnx.export(
        network,
        (torch.from_numpy(x),),
        dynamo=True,
        opset_version=18,
        input_names=names[:1],
        output_names=names[1:],
        dynamic_shapes=({0: torch.export.Dim("N")},),
        verbose=False,
    )
    model = program.model_proto
    taken: Counter[str] = Counter()
    for node in model.graph.node:  # named as by the other exporter: /module/path/Operator
        scopes = {entry.key: entry.value for entry in node.metadata_props}
        module = ast.literal_eval(scopes["pkg.torch.onnx.name_scopes"])[-2]
        name = "/".join(["", *module.split("."), node.op_type] if module else ["", node.op_type])
        node.name = f"{name}_{taken[name]}" if taken[name] else name
        taken[name] += 1
    _write(model, path)


def _write(model: onnx.ModelProto, path: Path) -> None:
    """Without what differs between machines or releases: source paths, versions, inner shapes."""
    graph = model.graph
    del graph.value_info[:]
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    model.ClearField("producer_name")
    model.ClearField("producer_version")
    graph.name = path.stem
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))
