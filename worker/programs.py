"""Which programs commands may run here: what COMMAND_PROGRAMS lists, found once, when the worker starts."""

from __future__ import annotations

import os
import shutil

from shared.settings import entries


class UnknownProgram(Exception):
    """A listed program cannot be run here; the message names it."""


def allowed(listed: str) -> dict[str, str]:
    """Each listed program, under its name and under its path, with its path; raises UnknownProgram.

    A name is looked up in this worker's PATH, now: what is put into a folder of it later changes nothing.
    """
    programs: dict[str, str] = {}
    for name in entries(listed):
        if "/" in name and not os.path.isabs(name):
            raise UnknownProgram(f"{name!r}: expected a name or an absolute path")
        path = shutil.which(name)
        if path is None:
            raise UnknownProgram(f"{name!r}: no such program here")
        programs[name] = programs[os.path.abspath(path)] = os.path.abspath(path)
    return programs
