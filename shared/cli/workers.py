"""baton workers: those the dispatcher knows, and (start, check, stop) those on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from shared import exits, pidfile
from shared.cli import screen
from shared.cli.called import hint
from shared.cli.command import Seconds, Session, Whole, group, verb
from shared.cli.crew import Started, await_all, start
from shared.lifecycle import GONE, WorkerState
from shared.pidfile import Record
from shared.settings import load_or_exit

workers = group("workers", "Look at workers and steer them. Start, check and stop those on this machine.")

STARTED_MAX: Final = 1000  # at once, as ./start_worker.sh --count
names_argument = click.argument("names", metavar="WORKER...", nargs=-1, required=True)


@verb(workers, "list", "baton workers list", "baton workers list --gone")
@click.option("--gone", is_flag=True, help="Also those that stopped or died within a day.")
def list_workers(baton: Session, gone: bool) -> None:
    """List workers, alive ones first."""
    found = [worker for worker in baton.client.workers() if gone or worker["state"] not in GONE]
    nobody = f"no worker is alive; start some: {hint('workers start 2 --prefix lab')}"
    baton.answer({"workers": found}, table(found) if found else nobody)


def table(found: list[dict[str, Any]]) -> Any:
    """The workers, a line each."""
    rows = [
        (
            worker["name"], worker["state"], f"{worker['running']}/{worker['slots']}", worker["host"],
            worker["pid"], screen.span(worker["seconds_since_heartbeat"]), _all_of(worker["queues"]),
            _all_of(worker["types"]), worker["worker_id"],
        )
        for worker in found
    ]  # fmt: skip
    headers = ("worker", "state", "busy", "host", "pid", "heard", "queues", "types", "id")
    return screen.table(headers, rows, text=("types", "queues", "id", "host", "worker"))


def _all_of(names: list[str] | None) -> str:
    return "all" if names is None else ",".join(names) or "none"


@verb(workers, "pause", "baton workers pause worker-1")
@names_argument
def pause_workers(baton: Session, names: tuple[str, ...]) -> int:
    """Let them start nothing more; what they run goes on. WORKER is a name or an id."""
    return baton.each(names, lambda name: baton.client.pause("worker", name), _told)


@verb(workers, "resume", "baton workers resume worker-1")
@names_argument
def resume_workers(baton: Session, names: tuple[str, ...]) -> int:
    """Undo pause, and drain as long as they have not left."""
    return baton.each(names, lambda name: baton.client.resume("worker", name), _resumed)


@verb(workers, "drain", "baton workers drain worker-1")
@names_argument
def drain_workers(baton: Session, names: tuple[str, ...]) -> int:
    """Let them finish what they hold and leave."""
    return baton.each(names, baton.client.drain_worker, _told)


def _resumed(worker: dict[str, Any]) -> str:
    return f"worker {worker['name']} takes tasks again"


def _told(worker: dict[str, Any]) -> str:
    return f"worker {worker['name']} is {worker['state']}"


@verb(workers, "remove", "baton workers remove worker-9 --yes", "baton workers remove --dead --yes", asks=True)
@click.argument("names", metavar="[WORKER]...", nargs=-1)
@click.option("--dead", "all_dead", is_flag=True, help="All that are dead.")
def remove_workers(baton: Session, names: tuple[str, ...], all_dead: bool) -> int:
    """Forget dead or stopped workers. What one still held goes to others.

    Tasks no longer say that they ran there: `tasks show` has no name beside those attempts.
    """
    if bool(names) == all_dead:
        raise click.UsageError("give workers, or --dead")
    wanted = {name: name for name in names} if names else _dead(baton)
    if not wanted:
        baton.answer({"workers": []}, "no worker is dead")
        return exits.OK
    baton.confirm(f"forget {', '.join(wanted.values())}, and which attempts were made there")
    return baton.each(
        wanted,
        baton.client.forget_worker,
        lambda worker: f"worker {worker['name']} is forgotten",
    )


def _dead(baton: Session) -> dict[str, str]:
    """The names of those that are dead, by id."""
    found = baton.client.workers()
    return {one["worker_id"]: one["name"] for one in found if one["state"] == WorkerState.DEAD}


# --- on this machine


@verb(
    workers,
    "start",
    "baton workers start 2 --prefix lab",
    "baton workers start 1 --prefix gpu --queues gpu --slots 2",
)
@click.argument("count", metavar="N", type=Whole(1, STARTED_MAX))
@click.option("--prefix", default="worker", show_default=True, metavar="P", help="Call them P-1, P-2, …")
@click.option("--slots", metavar="N", help="Tasks each computes at once: a number, or 'auto'.")
@click.option("--threads", metavar="N", help="Tasks that wait, at once in each slot.")
@click.option("--types", metavar="T,T", help="Run only these types.")
@click.option("--queues", metavar="Q,Q", help="Serve only these queues.")
def start_workers(baton: Session, count: int, prefix: str, **options: str | None) -> int:
    """Start N workers on this machine. In the background, each with a log in DATA_DIR/logs.

    They get the first names that no living one has. Ends when the dispatcher knows them all.
    """
    wrong = pidfile.name_problem(f"{prefix}-{STARTED_MAX}")
    if wrong is not None:
        raise click.BadParameter(f"{prefix!r}: {wrong}", param_hint="--prefix")
    load_or_exit({name: options[name] for name in ("slots", "threads", "queues")})
    baton.client.stats()  # nothing is started for a dispatcher that does not answer
    data = baton.settings.data_path
    given = {**options, "url": baton.settings.dispatcher_url or None}
    try:
        started = [start(data, name, given) for name in pidfile.free_names(data, count, prefix)]
    except OSError as problem:
        exits.fail(pidfile.unwritable(data, problem), exits.USAGE)
    await_all(baton.client, started)
    report = {"workers": [one.view() for one in started]}
    baton.answer(report, *(_line(one) for one in started))
    return exits.OK if all(one.is_known for one in started) else exits.FAILED


def _line(worker: Started) -> str:
    log = worker.log
    if worker.is_known:
        return f"worker {worker.name} runs as {worker.process.pid}; its log: {log}"
    why = f"ended with {worker.process.poll()}" if worker.process.poll() is not None else "has not reported yet"
    return f"worker {worker.name} {why}: {worker.last_words() or 'it said nothing'} ({log})"


@verb(workers, "check", "baton workers check")
@click.option("--prefix", metavar="P", help="Only those called P-….")
def check_workers(baton: Session, prefix: str | None) -> int:
    """Say which workers of this machine live. Asks no dispatcher; 1 if one that is recorded does not live."""
    found = _unreplaced(_recorded(baton.settings.data_path, (), prefix))
    rows = [(record.name, record.pid, "yes" if record.alive else "no") for record in found]
    view = {"workers": [{"name": record.name, "pid": record.pid, "alive": record.alive} for record in found]}
    listing = screen.table(("worker", "pid", "alive"), rows) if rows else "no worker is recorded here"
    gone = [record.name for record in found if not record.alive]
    way_out = [f"forget who is gone: {hint('workers stop')} {' '.join(gone)}"] if gone else []
    baton.answer(view, listing, *way_out)
    return exits.OK if all(record.alive for record in found) else exits.FAILED


@verb(workers, "stop", "baton workers stop lab-1 --yes", "baton workers stop --prefix lab --yes", asks=True)
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--prefix", metavar="P", help="Those called P-….")
@click.option("--all", "everything", is_flag=True, help="Every one on this machine.")
@click.option("--timeout", type=Seconds(), help="Wait so long for them; default DRAIN_SECONDS and 10 s.")
def stop_workers(
    baton: Session, names: tuple[str, ...], prefix: str | None, everything: bool, timeout: float | None
) -> int:
    """Stop workers on this machine politely. Running tasks are handed back at their next checkpoint."""
    if not names and prefix is None and not everything:
        raise click.UsageError("give names, --prefix, or --all")
    found = _recorded(baton.settings.data_path, names, prefix)
    living = [record for record in found if record.alive]
    absent = set(names) - {record.name for record in found}
    if absent:
        exits.fail(f"no worker {sorted(absent)[0]!r} is recorded here; {hint('workers check')}", exits.NOT_FOUND)
    if living:
        baton.confirm(f"stop {', '.join(f'{record.name} ({record.pid})' for record in living)}")
    stubborn = pidfile.stop(found, baton.settings.drain_seconds + 10 if timeout is None else timeout)
    left = [{"name": record.name, "pid": record.pid, "alive": record in stubborn} for record in living]
    lines = [f"worker {record.name} ({record.pid}) stopped" for record in living if record not in stubborn]
    lines += [f"worker {record.name} did not run any more" for record in found if record not in living]
    baton.answer({"workers": left}, *(lines if found else ["no worker runs here"]))
    if stubborn:
        told = ", ".join(f"{record.name} ({record.pid})" for record in stubborn)
        exits.fail(f"still running: {told}; wait, or end them with kill -9", exits.TIMED_OUT)
    return exits.OK


def _unreplaced(found: list[Record]) -> list[Record]:
    """Without the dead whose name lives again: to stop them by name would stop the living one."""
    living = {record.name for record in found if record.alive}
    return [record for record in found if record.alive or record.name not in living]


def _recorded(data: Path, names: tuple[str, ...], prefix: str | None) -> list[Record]:
    return [
        record
        for record in pidfile.records(data, "worker")
        if (not names or record.name in names) and (prefix is None or record.name.startswith(f"{prefix}-"))
    ]
