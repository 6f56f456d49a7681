"""A bell: lets other threads wake one that waits in a selector."""

from __future__ import annotations

import os
import select


class Bell:
    """A pipe that becomes readable when somebody rings."""

    def __init__(self) -> None:
        self._ours, self._theirs = os.pipe()
        for end in (self._ours, self._theirs):
            os.set_blocking(end, False)
        self._poll = select.poll()
        self._poll.register(self._ours, select.POLLIN)

    def fileno(self) -> int:
        """For selectors."""
        return self._ours

    def ring(self) -> None:
        """Wake whoever waits, now or next."""
        try:
            os.write(self._theirs, b".")
        except OSError:  # rung thousands of times already, or closed
            return

    def wait(self, seconds: float) -> None:
        """Wait for a ring, but no longer than `seconds`; it goes on ringing."""
        self._poll.poll(seconds * 1000)

    def quiet(self) -> None:
        """Stop ringing."""
        os.read(self._ours, 1 << 16)

    def close(self) -> None:
        """Give the pipe back."""
        ours, theirs, self._ours, self._theirs = self._ours, self._theirs, -1, -1  # a later ring hits nobody else
        os.close(ours)
        os.close(theirs)
