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
    """To be entered around every step; it may be entered again by the same thread, for a step within one."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._depth = 0  # of the steps under way
        self._has_news = False
        self._waiting: list[tuple[threading.Condition, Callable[[], object]]] = []

    def __enter__(self) -> None:
        self._lock.acquire()
        self._depth += 1

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._depth -= 1
        try:
            if self._has_news and not self._depth:
                self._wake()
        finally:
            self._lock.release()

    def wait_for(self, reason: Callable[[], object], seconds: float) -> None:
        """Return when `reason()` holds, after `seconds` at the latest. It is asked in other threads, too."""
        waiter = threading.Condition(self._lock), reason
        self._waiting.append(waiter)
        depth, self._depth = self._depth, 0  # others take their steps meanwhile
        try:
            waiter[0].wait_for(reason, seconds)
        finally:
            self._depth = depth
            self._waiting.remove(waiter)

    def tell(self) -> None:
        """Something has changed: at the end of the step those are woken whose reason has come."""
        self._has_news = True

    def _wake(self) -> None:
        self._has_news = False
        for condition, reason in self._waiting:
            if reason():
                condition.notify()
