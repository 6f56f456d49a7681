"""The link to the dispatcher: what the conversations share. One message out, its answer taken in.

Nothing is lost on the way: what a message carries comes back to the hand when it fails, goes to disk
meanwhile, and is forgotten only when the dispatcher has answered for it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

import msgspec

from shared import errors
from shared.client import DispatcherClient
from shared.log import Log
from shared.protocol import (
    Checkpoint,
    Exchange,
    ExchangeAnswer,
    Grant,
    Refusal,
    Result,
    WorkerInfo,
)
from worker.cache_manager import Memo, Outbox
from worker.executor import Executor
from worker.failure import error_body
from worker.hand import Hand
from worker.outgoing import Key, Parcel

# What took so long to compute is written to disk before the first try to deliver it.
_PRECIOUS_SECONDS: Final = 1.0
# After so much silence the next message, whoever sends it, lists what we hold: it is the heartbeat.
_SILENCE_SECONDS: Final = 2.0
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # counts a suspended machine's time


class Link:
    """Sends messages for the conversations and takes in the answers."""

    def __init__(
        self,
        worker: WorkerInfo,
        hand: Hand,
        executor: Executor,
        outbox: Outbox,
        memo: Memo,
        log: Log,
        on_directive: Callable[[str], None],
    ) -> None:
        self.worker = worker
        self._hand = hand
        self._executor = executor
        self._outbox = outbox
        self._memo = memo
        self._log = log
        self._on_directive = on_directive
        self._spoke_at = time.clock_gettime(_CLOCK)  # when the last message was sent that has been answered
        self._owed: set[Key] = set()  # results that had to be kept, for the log
        self._refused: set[Key] = set()  # what was refused once is not reported twice
        self.url = ""  # where the last heartbeat was answered: the other conversations go there, too
        self.is_away = False
        self.is_paused = False

    def restore(self) -> None:
        """Have what earlier workers left on disk delivered first."""
        for parcel in self._outbox.load():
            self._hand.outgoing.restore(parcel)
            self._owed.update((r.task_id, r.attempt) for r in parcel.results)

    def exchange(
        self,
        client: DispatcherClient,
        parcel: Parcel,
        *,
        holding: bool | None = None,
        receiving: bool = False,
        want: int = 0,
        wait_seconds: float = 0.0,
        types: list[str] | None = None,
    ) -> ExchangeAnswer | None:
        """Send one message and take in the answer; None if there was none, and the parcel waits again.

        `holding`: list what we hold; None: if nobody has spoken for a while.
        """
        now, sent_at = time.monotonic(), time.clock_gettime(_CLOCK)
        self._outbox.keep(parcel, _PRECIOUS_SECONDS)
        if holding is None:
            holding = sent_at - self._spoke_at > _SILENCE_SECONDS
        message = Exchange(
            self._introduction(),
            self._hand.holding(self._executor.running()) if holding else None,
            parcel.checkpoints,
            parcel.results,
            want,
            wait_seconds,
            [lines.message(now) for lines in parcel.logs] if parcel.logs else [],
            types,
            receiving,
        )
        try:
            answer = client.exchange(message)
        except (errors.TooLarge, errors.Invalid, errors.Malformed) as error:
            self._message_refused(parcel, error)
            return None
        except (errors.BatonError, msgspec.DecodeError) as error:
            self._failed(parcel, str(error))
            return None
        self._back(sent_at)
        self._settle(parcel, answer)
        self._take_in(answer)
        return answer

    def _introduction(self) -> WorkerInfo:
        """Who we are: while no child can be started, one that can run nothing."""
        if self.worker.state != "running" or self._executor.usable_strands():
            return self.worker
        return msgspec.structs.replace(self.worker, types=[])

    def wait_for_dispatcher(self, stop: threading.Event, seconds: float) -> None:
        """Until `stop` is set, the dispatcher is back, as another conversation may find first, or time is up."""
        with self._hand.changed:
            self._hand.changed.wait_for(lambda: stop.is_set() or not self.is_away, seconds)

    def keep_all(self) -> None:
        """Write every undelivered result to disk: the worker ends."""
        count = sum(self._outbox.keep(parcel) for parcel in self._hand.outgoing.pack_all())
        if count or self._owed:
            self._log("results_kept", count=count + len(self._owed))

    # --- no answer

    def _failed(self, parcel: Parcel, reason: str) -> None:
        kept = self._outbox.keep(parcel)
        self._owed.update((r.task_id, r.attempt) for r in parcel.results)
        self._hand.outgoing.returned(parcel)
        with self._hand.changed:  # several conversations may notice, one says so
            news, self.is_away = not self.is_away, True
        if news:
            self._log("dispatcher_away", reason=reason)
        if kept:
            self._log("results_kept", count=kept)

    def _back(self, sent_at: float) -> None:
        with self._hand.changed:
            # Not when the answer was read: whoever is frozen meanwhile finds an old one on waking.
            self._spoke_at = max(self._spoke_at, sent_at)
            news, self.is_away = self.is_away, False
            if news:
                self._hand.changed.tell()
        if news:
            self._log("dispatcher_back")

    def _message_refused(self, parcel: Parcel, error: errors.BatonError) -> None:
        """Something in the message is bad and the dispatcher could not say what: find it by halving."""
        if parcel.logs:  # they matter least
            self._log("logs_refused", count=len(parcel.logs), reason=error.message)
            parcel.logs.clear()
            self._hand.outgoing.returned(parcel)
        elif len(parcel) == 1:
            item = parcel.results[0] if parcel.results else parcel.checkpoints[0]
            self._hand.outgoing.delivered(parcel)
            self._refuse(item, error.code, error.message)
        elif parcel:
            self._hand.outgoing.too_much(parcel)
        else:
            self._failed(parcel, error.message)

    # --- an answer

    def _settle(self, parcel: Parcel, answer: ExchangeAnswer) -> None:
        """The dispatcher has answered for all of the parcel, though it may have refused a part."""
        keys = [(r.task_id, r.attempt) for r in parcel.results]
        for refusal in answer.refused:
            self._on_refusal(parcel, refusal)
        self._hand.outgoing.delivered(parcel)
        self._outbox.settled(keys)
        lost = {(t.task_id, t.attempt) for t in answer.lost}
        if self._owed and (answered := self._owed.intersection(keys)):
            self._owed -= answered
            if delivered := answered - lost - {(r.task_id, r.attempt) for r in answer.refused}:
                self._log("results_delivered", count=len(delivered))
        if lost:
            for task_id, attempt in {*self._drop(lost), *lost.intersection(keys)}:
                self._log("task_lost", task_id=task_id, attempt=attempt)

    def _take_in(self, answer: ExchangeAnswer) -> None:
        if answer.cancel:
            for task_id, attempt in self._drop({(t.task_id, t.attempt) for t in answer.cancel}):
                self._log("task_cancelled", task_id=task_id, attempt=attempt)
        if answer.tasks:
            self._accept(answer.tasks)
        self.is_paused = answer.directive == "pause"
        if answer.directive in ("drain", "exit"):
            self._on_directive(answer.directive)

    def _accept(self, grants: list[Grant]) -> None:
        self._hand.add(grants)
        if self._memo.types:
            answers = [answer for grant in grants if (answer := self._memo.answer(grant))]
            self._hand.end(answers)
        self._executor.supply()

    def _drop(self, keys: set[Key]) -> list[Key]:
        dropped = self._hand.drop(keys)
        if dropped:
            self._executor.ring()
            self._outbox.settled(dropped)
            self._owed.difference_update(dropped)
        return dropped

    # --- refusals

    def _on_refusal(self, parcel: Parcel, refusal: Refusal) -> None:
        key = refusal.task_id, refusal.attempt
        items: list[Result | Checkpoint] = [*parcel.results, *parcel.checkpoints]
        for item in items:
            if (item.task_id, item.attempt) == key:
                self._refuse(item, str(refusal.error.get("code")), str(refusal.error.get("message")))
                return

    def _refuse(self, item: Result | Checkpoint, code: str, message: str) -> None:
        """Set aside what the dispatcher will not take, and report the attempt as failed; once."""
        key = item.task_id, item.attempt
        path = self._outbox.set_refused_aside(item, f"{item.task_id}-{item.attempt}", f"{code}: {message}")
        self._log("result_refused", task_id=key[0], attempt=key[1], reason=message, path=path)
        self._outbox.settled([key])
        if key in self._refused:
            return
        self._refused.add(key)
        self._drop({key})
        what = "result" if isinstance(item, Result) else "checkpoint"
        failed = Result(
            task_id=item.task_id,
            attempt=item.attempt,
            lease_id=item.lease_id,
            outcome="failed",
            retryable=False,
            error=error_body("Refused", f"the dispatcher refused this {what}: {message}", code=code),
        )
        self._hand.outgoing.add([failed])
