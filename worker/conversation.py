"""The conversations with the dispatcher, each a thread with a connection of its own.

The heartbeat says every second what we hold and never waits; the work conversation brings results and
asks for tasks, and may be parked at the dispatcher until there are some. None waits for another:
what is ready while the work conversation is parked goes with a heartbeat at once. What is too large for
that, and would make it late on a slow line, goes as freight.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Final

from shared.backoff import RECONNECT
from shared.client import ANSWER_SECONDS, DispatcherClient
from shared.protocol import Grant
from worker.executor import Executor
from worker.hand import Hand
from worker.link import Link
from worker.outgoing import FREIGHT_BYTES
from worker.pace import Pace

_IDLE_SECONDS: Final = 60.0  # freight is told when there is some
_LOOK_SECONDS: Final = 0.1  # how often the work conversation looks whether slots are open for more
# While so many are held, they are short ones: their results can wait a little for each other, and for
# the next claim. One message of hundreds costs both sides far less than hundreds of one.
_MANY_TASKS: Final = 50
_GATHER_SECONDS: Final = 0.01
_BURST_SECONDS: Final = 0.05  # between two claims of a burst worker that still computes
# Some claims are not parked, and made again after so long: those for some types only, which would be in the way
# when there is room for others; and those of a worker whose strands are all busy, which would take from idle ones.
_UNPARKED_SECONDS: Final = 0.25
_DEAF_SECONDS: Final = 1.0  # after a dispatcher gave us others all the same, which then have to go back
_ELSEWHERE_SECONDS: Final = 2.0  # a dispatcher that does not answer a heartbeat for so long is left for another
_HOLDING_RETRY_SECONDS: Final = 1.0  # a worker that holds tasks retries its heartbeat at least so often


class Heartbeat:
    """Says what we hold, with every checkpoint that is not too large as soon as there is one."""

    def __init__(self, link: Link, hand: Hand, work: Work, urls: list[str]) -> None:
        self._link = link
        self._hand = hand
        self._work = work
        patience = _ELSEWHERE_SECONDS if len(urls) > 1 else ANSWER_SECONDS
        self._client = DispatcherClient(urls, answer_seconds=patience)
        self._tries = 0
        self._seconds = 1.0  # until the dispatcher says otherwise
        self._poked = False

    def poke(self) -> None:
        """Beat at once: something about the worker has changed."""
        with self._hand.changed:
            self._poked = True
            self._hand.changed.tell()

    def run_forever(self, stop: threading.Event) -> None:
        """Beat until `stop` is set (and the heart is poked)."""
        while not stop.is_set():
            self.run_once()
            self._pause(stop)
        self._client.close()

    def run_once(self) -> None:
        """One heartbeat."""
        self._poked = False
        outgoing, began_at = self._hand.outgoing, time.monotonic()
        parcel = outgoing.pack(logs=True, limit=outgoing.beat_bytes)
        answer = self._link.exchange(self._client, parcel, holding=True, receiving=self._work.is_receiving)
        outgoing.beat_took(time.monotonic() - began_at, parcel.size)
        if answer is None:
            self._tries += 1
        else:
            self._tries = 0
            self._seconds = answer.heartbeat_seconds
            self._link.url = self._client.urls[0]

    def _pause(self, stop: threading.Event) -> None:
        if not self._tries:
            seconds = self._seconds * random.uniform(0.9, 1.1)  # so that many workers do not beat as one
            with self._hand.changed:
                self._hand.changed.wait_for(self._is_urgent, seconds)
            return
        seconds = RECONNECT.delay_seconds(self._tries)
        if not self._hand.is_empty:
            seconds = min(seconds, random.uniform(0.5, 1.0) * _HOLDING_RETRY_SECONDS)
        stop.wait(seconds)

    def _is_urgent(self) -> bool:
        return self._poked or self._hand.outgoing.has_light(results=self._work.is_parked)


class Freight:
    """Brings what is too large for a heartbeat: checkpoints, logs, and results while nobody else brings them."""

    def __init__(self, link: Link, hand: Hand, work: Work, urls: list[str]) -> None:
        self._link = link
        self._hand = hand
        self._work = work
        self._client = DispatcherClient(urls)
        self._tries = 0

    def run_forever(self, stop: threading.Event) -> None:
        """Exchange until `stop` is set."""
        while not stop.is_set():
            with self._hand.changed:
                self._hand.changed.wait_for(lambda: stop.is_set() or self._has_load(), _IDLE_SECONDS)
            self.run_once()
            if self._tries:
                self._link.wait_for_dispatcher(stop, RECONNECT.delay_seconds(self._tries))
        self._client.close()

    def run_once(self) -> None:
        """One exchange, when there is something to bring."""
        with self._hand.changed:
            if not self._has_load():
                return
            parcel = self._hand.outgoing.pack(logs=True, limit=FREIGHT_BYTES)
        self._client.prefer(self._link.url)
        answer = self._link.exchange(self._client, parcel, holding=False)  # it would be old on arrival
        self._tries = self._tries + 1 if answer is None else 0

    def _has_load(self) -> bool:
        return self._hand.outgoing.has_heavy(results=self._work.is_parked)


class Work:
    """Delivers results and claims tasks. `on_idle` is called when a claim found nothing to do."""

    def __init__(
        self,
        link: Link,
        hand: Hand,
        executor: Executor,
        pace: Pace,
        urls: list[str],
        wait_seconds: float,
        on_idle: Callable[[], None] | None,
    ) -> None:
        self._link = link
        self._hand = hand
        self._executor = executor
        self._pace = pace
        self._client = DispatcherClient(urls)
        self._wait_seconds = wait_seconds if on_idle is None else 0.0
        self._on_idle = on_idle
        self._tries = 0
        self._claim_at = 0.0  # not before
        self._claim_part_at = 0.0  # the same, for some types only
        self._claim_ahead_at = 0.0  # the same, while all strands are busy
        self.is_parked = False
        self.is_talking = False  # an exchange is under way whose answer comes at once

    @property
    def is_receiving(self) -> bool:
        """Whether grants may be coming in, which takes long on a slow line."""
        return self._client.is_receiving

    def run_forever(self, stop: threading.Event) -> None:
        """Exchange until `stop` is set."""
        while not stop.is_set():
            self.run_once()
            if self._tries:
                self._link.wait_for_dispatcher(stop, RECONNECT.delay_seconds(self._tries))
        self._client.close()

    def run_once(self) -> None:
        """One exchange, when there is something to deliver or to ask for."""
        outgoing = self._hand.outgoing
        with self._hand.changed:
            self._hand.changed.wait_for(lambda: outgoing.has_results or self._want()[0], _LOOK_SECONDS)
            if self._hand.unfinished > _MANY_TASKS:
                self._hand.changed.wait_for(lambda: self._want()[0], _GATHER_SECONDS)
            parcel = outgoing.pack()
            want, types = self._want()
            if not parcel and not want:
                return
            busy = self._is_busy()
            may_park = not (parcel or types or busy)
            wait_seconds = self._wait_seconds * random.uniform(0.9, 1.0) if may_park else 0.0
            self.is_parked = wait_seconds > 0
            self.is_talking = not self.is_parked
        self._client.prefer(self._link.url)
        answer = self._link.exchange(self._client, parcel, want=want, wait_seconds=wait_seconds, types=types)
        self.is_parked = self.is_talking = False
        if answer is None:
            self._tries += 1
            return
        self._tries = 0
        if answer.poll_after_seconds:
            self._claim_at = time.monotonic() + answer.poll_after_seconds
        if busy and want and not answer.tasks:
            self._claim_ahead_at = time.monotonic() + _UNPARKED_SECONDS
        if types is not None:
            self._claim_part_at = time.monotonic() + _pause(types, answer.tasks)
        if self._on_idle and want and not answer.tasks:
            self._claim_at = time.monotonic() + _BURST_SECONDS
            if self._hand.is_empty:
                self._on_idle()

    def _want(self) -> tuple[int, list[str] | None]:
        """How many tasks to ask for now, and of which types, if not of all."""
        blocked = self._link.is_paused or self._link.worker.state != "running"
        now = time.monotonic()
        if blocked or now < self._claim_at or (now < self._claim_ahead_at and self._is_busy()):
            return 0, None
        if not self._hand.waiting_types:
            return self._room(self._hand.unfinished, waits=False), None
        waiting = self._hand.waiting()
        for_main = self._room(self._hand.unfinished - waiting, waits=False)
        for_threads = self._room(waiting, waits=True)
        if for_main and for_threads:
            # Whichever kind comes must find room; after nothing but tasks that wait, more of them will come.
            only_waiting = self._pace.recent() and not self._pace.recent(self._runs_on_main)
            return for_threads if only_waiting else min(for_main, for_threads), None
        if now < self._claim_part_at:
            return 0, None
        known = self._link.worker.types or ()
        types = [kind for kind in known if self._runs_on_main(kind) is bool(for_main)]
        return (max(for_main, for_threads), types) if types else (0, None)

    def _is_busy(self) -> bool:
        """Whether no strand is without a task."""
        threads = self._executor.usable_strands(waits=True) if self._executor.threads else 0
        return self._hand.unfinished >= self._executor.usable_strands() + threads

    def _room(self, unfinished: int, waits: bool) -> int:
        closed = self._executor.closed_strands(waits)  # each of them is left out, and the long task it runs
        strands = self._executor.usable_strands(waits) - closed
        among = self._hand.waiting_types.__contains__ if waits else self._runs_on_main
        return self._pace.want(strands, unfinished - closed, among) if strands > 0 else 0

    def _runs_on_main(self, kind: str) -> bool:
        return kind not in self._hand.waiting_types


def _pause(types: list[str], grants: list[Grant]) -> float:
    """How long not to ask for `types` again, after an answer brought these."""
    if any(grant.type not in types for grant in grants):
        return _DEAF_SECONDS
    return 0.0 if grants else _UNPARKED_SECONDS
