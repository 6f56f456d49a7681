"""What a comparison says: the table on the terminal, the sentences below it, JSON and Markdown.

A ratio is the median of the ratios of the rounds, as Baton and peer met the same machine in a round.
"""

from __future__ import annotations

import os
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import msgspec
from rich.table import Table

from analysis import machine
from analysis.bench_scale import percentile
from analysis.peers import trial, venv
from analysis.peers.contestant import BatonQueue, PeerQueue
from analysis.peers.peer import Peer
from analysis.peers.trial import Trial
from analysis.results import FOLDER

HEAD = (
    "queue",
    "drained/s",
    "Baton is",
    "single/s",
    "start ms",
    "kill -9 s",
    "durable",
    "result kept",
    "settings",
)
BATON = "Baton"
ON_POSTGRESQL = "Baton on PostgreSQL"
OURS = {
    BATON: ("yes: SQLite, fsync at every commit; leased until its result is stored", "yes", "2 workers, defaults"),
    ON_POSTGRESQL: (
        "yes: PostgreSQL, fsync at every commit; leased until its result is stored",
        "yes",
        "2 workers at one dispatcher, clients at another, defaults",
    ),
}


class Row(NamedTuple):
    """One line of the table, as HEAD names its columns."""

    queue: str
    drained: str
    ratio: str
    single: str
    start: str
    kill: str
    durability: str
    keeps_result: str
    settings: str


class Comparison:
    """Trials of Baton and of each peer by round, what a killed consumer costs, and why something is missing."""

    def __init__(self, peers: list[Peer]) -> None:
        self.peers = peers
        self.trials: dict[str, list[Trial]] = {name: [] for name in (*OURS, *(peer.name for peer in peers))}
        self.recoveries: dict[str, float | None] = {}  # seconds; None: not in time; absent: not tried
        self.reasons: dict[str, str] = {}
        self.load_before = os.getloadavg()[0]

    def measurable(self) -> list[Peer]:
        """Those that have not failed so far."""
        return [peer for peer in self.peers if peer.name not in self.reasons]

    def on_postgresql(self) -> list[Peer]:
        """Those of them that use PostgreSQL, where Baton is measured too."""
        return [peer for peer in self.measurable() if peer.server == "postgresql"]

    def ratio(self, peer: Peer, ours: str = BATON) -> float:
        """How many times as fast as this peer Baton drained."""
        rounds = zip(self.trials[ours], self.trials[peer.name], strict=False)
        return median(our.drained / their.drained for our, their in rounds)

    def rows(self) -> list[Row]:
        """Baton, then the measured peers, the fastest first, then those that are only named."""
        measured = [peer for peer in self.peers if self.trials[peer.name]]
        measured.sort(key=lambda peer: -median(each.drained for each in self.trials[peer.name]))
        rows = [Row(name, *self._figures(name, ""), *OURS[name]) for name in OURS if self.trials[name]]
        for peer in measured:
            rows.append(self._row(peer, self._figures(peer.name, f"{self.ratio(peer):,.1f} ×")))
        left = [peer for peer in self.peers if peer not in measured]
        return rows + [self._row(peer, ("not measured", "", "", "", "")) for peer in left]

    def _row(self, peer: Peer, figures: tuple[str, str, str, str, str]) -> Row:
        return Row(_titled(peer), *figures, peer.durability, peer.keeps_result, peer.settings)

    def _figures(self, name: str, ratio: str) -> tuple[str, str, str, str, str]:
        trials = self.trials[name]
        drained = median(each.drained for each in trials)
        single = median(each.single for each in trials)
        waits = [median(percentile(each.waits, share) for each in trials) * 1e3 for share in (0.5, 0.99)]
        start = "; ".join(f"{wait:.1f}" if wait < 100 else f"{wait:,.0f}" for wait in waits)
        return f"{drained:,.0f}", ratio, f"{single:,.0f}", start, self._recovered(name)

    def _recovered(self, name: str) -> str:
        if name not in self.recoveries:
            return ""
        seconds = self.recoveries[name]
        return f"not in {trial.RECOVERY_SECONDS:g}" if seconds is None else f"{seconds:.1f}"

    def notes(self) -> list[str]:
        """What a reader must know of these figures."""
        facts = machine.describe()
        rounds = len(self.trials[BATON])
        how_often = (
            f"the median of {rounds} rounds in turn" if rounds > 1 else "one round, as two would take too long"
        )
        notes = [
            f"Drained: from the first to the last of {PeerQueue.tasks:,} queued tasks (Baton: "
            f"{BatonQueue.tasks:,}, to the last result on disk); each appends 8 bytes to a file. "
            f"Start-up excluded; {how_often}.",
            f"Single: {trial.SINGLES:,} submissions one by one. Start: from just before a submission to its "
            f"function, consumers idle, p50; p99 of {trial.WAITS}. Kill -9: of a consumer, all its processes, "
            "to the next start of the task it ran; with the defaults, which some peers let one change for this.",
            f"On {facts['cores']} × {facts['processor']}, {facts['system']}, Python {facts['python']}; "
            "everything, servers included, shares them.",
        ]
        for peer in self.on_postgresql():
            if self.trials[ON_POSTGRESQL] and self.trials[peer.name]:
                ratio = self.ratio(peer, ON_POSTGRESQL)
                notes.append(f"Where both use PostgreSQL, Baton is {ratio:,.1f} × as fast as {peer.package}.")
        if self.load_before > 0.5:
            notes.append(
                f"The machine was busy before the start (load {self.load_before:.1f}): a trial, not a result."
            )
        for name, why in self.reasons.items():
            measured = len(self.trials[name])
            notes.append(
                f"{name}: {f'not measured after round {measured}' if measured else 'not measured'}: {why}"
            )
        return notes


def table(comparison: Comparison) -> Table:
    """For the terminal: of durability the first word, the sentence is below the table."""
    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in HEAD[:7]:
        shown.add_column(
            title,
            justify="right" if title in HEAD[1:6] else "left",
            no_wrap=title != HEAD[0],
            min_width=13 if title == HEAD[0] else None,
        )
    for row in comparison.rows():
        shown.add_row(*row[:6], row.durability.partition(":")[0])
    return shown


def sentences(comparison: Comparison) -> list[str]:
    """What the terminal's table has no room for."""
    return [f"{row.queue}: durable {row.durability} ({row.settings})" for row in comparison.rows()]


def keep(comparison: Comparison, folder: Path = FOLDER) -> list[Path]:
    """Write peers.json and peers.md; the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    as_json, as_markdown = folder / "peers.json", folder / "peers.md"
    as_json.write_bytes(msgspec.json.encode(_facts(comparison)))
    lines = [f"| {' | '.join(row)} |" for row in (HEAD, ("---",) * len(HEAD), *comparison.rows())]
    notes = [line for note in comparison.notes() for line in ("", note)]
    as_markdown.write_text("\n".join(["# Baton and its peers", "", *lines, *notes]) + "\n")
    return [as_json, as_markdown]


def _facts(comparison: Comparison) -> dict[str, Any]:
    peers = [
        {
            "name": peer.name,
            "version": venv.version(peer.package),
            "durability": peer.durability,
            "keeps_result": peer.keeps_result,
            "settings": peer.settings,
            "tasks": PeerQueue.tasks,
            **_measured(comparison, peer.name),
            "baton_is_times_as_fast": comparison.ratio(peer) if comparison.trials[peer.name] else None,
            "not_measured": comparison.reasons.get(peer.name),
        }
        for peer in comparison.peers
    ]
    ours = [
        {
            "name": name,
            "durability": durability,
            "settings": settings,
            "tasks": BatonQueue.tasks,
            **_measured(comparison, name),
        }
        for name, (durability, _, settings) in OURS.items()
    ]
    load = {"load_before": comparison.load_before}
    return {"machine": {**machine.describe(), **load}, "baton": ours, "peers": peers}


def _measured(comparison: Comparison, name: str) -> dict[str, Any]:
    trials = comparison.trials[name]
    return {
        "tasks_per_second": [each.drained for each in trials],
        "submissions_per_second": [each.single for each in trials],
        "seconds_to_start": [each.waits for each in trials],
        "seconds_to_recover": comparison.recoveries.get(name),
        "recovery_tried_for_seconds": trial.RECOVERY_SECONDS if name in comparison.recoveries else None,
    }


def _titled(peer: Peer) -> str:
    return peer.name.replace(" ", f" {venv.version(peer.package)} ", 1)
