"""A PostgreSQL of a test's own that can be stopped as by a power cut, frozen, and started again."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from analysis.peers.servers import PostgreSQLFolder, free_port
from analysis.peers.venv import postgres_folder
from shared.settings import ROOT

# A killed process loses nothing that it has given to the operating system, so no test waits for a disk.
_SETTINGS = ("fsync=off", "full_page_writes=off", "max_connections=100")


class PostgresServer:
    """On one port, with one data folder, however often it is started."""

    def __init__(self, folder: Path) -> None:
        self._made = PostgreSQLFolder(folder, postgres_folder(ROOT / ".venv"))
        self._port = free_port()
        self._serving = contextlib.ExitStack()
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""
        self.start()

    def start(self) -> None:
        self.url, self._process = self._serving.enter_context(self._made.serving(self._port, *_SETTINGS))

    def stop_at_once(self) -> None:
        """What `pg_ctl stop -m immediate` does: no farewell, recovery at the next start."""
        assert self._process is not None
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(10)
        self._serving.close()

    def freeze(self) -> None:
        """Every process of it stands still; connections stay open and silent."""
        self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        self._send(signal.SIGCONT)

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.thaw()
        self._serving.close()

    def _send(self, number: signal.Signals) -> None:
        assert self._process is not None
        for line in Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(line), number)
        self._process.send_signal(number)


@contextlib.contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    with tempfile.TemporaryDirectory(prefix="baton-postgres-") as folder:
        inner = Path(folder) / "server"
        inner.mkdir()
        server = PostgresServer(inner)
        try:
            yield server
        finally:
            server.close()
