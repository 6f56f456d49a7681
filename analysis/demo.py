"""The whole path, end to end: three workers, one killed in the middle of a long task, nothing lost.

Run it with `make demo`. Exits 0 only if every answer is right and the killed task was resumed.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from analysis.cluster import Cluster, cluster
from analysis.console import end_politely
from shared import errors
from shared.follow import Follower
from shared.protocol import Submission

# Numbers of primes up to 10^n, from the On-Line Encyclopedia of Integer Sequences, A006880.
KNOWN = {10**6: 78_498, 10**7: 664_579, 10**8: 5_761_455, 10**9: 50_847_534, 10**10: 455_052_511}
LONG = 10**10  # two to ten seconds of computation: long enough to be killed in its middle
LIMITS = (LONG, LONG, LONG, 10**9, 10**9, 10**8, 10**8, 10**7, 10**6, 10**6)
WORKERS = ("worker-1", "worker-2", "worker-3")
KILL_FROM = 0.25  # progress from which the kill is in the middle …
KILL_TO = 0.8  # … and far enough from the end to be seen
GIVE_UP_SECONDS = 55.0


class Demo:
    """One run; keeps what the summary tells."""

    def __init__(self, baton: Cluster, console: Console) -> None:
        self.baton = baton
        self.console = console
        self.limits: dict[int, int] = {}
        self.victim: int | None = None  # the task whose worker was killed
        self.killed = ""
        self.resumed_at = 0
        self.noted = False

    def run(self) -> bool:
        """Submit, watch, kill, watch on; True if everything was right."""
        began = time.monotonic()
        for name in WORKERS:
            self.baton.start_worker(name, wait=False)
        submissions = [Submission("prime", payload=msgspec.Raw(b'{"limit":%d}' % limit)) for limit in LIMITS]
        ids = self.baton.client.submit_many(submissions)["task_ids"]
        self.limits = dict(zip(ids, LIMITS, strict=True))
        self.console.print(f"{len(ids)} prime tasks submitted, {len(WORKERS)} workers started")
        follower = Follower(self.baton.client, ids)
        with Live(console=self.console, transient=True, refresh_per_second=8) as live:
            for _ in follower.until_ended(GIVE_UP_SECONDS):
                live.update(self._progress(follower))
                self._kill_one(follower)
                self._note_resumption(follower)
        return self._summary(follower, time.monotonic() - began)

    def _kill_one(self, follower: Follower) -> None:
        """SIGKILL a worker that is in the middle of a long task with a checkpoint behind it."""
        if self.victim is not None:
            return
        for task_id, task in follower.tasks.items():
            middle = task["status"] == "in-progress" and KILL_FROM <= (task["progress"] or 0) <= KILL_TO
            if not (middle and self.limits[task_id] == LONG and task["worker"] in self.baton.workers):
                continue
            if self._checkpoint(task_id) is None:
                continue
            self.baton.workers[task["worker"]].kill()
            self.baton.workers[task["worker"]].wait()
            self.victim, self.killed = task_id, task["worker"]
            self.resumed_at = (self._checkpoint(task_id) or {"state": {"last_checked": 0}})["state"][
                "last_checked"
            ]
            self.console.print(
                f"kill -9 {self.killed} at {task['progress']:.0%} of task {task_id}; "
                f"its last checkpoint stands at {self.resumed_at:,}"
            )
            return

    def _checkpoint(self, task_id: int) -> dict[str, Any] | None:
        try:
            return self.baton.client.checkpoint(task_id)
        except errors.NotFound:
            return None

    def _note_resumption(self, follower: Follower) -> None:
        task = follower.tasks.get(self.victim or 0)
        if task and not self.noted and task["attempt"] > 1 and task["worker"] != self.killed:
            self.noted = True
            self.console.print(f"task {self.victim} goes on from there on {task['worker']}")

    def _progress(self, follower: Follower) -> Table:
        table = Table("task", "primes to", "status", "worker", "attempt", "progress", box=None)
        for task_id, task in sorted(follower.tasks.items()):
            bar = ProgressBar(total=1.0, completed=task["progress"] or 0.0, width=24)
            worker = task["worker"] or ""
            shown = _power(self.limits[task_id])
            table.add_row(str(task_id), shown, task["status"], worker, str(task["attempt"] or ""), bar)
        return table

    def _summary(self, follower: Follower, seconds: float) -> bool:
        table = Table("task", "primes to", "worker(s)", "attempts", "resumed at", "count", "", box=None)
        right, lost = 0, 0.0
        for task_id, limit in self.limits.items():
            task = follower.tasks[task_id]
            attempts = self.baton.client.attempts(task_id)
            lost += sum(a["lost_seconds"] or 0.0 for a in attempts)
            count = (task["result"] or {}).get("count")
            correct = count == KNOWN[limit]
            right += correct
            resumed = f"{self.resumed_at:,}" if task_id == self.victim else "–"
            workers = " → ".join(dict.fromkeys(str(a["worker"]) for a in attempts))
            counted = f"{count:,}" if count is not None else task["status"]
            mark = "right" if correct else f"WRONG, expected {KNOWN[limit]:,}"
            table.add_row(str(task_id), _power(limit), workers, str(len(attempts)), resumed, counted, mark)
        self.console.print(table)
        resumed_elsewhere = self.noted and self.victim not in follower.open
        self.console.print(
            f"{right} of {len(self.limits)} answers right in {seconds:.1f} s; "
            f"work lost to the kill: {lost:.2f} s of computation"
        )
        if not resumed_elsewhere:
            self.console.print("the killed task was not seen going on elsewhere", style="red")
        return right == len(self.limits) and resumed_elsewhere


def _power(limit: int) -> str:
    """A limit as people say it; all of ours are powers of ten."""
    return f"10^{len(str(limit)) - 1}"


def main() -> None:
    """Run the demo in a temporary folder; exit 1 if anything was wrong."""
    end_politely()
    console = Console(highlight=False)
    try:
        with tempfile.TemporaryDirectory(prefix="baton-demo-") as folder, cluster(Path(folder)) as baton:
            console.print(f"dispatcher on {baton.url}, data in {folder}")
            fine = Demo(baton, console).run()
    except KeyboardInterrupt:
        console.print("stopped")
        sys.exit(130)
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
