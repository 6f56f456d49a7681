"""Whoever waits for a change is woken by the one that brings its reason, and by no other."""

from __future__ import annotations

import threading

from worker.changed import Changed

PATIENCE_SECONDS = 10.0


class Waiter(threading.Thread):
    """Waits for its reason, and counts how often it was awake to look for it itself."""

    def __init__(self, changed: Changed) -> None:
        super().__init__(daemon=True)
        self.changed = changed
        self.has_reason = False
        self.looks = 0
        self.has_looked = threading.Event()
        self.start()
        self.has_looked.wait(PATIENCE_SECONDS)
        with changed:
            pass  # it gives the lock back by waiting

    def run(self) -> None:
        with self.changed:
            self.changed.wait_for(self._look, PATIENCE_SECONDS)

    def _look(self) -> bool:
        self.looks += threading.current_thread() is self
        self.has_looked.set()
        return self.has_reason

    def has_gone_on(self) -> bool:
        self.join(PATIENCE_SECONDS)
        return not self.is_alive()


def tell(changed: Changed, waiter: Waiter | None = None) -> None:
    with changed:
        if waiter:
            waiter.has_reason = True
        changed.tell()


def test_a_thread_is_woken_only_when_its_reason_has_come() -> None:
    changed = Changed()
    waiter = Waiter(changed)

    for _ in range(100):
        tell(changed)
    tell(changed, waiter)

    assert waiter.has_gone_on()
    assert waiter.looks == 2  # before it slept, and once it was woken


def test_of_several_threads_each_waits_for_its_own_reason() -> None:
    changed = Changed()
    first, second = Waiter(changed), Waiter(changed)

    tell(changed, second)
    second_went = second.has_gone_on()
    tell(changed)

    assert second_went
    assert first.is_alive()
    assert first.looks == 1
    tell(changed, first)
    assert first.has_gone_on()


def test_a_reason_that_holds_already_is_not_waited_for() -> None:
    changed = Changed()

    with changed:
        changed.wait_for(lambda: True, PATIENCE_SECONDS)
        changed.wait_for(lambda: False, 0.0)
        changed.tell()  # nobody waits any more


def test_the_reason_is_looked_for_when_the_whole_step_is_done() -> None:
    changed = Changed()
    waiter = Waiter(changed)

    with changed:
        with changed:
            changed.tell()
        waiter.has_reason = True  # after the news, still in the step

    assert waiter.has_gone_on()
