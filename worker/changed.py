"""The lock around the hand, and who waits for what under it.

A condition whose predicates are looked at by whoever changes something, not by whoever waits: a thread is
woken only when its reason has come. A needless wake-up costs two changes of threads, and the interpreter's
lock in between; results of short tasks would cause several for each message.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType


class Changed:
    """To be entered around every step; it may be entered again by the same thread."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._waiting: list[tuple[threading.Condition, Callable[[], object]]] = []

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._lock.release()

    def wait_for(self, reason: Callable[[], object], seconds: float) -> None:
        """Return when `reason()` holds, after `seconds` at the latest. It is asked in other threads, too."""
        waiter = threading.Condition(self._lock), reason
        self._waiting.append(waiter)
        try:
            waiter[0].wait_for(reason, seconds)
        finally:
            self._waiting.remove(waiter)

    def tell(self) -> None:
        """Something has changed: wake those whose reason has come."""
        for condition, reason in self._waiting:
            if reason():
                condition.notify()
