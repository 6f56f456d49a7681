"""Results kept: on disk until the dispatcher has them (Outbox), in memory for pure tasks (Memo)."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import threading
import zlib
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import IO, Final
from urllib.parse import quote, urlsplit

import msgspec
from msgspec import Raw

from shared.address import shown
from shared.log import Log
from shared.protocol import Grant, Result
from worker.outgoing import Key, Parcel


class _Kept(Parcel):
    """What a file holds. `addresses`: where its worker looked for the dispatcher (older ones did not say)."""

    addresses: list[str] = msgspec.field(default_factory=list)


_kept: Final = msgspec.json.Decoder(_Kept)
_encode: Final = msgspec.json.Encoder().encode
_THIS_MACHINE: Final = re.compile(r"(localhost|127(\.\d+){3}|0\.0\.0\.0|\[::1?\])(?=:|$)")


class Outbox:
    """A folder of result files, one per batch; each goes when the dispatcher has taken all of it.

    A file is written aside, synced and renamed, so that it is whole or not there; its first line is the
    checksum of its second. One that is damaged all the same is set aside, never trusted and never fatal.
    `urls` are the dispatcher's; what is for another one, at other addresses, is left alone.
    """

    def __init__(self, parent: Path, name: str, urls: Iterable[str], log: Log) -> None:
        self._log = log
        self._addresses = sorted(map(_address, urls))
        self.folder, self._lock = _own_folder(parent, name)
        self._files: dict[Key, Path] = {}
        self._left: dict[Path, int] = {}  # results of a file that wait for an answer
        self._one_at_a_time = threading.Lock()
        self._failing: set[str] = set()  # the kinds of trouble that were logged and last

    def close(self) -> None:
        """Leave the folder to the next worker of this name."""
        self._lock.close()

    def load(self) -> list[Parcel]:
        """What earlier workers could not deliver: ours, and those of folders nobody uses any more."""
        found: list[Parcel] = []
        others: Counter[str] = Counter()
        for unfinished in self.folder.glob("*.writing"):  # its writer was killed: nobody relied on it
            self._remove(unfinished)
        for path in chain(list(self.folder.glob("*.jsonl")), self._abandoned()):
            try:
                kept = _read(path)
            except (OSError, ValueError, msgspec.DecodeError) as error:
                self._set_aside(path, str(error))
                continue
            if kept.addresses and set(kept.addresses).isdisjoint(self._addresses):
                others[",".join(kept.addresses)] += len(kept.results)
                continue
            if path.parent != self.folder:
                with contextlib.suppress(OSError):  # then it is delivered from where it is
                    path = path.rename(self._fresh_path())
            self._remember(path, kept.results)
            found.append(kept)
        for url, count in others.items():
            self._log("results_left", count=count, url=url)
        return found

    def keep(self, parcel: Parcel, min_seconds: float = 0.0) -> int:
        """Write to disk those results that are not there yet and took at least `min_seconds`.

        With them go the checkpoints that must be delivered before. Returns how many results were new;
        a full disk is logged, not fatal.
        """
        with self._one_at_a_time:
            new = {
                (r.task_id, r.attempt): r
                for r in parcel.results
                if (r.elapsed_seconds or 0.0) >= min_seconds and (r.task_id, r.attempt) not in self._files
            }
            if not new:
                return 0
            checkpoints = [c for c in parcel.checkpoints if (c.task_id, c.attempt) in new]
            path = self._fresh_path()
            try:
                _write(path, _Kept(list(new.values()), checkpoints, addresses=self._addresses))
            except OSError as error:
                self._failed("outbox_failed", path, error)
                return 0
            self._failing.discard("outbox_failed")
            self._remember(path, new.values())
            return len(new)

    def settled(self, keys: Iterable[Key]) -> None:
        """The dispatcher has answered for these results."""
        if not self._files:
            return
        with self._one_at_a_time:
            for key in keys:
                path = self._files.pop(key, None)
                if path is None:
                    continue
                self._left[path] -= 1
                if not self._left[path]:
                    del self._left[path]
                    self._remove(path)

    def set_refused_aside(self, item: msgspec.Struct, name: str, reason: str) -> Path:
        """Keep what the dispatcher refused, with its reason, for a person to look at."""
        path = self.folder / "refused" / f"{name}.json"
        body = _encode({"reason": reason, "refused": item})
        try:
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(body)
        except OSError as error:
            self._failed("outbox_failed", path, error)
        return path

    def _remove(self, path: Path) -> None:
        """Remove a file nobody needs; one that stays holds repeats at most, for the next worker to deliver."""
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            self._failed("outbox_stuck", path, error)

    def _failed(self, event: str, path: Path, error: OSError) -> None:
        """Log the first of a row of failures; results that cannot be kept stay in memory and are tried again."""
        if event not in self._failing:
            self._log(event, path=path, reason=error)
        self._failing.add(event)

    def _remember(self, path: Path, results: Collection[Result]) -> None:
        for result in results:
            self._files[result.task_id, result.attempt] = path
        self._left[path] = len(results)

    def _fresh_path(self) -> Path:
        return self.folder / f"{secrets.token_hex(8)}.jsonl"

    def _abandoned(self) -> Iterator[Path]:
        """The files of folders that nobody uses, each folder locked while its files are looked at."""
        for folder in self.folder.parent.iterdir():
            if folder == self.folder or not (folder / "lock").is_file():
                continue
            with contextlib.suppress(OSError), open(folder / "lock", "ab") as lock:  # it may be another user's
                if _try_lock(lock):
                    yield from list(folder.glob("*.jsonl"))

    def _set_aside(self, path: Path, reason: str) -> None:
        aside = path.with_suffix(".damaged")
        try:
            path.rename(aside)
        except OSError as error:
            reason = f"{reason}; {error}"
        self._log("outbox_damaged", path=aside, reason=reason)


class Memo:
    """The results of pure tasks, least recently used ones forgotten first."""

    def __init__(self, entries: int) -> None:
        self._entries = entries
        self._results: OrderedDict[tuple[str, bytes, bytes], Raw] = OrderedDict()  # by _question
        self.types: frozenset[str] = frozenset()  # those declared pure

    def learn(self, ended: Iterable[tuple[Grant, Result]]) -> None:
        """Remember what pure tasks returned."""
        if not self.types:
            return
        for grant, result in ended:
            if grant.type in self.types and result.outcome == "completed" and result.checkpoint is None:
                self._results[_question(grant)] = result.result
                if len(self._results) > self._entries:
                    self._results.popitem(last=False)

    def saw_output(self, kind: str) -> None:
        """Tasks of this type give output besides their result, which a memo cannot."""
        self.types -= {kind}

    def answer(self, grant: Grant) -> Result | None:
        """The result of a task that need not be run, or None."""
        if grant.type not in self.types or grant.checkpoint is not None:
            return None
        question = _question(grant)
        known = self._results.get(question)
        if known is None:
            return None
        self._results.move_to_end(question)
        return Result(
            task_id=grant.task_id,
            attempt=grant.attempt,
            lease_id=grant.lease_id,
            outcome="completed",
            result=known,
            elapsed_seconds=0.0,
            cached=True,
        )


def _question(grant: Grant) -> tuple[str, bytes, bytes]:
    """What a pure task's result follows from: its type, its payload, and what it is told of its parents."""
    return grant.type, bytes(grant.payload), bytes(grant.parents)


def _own_folder(parent: Path, name: str) -> tuple[Path, IO[bytes]]:
    """The folder `name`, or `name`-2, ... if another worker uses it; held by a lock until closed."""
    number = 1
    while True:
        folder = parent / quote(name if number == 1 else f"{name}-{number}", safe=" ")
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / "lock", "ab")  # noqa: SIM115 - kept open: the lock lives as long as it does
        if _try_lock(lock):
            return folder, lock
        lock.close()
        number += 1


def _try_lock(lock: IO[bytes]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _address(url: str) -> str:
    """Where a dispatcher is, without a password, and the same for all names of this machine."""
    parts = urlsplit(shown(url))
    place = _THIS_MACHINE.sub("localhost", parts.netloc.lower())
    return f"{parts.scheme}://{place}{parts.path.rstrip('/')}"


def _read(path: Path) -> _Kept:
    checksum, _, body = path.read_bytes().partition(b"\n")
    if checksum != b'"%08x"' % zlib.crc32(body):
        raise ValueError("its checksum does not match")
    return _kept.decode(body)


def _write(path: Path, kept: _Kept) -> None:
    body = _encode(kept)
    aside = path.with_suffix(".writing")
    try:
        with open(aside, "wb") as file:
            file.write(b'"%08x"\n' % zlib.crc32(body))
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        aside.rename(path)
    except OSError:
        with contextlib.suppress(OSError):
            aside.unlink()  # every try has another name, and a full disk needs its place
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
