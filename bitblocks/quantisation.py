# SPDX-License-Identifier: Apache-2.0
"""Post-training quantisation: a float graph becomes a network of integers.

Every decision is made from integers, or from floats combined element by element and summed
exactly, so that every machine makes the same ones.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

import blocks
from bitblocks import precision as precision_file
from bitblocks.errors import InputError
from bitblocks.graph import (
    Floats,
    Graph,
    Layer,
    Shape,
    evaluate_frames,
    several,
    without_unread,
)
from bitblocks.precision import LayerPrecision, Precision
from blocks.linear import MAX_SHIFT
from quant import (
    Format,
    Ints,
    Matmul,
    Overflow,
    Rounding,
    accumulator_format,
    dot_bounds,
    from_float,
    narrow,
    narrow_bounds,
    to_float,
)

FRAMES_LIMIT = 512
"""Most calibration frames that are used, evenly spaced among those given; the first ones where
frames follow each other in time."""
NUMBERS_LIMIT = 2**22
"""Most numbers of one tensor in all these frames, from which on fewer frames are used."""
OUTPUT_BITS = 16
"""Width to which a final output may stay as exact as its sums."""
CODES_LIMIT = 2**16
"""Most integers of which a function of one variable is looked at."""
OFFSETS = (0, -1, 1, 2, 3, 4, 5, 6)
"""Fraction bits tried, counted from those that just hold the largest number; ties go forward."""
PATIENCE = 3
"""Tries in a row without a gain that end the trying."""
LARGEST = 2.0**400
"""What no number may reach, so that sums of squares stay finite."""
RECTIFYING = (Overflow.SAT, Overflow.SAT_SYM)
"""Overflow modes in which an unsigned output is max(x, 0)."""


@dataclass(frozen=True)
class LayerReport:
    """What became of one layer or input.

    Parameters
    ----------
    name, kind : of the layer; the kind is its block's, or "input"
    shape : of one frame that it gives
    output_format, weight_format : Format; the latter None without weights
    rounding, overflow : how it narrows; None where it does not
    signal_to_noise : decibels against the float network, infinite where equal
    saturated : share of the numbers given that lie at an end of output_format
    """

    name: str
    kind: str
    shape: Shape
    output_format: Format
    weight_format: Format | None
    rounding: Rounding | None
    overflow: Overflow | None
    signal_to_noise: float
    saturated: float


@dataclass(frozen=True)
class Report:
    """What quantisation decided.

    Parameters
    ----------
    layers : inputs first, then blocks in the order of the network
    precision : every decision, which gives the same integers when it is given back
    frames : number of frames behind the signal-to-noise ratios
    calibrated : whether these were calibration data, or else random numbers
    """

    layers: tuple[LayerReport, ...]
    precision: Precision
    frames: int
    calibrated: bool


def quantise(
    graph: Graph,
    calibration: ArrayLike | Mapping[str, ArrayLike] | None = None,
    weight_bits: int = 8,
    activation_bits: int = 8,
    input_format: Format | str | Mapping[str, Format | str] | None = None,
    rounding: Rounding | str = Rounding.RND,
    overflow: Overflow | str = Overflow.SAT,
    precision: str | Path | Mapping[str, Any] | None = None,
) -> tuple[blocks.Network, Report]:
    """The network of integers nearest to ``graph``, and what was decided.

    All scales are powers of two. On calibration data each tensor gets the fraction bits whose
    error is least after its layer, each output channel of the weights likewise (they differ by 4
    at most), and biases take up the mean error that is left, layer by layer behind inputs that
    are quantised already. Without data the ranges come from interval bounds of the input format.
    A Relu behind a Linear or Add becomes the unsigned output of that block. Final outputs keep
    all bits of their sums, up to 16. Raises InputError.

    Parameters
    ----------
    calibration : frames in the model's own layout, shape (frames, ...), or a mapping by input
    weight_bits, activation_bits : widths, 2 to 32
    input_format : of all inputs, or a mapping by input
    precision : a precision file or what it holds; what it names goes before everything else

    Source: R. Krishnamoorthi, Quantizing deep convolutional networks for efficient inference,
    2018, section 3 (https://arxiv.org/abs/1806.08342); M. Nagel et al., Data-free quantization
    through weight equalization and bias correction, 2019, section 4.2
    (https://arxiv.org/abs/1906.04721).
    """
    for name, bits in (("weight_bits", weight_bits), ("activation_bits", activation_bits)):
        if type(bits) is not int or not 2 <= bits <= 32:
            raise InputError(f"{name} must be a whole number from 2 to 32, not {bits!r}")
    modes = _mode(Rounding, "rounding", rounding), _mode(Overflow, "overflow", overflow)
    defaults = Settings(None, None, weight_bits, *modes)
    if precision is None:
        overrides: Precision = {}
    elif isinstance(precision, str | Path):
        overrides = precision_file.read(precision)
    else:
        overrides = precision_file.parse(precision)
    formats = _input_formats(graph, input_format, overrides)
    graph = _lowered(_with_poles(without_unread(graph), overrides))
    quantiser = _Quantiser(graph, activation_bits, defaults, overrides)
    return quantiser.run(calibration, formats)


def _mode(kind: Any, name: str, value: object) -> Any:
    if value not in tuple(kind):
        raise InputError(f"{name} must be one of {', '.join(kind)}, not {value!r}")
    return kind(value)


def _input_formats(
    graph: Graph,
    given: Format | str | Mapping[str, Format | str] | None,
    overrides: Precision,
) -> dict[str, Format]:
    names = [port.name for port in graph.inputs]
    if not isinstance(given, Mapping):
        given = {} if given is None else dict.fromkeys(names, given)
    formats = {}
    for name, value in given.items():
        if name not in names:
            raise InputError(f"input_format must be for one of {', '.join(names)}, not {name!r}")
        try:
            formats[name] = value if isinstance(value, Format) else Format.parse(value)
        except (ValueError, TypeError) as error:
            rule = "must be a format like 's8.4' or 'u5.-1'"
            raise InputError(f"input_format {rule}, not {value!r}") from error
    for name in names:
        override = overrides.get(name, LayerPrecision()).output_format
        if override is not None:
            formats[name] = override
    return formats


def _free_names(graph: Graph) -> Callable[[str], str]:
    """A function that makes a name one that nothing of ``graph`` has, and no other call gives."""
    taken = set(graph.shapes)

    def free(name: str) -> str:
        while name in taken:
            name += "_"
        taken.add(name)
        return name

    return free


def _with_poles(graph: Graph, overrides: Precision) -> Graph:
    """``graph`` with what its functions give where they have no value."""
    poles = {name: override.pole for name, override in overrides.items()}
    nodes: list[Layer] = [
        replace(node, pole=poles[node.name])  # type: ignore[call-arg]
        if "pole" in node.decides and poles.get(node.name) is not None
        else node
        for node in graph.nodes
    ]
    return replace(graph, nodes=tuple(nodes))


def _lowered(graph: Graph) -> Graph:
    """``graph`` with every layer as those that are quantised in its place."""
    free = _free_names(graph)
    nodes: list[Layer] = []
    for node in graph.nodes:
        nodes += node.lowered(graph.shapes[node.sources[0]], free)
    return replace(graph, nodes=tuple(nodes))


@dataclass(frozen=True)
class Settings:
    """What is decided of a layer before it is looked at.

    ``inside`` holds formats of a layer that has several, by their fields of the precision file.
    """

    output_format: Format | None
    weight_format: Format | None
    weight_bits: int
    rounding: Rounding
    overflow: Overflow
    inside: Mapping[str, Format] = field(default_factory=dict)

    def over(self, override: LayerPrecision) -> "Settings":
        """These where ``override`` decides nothing."""
        bits = override.weight_bits
        if override.weight_format is not None:
            bits = override.weight_format.width
        return Settings(
            override.output_format,
            override.weight_format,
            bits or self.weight_bits,
            override.rounding or self.rounding,
            override.overflow or self.overflow,
            override.formats,
        )


@dataclass(frozen=True)
class Quantised:
    """A tensor of the network: where it comes from, its integers, and bounds of each of them."""

    source: str
    tensor: blocks.Tensor
    frames: Ints
    low: Ints
    high: Ints

    @property
    def format(self) -> Format:
        return self.tensor.format

    def floats(self) -> Floats:
        return to_float(self.frames, self.format)


@dataclass(frozen=True)
class Decision:
    """What a layer becomes.

    Parameters
    ----------
    block : the block
    bounds : lowest and highest integers of a frame of each of its outputs
    conversions : a block for each source to pass before, None for those that need none
    formats : fields of the precision file, where the block has formats inside
    """

    block: Any
    bounds: tuple[tuple[Ints, Ints], ...]
    conversions: tuple[Any, ...] = ()
    formats: Mapping[str, Format] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """One layer on its way to a block.

    Parameters
    ----------
    name : of the layer
    sources, inputs : what it reads, as integers and as the block is told of it
    wanted : the floats that the layer gives, an array for each of its tensors
    target : the floats that its block gives: ``wanted``, or behind the Relu that goes into it
    settings : modes, widths and formats
    rectified : whether that Relu is there
    bits : most bits of an output
    activation_bits : of what is no output of the network
    calibrated : whether the floats are of real data
    """

    name: str
    sources: tuple[Quantised, ...]
    inputs: tuple[blocks.Tensor, ...]
    wanted: tuple[Floats, ...]
    target: Floats
    settings: Settings
    rectified: bool
    bits: int
    activation_bits: int
    calibrated: bool

    @property
    def modes(self) -> tuple[Rounding, Overflow]:
        return self.settings.rounding, self.settings.overflow

    def decision(self, block: Any, low: Ints, high: Ints, exact: Format) -> Decision:
        """``block``, which narrows numbers of format ``exact`` between ``low`` and ``high``."""
        return Decision(block, (narrow_bounds(low, high, exact, block.output_format, *self.modes),))

    def output_format(self, sums: Ints, low: Ints, high: Ints, frac: int) -> Format:
        """The format for exact ``sums`` of ``frac`` fraction bits, bounded by ``low``, ``high``."""
        settings = self.settings
        if settings.output_format is not None:
            return settings.output_format
        source = accumulator_format(low, high, frac, self.name)
        least, most = int(low.min()), int(high.max())
        if self.rectified:
            least, most = max(least, 0), max(most, 0)
        exact = Format.containing(least, most, frac)
        if exact.width <= self.bits:
            return exact
        signed = least < 0
        if not self.calibrated or settings.overflow == Overflow.WRAP:
            bound = max(most, ~least if signed else 0).bit_length()
            format = Format(self.bits, frac + self.bits - signed - bound, signed)
            if settings.overflow == Overflow.WRAP:
                wide = Format(63, format.frac)
                ends = narrow([least, most], source, wide, settings.rounding)
                if ends[0] < format.min or ends[1] > format.max:  # rounded beyond the end
                    format = replace(format, frac=format.frac - 1)
            return format
        formats = _formats_around(_peak(self.target), self.bits, signed, frac)

        def error(format: Format) -> float:
            narrowed = narrow(sums, source, format, *self.modes)
            return _square_sum(to_float(narrowed, format) - self.target)

        return _best(formats, error)

    @property
    def codes(self) -> Ints | None:
        """Every integer that the only source may have; None if they are too many to look at."""
        (x,) = self.sources
        low, high = int(x.low.min()), int(x.high.max())
        return np.arange(low, high + 1) if high - low < CODES_LIMIT else None

    def range_format(self, peak: float, signed: bool) -> Format:
        """The format for numbers of at most ``peak`` that the block itself computes."""
        if self.settings.output_format is not None:
            return self.settings.output_format
        return self._holding(self.target, self.bits, peak, signed, lambda x: x)

    def inner_format(
        self,
        name: str,
        values: Floats,
        bits: int,
        peak: float,
        signed: bool,
        function: Callable[[Floats], Floats] = lambda x: x,
    ) -> Format:
        """The format for numbers inside of the block, of which ``function`` is taken.

        ``values`` are those of the data, at most ``peak`` whatever the data are; ``name`` is the
        field of the precision file.
        """
        return self.settings.inside.get(name) or self._holding(values, bits, peak, signed, function)

    def _holding(
        self,
        values: Floats,
        bits: int,
        peak: float,
        signed: bool,
        function: Callable[[Floats], Floats],
    ) -> Format:
        if not self.calibrated:
            return Format(bits, frac_for(peak, bits, signed), signed)
        wanted = function(values)

        def error(format: Format) -> float:
            return _square_sum(function(to_float(from_float(values, format), format)) - wanted)

        return _best(_formats_around(_peak(values), bits, signed), error)

    def function_format(self, function: Callable[[Floats], Floats]) -> Format:
        """The format for what ``function`` makes of the only source, number by number."""
        settings, (x,) = self.settings, self.sources
        if settings.output_format is not None:
            return settings.output_format
        codes = self.codes
        if codes is None:
            raise InputError(
                f"layer {self.name} must read numbers of at most 16 bits, not {x.format}"
            )
        values = function(to_float(codes, x.format))
        signed = bool((values < 0).any())
        if not self.calibrated or settings.overflow == Overflow.WRAP:
            peak = _peak(values)
            format = Format(self.bits, frac_for(peak, self.bits, signed), signed)
            ends = from_float(np.array([values.min(), values.max()]), replace(format, width=63))
            if ends[0] < format.min or ends[1] > format.max:  # rounded beyond the end
                format = replace(format, frac=format.frac - 1)
            return format
        given = function(x.floats())
        formats = _formats_around(_peak(self.target), self.bits, signed)

        def error(format: Format) -> float:
            return _square_sum(to_float(from_float(given, format), format) - self.target)

        return _best(formats, error)

    def function_bounds(self, block: Any) -> tuple[Ints, Ints]:
        """Lowest and highest integers of a frame of a block that treats numbers one by one."""
        (x,), (tensor,), codes = self.sources, self.inputs, self.codes
        format = next(iter(block.outputs.values())).format
        low, high = format.min, format.max
        if codes is not None:
            frames = np.resize(codes, (-(-len(codes) // tensor.size), *tensor.shape))
            values = block.reference(frames)
            low, high = int(values.min()), int(values.max())
        shape = x.low.shape
        return np.full(shape, low, np.int64), np.full(shape, high, np.int64)


@dataclass(frozen=True)
class Weighted:
    """Decisions about a layer with weights.

    Parameters
    ----------
    arguments : of its block: weight, bias, weight_format, output_format, shift and modes
    low, high : bounds of the exact sums of a frame
    """

    arguments: dict[str, Any]
    low: Ints
    high: Ints


Dot = Callable[[Any, Any], Any]
Sums = Callable[[Any, Any, Dot], Any]


def weighted(stage: Stage, weight: Floats, bias: Floats, sums: Sums) -> Weighted:
    """Weights, biases and formats of ``y = narrow(sums of products + bias)``.

    Parameters
    ----------
    weight : floats, shape (outputs, ...): whatever is multiplied for one output channel
    bias : floats, shape (outputs,)
    sums : (x, weight, dot) -> the sums of products of the frames x, shape (..., outputs), from
        ``dot(part of x, part of weight)``, the products of (..., inputs) and (outputs, inputs)
    """
    (source,) = stage.sources
    (wanted,) = stage.wanted
    outputs, shape = len(weight), weight.shape
    rows = weight.reshape(outputs, -1)
    bits = stage.settings.weight_bits

    def exact_sums(matrix: Ints) -> Ints:
        dot_bounds(matrix, source.format, stage.name)  # refuses what could exceed 63 bits

        def dot(x: Ints, part: Ints) -> Ints:
            return Matmul(part, source.format, stage.name).unchecked(x)

        return sums(source.frames, matrix.reshape(shape), dot).reshape(-1, outputs)

    fracs = _weight_fracs(stage, rows, wanted.reshape(-1, outputs), exact_sums)
    override = stage.settings.weight_format
    frac, shift = aligned(fracs, None if override is None else override.frac)
    weight_format = Format(bits, frac)
    codes = rounded(rows, bits, frac - shift)
    matrix = codes << shift[:, np.newaxis]
    exact = exact_sums(matrix)
    sum_frac = frac + source.format.frac
    if stage.calibrated:
        bias = means(wanted.reshape(-1, outputs) - np.ldexp(exact.astype(np.float64), -sum_frac))
    bias_ints = rounded_bias(stage.name, bias, sum_frac)
    positive, negative = (part.reshape(shape) for part in (matrix.clip(0), matrix.clip(None, 0)))

    def bound(x: Ints, other: Ints) -> Ints:  # the format's own bounds have shown to fit int64
        ends = (sums(*pair, lambda a, b: a @ b.T) for pair in ((x, positive), (other, negative)))
        return sum(ends) + bias_ints

    low, high = bound(source.low, source.high), bound(source.high, source.low)
    format = stage.output_format((exact + bias_ints).reshape(wanted.shape), low, high, sum_frac)
    rounding, overflow = stage.modes
    arguments = {
        "weight": codes.reshape(shape),
        "bias": bias_ints,
        "weight_format": weight_format,
        "output_format": format,
        "shift": shift,
        "rounding": rounding,
        "overflow": overflow,
    }
    return Weighted(arguments, low, high)


def rounded_bias(name: str, bias: Floats, frac: int) -> Ints:
    """Biases of layer ``name`` with ``frac`` fraction bits."""
    largest = float(np.abs(bias).max())
    if largest and math.frexp(largest)[1] + frac > 61:
        raise InputError(
            f"layer {name} bias must be below 2**{61 - frac} beside its weights, not {largest:.3g}"
        )
    return from_float(bias, Format(63, frac))


def _weight_fracs(
    stage: Stage, rows: Floats, wanted: Floats, exact_sums: Callable[[Ints], Ints]
) -> list[int | None]:
    """Fraction bits of each output channel that give the least error; None for a row of 0."""
    bits, input_frac = stage.settings.weight_bits, stage.sources[0].format.frac
    peaks = [_peak(row) for row in rows]
    start = np.array([frac_for(peak, bits, True) for peak in peaks])
    best, least, idle = start, np.full(len(peaks), math.inf), 0
    for offset in OFFSETS:
        fracs = start + offset
        weight = rounded(rows, bits, fracs)
        if stage.calibrated:
            sums = exact_sums(weight).astype(np.float64)
            error = np.ldexp(sums, -fracs - input_frac) - wanted
            error -= means(error)  # the bias will take this up
            if stage.rectified:
                error = np.maximum(wanted + error, 0.0) - np.maximum(wanted, 0.0)
            errors = [_square_sum(column) for column in error.T]
        else:
            difference = np.ldexp(weight.astype(np.float64), -fracs[:, np.newaxis]) - rows
            errors = [_square_sum(row) for row in difference]
        gains = np.array(errors) < least
        best, least = np.where(gains, fracs, best), np.where(gains, errors, least)
        idle = 0 if gains.any() else idle + 1
        if idle == PATIENCE:
            break
    return [frac if peak else None for frac, peak in zip(best.tolist(), peaks, strict=True)]


WEIGHTED = ("output_format", "weight_format", "weight_bits", "rounding", "overflow")
"""Fields of the precision file for a layer with weights."""
NARROWED = ("output_format", "rounding", "overflow")
"""Fields of the precision file for a layer that narrows."""


@dataclass(frozen=True)
class _Step:
    """One block to be: the layer that it computes, and the tensors that it gives.

    ``rectified`` is the name of the Relu inside it, if there is one.
    """

    node: Layer
    rectified: str | None
    bits: int

    @property
    def targets(self) -> tuple[str, ...]:
        return (self.rectified,) if self.rectified else self.node.tensors


class _Quantiser:
    """Goes through the graph once, layer by layer."""

    def __init__(
        self, graph: Graph, activation_bits: int, defaults: Settings, overrides: Precision
    ):
        self.graph, self.activation_bits = graph, activation_bits
        self.defaults, self.overrides = defaults, overrides
        self.steps, self.free = self._plan(), _free_names(graph)
        allowed: dict[str, tuple[str, ...]] = {
            port.name: ("output_format",) for port in graph.inputs
        }
        allowed |= {step.node.name: step.node.decides for step in self.steps if step.node.decides}
        precision_file.check(overrides, allowed)

    def _settings(self, name: str) -> Settings:
        """Overrides of a layer, with the network's defaults where it has none."""
        return self.defaults.over(self.overrides.get(name, LayerPrecision()))

    def _plan(self) -> list[_Step]:
        """The blocks to be, with each Relu inside the block before it where that is allowed."""
        readers: dict[str, list[Layer | None]] = {name: [] for name in self.graph.shapes}
        for node in self.graph.nodes:
            for source in node.sources:
                readers[source].append(node)
        for port in self.graph.outputs:
            readers[port.source].append(None)
        steps, inside = [], set()
        for node in self.graph.nodes:
            if node.name in inside:
                continue
            rectified = None
            if node.rectifiable and len(readers[node.name]) == 1:
                (only,) = readers[node.name]
                settings = self._settings(node.name)
                signed = settings.output_format is not None and settings.output_format.signed
                if (
                    only is not None
                    and only.rectifies
                    and settings.overflow in RECTIFYING
                    and not signed
                ):
                    rectified = only.name
                    inside.add(rectified)
            given = (rectified,) if rectified else node.tensors
            final = all(reader is None for name in given for reader in readers[name])
            bits = max(OUTPUT_BITS, self.activation_bits) if final else self.activation_bits
            steps.append(_Step(node, rectified, bits))
        return steps

    # -- the whole network --------------------------------------------------------------------

    def run(
        self, calibration: ArrayLike | Mapping[str, ArrayLike] | None, formats: dict[str, Format]
    ) -> tuple[blocks.Network, Report]:
        graph = self.graph
        missing = [port.name for port in graph.inputs if port.name not in formats]
        self.calibrated = calibration is not None
        if calibration is not None:
            largest = max(math.prod(shape) for shape in graph.shapes.values())
            most = min(FRAMES_LIMIT, max(NUMBERS_LIMIT // largest, 1))
            kept = any(getattr(node, "kept", False) for node in graph.nodes)
            frames = {
                name: data[:most] if kept else data[_evenly(len(data), most)]
                for name, data in graph.frames(calibration).items()
            }
            for name in missing:
                if not (peak := _peak(frames[name])) < LARGEST:
                    raise InputError(f"data for input {name} must be below 2**400, not {peak:.3g}")
                formats[name] = self._input_format(frames[name])
        elif missing:
            raise InputError(
                f"quantisation must have calibration data, or an input format for "
                f"{', '.join(missing)}"
            )
        else:
            frames = self._random_frames(formats)
        with np.errstate(over="ignore", invalid="ignore"):
            self.exact = evaluate_frames(graph, frames)
        for name, data in self.exact.items():
            if not (peak := _peak(data)) < LARGEST:
                raise InputError(f"layer {name} must give numbers below 2**400, not {peak:.3g}")
        self.tensors: dict[str, Quantised] = {}
        self.layers: list[LayerReport] = []
        self.precision: Precision = {}
        for port in graph.inputs:
            self._input(port.name, formats[port.name], port.stream_shape)
        nodes: list[blocks.Node] = []
        for step in self.steps:
            try:
                nodes += self._nodes(step)
            except InputError:
                raise
            except ValueError as error:  # such as a sum beyond 63 bits
                raise InputError(f"layer {step.node.name} cannot be built: {error}") from error
        network = blocks.Network(
            {port.name: self.tensors[port.name].tensor for port in graph.inputs},
            tuple(nodes),
            {port.name: self.tensors[port.source].source for port in graph.outputs},
        )
        count = len(next(iter(frames.values())))
        return network, Report(tuple(self.layers), self.precision, count, self.calibrated)

    def _random_frames(self, formats: dict[str, Format]) -> dict[str, Floats]:
        """Numbers of each input's format, all equally likely."""
        generator = np.random.default_rng(0)
        frames = {}
        for port in self.graph.inputs:
            format = formats[port.name]
            shape = (256, *port.stream_shape)
            codes = generator.integers(format.min, format.max, shape, endpoint=True)
            frames[port.name] = to_float(codes, format)
        return frames

    def _input_format(self, data: Floats) -> Format:
        """The format of an input: least error, without fraction bits that are always 0."""
        signed = bool((data < 0).any())
        formats = _formats_around(_peak(data), self.activation_bits, signed)
        format = _best(formats, lambda f: _square_sum(to_float(from_float(data, f), f) - data))
        codes = from_float(data, format)
        if codes.any() and (to_float(codes, format) == data).all():
            zeros = int(np.bitwise_or.reduce(np.abs(codes), axis=None))
            zeros = min((zeros & -zeros).bit_length() - 1, format.width - 1)
            format = Format(format.width - zeros, format.frac - zeros, signed)
        return format

    def _input(self, name: str, format: Format, shape: Shape) -> None:
        frames = from_float(self.exact[name], format)
        low, high = (np.full(shape, end, np.int64) for end in (format.min, format.max))
        self.tensors[name] = Quantised(name, blocks.Tensor(shape, format), frames, low, high)
        self.precision[name] = LayerPrecision(output_format=format)
        self._note(name, "input", name, None, None)

    def _note(
        self,
        name: str,
        kind: str,
        target: str,
        weight_format: Format | None,
        settings: Settings | None,
    ) -> None:
        tensor = self.tensors[target]
        signal = _square_sum(self.exact[target])
        noise = _square_sum(tensor.floats() - self.exact[target])
        if noise == 0:
            ratio = math.inf
        else:
            ratio = 10 * math.log10(signal / noise) if signal else -math.inf
        ends = (tensor.frames == tensor.format.max) | (
            (tensor.frames == tensor.format.min) & tensor.format.signed
        )
        self.layers.append(
            LayerReport(
                name,
                kind,
                self.graph.shapes[target],
                tensor.format,
                weight_format,
                None if settings is None else settings.rounding,
                None if settings is None else settings.overflow,
                ratio,
                float(np.count_nonzero(ends) / ends.size),
            )
        )

    def _nodes(self, step: _Step) -> list[blocks.Node]:
        """The block of ``step``, behind conversions; its tensors and decisions are noted."""
        node = step.node
        settings = self._settings(node.name)
        sources = tuple(self.tensors[name] for name in node.sources)
        stage = Stage(
            node.name,
            sources,
            tuple(source.tensor for source in sources),
            tuple(self.exact[name] for name in node.tensors),
            self.exact[step.targets[0]],
            settings,
            step.rectified is not None,
            step.bits,
            self.activation_bits,
            self.calibrated,
        )
        decision = node.quantise(stage)
        block = decision.block
        names, arrays = [x.source for x in sources], [x.frames for x in sources]
        nodes = []
        for number, conversion in enumerate(decision.conversions):
            if conversion is not None:
                nodes.append(
                    blocks.Node(
                        self.free(f"{node.name}_input_{number}"), conversion, (names[number],)
                    )
                )
                names[number] = nodes[-1].name
                arrays[number] = conversion.reference(arrays[number])
        nodes.append(blocks.Node(node.name, block, tuple(names)))
        weight_format = getattr(block, "weight_format", decision.formats.get("weight_format"))
        if node.decides:
            formats = {
                "output_format": next(iter(block.outputs.values())).format,
                "weight_format": weight_format,
            }
            modes = {
                mode: getattr(settings, mode)
                for mode in ("rounding", "overflow")
                if mode in node.decides
            }
            pole = getattr(node, "pole", None)
            self.precision[node.name] = LayerPrecision(
                **(formats | {**decision.formats}), pole=pole, **modes
            )
        results = several(node, block.reference(*arrays))
        places = nodes[-1].tensors.items()
        for target, (place, port), frames, (low, high) in zip(
            step.targets, places, results, decision.bounds, strict=True
        ):
            self.tensors[target] = Quantised(place, block.outputs[port], frames, low, high)
            self._note(
                place,
                type(block).__name__,
                target,
                weight_format,
                settings if "rounding" in node.decides else None,
            )
        return nodes


def _best(formats: list[Format], error: Callable[[Format], float]) -> Format:
    """The first of the formats with the least error, tried until nothing is gained any more."""
    best, least, idle = formats[0], math.inf, 0
    for format in formats:
        found = error(format)
        if found < least:
            best, least, idle = format, found, 0
        else:
            idle += 1
        if idle == PATIENCE:
            break
    return best


def _evenly(count: int, most: int) -> Ints:
    """Indices of at most ``most`` frames out of ``count``."""
    kept = min(count, most)
    return np.arange(kept) * count // kept


def _square_sum(values: Floats) -> float:
    """The sum of squares, rounded once: the order does not matter."""
    return math.fsum(np.square(values).ravel().tolist())


def means(values: Floats) -> Floats:
    """Mean of each column, its sum rounded once."""
    return np.array([math.fsum(column) for column in values.T.tolist()]) / len(values)


def _peak(values: Floats) -> float:
    return float(np.abs(values).max())


def frac_for(peak: float, bits: int, signed: bool) -> int:
    """Fraction bits with which ``bits`` bits just hold ``peak``; 1 stands in for a peak of 0."""
    return bits - signed - math.frexp(max(peak, 2.0**-400) if peak else 1.0)[1]


def _formats_around(
    peak: float, bits: int, signed: bool, most_frac: int | None = None
) -> list[Format]:
    """Formats that just hold ``peak``, have a bit to spare, or cut the largest numbers off.

    The first of equally good ones is to be taken. None is finer than ``most_frac``.
    """
    frac = frac_for(peak, bits, signed)
    fracs = [frac + offset for offset in OFFSETS]
    if most_frac is not None:
        fracs = list(dict.fromkeys(min(n, most_frac) for n in fracs))
    return [Format(bits, n, signed) for n in fracs]


def rounded(weight: Floats, bits: int, fracs: Ints) -> Ints:
    """Each row of ``weight`` in ``bits`` bits, of which ``fracs`` are fraction bits."""
    scaled = np.ldexp(weight, fracs[:, np.newaxis])  # exact, or far below half a unit
    return from_float(scaled, Format(bits, 0))


def aligned(fracs: list[int | None], given: int | None) -> tuple[int, Ints]:
    """One fraction for all rows, and how many bits less each row has, 0 to MAX_SHIFT."""
    used = [frac for frac in fracs if frac is not None]
    if given is None:
        given = min(max(used), min(used) + MAX_SHIFT) if used else 0
    shifts = [0 if frac is None else min(max(given - frac, 0), MAX_SHIFT) for frac in fracs]
    return given, np.array(shifts, np.int64)
