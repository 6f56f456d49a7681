"""baton stats and baton top: the whole at a glance, once or live."""

from __future__ import annotations

import contextlib
import select
import sys
import time
from collections import deque
from collections.abc import Iterator
from typing import Any, Final

import click
from rich.console import RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from shared import errors
from shared.address import shown
from shared.cli import screen
from shared.cli.command import Session, verb
from shared.lifecycle import GONE, TaskStatus, WorkerState
from shared.wording import clean

whole = click.Group("whole")  # its verbs stand at the top of the tree

LOOK_SECONDS: Final = 1.0  # as often as workers report
RATES_KEPT: Final = 30  # looks that the throughput's curve shows
RUNNING_ASKED: Final = 100  # more rows no terminal shows
PIPED_ROWS: Final = 20
FRAME_LINES: Final = 12  # of a frame, apart from the rows of its two tables
BAR_CHARS: Final = 20
_CURVE: Final = "▁▂▃▄▅▆▇█"


@verb(whole, "stats", "baton stats")
def stats(baton: Session) -> None:
    """Count tasks, workers, and work. How much of it was useful, saved and lost."""
    found = baton.client.stats()
    work = found["work"]
    facts = [
        ("tasks", _counts(found["tasks"])),
        ("workers", _counts(found["workers"])),
        ("paused", paused(found)),
        ("completed", f"{found['completed_last_minute']} in the last minute"),
        ("work", f"{screen.span(work['useful_seconds'])} useful"),
        ("saved", f"{screen.span(work['saved_seconds'])} by checkpoints, out of lost attempts"),
        ("lost", f"{screen.span(work['lost_seconds'])}{_share(work)}"),
        ("up", f"{screen.span(found['uptime_seconds'])}, version {found['version']}"),
    ]
    baton.answer(found, screen.facts(facts))


def _counts(counts: dict[str, int]) -> str:
    told = [f"{n} {name}" for name, n in counts.items() if n and name != "total"]
    return ", ".join(told) or "none"


def paused(found: dict[str, Any]) -> str:
    """Of which queues and types nothing starts: `queue default, type fit`. Empty if there are none."""
    pauses = found["paused"]
    return ", ".join([*(f"queue {one}" for one in pauses["queues"]), *(f"type {one}" for one in pauses["types"])])


def _share(work: dict[str, float]) -> str:
    """Saved work counts too: it is not useful before its task completes. Then it is both, so the greater one."""
    done = max(work["useful_seconds"], work["saved_seconds"]) + work["lost_seconds"]
    return f" ({work['lost_seconds'] / done:.1%} of all work)" if done else ""


class Watcher:
    """Looks at the dispatcher again and again; keeps the rates between looks."""

    def __init__(self, baton: Session) -> None:
        self._baton = baton
        self._rates: deque[float] = deque(maxlen=RATES_KEPT)
        self._before: tuple[float, int] | None = None
        self.seen: dict[str, Any] = {}
        self.trouble = ""

    def look(self) -> None:
        """Ask for everything a frame shows. Raises what the client raises."""
        client = self._baton.client
        counts = client.stats()
        running = client.tasks(status=str(TaskStatus.IN_PROGRESS), limit=RUNNING_ASKED)["tasks"]
        self.seen = {"stats": counts, "workers": client.workers(), "tasks": running}
        now, completed = time.monotonic(), counts["tasks"]["completed"]
        if self._before is not None:
            at, before = self._before
            self._rates.append(max(0, completed - before) / max(now - at, 0.001))
        self._before = now, completed
        self.trouble = ""

    def look_again(self) -> None:
        """As look, but a dispatcher that is away only leaves a note: it may be restarted."""
        try:
            self.look()
        except errors.BatonError as error:
            self.trouble = error.message

    def frame(self, rows: int) -> RenderableType:
        """The picture, with at most so many rows in both tables together."""
        counts = self.seen["stats"]
        workers = _of_interest(self.seen["workers"])
        tasks = sorted(self.seen["tasks"], key=lambda task: task["started_at"] or "")
        shown = max(3, min(len(workers), rows // 2, rows - min(len(tasks), rows // 2)))
        listed = max(3, rows - min(len(workers), shown))
        parts: list[RenderableType] = [*self._head(counts), ""]
        parts += (
            [_workers(workers[:shown]), *_more(len(workers) - shown), ""]
            if workers
            else ["no worker is alive", ""]
        )
        in_progress = counts["tasks"]["in-progress"]
        parts += [_running(tasks[:listed]), *_more(in_progress - listed)] if tasks else ["nothing runs"]
        return screen.stack(*parts)

    def _head(self, counts: dict[str, Any]) -> list[RenderableType]:
        work = counts["work"]
        lost = f"{screen.span(work['lost_seconds'])} lost{_share(work)}"
        rate = f"{counts['completed_last_minute'] / 60:.1f}/s"
        lines = [
            Text(f"{shown(self._baton.client.urls[0])}, up {screen.span(counts['uptime_seconds'])}", style="bold"),
            Text(f"tasks    {_counts(counts['tasks'])}"),
            Text(f"done     {counts['completed_last_minute']} in the last minute, {rate}  {self._curve()}"),
            Text(f"work     {screen.span(work['useful_seconds'])} useful, {lost}"),
        ]
        if told := paused(counts):
            lines.append(Text(clean(f"paused   {told}"), style="yellow"))
        if self.trouble:
            lines.append(Text(clean(self.trouble), style="red"))
        for line in lines:  # one line each, or the frame would not fit its terminal
            line.no_wrap, line.overflow = True, "ellipsis"
        return list(lines)

    def _curve(self) -> str:
        top = max(self._rates, default=0.0)
        return "".join(_CURVE[round(rate / top * 7)] for rate in self._rates) if top else ""


def _of_interest(workers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The living, and the dead that nobody has replaced under the same name."""
    living = {worker["name"] for worker in workers if worker["state"] not in GONE}
    return [
        worker
        for worker in workers
        if worker["state"] not in GONE or (worker["state"] == WorkerState.DEAD and worker["name"] not in living)
    ]


def _more(n: int) -> list[RenderableType]:
    return [Text(f"and {n} more", style="dim")] if n > 0 else []


def _workers(workers: list[dict[str, Any]]) -> Table:
    rows = [
        (worker["name"], worker["state"], f"{worker['running']}/{worker['slots']}", worker["host"],
         screen.span(worker["seconds_since_heartbeat"]))
        for worker in workers
    ]  # fmt: skip
    return screen.table(("worker", "state", "busy", "host", "heard"), rows, text=("host", "worker"))


def _running(tasks: list[dict[str, Any]]) -> Table:
    rows = [
        (task["task_id"], task["type"], task["worker"], task["attempt"], screen.age(task["started_at"]),
         screen.percent(task["progress"]), _bar(task["progress"] or 0.0), task["message"] or "")
        for task in tasks
    ]  # fmt: skip
    headers = ("task", "type", "worker", "try", "since", "done", "", "message")
    return screen.table(headers, rows, text=("message", "worker", "type"))


def _bar(share: float) -> Text:
    """Twenty characters, as many of them filled as the task has done; a pipe gets plain ones."""
    full = int(share * BAR_CHARS)
    if screen.console().is_terminal:
        return Text.assemble(("━" * full, "cyan"), ("━" * (BAR_CHARS - full), "dim"))
    return Text(f"{'#' * full}{'.' * (BAR_CHARS - full)}")


@verb(whole, "top", "baton top --once")
@click.option("--once", is_flag=True, help="Print one frame and end, as in a pipe.")
def top(baton: Session, once: bool) -> None:
    """Watch it live. Workers, what runs, throughput, work lost; q or Ctrl-C ends."""
    watcher = Watcher(baton)
    watcher.look()
    out = screen.console()
    if baton.as_json:
        screen.json_line(watcher.seen)
    elif once or not out.is_terminal:
        screen.show(watcher.frame(PIPED_ROWS))
    else:
        _live(watcher)


def _live(watcher: Watcher) -> None:
    out = screen.console()
    with (
        contextlib.suppress(KeyboardInterrupt),
        _keys() as pressed,
        Live(console=out, screen=True, auto_refresh=False) as live,
    ):
        while True:
            live.update(watcher.frame(max(6, out.height - FRAME_LINES)), refresh=True)
            if pressed(LOOK_SECONDS) == "q":
                return
            watcher.look_again()


@contextlib.contextmanager
def _keys() -> Iterator[Any]:
    """A function that waits so many seconds for a key; the terminal is as before afterwards."""
    if not sys.stdin.isatty():
        yield lambda seconds: time.sleep(seconds)
        return
    import termios  # not everywhere
    import tty

    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield lambda seconds: sys.stdin.read(1) if select.select([sys.stdin], [], [], seconds)[0] else None
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
