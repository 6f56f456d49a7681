"""Exit codes of the commands that talk to a dispatcher, and what an error becomes: one line and a code.

Used by ./baton and add_task.py.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Final, NoReturn

from shared import errors, pidfile
from shared.wording import clean

OK: Final = 0
FAILED: Final = 1  # a task that was waited for failed, or a process that should run does not
USAGE: Final = 2
NOT_FOUND: Final = 3
UNREACHABLE: Final = 4
REFUSED: Final = 5
UNWRITTEN: Final = 74  # EX_IOERR of sysexits(3)
TIMED_OUT: Final = 124  # as timeout(1) has it
INTERRUPTED: Final = 130  # as shells have it

MEANINGS: Final = {
    OK: "ok",
    FAILED: "a task failed or was cancelled; `workers start`, `workers check`: a worker does not run",
    USAGE: "wrong use, or a setting that cannot be used; also: it asks first, and there is no terminal",
    NOT_FOUND: "there is no such thing",
    UNREACHABLE: "the dispatcher does not answer",
    REFUSED: "the dispatcher refused, or cannot do it now",
    UNWRITTEN: "what there was to say could not be written (a full disk); what was asked for is done",
    TIMED_OUT: "waiting took longer than `--timeout`",
    INTERRUPTED: "Ctrl-C, or the answer was no",
}


def code_of(error: errors.BatonError) -> int:
    """The exit code of what the dispatcher, or its absence, said."""
    if isinstance(error, errors.Unreachable):
        return UNREACHABLE
    return NOT_FOUND if isinstance(error, errors.NotFound) else REFUSED


def line_of(error: errors.BatonError) -> str:
    """The error as a line for people."""
    message = clean(error.message)
    return message if code_of(error) != REFUSED else f"refused: {message}"


def fail(message: str, code: int) -> NoReturn:
    """Say what is wrong in one line and end with this code."""
    print(" ".join(message.split()), file=sys.stderr)
    sys.exit(code)


@contextlib.contextmanager
def at_least_said(words: str) -> Iterator[None]:
    """What somebody must know, even if this block cannot write it to standard output."""
    try:
        yield
        sys.stdout.flush()
    except OSError:
        print(words, file=sys.stderr)
        raise


@contextlib.contextmanager
def exit_codes(interrupted: str = "interrupted") -> Iterator[None]:
    """What goes wrong in this block ends the program with a line and a code."""
    try:
        yield
        sys.stdout.flush()
    except errors.BatonError as error:
        fail(line_of(error), code_of(error))
    except pidfile.Unwritable as problem:
        fail(str(problem), USAGE)
    except KeyboardInterrupt:
        fail(interrupted, INTERRUPTED)
    except UnicodeEncodeError as error:
        if error.reason != "surrogates not allowed":  # an argument's bytes that are no text
            raise
        fail(f"{error.object[:80]!a} is not UTF-8, and cannot be sent", USAGE)
    except BrokenPipeError:  # `baton tasks list | head`: who reads has read enough
        _say_no_more()
        sys.exit(OK)
    except OSError as error:
        if error.filename is not None:  # of a file, not of what we write to
            raise
        _say_no_more()
        fail(f"standard output cannot be written: {error.strerror}", UNWRITTEN)


def _say_no_more() -> None:
    """What is still in the buffer would fail again when the program ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
