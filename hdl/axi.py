# SPDX-License-Identifier: Apache-2.0
"""The AXI4-Stream top of a design: bytes, ``tlast`` and frame counting around plain streams."""

from dataclasses import dataclass

from amaranth import Cat, ClockDomain, Module, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.loop import MARK
from hdl.names import legal_name
from quant import Format


@dataclass(frozen=True)
class AxiStreamPort:
    """How one stream of a component travels over AXI4-Stream.

    Parameters
    ----------
    stream_name : name of the component's stream, such as ``i`` or ``o_logits``
    format : Format of the elements
    lanes : int, elements per transfer, element 0 in the lowest bytes
    transfers_per_frame : int, transfers from one ``tlast`` to the next
    """

    stream_name: str
    format: Format
    lanes: int
    transfers_per_frame: int

    def __post_init__(self) -> None:
        if not isinstance(self.stream_name, str):
            kind = type(self.stream_name).__name__
            raise TypeError(f"AxiStreamPort stream_name must be a string, not {kind}")
        if not isinstance(self.format, Format):
            kind = type(self.format).__name__
            raise TypeError(f"AxiStreamPort format must be a Format, not {kind}")
        for name in ("lanes", "transfers_per_frame"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool):
                kind = type(value).__name__
                raise TypeError(f"AxiStreamPort {name} must be an integer, not {kind}")
            if value < 1:
                raise ValueError(f"AxiStreamPort {name} must be at least 1, not {value}")

    @property
    def element_bytes(self) -> int:
        """Bytes that one element takes."""
        return -(-self.format.width // 8)

    @property
    def data_bits(self) -> int:
        """Width of ``tdata``."""
        return 8 * self.element_bytes * self.lanes


class AxiTop(wiring.Component):
    """``component`` behind AXI4-Stream ports; transfers happen in the very cycles of its own.

    Elements take whole bytes: pad bits are ignored at inputs, and repeat the sign or are zero at
    outputs. ``tlast`` marks the last transfer of each output frame. Input frames are counted; a
    ``tlast`` that is missing on the last transfer, or stands elsewhere, raises ``frame_error`` one
    cycle later, until reset. ``aresetn`` acts at the clock edge.

    Parameters
    ----------
    component : component with streams, in the domain sync
    inputs, outputs : dict of AxiStreamPort by name
    mark : name of a stream of the component with a bit for every frame, which it takes together
        with the first transfer of the first input; None if there is none

    Members
    -------
    aclk, aresetn : In(1)
    s_axis_tdata, s_axis_tvalid, s_axis_tlast : In, s_axis_tready : Out
        With several inputs ``s_axis_<name>_tdata`` and so on.
    s_axis_tuser : In(1), of the first input, if there is a mark, which it is on the first transfer
        of a frame; nothing on others
    m_axis_tdata, m_axis_tvalid, m_axis_tlast : Out, m_axis_tready : In
        With several outputs ``m_axis_<name>_tdata`` and so on.
    frame_error : Out(1)
    """

    def __init__(
        self,
        component: wiring.Component,
        inputs: dict[str, AxiStreamPort],
        outputs: dict[str, AxiStreamPort],
        mark: str | None = None,
    ):
        self.component = component
        self.inputs = dict(inputs)
        self.outputs = dict(outputs)
        self.input_prefixes = axi_prefixes("s_axis", list(inputs))
        self.output_prefixes = axi_prefixes("m_axis", list(outputs))
        members = {"aclk": In(1), "aresetn": In(1)}
        for name, prefix in self.input_prefixes.items():
            self._check(name, self.inputs[name], In)
            members |= _members(prefix, self.inputs[name], In, Out)
        for name, prefix in self.output_prefixes.items():
            self._check(name, self.outputs[name], Out)
            members |= _members(prefix, self.outputs[name], Out, In)
        self.mark = mark
        if mark is not None:
            first = self.input_prefixes[next(iter(inputs))]
            self._check("mark", AxiStreamPort(mark, MARK, 1, 1), In)
            members[f"{first}_tuser"] = In(1)
        members["frame_error"] = Out(1)
        super().__init__(members)

    def _check(self, name: str, port: AxiStreamPort, flow: wiring.Flow) -> None:
        """Refuse a port that does not fit the component's stream."""
        members = self.component.signature.members
        direction = "input" if flow == In else "output"
        member = members[port.stream_name] if port.stream_name in members else None
        if member is None or not isinstance(member.signature, stream.Signature):
            raise ValueError(
                f"AxiTop {direction} {name} must be a stream of the component, "
                f"not {port.stream_name!r}"
            )
        if member.flow != flow:
            raise ValueError(f"AxiTop {direction} {name} must be an {direction} of the component")
        width = len(Value.cast(getattr(self.component, port.stream_name).payload))
        if width != port.format.width * port.lanes:
            raise ValueError(
                f"AxiTop {direction} {name} must have as many bits as the stream, {width}, "
                f"not {port.format.width * port.lanes}"
            )

    def elaborate(self, platform):
        m = Module()
        m.domains.sync = domain = ClockDomain("sync")
        domain.clk = self.aclk
        m.d.comb += domain.rst.eq(~self.aresetn)
        m.submodules.core = self.component
        for number, (name, prefix) in enumerate(self.input_prefixes.items()):
            self._input(m, self.inputs[name], prefix, number == 0)
        for name, prefix in self.output_prefixes.items():
            self._output(m, self.outputs[name], prefix)
        return m

    def _input(self, m: Module, port: AxiStreamPort, prefix: str, first: bool) -> None:
        axis = _Axis(self, prefix)
        inner = getattr(self.component, port.stream_name)
        step, width = 8 * port.element_bytes, port.format.width
        elements = [axis.tdata[n * step : n * step + width] for n in range(port.lanes)]
        m.d.comb += [
            Value.cast(inner.payload).eq(Cat(elements)),
            inner.valid.eq(axis.tvalid),
            axis.tready.eq(inner.ready),
        ]
        count, last = _count(m, port, prefix, axis.tvalid & axis.tready)
        if first and self.mark is not None:
            mark = getattr(self.component, self.mark)
            m.d.comb += [
                Value.cast(mark.payload).eq(getattr(self, f"{prefix}_tuser")),
                mark.valid.eq(axis.tvalid & (count == 0)),
            ]
        with m.If(axis.tvalid & axis.tready & (axis.tlast != last)):
            m.d.sync += self.frame_error.eq(1)

    def _output(self, m: Module, port: AxiStreamPort, prefix: str) -> None:
        axis = _Axis(self, prefix)
        inner = getattr(self.component, port.stream_name)
        step, width = 8 * port.element_bytes, port.format.width
        payload = Value.cast(inner.payload)
        for n in range(port.lanes):
            element = payload[n * width : (n + 1) * width]
            if port.format.signed:
                element = element.as_signed()
            m.d.comb += axis.tdata[n * step : (n + 1) * step].eq(element)
        m.d.comb += [axis.tvalid.eq(inner.valid), inner.ready.eq(axis.tready)]
        _, last = _count(m, port, prefix, axis.tvalid & axis.tready)
        m.d.comb += axis.tlast.eq(last)


class _Axis:
    """The ports of ``top`` with one prefix."""

    def __init__(self, top: AxiTop, prefix: str):
        self.tdata = getattr(top, f"{prefix}_tdata")
        self.tvalid = getattr(top, f"{prefix}_tvalid")
        self.tready = getattr(top, f"{prefix}_tready")
        self.tlast = getattr(top, f"{prefix}_tlast")


def axi_prefixes(prefix: str, names: list[str]) -> dict[str, str]:
    """Prefix of the ports of each stream: ``prefix`` alone for one, with its name for several.

    >>> axi_prefixes("s_axis", ["image"]), axi_prefixes("m_axis", ["x", "a/b"])
    ({'image': 's_axis'}, {'x': 'm_axis_x', 'a/b': 'm_axis_a_b'})
    """
    if len(names) == 1:
        return {names[0]: prefix}
    taken: set[str] = set()
    return {name: legal_name(f"{prefix}_{name}", taken) for name in names}


def _members(
    prefix: str, port: AxiStreamPort, forward: type[In] | type[Out], backward: type[In] | type[Out]
) -> dict[str, wiring.Member]:
    return {
        f"{prefix}_tdata": forward(port.data_bits),
        f"{prefix}_tvalid": forward(1),
        f"{prefix}_tready": backward(1),
        f"{prefix}_tlast": forward(1),
    }


def _count(m: Module, port: AxiStreamPort, prefix: str, transfer: Value) -> tuple[Value, Value]:
    """Count the transfers of each frame; the place of the present one, whether it is the last."""
    count = Signal(range(port.transfers_per_frame), name=f"{prefix}_count")
    last = Signal(name=f"{prefix}_last")
    m.d.comb += last.eq(count == port.transfers_per_frame - 1)
    with m.If(transfer):
        m.d.sync += count.eq(count + 1)
        with m.If(last):
            m.d.sync += count.eq(0)
    return count, last
