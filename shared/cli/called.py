"""How somebody can call ./baton from where they are: what hints tell them to type."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Final

from shared.settings import ROOT

COMMAND: Final = "BATON_COMMAND"  # the launcher says here by which name it was called


def name() -> str:
    """As it was called; from elsewhere (add_task.py) by a path that works here."""
    here = "./baton" if Path.cwd() == ROOT else str(ROOT / "baton")
    return shlex.quote(os.environ.get(COMMAND) or here)


def hint(words: str) -> str:
    """A command line that can be pasted."""
    return f"{name()} {words}"
