"""A folder that is a checkpoint: a program writes files, the state holds them, the next attempt finds them."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from shared.protocol import BODY_BYTES_MAX
from tasks.body import TooLarge

_UNFINISHED: Final = ".tmp"  # files of this ending are still being written
_ENTRY_BYTES: Final = 16  # of JSON around a name and its contents

Listing = dict[str, tuple[int, int]]  # name -> size, time of change


class CheckpointFolder:
    """The files of a program's checkpoint. `state`: what an earlier attempt saved, or None."""

    def __init__(self, path: Path, state: Any) -> None:
        self.path = path
        path.mkdir()
        for name, contents in (state or {}).get("files", {}).items():
            self._write(name, base64.b64decode(contents))
        self.fits = True  # could what was seen last be kept?
        self._seen = self._listing()

    def changes(self) -> dict[str, Any] | None:
        """The files as a state, if they are not as last seen; raises TooLarge.

        None, too, while they change under our eyes: then the next look will see them.
        """
        listing = self._listing()
        if listing == self._seen:
            return None
        sizes = sum(len(name) + (size + 2) // 3 * 4 + _ENTRY_BYTES for name, (size, _) in listing.items())
        if sizes > BODY_BYTES_MAX - _ENTRY_BYTES:
            self._seen, self.fits = listing, False
            raise TooLarge(f"the checkpoint's files take {sizes} bytes as base64, {BODY_BYTES_MAX} are allowed")
        try:
            files = {name: base64.b64encode((self.path / name).read_bytes()).decode() for name in listing}
        except FileNotFoundError:
            return None
        if self._listing() != listing:
            return None
        self._seen, self.fits = listing, True
        return {"files": files}

    def _write(self, name: str, contents: bytes) -> None:
        path = (self.path / name).resolve()
        if not path.is_relative_to(self.path.resolve()):
            raise ValueError(f"the checkpoint has a file {name!r} outside of its folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(contents)

    def _listing(self) -> Listing:
        return dict(sorted(self._files(str(self.path))))

    def _files(self, folder: str) -> Iterator[tuple[str, tuple[int, int]]]:
        """Regular files in it and in its folders; links are not followed."""
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    if entry.is_dir(follow_symlinks=False):
                        yield from self._files(entry.path)
                    elif entry.is_file(follow_symlinks=False) and not entry.name.endswith(_UNFINISHED):
                        facts = entry.stat()
                        yield os.path.relpath(entry.path, self.path), (facts.st_size, facts.st_mtime_ns)
                except FileNotFoundError:
                    continue  # renamed or removed meanwhile
