"""DispatcherClient: the protocol as typed calls, used by the worker, add_task.py and analysis.

One client belongs to one thread and holds one connection. Of several dispatchers it begins with any,
so that they share the load, and stays with it until that one does not answer or cannot write; then it
asks the next. A call is tried again, with jittered pauses, while the dispatcher is away and the call is
safe to repeat; submitting is repeated only if nothing of it was stored.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any, Literal

import msgspec

from shared import errors
from shared.address import part, shown, target
from shared.backoff import RECONNECT
from shared.batches import batches
from shared.idempotency import check_key
from shared.line import Line, Silence
from shared.protocol import PAGE_MAX, Batch, Exchange, ExchangeAnswer, Submission, TaskPage

ANSWER_SECONDS = 10.0  # a dispatcher that takes longer counts as away
MANY_SECONDS = 600.0  # millions of tasks, revived or dropped by one request, take minutes
_NUMBER_CHARS = len("/999999")  # behind a key, where it takes several requests: a million of them
_HEADERS = {"Content-Type": "application/json", "User-Agent": "baton"}
_SHOWN_BYTES = 60  # of an answer that is not a dispatcher's: enough to know a page by
_encode = msgspec.json.Encoder().encode
_object = msgspec.json.Decoder(dict[str, Any])
_task_page = msgspec.json.Decoder(TaskPage)


class DispatcherClient:
    """Talks to one of `urls`, sticking to the one that works.

    `patience_seconds`: how long a call may keep trying while nobody answers; 0 tries each URL once.
    `answer_seconds`: how long one may take to answer, on top of the time that a request asks it to wait.
    Raises errors.Unreachable when that time is over, else the error the dispatcher named.
    """

    def __init__(
        self, urls: str | Sequence[str], patience_seconds: float = 0.0, answer_seconds: float = ANSWER_SECONDS
    ) -> None:
        given = [urls] if isinstance(urls, str) else urls
        self.urls = random.sample([url.rstrip("/") for url in given], len(given))  # the first is in use
        self.patience_seconds = patience_seconds
        self._answer_seconds = answer_seconds
        self.when_away: Callable[[errors.Unavailable], None] = lambda error: None  # all were tried once, in vain
        self._lines: dict[str, Line] = {}
        self._answer = msgspec.json.Decoder(ExchangeAnswer)

    @property
    def is_receiving(self) -> bool:
        """Whether an answer is coming in just now; any thread may ask."""
        return any(line.is_receiving for line in list(self._lines.values()))

    def prefer(self, url: str) -> None:
        """Ask this one of the URLs first, from the next call on."""
        if url != self.urls[0] and url in self.urls:
            self.urls.remove(url)
            self.urls.insert(0, url)

    def close(self) -> None:
        """Close the connection."""
        for line in self._lines.values():
            line.close()

    # --- submitting

    def submit(self, submission: Submission, idempotency_key: str | None = None) -> dict[str, Any]:
        """Submit one task; returns `{"task_id", "status"}`, perhaps `"warning"`, perhaps `"existing": true`.

        With an `idempotency_key` it is tried again even if an answer was lost: nothing is stored twice.
        """
        return self._json("POST", "/tasks", _encode(submission), repeatable=False, key=idempotency_key)

    def submit_many(self, submissions: Iterable[Submission], idempotency_key: str | None = None) -> dict[str, Any]:
        """Submit tasks in as few requests as the limits allow; `{"task_ids": [...]}` in order.

        Each request is all or nothing; an error has the ids that the ones before it stored as `stored` in its
        details. With an `idempotency_key` the whole may be repeated: the n-th request goes out as `key/n`.
        Invalid before the first one if the key leaves no room for that.
        """
        ids: list[int] = []
        warnings: dict[str, None] = {}
        requests = batches(submissions)
        first = list(islice(requests, 2))
        if idempotency_key is not None and len(first) > 1:
            check_key(idempotency_key, room=_NUMBER_CHARS)
        for number, batch in enumerate(chain(first, requests)):
            key = f"{idempotency_key}/{number}" if idempotency_key and number else idempotency_key
            try:
                answer = self._json("POST", "/tasks", _encode(Batch(batch)), repeatable=False, key=key)
            except errors.BatonError as error:
                error.details["stored"] = ids
                raise
            ids += answer["task_ids"]
            warnings |= dict.fromkeys(filter(None, answer.get("warning", "").split("; ")))
        return {"task_ids": ids, **({"warning": "; ".join(warnings)} if warnings else {})}

    # --- looking and steering

    def task(self, task_id: int, wait_seconds: float = 0.0) -> dict[str, Any]:
        """One task; with `wait_seconds` the answer comes when it ends, or after that time."""
        query = {"wait_seconds": wait_seconds} if wait_seconds else {}
        return self._json("GET", f"/tasks/{task_id}", query=query, wait_seconds=wait_seconds)

    def tasks(self, **query: Any) -> dict[str, Any]:
        """A page of tasks, newest first: `{"tasks": [...], "next": cursor or None}`."""
        return self._json("GET", "/tasks", query=query)

    def every_task(self, **query: Any) -> Iterator[dict[str, Any]]:
        """All tasks that fit, newest first; asked for a page at a time, while one goes through them."""
        for page in self.task_pages(**query):
            yield from map(_object.decode, page)

    def task_pages(self, **query: Any) -> Iterator[list[msgspec.Raw]]:
        """The same in pages, each task as the bytes of its JSON."""
        query = {"limit": PAGE_MAX, **query}
        while True:
            page: TaskPage = self._call("GET", target("/tasks", query), read=_task_page.decode)
            yield page.tasks
            if page.next is None:
                return
            query["after"] = page.next

    def attempts(self, task_id: int) -> list[dict[str, Any]]:
        """The history of a task, oldest attempt first."""
        attempts: list[dict[str, Any]] = self._json("GET", f"/tasks/{task_id}/attempts")["attempts"]
        return attempts

    def checkpoint(self, task_id: int) -> dict[str, Any]:
        """The task's last checkpoint; NotFound if there is none."""
        return self._json("GET", f"/tasks/{task_id}/checkpoint")

    def output(self, task_id: int) -> Iterator[Any]:
        """The chunks of a task's output, one decoded JSON value each."""
        for line in self._call("GET", f"/tasks/{task_id}/output", read=_lines):
            yield msgspec.json.decode(line)

    def cancel(self, task_id: int) -> dict[str, Any]:
        """Cancel a task; AlreadyEnded if it has ended."""
        return self._json("POST", f"/tasks/{task_id}/cancel")

    def revive(self, task_id: int, **options: Any) -> dict[str, Any]:
        """Make a failed or cancelled task pending again (`from_scratch`, `payload`)."""
        return self._json("POST", f"/tasks/{task_id}/revive", _encode(options))

    def revive_many(self, **wanted: Any) -> int:
        """Revive the failed and cancelled tasks that a filter (or `ids`) finds; returns how many."""
        answer = self._json("POST", "/tasks/revive", _encode(wanted), wait_seconds=MANY_SECONDS)
        return int(answer["revived"])

    def drop_many(self, **wanted: Any) -> int:
        """Remove the ended tasks that a filter (or `ids`) finds; returns how many."""
        answer = self._json("POST", "/tasks/drop", _encode(wanted), wait_seconds=MANY_SECONDS)
        return int(answer["dropped"])

    def explain(self, task_id: int) -> dict[str, Any]:
        """Why a task stands where it stands, and when it may start."""
        return self._json("GET", f"/tasks/{task_id}/explain")

    def logs(self, task_id: int, **query: Any) -> dict[str, Any]:
        """A page of a task's log: `{"lines": [...], "next": cursor}` (`attempt`, `after`)."""
        return self._json("GET", f"/tasks/{task_id}/logs", query=query)

    def history(self, **query: Any) -> dict[str, Any]:
        """A page of ended attempts, newest first: `{"attempts": [...], "next": cursor or None}`."""
        return self._json("GET", "/history", query=query)

    def limits(self) -> list[dict[str, Any]]:
        """Every limit, with how many tasks run under it."""
        limits: list[dict[str, Any]] = self._json("GET", "/limits")["limits"]
        return limits

    def set_limit(self, **setting: Any) -> dict[str, Any]:
        """Set a limit of a `queue`, a `type` or a `key` (`max_running`, `max_starts`, `per_seconds`)."""
        return self._json("PUT", "/limits", _encode(setting))

    def remove_limit(self, **name: Any) -> dict[str, Any]:
        """Lift the limit of a `queue`, a `type` or a `key`; NotFound if there is none."""
        return self._json("DELETE", "/limits", query=name, repeatable=False)

    def pause(self, kind: Literal["queue", "type", "worker"], name: str) -> dict[str, Any]:
        """Let nothing more of a queue or type start, or nothing more on a worker."""
        return self._json("POST", f"/{kind}s/{part(name)}/pause")

    def resume(self, kind: Literal["queue", "type", "worker"], name: str) -> dict[str, Any]:
        """Undo `pause` or `drain_worker`."""
        return self._json("POST", f"/{kind}s/{part(name)}/resume")

    def drain_worker(self, name: str) -> dict[str, Any]:
        """Let a worker finish what it holds and leave."""
        return self._json("POST", f"/workers/{part(name)}/drain")

    def queues(self) -> dict[str, Any]:
        """What stands in each queue, and what is paused."""
        return self._json("GET", "/queues")

    # --- flows and schedules

    def submit_flow(self, flow: dict[str, Any], idempotency_key: str | None = None) -> dict[str, Any]:
        """Submit a flow, in either form; `{"flow_id", "task_ids"}` and perhaps `"warning"`.

        With an `idempotency_key` it is tried again even if an answer was lost: nothing is stored twice.
        """
        return self._json("POST", "/flows", _encode(flow), repeatable=False, key=idempotency_key)

    def flow(self, flow_id: int) -> dict[str, Any]:
        """A flow with its tasks."""
        return self._json("GET", f"/flows/{flow_id}")

    def flows(self, **query: Any) -> dict[str, Any]:
        """A page of flows, newest first: `{"flows": [...], "next": cursor or None}`."""
        return self._json("GET", "/flows", query=query)

    def cancel_flow(self, flow_id: int) -> dict[str, Any]:
        """Cancel what has not ended of a flow; AlreadyEnded if all has."""
        return self._json("POST", f"/flows/{flow_id}/cancel")

    def revive_flow(self, flow_id: int) -> dict[str, Any]:
        """Give what failed or was cancelled in a flow a second life; Conflict if nothing was."""
        return self._json("POST", f"/flows/{flow_id}/revive")

    def add_schedule(self, schedule: dict[str, Any]) -> dict[str, Any]:
        """Add a schedule; answers it with its `next_runs`. Conflict if the name is taken."""
        return self._json("POST", "/schedules", _encode(schedule), repeatable=False)

    def schedule(self, name: str) -> dict[str, Any]:
        """One schedule."""
        return self._json("GET", f"/schedules/{part(name)}")

    def schedules(self, **query: Any) -> dict[str, Any]:
        """A page of schedules, by name: `{"schedules": [...], "next": cursor or None}`."""
        return self._json("GET", "/schedules", query=query)

    def change_schedule(self, name: str, **change: Any) -> dict[str, Any]:
        """Replace what is given of a schedule."""
        return self._json("PATCH", f"/schedules/{part(name)}", _encode(change))

    def remove_schedule(self, name: str) -> dict[str, Any]:
        """Forget a schedule; what it has submitted stays."""
        return self._json("DELETE", f"/schedules/{part(name)}", repeatable=False)

    def pause_schedule(self, name: str) -> dict[str, Any]:
        """Let it fire no more until it is resumed."""
        return self._json("POST", f"/schedules/{part(name)}/pause")

    def resume_schedule(self, name: str) -> dict[str, Any]:
        """Let it go on with its next slot."""
        return self._json("POST", f"/schedules/{part(name)}/resume")

    def run_schedule(self, name: str) -> dict[str, Any]:
        """Submit at once what it would submit; `{"task_id"}` or `{"flow_id"}`."""
        return self._json("POST", f"/schedules/{part(name)}/run", repeatable=False)

    def schedule_history(self, name: str, **query: Any) -> dict[str, Any]:
        """What became of its slots, newest first: `{"history": [...], "next": cursor or None}`."""
        return self._json("GET", f"/schedules/{part(name)}/history", query=query)

    # --- workers and the whole

    def workers(self) -> list[dict[str, Any]]:
        """The workers, alive ones first."""
        workers: list[dict[str, Any]] = self._json("GET", "/workers")["workers"]
        return workers

    def worker(self, name: str) -> dict[str, Any]:
        """A worker by its id or name; Conflict if several have the name."""
        return self._json("GET", f"/workers/{part(name)}")

    def forget_worker(self, name: str) -> dict[str, Any]:
        """Forget a dead or stopped worker, by id or name; Conflict for a live one."""
        return self._json("DELETE", f"/workers/{part(name)}")

    def stats(self) -> dict[str, Any]:
        """Counts by status, of workers, and of the work done, saved and lost."""
        return self._json("GET", "/stats")

    def ready(self) -> dict[str, Any]:
        """`{"status": "ok", …}` when the database can be written and the monitor lives."""
        return self._json("GET", "/ready")

    # --- the worker's side

    def exchange(self, message: Exchange) -> ExchangeAnswer:
        """Send a worker's message; safe to repeat, since every part of it is fenced."""
        body, wait, read = _encode(message), message.wait_seconds, self._answer.decode
        answer: ExchangeAnswer = self._call("POST", "/exchange", body, wait_seconds=wait, read=read)
        return answer

    # --- how a call travels

    def _json(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        query: dict[str, Any] | None = None,
        repeatable: bool = True,
        wait_seconds: float = 0.0,
        key: str | None = None,
    ) -> dict[str, Any]:
        where = target(path, query or {})
        if key is not None:
            check_key(key)
            repeatable = True
        fields: dict[str, Any]
        fields = self._call(method, where, body, repeatable=repeatable, wait_seconds=wait_seconds, key=key)
        return fields

    def _call(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        repeatable: bool = True,
        wait_seconds: float = 0.0,
        key: str | None = None,
        read: Callable[[bytes], Any] = _object.decode,
    ) -> Any:
        """What `read` makes of the answer's bytes."""
        give_up_at = time.monotonic() + self.patience_seconds
        tries = 0
        while True:
            try:
                return self._once(method, path, body, wait_seconds, key, read)
            except errors.Unavailable as error:
                self.urls.append(self.urls.pop(0))  # another dispatcher, if there is one
                tries += 1
                pause = RECONNECT.delay_seconds(tries)
                is_over = tries >= len(self.urls) and time.monotonic() + pause >= give_up_at
                if is_over or not (repeatable or _stored_nothing(error)):
                    raise
                if tries == len(self.urls):
                    self.when_away(error)
            time.sleep(pause)

    def _once(
        self,
        method: str,
        path: str,
        body: bytes | None,
        wait_seconds: float,
        key: str | None,
        read: Callable[[bytes], Any],
    ) -> Any:
        url = self.urls[0]
        line = self._lines.get(url) or self._lines.setdefault(url, Line(url))
        headers = _HEADERS if key is None else {**_HEADERS, "Idempotency-Key": key}
        try:
            status, content = line.call(method, path, body, headers, wait_seconds + self._answer_seconds)
        except Silence as silence:
            advice = "start the dispatcher with ./start_dispatcher.sh, or check DISPATCHER_URL"
            reason = f"{shown(url)} does not answer ({silence}); {advice}"
            raise errors.Unreachable(reason, sent=silence.sent) from None
        if status >= 400:
            raise errors.from_body(status, _decoded(content))
        if status < 300:
            with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
                return read(content)
        raise _not_batons(url, status, content)


def _not_batons(url: str, status: int, content: bytes) -> errors.Unreachable:
    """Somebody else answered: a proxy with a redirect or a page of its own."""
    start = content[:_SHOWN_BYTES].decode(errors="replace")
    return errors.Unreachable(
        f"{shown(url)} answers {status} {start!r}, which is not what a dispatcher says; "
        "check DISPATCHER_URL, and whether a proxy or a login page is in between",
        sent=status < 300,  # a redirect has stored nothing
    )


def _stored_nothing(error: errors.Unavailable) -> bool:
    if isinstance(error, errors.Unreachable):
        return not error.details.get("sent", True)
    known = isinstance(error, errors.DatabaseUnavailable | errors.Busy)
    return known and not isinstance(error, errors.Unconfirmed)


def _lines(content: bytes) -> list[bytes]:
    """The lines of an output, to be decoded one by one; the first tells whether it is one."""
    lines = content.splitlines()
    if lines:
        msgspec.json.decode(lines[0])
    return lines


def _decoded(content: bytes) -> Any:
    with contextlib.suppress(msgspec.DecodeError):
        return msgspec.json.decode(content)
    return None
