# SPDX-License-Identifier: Apache-2.0
"""Resize and Upsample: each axis by itself, with places and weights that are exact fractions.

What goes to the nearest moves numbers. What interpolates is a matrix along each axis, so the order
of the axes does not matter; a place beyond the frame is a row of zeros with a bias.
"""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from bitblocks.operators.dense import linear
from bitblocks.operators.movement import is_permutation
from bitblocks.operators.operation import Operation
from bitblocks.operators.registry import Only, operator
from bitblocks.ordering import Value, raster

HALF = Fraction(1, 2)
TRANSFORMS = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_crop_and_resize",
)
ROUNDINGS: dict[str, Callable[[Fraction], int]] = {
    "floor": math.floor,
    "ceil": math.ceil,
    "round_prefer_floor": lambda x: math.ceil(x - HALF),
    "round_prefer_ceil": lambda x: math.floor(x + HALF),
}
POLICIES = {"not_larger": min, "not_smaller": max}


class Axis(NamedTuple):
    """An axis of ``have`` places that gets ``size``, by a factor ``scale``; what is cropped."""

    have: int
    size: int
    scale: Fraction
    start: Fraction
    end: Fraction


@operator(
    "Resize",
    honours=(
        "antialias",
        "axes",
        "coordinate_transformation_mode",
        "cubic_coeff_a",
        "exclude_outside",
        "extrapolation_value",
        "keep_aspect_ratio_policy",
        "mode",
        "nearest_mode",
    ),
)
def resize(op: Operation) -> Value:
    value = op.value(0, batch=None)
    axes = _axes(op, value)
    mode = op.attributes["mode"]
    if mode not in ("nearest", "linear", "cubic"):
        op.refuse(f"attribute 'mode' must be nearest, linear or cubic, not {mode}")
    batch = axes.pop(value.batch, None)
    if batch is not None and batch.size not in (batch.have, op.importer.model.batch):
        op.refuse("must not mix the frames")
    if mode != "nearest":
        for number, axis in axes.items():
            if axis.size != axis.have or axis.scale != 1 or _cropped(op):
                value = _interpolated(op, value, number - (number > value.batch), axis)
        return value
    picked = [list(range(length)) for length in value.shape]
    for number, axis in axes.items():
        picked[number - (number > value.batch)] = _nearest(op, axis)
    fill, places = op.attributes.get("extrapolation_value") or 0.0, np.ix_(*picked)
    index = raster(value.shape)[places]
    for outside in places:
        index = np.where(outside < 0, -1, index)
    if is_permutation(index, math.prod(value.shape)):
        return value.moved(index, value.batch)
    return op.rearranged(op.label, value, index, value.batch, fill)


@operator("Upsample", only={"mode": Only("nearest")}, honours=("scales",))
def upsample(op: Operation) -> Value:
    return resize(op)


def _axes(op: Operation, value: Value) -> dict[int, Axis]:
    """Every axis of the model's tensor that is named, by its number."""
    numbers = [op.axis(n, value.rank, "axes") for n in op.attributes.get("axes") or []]
    numbers = numbers or list(range(value.rank))
    lengths = [op.full_shape(0)[0][number] for number in numbers]
    policy = op.attributes.get("keep_aspect_ratio_policy") or "stretch"
    if policy not in ("stretch", *POLICIES):
        op.refuse(
            f"attribute 'keep_aspect_ratio_policy' must be stretch, not_larger or not_smaller, "
            f"not {policy}"
        )
    if op.has(3):
        sizes, _ = op.lengths(3, "list of sizes")
        scales = [Fraction(n, have) for n, have in zip(sizes, lengths, strict=False)]
        if policy != "stretch" and len(scales) == len(lengths):
            one = POLICIES[policy](scales)
            scales = [one] * len(scales)
            sizes = [math.floor(one * have + HALF) for have in lengths]
    else:
        place = 1 if op.importer.model.opset < 11 else 2
        given: Any = (
            op.floats(place, "list of scales") if op.has(place) else op.attributes.get("scales")
        )
        if given is None:
            op.refuse("must have scales or sizes")
        scales = [Fraction(scale) for scale in np.ravel(given).tolist()]
        sizes = [math.floor(n * scale) for n, scale in zip(lengths, scales, strict=False)]
    if len(scales) != len(numbers) or min(sizes) < 1:
        op.refuse(f"must have a scale or a size above 0 for each of {len(numbers)} axes")
    crop = [Fraction(0)] * len(numbers) + [Fraction(1)] * len(numbers)
    if _cropped(op):
        crop = [Fraction(end) for end in op.floats(1, "roi").ravel().tolist()]
        if len(crop) != 2 * len(numbers):
            op.refuse(f"must have a roi of {2 * len(numbers)} numbers, not {len(crop)}")
    parts = zip(lengths, sizes, scales, crop, crop[len(numbers) :], strict=False)
    return {number: Axis(*part) for number, part in zip(numbers, parts, strict=True)}


def _cropped(op: Operation) -> bool:
    return op.attributes.get("coordinate_transformation_mode") == "tf_crop_and_resize"


def _places(op: Operation, axis: Axis) -> list[Fraction]:
    """Where each place along a resized axis lies along the axis as it was."""
    have, size, scale, start, end = axis
    old = op.importer.model.opset < 11
    mode = "asymmetric" if old else op.attributes["coordinate_transformation_mode"]
    whole = [Fraction(n) for n in range(size)]
    if mode not in TRANSFORMS:
        names = ", ".join(TRANSFORMS)
        op.refuse(f"attribute 'coordinate_transformation_mode' must be one of {names}, not {mode}")
    if mode == "asymmetric":
        return [n / scale for n in whole]
    if mode == "align_corners":
        last = scale * have - 1  # no whole number where the factor gives none
        return [n * (have - 1) / last if last else n for n in whole]
    if mode == "tf_crop_and_resize":
        if size == 1:
            return [HALF * (start + end) * (have - 1)]
        return [(start + n * (end - start) / (size - 1)) * (have - 1) for n in whole]
    if mode == "pytorch_half_pixel" and size == 1:
        return [Fraction(0)]
    shift = HALF * have * (1 - size / (scale * have)) if mode == "half_pixel_symmetric" else 0
    return [shift + (n + HALF) / scale - HALF for n in whole]


def _outside(op: Operation, axis: Axis, place: Fraction) -> bool:
    """Whether a place is given the value beyond the frame."""
    return _cropped(op) and not 0 <= place <= axis.have - 1


def _nearest(op: Operation, axis: Axis) -> list[int]:
    """The places along an axis that a resized one takes, -1 beyond the frame."""
    rule = "floor" if op.importer.model.opset < 11 else op.attributes["nearest_mode"]
    if rule not in ROUNDINGS:
        op.refuse(f"attribute 'nearest_mode' must be one of {', '.join(ROUNDINGS)}, not {rule}")
    return [
        -1 if _outside(op, axis, place) else min(max(ROUNDINGS[rule](place), 0), axis.have - 1)
        for place in _places(op, axis)
    ]


def _interpolated(op: Operation, value: Value, frame_axis: int, axis: Axis) -> Value:
    """A Linear along one axis of the frame."""
    weight, bias = np.zeros((axis.size, axis.have)), np.zeros(axis.size)
    for row, place in enumerate(_places(op, axis)):
        if _outside(op, axis, place):
            bias[row] = op.attributes["extrapolation_value"]
            continue
        for index, share in _shares(op, axis, place).items():
            weight[row, index] = float(share)
    rank = len(value.shape)
    there = (*(n for n in range(rank) if n != frame_axis), frame_axis)
    last = Value(value.name, value.shape, value.order).transposed(there)
    result = linear(op, op.label, last, weight, bias)
    return result.transposed(tuple(np.argsort(there).tolist()), value.batch)


def _shares(op: Operation, axis: Axis, place: Fraction) -> dict[int, Fraction]:
    """How much of each place along the axis goes into what lies at ``place``.

    Source: R. Keys, Cubic convolution interpolation for digital image processing, 1981; and ONNX's
    description of Resize: a smaller image spreads the kernel, which avoids aliasing.
    """
    cubic = op.attributes["mode"] == "cubic"
    spread = min(axis.scale, Fraction(1)) if op.attributes.get("antialias") else Fraction(1)
    reach = math.ceil((2 if cubic else 1) / spread)
    alone = cubic and bool(op.attributes.get("exclude_outside"))
    shares: dict[int, Fraction] = {}
    for n in range(math.floor(place) - reach + 1, math.floor(place) + reach + 1):
        share = _kernel(op, cubic, abs(n - place) * spread)
        inside = min(max(n, 0), axis.have - 1)
        if n == inside or not alone:
            shares[inside] = shares.get(inside, Fraction(0)) + share
    total = sum(shares.values())
    if total == 0:
        op.refuse("attribute 'exclude_outside' must leave something of each place")
    return {n: share / total for n, share in shares.items()}


def _kernel(op: Operation, cubic: bool, distance: Fraction) -> Fraction:
    if not cubic:
        return max(1 - distance, Fraction(0))
    a = Fraction(op.attributes["cubic_coeff_a"])
    if distance <= 1:
        return ((a + 2) * distance - (a + 3)) * distance**2 + 1
    if distance >= 2:
        return Fraction(0)
    return ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
