"""What a task starts hears what is sent to it, however soon."""

from __future__ import annotations

import subprocess
import sys

from shared.settings import ROOT

FORK_AND_END = """
import os, signal, time
from worker.offspring import on_signals

on_signals(lambda number, frame: None)
ends = set()
for _ in range(20):
    pid = os.fork()
    if not pid:
        time.sleep(0.5)
        os._exit(7)
    os.kill(pid, signal.SIGTERM)
    ends.add(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
print(*ends, signal.pthread_sigmask(signal.SIG_BLOCK, ()))
"""


def test_a_forked_process_ends_by_a_sigterm_that_comes_before_it_is_ready() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORK_AND_END], cwd=ROOT, capture_output=True, text=True, timeout=60
    )

    assert (done.stdout, done.stderr) == ("-15 set()\n", "")
