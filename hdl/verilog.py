# SPDX-License-Identifier: Apache-2.0
"""Verilog-2005 of any component: readable, free of lint, the same bytes every time."""

import gc
import json
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from amaranth.back import rtlil
from amaranth.hdl import Fragment, Value
from amaranth.hdl._ir import PortDirection  # not exported; amaranth is pinned exactly
from amaranth.lib import wiring

from hdl import emit, emit_liveness, emit_netlist, yosys
from hdl.names import RESERVED, legal_name


class EmissionPlatform:
    """What ``elaborate`` gets as its platform when Verilog is written, never in simulation.

    Members
    -------
    rtlil_modules : dict of RTLIL text of a module, by the module's name
        A component that knows its circuit, but as thousands of statements would take Amaranth too
        long, adds it here and holds an ``Instance`` of that name. The circuit is made of cells
        that are needed, none twice: only widths are optimised there.
    """

    def __init__(self) -> None:
        self.rtlil_modules: dict[str, str] = {}


def verilog(component: wiring.Component, name: str) -> str:
    """Verilog-2005 text of ``component``: top module ``name``, every other one ``name_...``.

    Ports are named after the signature with single underscores (``i_valid``), then ``clk`` and
    ``rst`` if there is anything to clock. Registers start unknown and are set by the reset;
    only memories that nothing writes have initial contents. Where a component has an attribute
    ``comment``, one line of plain text, it stands above its module.

    Raises
    ------
    TypeError : component is not an Amaranth component, or name no string
    ValueError : name is no legal identifier; a memory that is written has initial contents, or a
        transparent read port; the component holds something that is no circuit (a print, a check)
        or a module from elsewhere
    """
    if not isinstance(component, wiring.Component):
        kind = type(component).__name__
        raise TypeError(f"Verilog component must be an Amaranth component, not {kind}")
    if not isinstance(name, str):
        raise TypeError(f"Verilog name must be a string, not {type(name).__name__}")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or name.lower() in RESERVED:
        raise ValueError(f"Verilog name must be a legal identifier, not {name!r}")
    with _without_collection():
        return _text(component, name)


def _text(component: wiring.Component, name: str) -> str:
    ports = _ports(component)
    platform = EmissionPlatform()
    fragment = Fragment.get(component, platform)
    _make_names_legal(fragment)
    comments = _comments(fragment, name)
    text = rtlil.convert(fragment, name=name, ports=ports, emit_src=False)
    text = "\n".join([text, *platform.rtlil_modules.values()])
    # Yosys folds a constant $shift of a signed value as if it were unsigned; $sshr means the same.
    text = re.sub(r"cell \$shift (\S+\n +parameter \\A_SIGNED 1\n)", r"cell $sshr \1", text)
    modules, top = emit_netlist.read_netlist(_optimised(text, platform.rtlil_modules))
    emit_liveness.simplify(modules, top)
    return emit.write_design(modules, top, list(ports), comments)


def _ports(component: wiring.Component) -> dict[str, tuple[Value, Any]]:
    """What :func:`amaranth.back.rtlil.convert` calls ports, under names with single underscores."""
    taken: set[str] = set()
    ports = {}
    for path, member, value in component.signature.flatten(component):
        bits = Value.cast(value)
        if len(bits):
            port = legal_name("_".join(map(str, path)), taken)
            inward = member.flow == wiring.In
            ports[port] = (bits, PortDirection.Input if inward else PortDirection.Output)
    return ports


def _make_names_legal(fragment: Fragment) -> None:
    """Rename submodules whose names RTLIL text cannot hold."""
    taken = {name.lower() for _, name, _ in fragment.subfragments if name is not None}
    for at, (child, name, place) in enumerate(fragment.subfragments):
        if name is not None and not re.fullmatch(r"\w+", name, re.ASCII):
            fragment.subfragments[at] = (child, legal_name(name, taken), place)
        _make_names_legal(child)


def _comments(fragment: Fragment, path: str) -> dict[str, str]:
    """What the components of a design say about themselves, by the names of their modules."""
    found = {}
    for origin in fragment.origins or ():
        comment = getattr(origin, "comment", None)
        if isinstance(comment, str):
            if not re.fullmatch(r"[ -~]+", comment):
                raise ValueError(f"Verilog comment must be a line of plain text, not {comment!r}")
            found[path] = comment
    for at, (child, name, _) in enumerate(fragment.subfragments):
        found |= _comments(child, f"{path}.{name or f'U${at}'}")
    return found


def _optimised(text: str, finished: Iterable[str]) -> dict[str, Any]:
    """Yosys' netlist of RTLIL text, processes turned into words of logic, as its JSON.

    ``finished``: modules in which nothing is to be found but words that are too wide.
    """
    every = "select -clear"
    others = " ".join(["select *", *(f"{name} %d" for name in finished)])
    # Full `proc` leaves assignments only: an `always @*` over constants stays X in some simulators.
    commands = (
        "read_rtlil design.il",
        *(others, "proc", "opt"),
        *(every, "wreduce"),
        *(others, "opt", "memory_collect"),
        *(every, "opt_clean", "write_json design.json"),
    )
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        (directory / "design.il").write_text(text, encoding="utf-8")
        yosys.run(commands, directory)
        return json.loads((directory / "design.json").read_bytes())


@contextmanager
def _without_collection() -> Iterator[None]:
    """Netlists are many objects that all live to the end: looking for dead ones among them would
    take longer than everything else.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
