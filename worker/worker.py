"""A worker: claims tasks, has them run by the executor, reports, and leaves politely.

Threads: this one waits for orders (signals, directives); the executor's; one for each conversation.
Read hand.py for what they share, conversation.py and executor.py for what they do.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from queue import Empty, SimpleQueue
from typing import Final, Literal

import msgspec

from shared.address import shown
from shared.client import DispatcherClient
from shared.log import Log
from shared.protocol import WorkerInfo
from shared.settings import Settings, entries
from worker.cache_manager import Memo, Outbox
from worker.channel import Options
from worker.children import UnusableTasks
from worker.conversation import Freight, Heartbeat, Work
from worker.executor import Executor
from worker.hand import Hand
from worker.link import Link
from worker.pace import Pace

Order = Literal["stop", "drain", "exit", "done", "broken"]

_GLANCE_SECONDS: Final = 0.01  # how often a stopping worker looks whether it is done
_KILLED_SECONDS: Final = 2.0  # to notice the death of what was killed
_DELIVERY_SECONDS: Final = 5.0  # to deliver what is left, while the dispatcher answers
_AWAY_SECONDS: Final = 1.0  # the same, while it does not: then the disk keeps it
_HURRY_SECONDS: Final = 1.0  # the one quick delivery after a second signal
_GOODBYE_SECONDS: Final = 2.0
_LOOK_UP_SECONDS: Final = 0.5  # nobody notices half a second, nor two wakes in a second


class Worker:
    """One worker process."""

    def __init__(
        self,
        settings: Settings,
        name: str,
        types: list[str] | None,
        burst: bool,
        programs: dict[str, str],
        log: Log,
    ) -> None:
        self._settings = settings
        self._log = log
        self._types = types
        self._orders: SimpleQueue[Order] = SimpleQueue()  # may be put to by a signal handler
        self._stop = threading.Event()
        options = Options(entries(settings.task_modules), settings.checkpoint_interval_seconds, programs)
        self._hand = Hand()
        pace = Pace()
        self._memo = Memo(settings.memo_entries)
        encoded = msgspec.json.encode(options).decode()
        slots, threads = settings.slots, settings.worker_threads
        self._executor = Executor(self._hand, pace, self._memo, log, slots=slots, options=encoded, threads=threads)
        urls = settings.dispatcher_urls
        self._outbox = Outbox(settings.data_path / "outbox", name, urls, log)
        worker_id = f"{name}-{secrets.token_hex(4)}"  # new for each start
        self._worker = WorkerInfo(worker_id, name, socket.gethostname(), os.getpid(), slots, threads=threads)
        self._worker.queues = settings.queues
        self._link = Link(
            self._worker, self._hand, self._executor, self._outbox, self._memo, log, self._on_directive
        )
        on_idle = partial(self.order, "done") if burst else None
        self._work = Work(self._link, self._hand, self._executor, pace, urls, settings.long_poll_seconds, on_idle)
        self._heartbeat = Heartbeat(self._link, self._hand, self._work, urls)
        self._freight = Freight(self._link, self._hand, self._work, urls)

    def order(self, order: Order) -> None:
        """Tell the worker what to do; safe in a signal handler."""
        self._orders.put(order)

    def run(self) -> int:
        """Work until told to stop; returns the exit code. Raises UnusableTasks if nothing can be run."""
        try:
            self._executor.start()
            self._announce_types()
        except UnusableTasks:
            self._executor.close()
            raise
        self._link.restore()
        executing = self._thread("executor", self._executor.run_forever)
        self._thread("heartbeat", self._heartbeat.run_forever)
        self._thread("work", self._work.run_forever)
        self._thread("freight", self._freight.run_forever)
        self._log_start()
        order = self._next_order()
        if order in ("exit", "broken") or not self._leave(order):
            self._hurry()
        self._say_goodbye()
        self._stop.set()
        self._heartbeat.poke()
        self._executor.ring()
        executing.join(_KILLED_SECONDS)
        self._executor.close()
        self._link.keep_all()
        self._outbox.close()
        self._log_end()
        return 1 if order == "broken" else 0

    # --- starting

    def _announce_types(self) -> None:
        known = self._executor.types
        if self._types is not None and (unknown := sorted(set(self._types) - known.keys())):
            names = ", ".join(sorted(known))
            raise UnusableTasks(f"no task module declares {', '.join(unknown)}; known: {names}")
        self._worker.types = sorted(known if self._types is None else self._types)
        self._memo.types = frozenset(name for name, declared in known.items() if declared.pure)
        if self._executor.threads:
            self._hand.waiting_types = frozenset(name for name, declared in known.items() if declared.waits)

    def _thread(self, name: str, run: Callable[[threading.Event], None]) -> threading.Thread:
        """Start a thread; one that fails (our mistake) takes the worker down instead of leaving it lame."""

        def guarded() -> None:
            try:
                run(self._stop)
            except Exception as error:
                self._log("internal_error", where=f"the worker's {name} thread", reason=repr(error))
                self.order("broken")
                raise

        thread = threading.Thread(target=guarded, name=name, daemon=True)
        thread.start()
        return thread

    def _on_directive(self, directive: str) -> None:
        self.order("exit" if directive == "exit" else "drain")

    # --- leaving

    def _next_order(self) -> Order:
        """Wait for one, waking now and then.

        Of a process that was frozen any thread may take a signal, and its handler runs when this one wakes.
        """
        while True:
            with contextlib.suppress(Empty):
                return self._orders.get(timeout=_LOOK_UP_SECONDS)

    def _leave(self, order: Order) -> bool:
        """Stop claiming, finish or release what is held, deliver. False if told to hurry meanwhile."""
        self._worker.state = "draining"
        if order != "done":
            self._log("worker_draining", name=self._worker.name, reason=order, held=self._hand.unfinished)
        self._executor.drain()
        self._heartbeat.poke()
        if not self._wait(lambda: not self._hand.unfinished, self._settings.drain_seconds):
            return False
        if self._hand.unfinished:
            self._executor.kill_all()
            if not self._wait(lambda: not self._hand.unfinished, _KILLED_SECONDS):
                return False
        away_until = time.monotonic() + _AWAY_SECONDS
        return self._wait(lambda: self._is_done(away_until), _DELIVERY_SECONDS)

    def _is_done(self, away_until: float) -> bool:
        """Whether nothing is left to deliver, or nobody there to take it.

        A claim under way is waited for: after the goodbye its tasks would be nobody's for a while.
        """
        if self._link.is_away:
            return time.monotonic() > away_until
        return self._hand.is_empty and not self._work.is_talking

    def _wait(self, done: Callable[[], bool], seconds: float) -> bool:
        """Wait until `done`, at most `seconds`; False if another order to stop comes first."""
        until = time.monotonic() + seconds
        while not done() and time.monotonic() < until:
            try:
                if self._orders.get(timeout=_GLANCE_SECONDS) in ("stop", "exit", "broken"):
                    return False
            except Empty:
                continue
        return True

    def _hurry(self) -> None:
        """Told to stop now: kill what runs, try once to deliver."""
        self._worker.state = "draining"
        self._executor.kill_all()
        self._wait(lambda: not self._hand.unfinished, _HURRY_SECONDS / 2)
        if not self._hand.is_empty:
            self._briefly(self._deliver_once, _HURRY_SECONDS)

    def _deliver_once(self, client: DispatcherClient) -> None:
        self._link.exchange(client, self._hand.outgoing.pack(), holding=True)

    def _say_goodbye(self) -> None:
        self._worker.state = "stopped"
        if not self._link.is_away:
            self._briefly(self._deliver_once, _GOODBYE_SECONDS)

    def _briefly(self, talk: Callable[[DispatcherClient], object], seconds: float) -> None:
        """Talk to the dispatcher on a connection of its own, but do not wait longer than `seconds`."""

        def talk_and_hang_up() -> None:
            client = DispatcherClient(self._settings.dispatcher_urls)
            talk(client)
            client.close()

        thread = threading.Thread(target=talk_and_hang_up, daemon=True)
        thread.start()
        thread.join(seconds)

    # --- log

    def _log_start(self) -> None:
        worker = self._worker
        types = ", ".join(worker.types or ())
        url = ", ".join(map(shown, self._settings.dispatcher_urls))
        self._log("worker_started", name=worker.name, slots=worker.slots, types=types, url=url)

    def _log_end(self) -> None:
        count = self._executor.tally.outcomes
        self._log(
            "worker_ended",
            name=self._worker.name,
            completed=count["completed"],
            failed=count["failed"] + count["crashed"],
            released=count["released"],
        )
