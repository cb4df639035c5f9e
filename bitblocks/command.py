# SPDX-License-Identifier: Apache-2.0
"""The command line. Exit status: 0 good, 1 a check found a difference, 2 bad input."""

import signal
import sys
import warnings
from collections.abc import Sequence
from types import FrameType
from typing import Any

DIFFERENT, WRONG = 1, 2
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """A signal ended the command; what is unfinished is removed on the way out."""

    def __init__(self, number: int):
        self.number = number
        super().__init__(number)


def main() -> None:
    """Run the command line of this process."""
    try:
        for number in _SIGNALS:
            signal.signal(number, _interrupt)
        status = run(sys.argv[1:])
        sys.stdout.flush()
        _ignore_signals()  # what is done cannot be interrupted, least of all on the way out
    except Interrupted as interrupt:
        _ignore_signals()
        warnings.simplefilter("ignore")  # of half a circuit, that nobody uses it
        say(f"interrupted by {signal.Signals(interrupt.number).name}")
        status = 128 + interrupt.number
    except BrokenPipeError:  # whoever read our output has gone; nothing must be flushed any more
        sys.stdout = None
        status = DIFFERENT
    sys.exit(status)


def settle() -> None:
    """Begin the last act of a command, which nothing interrupts; another process stays as it is."""
    if signal.getsignal(signal.SIGINT) is _interrupt:
        _ignore_signals()


def _ignore_signals() -> None:
    for number in (*_SIGNALS, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)


def _interrupt(number: int, frame: FrameType | None) -> None:
    if _importing(frame):  # a library in C that is left half imported may crash: ask again soon
        signal.signal(signal.SIGALRM, lambda _, later: _interrupt(number, later))
        signal.setitimer(signal.ITIMER_REAL, 0.01)
    else:
        raise Interrupted(number)


def _importing(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_globals.get("__name__") != "importlib._bootstrap":
        frame = frame.f_back
    return frame is not None


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit status; what is wrong is one sentence on stderr."""
    import typer

    from bitblocks.commands import app
    from bitblocks.errors import InputError

    refusal: Any = typer.BadParameter.__base__  # what a wrong command line raises
    try:
        status = app(args=list(arguments), prog_name="bitblocks", standalone_mode=False)
    except (refusal, InputError) as error:
        say(error.format_message() if isinstance(error, refusal) else str(error))
        return WRONG
    except MemoryError as error:
        say(f"memory must suffice for what is asked, not end: {error}")
        return WRONG
    return status or 0


def say(sentence: str) -> None:
    """One line on stderr, whatever the sentence quotes."""
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in sentence)
    print(f"bitblocks: {line}", file=sys.stderr)
