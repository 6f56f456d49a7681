"""Boot order: settings, checks, database, monitor, server, signals; and back down again."""

from __future__ import annotations

import gc
import os
import sys
import threading
from typing import NoReturn

import click

from dispatcher import processes, profiles, startup
from dispatcher.app import create_app
from dispatcher.database import Database
from dispatcher.engine import CannotStart
from dispatcher.ledger import Ledger
from dispatcher.migrations import TooNew
from dispatcher.monitor import Monitor
from dispatcher.records import Records
from dispatcher.server import Server, free_port, quiet
from shared import VERSION, pidfile
from shared.address import url_of
from shared.log import Log
from shared.settings import Settings, load_or_exit


class _Commands(click.Group):
    """copy and migrate, loaded only when one of them is asked for: a dispatcher has no need of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return ["copy", "migrate"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        from dispatcher import commands

        return {"copy": commands.copy, "migrate": commands.migrate}.get(cmd_name)


@click.group(cls=_Commands, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.pass_context
def main(context: click.Context) -> None:
    """Run the dispatcher until a signal, or do what COMMAND says. Settings: .env and the environment.

    Exits with 2 and a sentence when it cannot.
    """
    if context.invoked_subcommand is None:
        run()


def run() -> None:
    """Run the dispatcher until a signal; exits 2 when it cannot start."""
    settings = load_or_exit()
    log = Log("dispatcher")
    try:
        if settings.dispatcher_processes > 1:
            processes.run(settings, log)
        else:
            serve(settings, log)
    except (CannotStart, TooNew) as problem:
        _refuse(str(problem))
    except OSError as problem:
        _refuse(f"{problem.strerror}: {problem.filename}; is DATA_DIR={settings.data_dir} writable?")


def serve(settings: Settings, log: Log) -> None:
    """Open everything, serve, close everything."""
    known = profiles.read(settings.profiles_path, required=bool(settings.profiles_file))
    settings.data_path.mkdir(parents=True, exist_ok=True)
    with startup.opened(settings) as engine, pidfile.recorded(settings.data_path, "dispatcher"):
        startup.check_whole(engine)
        port = settings.dispatcher_port
        if processes.SHARED_PORT in os.environ:
            processes.follow_parent()
        else:
            port = free_port(settings.dispatcher_host, port)
        database = Database(
            engine, log=log, on_fatal=lambda reason: _die(log, reason), parked_max=settings.parked_requests_max
        )
        ledger = Ledger(database, settings, known)
        monitor = Monitor(ledger, log)
        app = create_app(ledger, Records(database, settings, VERSION), monitor, log)

        def on_stop() -> None:
            log("dispatcher_stopping", reason="asked to")
            database.release_waiters()

        quiet()
        server = Server(app, settings.dispatcher_host, port, settings.parked_requests_max, on_stop)
        monitor.start()
        url = url_of(settings.dispatcher_host, port)
        log("dispatcher_started", version=VERSION, url=url, database=settings.database_name, pid=os.getpid())
        collect_seldom()
        server.run()
        monitor.stop()
        database.close()
        log("dispatcher_stopped")


def collect_seldom() -> None:
    """Look for cycles after 20,000 new objects, not 700: a batch makes that many, and none of them is garbage.

    What was loaded until now stays as long as the process does: it is not looked at again.
    """
    gc.freeze()
    gc.set_threshold(20_000)


def _die(log: Log, reason: str) -> None:
    """The database can no longer be trusted: stop within a second, the next start checks the file."""
    log("internal_error", where="the database", reason=f"{reason}; stopping, start again to check the file")
    threading.Timer(0.3, os._exit, (1,)).start()


def _refuse(problem: str) -> NoReturn:
    print(f"the dispatcher cannot start: {problem}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main(prog_name="./start_dispatcher.sh")
