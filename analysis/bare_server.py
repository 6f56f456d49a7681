"""The least that a durable answer costs here: the dispatcher's HTTP server, a page written and synced, no more.

`python -m analysis.bare_server PORT FILE`. What the same client gets from it is the limit that the
dispatcher's own figures for single submissions are held against.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from granian.constants import HTTPModes, Interfaces
from granian.server.mt import MTServer

from analysis.peers.servers import free_port
from shared.client import DispatcherClient

_PAGE = bytes(4096)
_ANSWER = b'{"task_id":1,"status":"pending"}\n'
_START_SECONDS = 20.0


class Server(MTServer):
    """As the dispatcher's: threads in one process."""

    def _check_gil(self) -> None:
        pass


class BareApp:
    """Takes a body, keeps a page, answers."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT)
        os.pwrite(self._file, _PAGE, 0)
        self._alone = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        """Any request is answered like a submission."""
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        with self._alone:
            os.pwrite(self._file, _PAGE, 0)
            os.fdatasync(self._file)
        start_response(
            "201 Created", [("Content-Type", "application/json"), ("Content-Length", str(len(_ANSWER)))]
        )
        return [_ANSWER]


@contextlib.contextmanager
def bare_server() -> Iterator[str]:
    """One that runs; gives its URL."""
    with tempfile.TemporaryDirectory(prefix="baton-bench-") as folder:
        port = free_port()
        command = [sys.executable, "-m", "analysis.bare_server", str(port), str(Path(folder) / "page")]
        process = subprocess.Popen(command)
        url = f"http://127.0.0.1:{port}"
        try:
            DispatcherClient(url, patience_seconds=_START_SECONDS).ready()
            yield url
        finally:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    app = BareApp(Path(sys.argv[2]))
    server = Server(
        "the app is handed to serve()",
        address="127.0.0.1",
        port=int(sys.argv[1]),
        interface=Interfaces.WSGI,
        http=HTTPModes.http1,
        websockets=False,
        blocking_threads=8,
        log_enabled=False,
    )
    server.serve(target_loader=lambda: app, wrap_loader=False)
