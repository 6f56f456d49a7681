"""Commands as tasks: a program in any language, run without a shell, where the worker allows it.

Declares nothing until `allow` is called. docs/commands.md says it all from the submitter's side; read
program.py for how a program is run and ended, checkpoint_folder.py for its memory.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Final

from msgspec import Meta

from tasks import task
from tasks.body import TooLarge
from tasks.checkpoint_folder import CheckpointFolder
from tasks.context import Again, Fail, Interrupted, TaskContext
from tasks.program import Group, Program

# Exit codes with a meaning: sysexits.h's EX_DATAERR, EX_TEMPFAIL, EX_CONFIG, and HTCondor's 85.
_AGAIN: Final = 85
_FINAL: Final = (65, 78)

_PATH: Final = "/usr/local/bin:/usr/bin:/bin"  # what a shell script needs to find anything at all
_LOOK_SECONDS: Final = 0.5  # how often the checkpoint folder is looked at
_GRACE_SECONDS: Final = 1.5  # from SIGTERM to SIGKILL; our worker kills us after 2 s
_WORDS_CHARS: Final = 1000  # of stderr in an error's message

_programs: Final[dict[str, str]] = {}  # as listed -> path


class CommandRefused(Fail):
    """This worker does not allow the program."""


class CommandFailed(Exception):
    """The program ended with an exit code that may be retried."""


class CommandGaveUp(Fail):
    """The program ended with an exit code that need not be retried."""


class CommandKilled(Exception):
    """A signal ended the program."""


def allow(programs: Mapping[str, str]) -> None:
    """Declare the task type `command` for these programs: what may stand in argv[0], and its path."""
    _programs.update(programs)
    task("command")(command)


def command(
    ctx: TaskContext,
    argv: Annotated[list[str], Meta(min_length=1)],
    env: dict[str, str] = {},  # noqa: B006 - never changed
    cwd: str | None = None,
) -> dict[str, Any]:
    """Run a program to its end."""
    path = _programs.get(argv[0])
    if path is None:
        raise CommandRefused(
            f"program {argv[0]!r} is not allowed here; this worker allows: {', '.join(_programs)}"
        )
    if any("\0" in text for text in (*argv, *env, *env.values(), cwd or "")) or any("=" in name for name in env):
        raise CommandRefused("argv, env and cwd cannot hold NUL characters, nor names in env a '='")
    with TemporaryDirectory(prefix="baton-", ignore_cleanup_errors=True) as scratch:
        folder = CheckpointFolder(Path(scratch, "checkpoint"), ctx.state)
        given = {
            "PATH": _PATH,
            **env,
            "BATON_TASK_ID": str(ctx.task_id),
            "BATON_ATTEMPT": str(ctx.attempt),
            "BATON_CHECKPOINT_DIR": str(folder.path),
        }
        Path(scratch, "work").mkdir()
        with Group() as group:
            program = Program(group, path, argv, given, cwd or f"{scratch}/work", ctx.log)
            status = _attend(ctx, program, folder)
        return _outcome(program, argv[0], status)


def _attend(ctx: TaskContext, program: Program, folder: CheckpointFolder) -> int:
    """Serve a program to its end; Interrupted or Again if it is to go on elsewhere, or to be stopped."""
    told = False
    look_at = 0.0
    try:
        while (status := program.serve()) is None:
            if ctx.stopping and not told:  # its worker drains: it may take its time
                told = True
                program.terminate()
            elif not told and time.monotonic() >= look_at:
                _save(ctx, folder)
                look_at = time.monotonic() + _LOOK_SECONDS
    except Interrupted:  # overrun, or cancelled
        if not told:
            program.terminate()
        program.serve_until(time.monotonic() + _GRACE_SECONDS)
        _save(ctx, folder)
        raise
    if status != 0:
        fits = _save(ctx, folder)
        if told:
            raise Interrupted
        if status == _AGAIN and fits:
            raise Again
        if status == _AGAIN:
            raise CommandGaveUp("the program asks to go on from its checkpoint, but that is too large to be kept")
    return status


def _save(ctx: TaskContext, folder: CheckpointFolder) -> bool:
    """Save the folder if it has changed; False if it cannot be."""
    try:
        state = folder.changes()
    except TooLarge as problem:
        ctx.log(f"not saved: {problem}", level="warning")
        state = None
    if state is not None:
        ctx.checkpoint(state)
    return folder.fits


def _outcome(program: Program, name: str, status: int) -> dict[str, Any]:
    if status == 0:
        return {"exit_code": 0, "output_tail": program.output.tail}
    words = program.errors.tail.strip()[-_WORDS_CHARS:]
    because = f": {words}" if words else ""
    if status < 0:
        raise CommandKilled(f"{name} was killed by {_signal_name(-status)}{because}")
    problem = f"{name} ended with exit code {status}{because}"
    raise CommandGaveUp(problem) if status in _FINAL else CommandFailed(problem)


def _signal_name(number: int) -> str:
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"
