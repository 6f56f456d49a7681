"""Waiting without sleeping: for a condition with a limit, and for calls that park in a thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

LIMIT_SECONDS = 10.0  # a loaded machine takes its time; a condition that holds costs none


def wait_until(condition: Callable[[], Any], what: str = "the condition", seconds: float = LIMIT_SECONDS) -> Any:
    """Ask again and again until `condition` answers something true; returns that."""
    limit = time.monotonic() + seconds
    pause = threading.Event()
    while not (answer := condition()):
        assert time.monotonic() < limit, f"{what} did not come true within {seconds:g} s"
        pause.wait(0.002)
    return answer


class Call:
    """A call under way in a thread of its own; `result()` waits for it and raises what it raised."""

    def __init__(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> None:
        self._answer: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(function, arguments, options), daemon=True)
        self._thread.start()

    def _run(self, function: Callable[..., Any], arguments: Any, options: Any) -> None:
        try:
            self._answer = function(*arguments, **options)
        except BaseException as error:
            self._error = error

    @property
    def done(self) -> bool:
        return not self._thread.is_alive()

    def result(self, seconds: float = LIMIT_SECONDS) -> Any:
        self._thread.join(seconds)
        assert self.done, f"the call did not return within {seconds:g} s"
        if self._error is not None:
            raise self._error
        return self._answer
