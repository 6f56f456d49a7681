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
from analysis.peers import drain, venv
from analysis.peers.peer import Peer
from analysis.results import FOLDER

HEAD = ("queue", "drained/s", "Baton is", "durable", "result kept", "settings")
ON_POSTGRESQL = (
    "yes: PostgreSQL, fsync at every commit; leased until its result is stored",
    "yes",
    "2 workers, defaults",
)
BATON = ("yes: SQLite, fsync at every commit; leased until its result is stored", "yes", "2 workers, defaults")


class Row(NamedTuple):
    """One line of the table, as HEAD names its columns."""

    queue: str
    drain: str
    ratio: str
    durability: str
    keeps_result: str
    settings: str


class Comparison:
    """Rates of Baton and of each peer by round, and why a peer has none."""

    def __init__(self, peers: list[Peer]) -> None:
        self.peers = peers
        self.baton: list[float] = []
        self.baton_on_postgresql: list[float] = []
        self.rates: dict[str, list[float]] = {peer.name: [] for peer in peers}
        self.reasons: dict[str, str] = {}
        self.load_before = os.getloadavg()[0]

    def measurable(self) -> list[Peer]:
        """Those that have not failed so far."""
        return [peer for peer in self.peers if peer.name not in self.reasons]

    def on_postgresql(self) -> list[Peer]:
        """Those of them that use PostgreSQL, where Baton is measured too."""
        return [peer for peer in self.measurable() if peer.server == "postgresql"]

    def ratio(self, peer: Peer) -> float:
        """How many times as fast as this peer Baton was."""
        return _ratio(self.baton, self.rates[peer.name])

    def rows(self) -> list[Row]:
        """Baton, then the measured peers, the fastest first, then those that are only named."""
        measured = [peer for peer in self.peers if self.rates[peer.name]]
        measured.sort(key=lambda peer: -median(self.rates[peer.name]))
        rows = [Row("Baton", f"{median(self.baton):,.0f}", "", *BATON)]
        if self.baton_on_postgresql:
            rows.append(Row("Baton on PostgreSQL", f"{median(self.baton_on_postgresql):,.0f}", "", *ON_POSTGRESQL))
        for peer in measured:
            figures = (f"{median(self.rates[peer.name]):,.0f}", f"{self.ratio(peer):,.1f} ×")
            rows.append(Row(_titled(peer), *figures, peer.durability, peer.keeps_result, peer.settings))
        for peer in self.peers:
            if peer not in measured:
                described = (peer.durability, peer.keeps_result, peer.settings)
                rows.append(Row(_titled(peer), "not measured", "", *described))
        return rows

    def notes(self) -> list[str]:
        """What a reader must know of these figures."""
        facts = machine.describe()
        rounds = len(self.baton)
        how_often = (
            f"the median of {rounds} rounds in turn" if rounds > 1 else "one round, as two would take too long"
        )
        notes = [
            f"Drained: from the first to the last of {drain.PEER_TASKS:,} queued tasks (Baton: "
            f"{drain.BATON_TASKS:,}, to the last result on disk); each appends 8 bytes to a file. "
            f"Start-up excluded; {how_often}.",
            f"On {facts['cores']} × {facts['processor']}, {facts['system']}, Python {facts['python']}; "
            "everything, servers included, shares them.",
        ]
        for peer in self.on_postgresql():
            if self.baton_on_postgresql and self.rates[peer.name]:
                ratio = _ratio(self.baton_on_postgresql, self.rates[peer.name])
                notes.append(f"Where both use PostgreSQL, Baton is {ratio:,.1f} × as fast as {peer.package}.")
        if self.load_before > 0.5:
            notes.append(
                f"The machine was busy before the start (load {self.load_before:.1f}): a trial, not a result."
            )
        for name, why in self.reasons.items():
            measured = len(self.rates[name])
            notes.append(
                f"{name}: {f'not measured after round {measured}' if measured else 'not measured'}: {why}"
            )
        return notes


def table(comparison: Comparison) -> Table:
    """For the terminal: of durability the first word, the sentence is below the table."""
    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in HEAD[:5]:
        shown.add_column(title, justify="right" if title in HEAD[1:3] else "left", no_wrap=True)
    for row in comparison.rows():
        shown.add_row(*row[:3], row.durability.partition(":")[0], row.keeps_result)
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
            "tasks": drain.PEER_TASKS,
            "tasks_per_second": comparison.rates[peer.name],
            "baton_is_times_as_fast": comparison.ratio(peer) if comparison.rates[peer.name] else None,
            "not_measured": comparison.reasons.get(peer.name),
        }
        for peer in comparison.peers
    ]
    baton = {
        "tasks": drain.BATON_TASKS,
        "tasks_per_second": comparison.baton,
        "tasks_per_second_on_postgresql": comparison.baton_on_postgresql,
        "durability": BATON[0],
    }
    load = {"load_before": comparison.load_before}
    return {"machine": {**machine.describe(), **load}, "baton": baton, "peers": peers}


def _ratio(ours: list[float], theirs: list[float]) -> float:
    return median(our / their for our, their in zip(ours, theirs, strict=False))


def _titled(peer: Peer) -> str:
    return peer.name.replace(" ", f" {venv.version(peer.package)} ", 1)
