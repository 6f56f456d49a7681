"""Every log line: event -> level and wording. Code names an event, this file says it.

info = a change of state, warning = it healed itself, error = a person is needed.
A terminal gets plain lines; anything else gets one JSON object a line.
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from shared.wording import clean

INFO, WARNING, ERROR = logging.INFO, logging.WARNING, logging.ERROR

EVENTS: Final[dict[str, tuple[int, str]]] = {
    # the dispatcher
    "dispatcher_started": (INFO, "dispatcher {version} listens on {url}, database {database}, pid {pid}"),
    "dispatcher_stopping": (INFO, "dispatcher stops: {reason}"),
    "dispatcher_stopped": (INFO, "dispatcher stopped"),
    "submit": (INFO, "{count} task(s) submitted: {tasks}"),
    "cancel": (INFO, "task {task_id} cancelled"),
    "revive": (INFO, "task {task_id} revived"),
    "expire": (INFO, "task {task_id} missed its deadline after {attempt} attempt(s)"),
    "limit_set": (INFO, "{kind} {name} has a new limit"),
    "limit_removed": (INFO, "{kind} {name} has no limit any more"),
    "paused": (INFO, "{kind} {name} paused"),
    "resumed": (INFO, "{kind} {name} resumed"),
    "worker_ordered": (INFO, "worker {name} was told to {order} ({worker_id})"),
    "schedule_missed": (WARNING, "schedule {name}: slots before {before} were missed and are left out"),
    "schedule_failed": (ERROR, "schedule {name} could not fire: {reason}"),
    "cancel_flow": (INFO, "flow {flow_id} cancelled"),
    "revive_flow": (INFO, "flow {flow_id} revived where it had failed"),
    "fail": (INFO, "task {task_id} attempt {attempt} failed ({next}): {reason}"),
    "crash": (WARNING, "task {task_id} attempt {attempt} crashed ({next}): {reason}"),
    "reclaim": (WARNING, "task {task_id} attempt {attempt} reclaimed from {worker} ({next}): {reason}"),
    "readopt": (INFO, "task {task_id} attempt {attempt} readopted by {worker}"),
    "worker_registered": (INFO, "worker {name} registered ({worker_id})"),
    "worker_returned": (INFO, "worker {name} is back ({worker_id})"),
    "worker_silent": (WARNING, "worker {name} silent for {seconds:.1f} s, taken for dead ({worker_id})"),
    "worker_stopped": (INFO, "worker {name} said goodbye ({worker_id})"),
    "process_died": (WARNING, "dispatcher process {pid} ended with {code}; another one starts"),
    "monitor_leads": (INFO, "this dispatcher's monitor leads, term {term}"),
    "write_failed": (ERROR, "the database could not be written, nothing of it was stored: {reason}"),
    "write_recovered": (INFO, "the database can be written again"),
    "internal_error": (ERROR, "{where} failed unexpectedly: {reason}"),
    # the worker
    "worker_started": (INFO, "worker {name} started: {slots} slot(s), types {types}, dispatcher {url}"),
    "name_taken": (
        WARNING,
        "another worker here is called {name}, too (pid {pid}): orders like pause need the worker's id then",
    ),
    "worker_draining": (INFO, "worker {name} stops claiming ({reason}); {held} task(s) held"),
    "worker_ended": (
        INFO,
        "worker {name} ended: {completed} completed, {failed} failed, {released} released",
    ),
    "task_started": (INFO, "task {task_id} attempt {attempt} started: {type}"),
    "task_resumed": (INFO, "task {task_id} attempt {attempt} started: {type}, resumed at {progress:.0%}"),
    "task_ended": (INFO, "task {task_id} attempt {attempt} {outcome} after {seconds:.2f} s"),
    "task_went_wrong": (WARNING, "task {task_id} attempt {attempt} {outcome} after {seconds:.2f} s: {reason}"),
    "tasks_ended": (INFO, "{count} short task(s) ended: {outcomes}"),
    "task_lost": (WARNING, "task {task_id} attempt {attempt} is no longer ours, dropped"),
    "task_cancelled": (INFO, "task {task_id} attempt {attempt} cancelled, stopped"),
    "task_overran": (WARNING, "task {task_id} attempt {attempt} overran its {seconds:g} s, stopped"),
    "task_stalled": (WARNING, "task {task_id} attempt {attempt} showed nothing for {seconds:g} s, stopped"),
    "result_refused": (ERROR, "task {task_id} attempt {attempt}: result refused ({reason}), kept in {path}"),
    "results_kept": (WARNING, "{count} result(s) kept on disk until the dispatcher takes them"),
    "results_left": (
        WARNING,
        "{count} kept result(s) are for the dispatcher at {url}, not ours, and left alone; "
        "to deliver them, start a worker with --url {url}, or if it has moved, --url {url},<where it is now>",
    ),
    "results_delivered": (INFO, "{count} kept result(s) delivered"),
    "dispatcher_away": (WARNING, "dispatcher does not answer, trying on: {reason}"),
    "dispatcher_back": (INFO, "dispatcher answers again"),
    "child_died": (WARNING, "task process {pid} died: {reason}"),
    "child_unusable": (ERROR, "task processes cannot start, trying on: {reason}"),
    "module_empty": (
        WARNING,
        'task module {module} declares no task: put @task("name") above a function that takes ctx',
    ),
    "outbox_damaged": (WARNING, "kept results cannot be read, set aside as {path}: {reason}"),
    "outbox_failed": (ERROR, "results cannot be kept on disk in {path}: {reason}"),
    "outbox_stuck": (ERROR, "{path} cannot be removed, the next worker delivers it once more: {reason}"),
    "task_line": (INFO, "task {task_id}: {text}"),
    "task_lines": (INFO, "task {task_id}: ... and {count} line(s) more, kept with the task"),
    "logs_refused": (WARNING, "log lines of {count} task(s) refused, dropped: {reason}"),
}


class Log:
    """Writes events; `who` (a worker's name, or "dispatcher") stands in front of each line."""

    def __init__(self, who: str, stream: Any = None) -> None:
        self.who = who
        self.stream = stream or sys.stderr
        self.plain = self.stream.isatty()

    def __call__(self, event: str, **facts: Any) -> None:
        """Write one line for `event`; `facts` fill its wording. A closed terminal is no error."""
        level, wording = EVENTS[event]
        now = datetime.now(UTC)
        message = wording.format(**facts).replace("\n", " | ")
        if self.plain:
            line = f"{now.astimezone():%H:%M:%S} {self.who:<12} {clean(message)}"
        else:
            record = {
                "at": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                "level": logging.getLevelName(level).lower(),
                "who": self.who,
                "event": event,
                "message": message,
                **facts,
            }
            line = msgspec.json.encode(record, enc_hook=str).decode()
        try:
            self.stream.write(f"{line}\n")  # in one piece: threads share the stream
            self.stream.flush()
        except (OSError, ValueError):  # whoever read our log is gone, or the disk it goes to is full
            return
