"""What a task starts: programs, and forked copies of its child, which must not go on as one.

Used inside a child; see child.py.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any, NoReturn


def on_signals(stop: Callable[[int, FrameType | None], None]) -> None:
    """Hear SIGTERM with `stop` and leave SIGINT to the worker; what a task starts hears both as any process."""
    usual: dict[int, Any] = {signal.SIGTERM: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
    kept = threading.local()  # what a thread that forks had blocked before

    def hear(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGTERM:
            stop(number, frame)

    def hold_back() -> None:
        # What a forked process hears before it is ready, Python forgets. (SIGINT would be no better off: what its
        # handler raises at that moment is ignored.)
        kept.mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def let_through() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, kept.mask)

    def forget() -> None:
        for number, handler in usual.items():
            if signal.getsignal(number) is hear:
                signal.signal(number, handler)
        let_through()

    for number in usual:
        signal.signal(number, hear)  # never SIG_IGN, which programs would inherit
    os.register_at_fork(before=hold_back, after_in_parent=let_through, after_in_child=forget)


def is_left() -> bool:
    """Whether anything that this process has started still lives, or was never waited for."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return any(map(_is_of_our_group, os.listdir("/proc") if os.path.isdir("/proc") else ()))
    return True


def _is_of_our_group(number: str) -> bool:
    """Whether a process, by its number's name in /proc, is of our group: one whose parent is gone, too."""
    own = os.getpid()
    with suppress(ValueError, OSError):  # no process, or gone meanwhile
        return int(number) != own and os.getpgid(int(number)) == own
    return False


def leave() -> NoReturn:
    """End a forked process that has left the task's function, as Python ends a script there."""
    error = sys.exc_info()[1]
    status = _status(error)
    if error is not None and not isinstance(error, SystemExit):
        sys.excepthook(type(error), error, error.__traceback__)
    sys.stdout.flush()
    os._exit(status)


def _status(error: BaseException | None) -> int:
    if error is None:
        return 0
    code = error.code if isinstance(error, SystemExit) else 1
    if isinstance(code, str):
        print(code, file=sys.stderr)
    return code if isinstance(code, int) else 0 if code is None else 1
