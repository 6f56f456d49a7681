"""What a simulated fleet came to, as figures, as a table, and in plain words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from msgspec import Struct

from analysis.calibration import Costs
from analysis.fleet import Conditions, Tally


class Outcome(Struct):
    """A fleet of one size; times in seconds. None: it did not happen.

    `gap_p99`: between two messages of a worker; `delay_*`: from wanting a task to having it; `lost_*`
    and `idle`: shares of all the workers' time; `ledger_seconds`: what the real ledger really took for
    a message here, `look_seconds`: for one look for silent workers.
    """

    workers: int
    seconds: float
    messages_per_second: float
    load: float
    backlog: int
    gap_p99: float | None
    delay_median: float | None
    delay_p99: float | None
    deaths: int
    detection_median: float | None
    false_deaths: int
    timeouts: int
    lost_per_death: float | None
    lost_to_deaths: float
    lost_by_mistake: float
    idle: float
    completed: int
    ledger_seconds: float
    look_seconds: float | None
    real_seconds: float


class Served(Struct):
    """What the dispatcher did while it was measured, and what waits at the end."""

    messages: int = 0
    busy_seconds: float = 0.0
    backlog: int = 0


def sum_up(
    workers: int, seconds: float, tally: Tally, served: Served, ledger_seconds: float, looks: Sequence[float]
) -> Outcome:
    """The figures of `seconds` measured ones."""
    total = workers * seconds
    deaths = tally.events["deaths"]
    return Outcome(
        workers=workers,
        seconds=seconds,
        messages_per_second=served.messages / seconds,
        load=min(1.0, served.busy_seconds / seconds),
        backlog=served.backlog,
        gap_p99=_percentile(tally.gaps, 99),
        delay_median=_percentile(tally.delays, 50),
        delay_p99=_percentile(tally.delays, 99),
        deaths=deaths,
        detection_median=_percentile(tally.detections, 50),
        false_deaths=tally.events["false deaths"],
        timeouts=tally.events["timeouts"],
        lost_per_death=tally.seconds["lost to deaths"] / deaths if deaths else None,
        lost_to_deaths=tally.seconds["lost to deaths"] / total,
        lost_by_mistake=tally.seconds["lost by mistake"] / total,
        idle=tally.seconds["idle"] / total,
        completed=tally.events["completed"],
        ledger_seconds=ledger_seconds,
        look_seconds=_percentile(looks, 50),
        real_seconds=0.0,
    )


def _percentile(values: Sequence[float], share: float) -> float | None:
    return float(np.percentile(values, share)) if len(values) else None


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


COLUMNS: Final[dict[str, Callable[[Outcome], str]]] = {
    "workers": lambda o: f"{o.workers:,}",
    "messages/s": lambda o: f"{o.messages_per_second:,.0f}",
    "load of its core": lambda o: f"{o.load:.0%}",
    "waiting": lambda o: f"{o.backlog:,}",
    "heartbeat gap p99": lambda o: _time(o.gap_p99),
    "dispatch median": lambda o: _time(o.delay_median),
    "dispatch p99": lambda o: _time(o.delay_p99),
    "deaths": lambda o: f"{o.deaths:,}",
    "found after": lambda o: _time(o.detection_median),
    "false deaths": lambda o: f"{o.false_deaths:,}",
    "time-outs": lambda o: f"{o.timeouts:,}",
    "lost per death": lambda o: _time(o.lost_per_death),
    "lost to deaths": lambda o: f"{o.lost_to_deaths:.2%}",
    "lost by mistake": lambda o: f"{o.lost_by_mistake:.2%}",
    "idle": lambda o: f"{o.idle:.2%}",
    "ledger/message": lambda o: _time(o.ledger_seconds),
    "look for silent": lambda o: _time(o.look_seconds),
}


def assumptions(conditions: Conditions, costs: Costs) -> list[str]:
    """What the answer rests on."""
    c = conditions
    return [
        f"A heartbeat costs the dispatcher {costs.heartbeat_seconds * 1e6:.0f} µs, one with a checkpoint "
        f"{costs.checkpoint_seconds * 1e6:.0f} µs, a result in and a task out {costs.work_seconds * 1e6:.0f} µs; "
        f"a commit {costs.commit_seconds * 1e6:.0f} µs for up to 256 messages ({costs.source}). Taking back a "
        "silent worker's task costs as much as a result, and the monitor takes back one after the other.",
        "The dispatcher computes on one core while the disk commits what came before; it takes messages in the "
        "order in which they come; the queue has no end, and a request that its sender has given up is carried "
        "out all the same.",
        f"Workers have one slot and a task of {c.task_seconds * 0.5:g} to {c.task_seconds * 1.5:g} s; there are "
        f"always more tasks. Heartbeat every {c.heartbeat_seconds:g} s, dead after {c.timeout_seconds:g} s, "
        f"checkpoint every {c.checkpoint_seconds:g} s, network {c.network_seconds * 1000:g} ms each way.",
        f"A worker lives for {c.lifetime_seconds:g} s on average (exponential); another one comes "
        f"{c.absence_seconds:g} s after its death.",
        "Every worker could connect. " + _connections(costs),
    ]


def _connections(costs: Costs) -> str:
    if costs.connections is None:
        return "How many connections the dispatcher really takes was not measured."
    if costs.connections_end:
        return (
            f"In truth the dispatcher answered {costs.connections:,} open connections and no more: "
            f"{costs.connections // 2:,} workers, each with two."
        )
    return f"It answered {costs.connections:,} open connections, as many as were tried (a worker has two)."


def reading(outcomes: Sequence[Outcome], conditions: Conditions, costs: Costs) -> list[str]:
    """What breaks, and in which order."""
    beat = costs.checkpoint_seconds if conditions.checkpoint_seconds <= conditions.heartbeat_seconds else None
    each = costs.heartbeat_seconds if beat is None else beat
    full = conditions.heartbeat_seconds / each
    limits: list[tuple[float, str]] = [
        (
            full,
            f"at about {_round(full)} workers their heartbeats alone keep the dispatcher's core busy all the time",
        ),
        (
            conditions.timeout_seconds / each,
            f"at about {_round(conditions.timeout_seconds / each)} workers a heartbeat waits for longer than "
            f"{conditions.timeout_seconds:g} s, and living workers are taken for dead",
        ),
    ]
    if costs.connections is not None and costs.connections_end:
        workers = costs.connections // 2
        limits.append((workers, f"at {workers:,} workers no further connection is answered"))
    said = ["By arithmetic: " + "; ".join(text for _, text in sorted(limits)) + "."]
    said += [_sentence(outcome, conditions.timeout_seconds) for outcome in outcomes]
    return said


def _sentence(o: Outcome, timeout_seconds: float) -> str:
    head = f"{o.workers:,} workers: "
    if o.false_deaths or o.gap_p99 is None or o.gap_p99 > timeout_seconds:
        rate = o.false_deaths / o.seconds
        return head + (
            f"broken. Up to {_time(o.gap_p99)} between two messages of a worker (99th percentile), "
            f"{rate:,.0f} false deaths and {o.timeouts / o.seconds:,.0f} time-outs a second, "
            f"{o.lost_by_mistake:.1%} of all work wasted by mistake, "
            f"{o.idle:.0%} of the workers' time spent waiting for a task."
        )
    if o.load >= 0.99:
        return head + f"saturated, but nothing is lost yet; a task is had after {_time(o.delay_median)}."
    return head + f"fine at {o.load:.0%} load; a task is had after {_time(o.delay_median)}, no false death."


def _round(value: float) -> str:
    digits = max(0, len(str(int(value))) - 2)
    return f"{round(value, -digits):,.0f}"


def row(outcome: Outcome) -> list[str]:
    """The cells of the table's row."""
    return [cell(outcome) for cell in COLUMNS.values()]
