"""What a task forks: a copy of its child, which must not go on as one.

Used inside a child; see child.py.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn


def leave() -> NoReturn:
    """End a forked process that has left the task's function, as Python ends a script there."""
    error = sys.exc_info()[1]
    status = _status(error)
    if error is not None and not isinstance(error, SystemExit):
        sys.excepthook(type(error), error, error.__traceback__)
    sys.stdout.flush()
    os._exit(status)


def _status(error: BaseException | None) -> int:
    if error is None:
        return 0
    code = error.code if isinstance(error, SystemExit) else 1
    if isinstance(code, str):
        print(code, file=sys.stderr)
    return code if isinstance(code, int) else 0 if code is None else 1
