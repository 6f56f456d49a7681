"""`make bench-peers`: installs the peers, measures them and Baton in turn, prints and keeps the table.

`python -m analysis.peers huey_sqlite` measures that one only. Under five minutes on two cores.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from rich.console import Console

from analysis.console import exit_codes
from analysis.peers import celery_redis, drain, dramatiq_redis, huey_sqlite, procrastinate_postgresql, venv
from analysis.peers.peer import Peer
from analysis.peers.table import Comparison, keep, sentences, table

MODULES: Final = (celery_redis, dramatiq_redis, huey_sqlite, procrastinate_postgresql)
PEERS: Final = {module.PEER.module: module.PEER for module in MODULES}
ROUNDS: Final = 3  # the median of three; in turn, so that a busy minute of the machine meets all alike
BUDGET_SECONDS: Final = 240.0  # a round that would not fit is left out, and the table says how many there were


def main(names: list[str]) -> None:
    """Measure the named peers, or all, beside Baton."""
    unknown = set(names) - PEERS.keys()
    if unknown:
        print(f"no such peer: {', '.join(sorted(unknown))}; there are {', '.join(PEERS)}", file=sys.stderr)
        sys.exit(2)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers and folders go in that case too
    console = Console(highlight=False)
    comparison = Comparison([PEERS[name] for name in names or PEERS])
    try:
        venv.prepare(console.print)
    except venv.NotMeasured as reason:
        print(f"no peer can be measured: {reason}", file=sys.stderr)
        sys.exit(1)
    with exit_codes():
        _measure(comparison, console)
    console.print(table(comparison))
    for sentence in (*sentences(comparison), *comparison.notes()):
        console.print(sentence, soft_wrap=True)
    for path in keep(comparison):
        console.print(f"written: {path}", soft_wrap=True)
    if not any(comparison.rates.values()):
        sys.exit(1)


def _measure(comparison: Comparison, console: Console) -> None:
    began = time.monotonic()
    for number in range(1, ROUNDS + 1):
        round_began = time.monotonic()
        with console.status(f"round {number} of {ROUNDS}: Baton"), _folder() as folder:
            comparison.baton.append(drain.baton(Path(folder)).rate)
        if comparison.on_postgresql():
            with console.status(f"round {number} of {ROUNDS}: Baton on PostgreSQL"), _folder() as folder:
                comparison.baton_on_postgresql.append(drain.baton_on_postgresql(Path(folder), console.print).rate)
        for peer in comparison.measurable():
            with console.status(f"round {number} of {ROUNDS}: {peer.name}"), _folder() as folder:
                _measure_peer(comparison, peer, Path(folder), console)
        now = time.monotonic()
        if now + (now - round_began) > began + BUDGET_SECONDS:
            return


def _measure_peer(comparison: Comparison, peer: Peer, folder: Path, console: Console) -> None:
    try:
        comparison.rates[peer.name].append(drain.of_peer(peer, folder, console.print).rate)
    except (venv.NotMeasured, OSError, subprocess.SubprocessError) as reason:
        comparison.reasons[peer.name] = str(reason)


def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="baton-peers-")


if __name__ == "__main__":
    main(sys.argv[1:])
