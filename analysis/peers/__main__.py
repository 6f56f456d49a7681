"""`make bench-peers`: installs the peers, measures them and Baton in turn, prints and keeps the table.

`python -m analysis.peers huey_sqlite` measures that one only. Under ten minutes on two cores.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from analysis.console import end_politely, exit_codes
from analysis.peers import (
    celery_redis,
    contestant,
    dramatiq_redis,
    huey_sqlite,
    procrastinate_postgresql,
    rq_redis,
    trial,
    venv,
)
from analysis.peers.contestant import Contestant
from analysis.peers.table import BATON, ON_POSTGRESQL, Comparison, keep, sentences, table

MODULES: Final = (celery_redis, dramatiq_redis, huey_sqlite, procrastinate_postgresql, rq_redis)
PEERS: Final = {module.PEER.module: module.PEER for module in MODULES}
ROUNDS: Final = 3  # the median of three; in turn, so that a busy minute of the machine meets all alike
BUDGET_SECONDS: Final = 420.0  # a round that would not fit is left out, and the table says how many there were

Opened = Callable[[Path], AbstractContextManager[Contestant]]


def main(names: list[str]) -> None:
    """Measure the named peers, or all, beside Baton."""
    unknown = set(names) - PEERS.keys()
    if unknown:
        print(f"no such peer: {', '.join(sorted(unknown))}; there are {', '.join(PEERS)}", file=sys.stderr)
        sys.exit(2)
    end_politely()
    console = Console(highlight=False)
    comparison = Comparison([PEERS[name] for name in names or PEERS])
    try:
        venv.prepare(console.print)
    except venv.NotMeasured as reason:
        print(f"no peer can be measured: {reason}", file=sys.stderr)
        sys.exit(1)
    with exit_codes():
        _measure(comparison, console)
        _recover(comparison, console)
    console.print(table(comparison))
    for sentence in (*sentences(comparison), *comparison.notes()):
        console.print(sentence, soft_wrap=True)
    for path in keep(comparison):
        console.print(f"written: {path}", soft_wrap=True)
    if not any(comparison.trials[peer.name] for peer in comparison.peers):
        sys.exit(1)


def _measure(comparison: Comparison, console: Console) -> None:
    began = time.monotonic()
    for number in range(1, ROUNDS + 1):
        round_began = time.monotonic()
        for name, opened in _contestants(comparison, console.print):
            with console.status(f"round {number} of {ROUNDS}: {name}"):
                result = _tried(comparison, name, opened, trial.measure)
            if result is not None:
                comparison.trials[name].append(result)
        now = time.monotonic()
        if now + (now - round_began) > began + BUDGET_SECONDS:
            return


def _recover(comparison: Comparison, console: Console) -> None:
    """All at once: they only wait."""

    def recover(one: tuple[str, Opened]) -> None:
        name, opened = one
        seconds = _tried(comparison, name, opened, trial.recovery_seconds)
        if name not in comparison.reasons:
            comparison.recoveries[name] = seconds

    those = list(_contestants(comparison, console.print))
    waiting = f"a consumer of each is killed (up to {trial.RECOVERY_SECONDS:g} s)"
    with console.status(waiting), ThreadPoolExecutor(len(those)) as pool:
        list(pool.map(recover, those))


def _contestants(comparison: Comparison, tell: venv.Tell) -> Iterator[tuple[str, Opened]]:
    yield BATON, contestant.baton
    if comparison.on_postgresql():
        yield ON_POSTGRESQL, partial(contestant.baton_on_postgresql, tell=tell)
    for peer in comparison.measurable():
        yield peer.name, partial(contestant.peer, peer, tell=tell)


def _tried(comparison: Comparison, name: str, opened: Opened, measure: Callable[[Contestant], Any]) -> Any:
    """What is measured of one with a fresh server; of a peer None, and the reason is kept."""
    with tempfile.TemporaryDirectory(prefix="baton-peers-") as folder:
        try:
            with opened(Path(folder)) as queue:
                return measure(queue)
        except (venv.NotMeasured, OSError, subprocess.SubprocessError) as reason:
            if name not in {peer.name for peer in comparison.peers}:
                raise
            comparison.reasons[name] = str(reason)
            return None


if __name__ == "__main__":
    main(sys.argv[1:])
