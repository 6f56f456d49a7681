"""python -m worker: arguments and signals, then worker.py."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from types import FrameType

import click

from shared.log import Log
from shared.pidfile import Unwritable, free_names, name_problem, namesake, recorded
from shared.settings import Settings, entries, exit_with_problems, load_or_exit
from worker.children import UnusableTasks
from worker.crew import FORWARDED, names, run_crew
from worker.descriptors import make_room
from worker.programs import UnknownProgram, allowed
from worker.worker import Worker


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("name", required=False)
@click.option("--count", type=click.IntRange(1, 1000), default=1, help="Start so many workers at once.")
@click.option("--slots", help="Tasks to compute at once: a number, or 'auto' for one per core.")
@click.option("--threads", help="Tasks that wait (@task(waits=True)) to run at once in each slot.")
@click.option("--url", help="Where the dispatcher is (default: DISPATCHER_URL).")
@click.option("--types", help="Run only these types of task, comma-separated.")
@click.option("--queues", help="Serve only these queues, comma-separated.")
@click.option("--burst", is_flag=True, help="End when there is nothing to do.")
def main(name: str | None, count: int, types: str | None, burst: bool, **given: str | None) -> None:
    """Run a worker called NAME until it is stopped.

    Without a NAME it takes the first of worker-1, worker-2, ... that no worker here has. Ctrl-C or SIGTERM
    stops it politely, a second one at once.
    """
    if name is not None and (wrong := name_problem(name)) is not None:
        raise click.BadParameter(f"{name!r}: {wrong}", param_hint="NAME")
    settings = load_or_exit(given)
    try:
        called = _names(name, count, settings.data_path)
        with recorded(settings.data_path, "worker" if count == 1 else "crew", called[0]):
            if count > 1:
                options = {**given, "types": types}
                arguments = [part for key, value in options.items() if value for part in (f"--{key}", value)]
                sys.exit(run_crew(called, [*arguments, *(["--burst"] if burst else [])]))
            sys.exit(_run_one(settings, called[0], types, burst))
    except Unwritable as problem:
        exit_with_problems([str(problem)])


def _names(name: str | None, count: int, data_path: Path) -> list[str]:
    if name is None:
        return free_names(data_path, count)
    return names(name, count) if count > 1 else [name]


def _run_one(settings: Settings, name: str, types: str | None, burst: bool) -> int:
    chosen = entries(types) if types else None
    log = Log(name)
    if other := namesake(settings.data_path, name):
        log("name_taken", name=name, pid=other.pid)
    make_room(settings.slots, settings.worker_threads)
    try:
        worker = Worker(settings, name, chosen, burst, allowed(settings.command_programs), log)
    except UnknownProgram as problem:
        exit_with_problems([f"COMMAND_PROGRAMS={settings.command_programs!r}: {problem}"])

    def on_signal(number: int, frame: FrameType | None) -> None:
        worker.order("stop")

    for number in FORWARDED:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup's wish is respected
            signal.signal(number, on_signal)
    try:
        return worker.run()
    except UnusableTasks as problem:
        print(problem, file=sys.stderr)
        return 2
    finally:
        for number in FORWARDED:  # one more, while the interpreter ends, must not spoil the exit code
            signal.signal(number, signal.SIG_IGN)


if __name__ == "__main__":
    main(prog_name="./start_worker.sh")
