"""Redis and PostgreSQL of one's own: on a free port, in a temporary folder, gone afterwards.

Both with the settings they come with, but that Redis writes no snapshots. Whatever is started here is
stopped by its pid, politely and then hard, whatever happens meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from analysis.peers import venv
from analysis.peers.venv import NotMeasured, Tell
from shared.settings import ROOT

START_SECONDS: Final = 20.0  # a slow machine under load; usually well under two
STOP_SECONDS: Final = 10.0
NOBODY: Final = "nobody"  # PostgreSQL refuses to run as root; this user is everywhere


@contextlib.contextmanager
def server(kind: str, folder: Path, tell: Tell) -> Iterator[str]:
    """The named server in `folder`; gives its URL. A "file" is the folder itself."""
    if kind == "redis":
        with _redis(folder, venv.redis_server(tell)) as url:
            yield url
    elif kind == "postgresql":
        with postgresql(folder, venv.postgres_folder(venv.FOLDER)) as url:
            yield url
    else:
        yield str(folder)


@contextlib.contextmanager
def running(
    command: list[str],
    log: Path,
    environment: Mapping[str, str] | None = None,
    stop: signal.Signals = signal.SIGTERM,
    user: str | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own; `stop` is sent at the end, and SIGKILL to what it leaves behind."""
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG", "TMPDIR")}
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT if user is None else "/",
            env={**kept, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            user=user,
            group=None if user is None else pwd.getpwnam(user).pw_gid,
            extra_groups=None if user is None else [],
        )
    try:
        yield process
    finally:
        _end(process, stop)


@contextlib.contextmanager
def _redis(folder: Path, program: str) -> Iterator[str]:
    port = free_port()
    options = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
    log = folder / "redis.log"
    with running([program, *options, "--dir", str(folder)], log) as redis:
        _await(redis, log, lambda: _pong(port))
        yield f"redis://127.0.0.1:{port}/0"


@contextlib.contextmanager
def postgresql(folder: Path, install: Path, *settings: str, port: int = 0) -> Iterator[str]:
    """PostgreSQL in `folder`, from the wheel at `install`; `settings` as name=value. Gives its URL."""
    made = PostgreSQLFolder(folder, install)
    with made.serving(port or free_port(), *settings) as (url, _):
        yield url


class PostgreSQLFolder:
    """A new data folder of PostgreSQL in `folder`, which may be served, and after that again."""

    def __init__(self, folder: Path, install: Path) -> None:
        self._data, self._log = folder / "data", folder / "postgresql.log"
        self._user: str | None = None
        self._data.mkdir(mode=0o700)
        if os.geteuid() == 0:  # NOBODY can hardly read a venv under /root, so it gets a copy
            self._user = NOBODY
            install = _copied(install, folder / "install")
            for path in (folder.parent, folder):
                path.chmod(0o711)
            shutil.chown(self._data, NOBODY)
        self._programs = install / "bin"
        initdb = [
            str(self._programs / "initdb"),
            "-D",
            str(self._data),
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
        ]
        with running([*initdb, "--locale", "C", "--no-sync"], self._log, user=self._user) as making:
            if making.wait(START_SECONDS) != 0:
                raise NotMeasured(f"initdb failed: {last_line(self._log)}")

    @contextlib.contextmanager
    def serving(self, port: int, *settings: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
        """The server on this port; gives its URL and its process."""
        options = ["-D", str(self._data), "-p", str(port), "-h", "127.0.0.1", "-c", "unix_socket_directories="]
        options += [part for setting in settings for part in ("-c", setting)]
        # SIGINT: its fast stop, which does not wait for clients
        command = [str(self._programs / "postgres"), *options]
        with running(command, self._log, stop=signal.SIGINT, user=self._user) as process:
            ready = [str(self._programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
            _await(process, self._log, lambda: subprocess.run(ready).returncode == 0)
            yield f"postgresql://postgres@127.0.0.1:{port}/postgres", process


def _copied(install: Path, target: Path) -> Path:
    """A copy of PostgreSQL (some 50 MB) with the wheel's libraries where its programs look for them."""
    package = install.parent
    shutil.copytree(install, target / package.name / install.name, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, target / libraries.name)
    return target / package.name / install.name


def last_line(log: Path) -> str:
    """The last line of a log that says anything."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


def _await(process: subprocess.Popen[bytes], log: Path, is_ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not is_ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise NotMeasured(f"the server did not start: {last_line(log)}")
        time.sleep(0.05)


def _pong(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as link:
            link.sendall(b"PING\r\n")
            return link.recv(7) == b"+PONG\r\n"
    except OSError:
        return False


def _end(process: subprocess.Popen[bytes], stop: signal.Signals) -> None:
    if process.poll() is None:
        process.send_signal(stop)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
    with contextlib.suppress(ProcessLookupError):  # its session is its process group: what it forked goes too
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
