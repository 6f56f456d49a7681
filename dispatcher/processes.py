"""DISPATCHER_PROCESSES: several dispatchers on one host behind one port, and a parent that keeps them alive.

Each is a whole dispatcher with connections of its own; the operating system spreads the requests'
connections over them (SO_REUSEPORT). The parent does nothing but start them, start one again that
died, and pass a signal on.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

from dispatcher.server import free_port
from shared import pidfile
from shared.log import Log
from shared.settings import Settings

SHARED_PORT = "BATON_SHARED_PORT_OF"  # set for the children: the parent's pid; others listen on the port too
RESTART_SECONDS = 1.0


def run(settings: Settings, log: Log) -> None:
    """Keep so many dispatchers running until a signal; raises CannotStart when the port is taken."""
    with pidfile.recorded(settings.data_path, "dispatcher"):
        port = free_port(settings.dispatcher_host, settings.dispatcher_port)
        _Parent(settings.dispatcher_processes, port, log).run()


def follow_parent() -> None:
    """In a child: stop when the parent is gone, however it went; it could not be stopped any more."""
    parent = int(os.environ[SHARED_PORT])  # it may be gone already, so getppid() would be somebody else's

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(RESTART_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()


class _Parent:
    def __init__(self, count: int, port: int, log: Log) -> None:
        self._environment = {**os.environ, "DISPATCHER_PROCESSES": "1", "DISPATCHER_PORT": str(port)}
        self._environment[SHARED_PORT] = str(os.getpid())
        self._log = log
        self._stopping = threading.Event()
        self._children: list[subprocess.Popen[bytes]] = []
        self._count = count

    def run(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop())
        for _ in range(self._count):
            self._start()
        began = time.monotonic()
        while not self._stopping.wait(0.1):
            for child in list(self._children):
                if child.poll() is None:
                    continue
                if child.returncode == 2 and time.monotonic() - began < 30:  # it said why it cannot start
                    self._stop()
                    break
                self._log("process_died", pid=child.pid, code=child.returncode)
                self._stopping.wait(RESTART_SECONDS)
                if not self._stopping.is_set():
                    self._children.remove(child)
                    self._start()
        codes = [child.wait() for child in self._children]
        if 2 in codes:
            sys.exit(2)

    def _start(self) -> None:
        """One more; a signal that came before it was among the children is passed on here."""
        command = [sys.executable, "-m", "dispatcher"]
        # Ctrl-C is for us, who pass it on: to a child it would be the second signal, which stops it at once.
        child = subprocess.Popen(command, env=self._environment, start_new_session=True)
        self._children.append(child)
        if self._stopping.is_set():
            child.terminate()

    def _stop(self) -> None:
        self._stopping.set()
        for child in self._children:
            with contextlib.suppress(ProcessLookupError):
                child.terminate()
