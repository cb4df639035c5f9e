# SPDX-License-Identifier: Apache-2.0
"""Identifiers that every Verilog tool accepts, made from any text."""

import hashlib
import re

LONGEST = 96  # characters; tools promise at least 1024, but hierarchical and file names add up

# Every reserved word of IEEE 1800-2017 (Verilog-2005 is a part of it) and of VHDL-2008, because
# mixed-language tools reject either; and words of C++, which Verilator makes member names from.
_VERILOG = """
accept_on alias always always_comb always_ff always_latch and assert assign assume automatic before
begin bind bins binsof bit break buf bufif0 bufif1 byte case casex casez cell chandle checker class
clocking cmos config const constraint context continue cover covergroup coverpoint cross deassign
default defparam design disable dist do edge else end endcase endchecker endclass endclocking
endconfig endfunction endgenerate endgroup endinterface endmodule endpackage endprimitive endprogram
endproperty endsequence endspecify endtable endtask enum event eventually expect export extends
extern final first_match for force foreach forever fork forkjoin function generate genvar global
highz0 highz1 if iff ifnone ignore_bins illegal_bins implements implies import incdir include
initial inout input inside instance int integer interconnect interface intersect join join_any
join_none large let liblist library local localparam logic longint macromodule matches medium
modport module nand negedge nettype new nexttime nmos nor noshowcancelled not notif0 notif1 null or
output package packed parameter pmos posedge primitive priority program property protected pull0
pull1 pulldown pullup pulsestyle_ondetect pulsestyle_onevent pure rand randc randcase randsequence
rcmos real realtime ref reg reject_on release repeat restrict return rnmos rpmos rtran rtranif0
rtranif1 s_always s_eventually s_nexttime s_until s_until_with scalared sequence shortint shortreal
showcancelled signed small soft solve specify specparam static string strong strong0 strong1 struct
super supply0 supply1 sync_accept_on sync_reject_on table tagged task this throughout time
timeprecision timeunit tran tranif0 tranif1 tri tri0 tri1 triand trior trireg type typedef union
unique unique0 unsigned until until_with untyped use uwire var vectored virtual void wait wait_order
wand weak weak0 weak1 while wildcard wire with within wor xnor xor
"""
_VHDL = """
abs access after all architecture array assume_guarantee attribute block body buffer bus
component configuration constant disconnect downto elsif entity exit fairness file generic group
guarded impure in inertial is label linkage literal loop map mod next of on open others out
parameter port postponed procedure process protected range record register reject rem report
restrict_guarantee rol ror select severity shared signal sla sll sra srl strong subtype then to
transport units until variable view vmode vprop vunit when
"""
_CPP = """
alignas alignof asm auto bool catch char char16_t char32_t char8_t compl concept consteval
constexpr constinit co_await co_return co_yield const_cast decltype delete double dynamic_cast
explicit false float friend goto inline long mutable namespace noexcept nullptr operator private
public reinterpret_cast requires short sizeof static_assert static_cast switch template
thread_local throw true try typeid typename using volatile wchar_t main std errno null
"""
RESERVED = frozenset(_VERILOG.split() + _VHDL.split() + _CPP.split())


def legal_name(text: str, taken: set[str]) -> str:
    """The identifier for ``text``: legal, and unlike every name in ``taken``, which it joins.

    Letters, digits and single underscores stay; everything else becomes one underscore. Reserved
    words and leading digits get the prefix ``n``, equal names a number. ``taken`` holds names in
    lower case, so that names stay apart in tools and file systems that ignore case.

    >>> taken = set()
    >>> [legal_name(text, taken) for text in ("fc1/MatMul", "fc1 matmul", "wire", "3x3", "..")]
    ['fc1_MatMul', 'fc1_matmul_2', 'n_wire', 'n3x3', 'unnamed']
    """
    if not isinstance(text, str):
        raise TypeError(f"Name must be a string, not {type(text).__name__}")
    name = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_") or "unnamed"
    if name[0].isdigit():
        name = f"n{name}"
    if name.lower() in RESERVED:
        name = f"n_{name}"
    if len(name) > LONGEST:
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        name = f"{name[: LONGEST - 9].rstrip('_')}_{digest}"
    unique, number = name, 1
    while unique.lower() in taken:
        number += 1
        unique = f"{name}_{number}"
    taken.add(unique.lower())
    return unique
