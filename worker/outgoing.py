"""What waits to be delivered, and what is on its way: checkpoints, log lines, results, packed into parcels.

A task's checkpoint or log and what follows it never travel side by side on two connections, since the later
one could arrive first and the earlier one be lost: what concerns a checkpoint or log on its way waits
for that answer.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from itertools import chain
from typing import Final

from msgspec import Raw, Struct

from shared.protocol import Checkpoint, Grant, Result
from worker.changed import Changed
from worker.tail import LogSlice, Said, Tail

Key = tuple[int, int]  # (task_id, attempt)

BEAT_BYTES: Final = 256 * 1024  # with a heartbeat at most, which must not be late; less on a slow line:
_BEAT_BYTES_FIRST: Final = 64 * 1024
_BEAT_BYTES_LEAST: Final = 8 * 1024
_BEAT_SECONDS: Final = 0.5  # what a heartbeat carries shall delay it by no more
FREIGHT_BYTES: Final = 2 * 1024 * 1024  # at a time of what is too large for that
_PARCEL_BYTES: Final = 8 * 1024 * 1024  # half of what a request may have
_PARCEL_ITEMS: Final = 10_000
_FLOOD_BYTES: Final = 32 * 1024 * 1024  # so much undelivered: let the tasks wait for the dispatcher
_ITEM_BYTES: Final = 300  # what a result or checkpoint takes besides its bodies


class Parcel(Struct, eq=False, omit_defaults=True):
    """What one message carries; either all of it arrives or all of it is returned."""

    results: list[Result] = []
    checkpoints: list[Checkpoint] = []
    logs: list[LogSlice] = []
    size: int = 0  # in bytes, more or less

    def __len__(self) -> int:
        return len(self.results) + len(self.checkpoints) + len(self.logs)


class _Room:
    """What still goes into a parcel of so many bytes, more or less; into a heartbeat's not one byte more."""

    def __init__(self, limit: int, items: int) -> None:
        self.taken = 0
        self._limit = limit
        self._items = items
        self._is_strict = limit <= BEAT_BYTES

    @property
    def is_full(self) -> bool:
        """Whether nothing more goes in, however small."""
        return self.taken > self._limit - _ITEM_BYTES or not self._items

    def take(self, size: int) -> bool:
        """Whether an item of so many bytes goes in, which is then reckoned as in it."""
        if self.is_full or (self._is_strict and self.taken + size > self._limit):
            return False
        self.taken += size
        self._items -= 1
        return True


class Outgoing:
    """Checkpoints and results not delivered yet. Each method is one step under the hand's lock."""

    def __init__(self, changed: Changed) -> None:
        self._changed = changed
        self._results: deque[Result] = deque()
        self._checkpoints: dict[Key, list[Checkpoint]] = {}
        self._tails: dict[Key, Tail] = {}  # of attempts that run
        self._last_tails: dict[Key, Tail] = {}  # of those whose result waits, or is on its way
        self._on_their_way: list[Parcel] = []
        self.beat_bytes = _BEAT_BYTES_FIRST  # what goes with a heartbeat; anything larger is freight
        self._parcel_items = _PARCEL_ITEMS

    @property
    def has_results(self) -> bool:
        """Whether a result waits for a message, and could go now."""
        held_up = self._held_up()
        return any((r.task_id, r.attempt) not in held_up for r in self._results)

    def has_light(self, results: bool) -> bool:
        """Whether a checkpoint, or with `results` one of these, could go with a heartbeat now."""
        return any(size <= self.beat_bytes for size in self._sizes(results))

    def has_heavy(self, results: bool) -> bool:
        """Whether one could go now that is too large for a heartbeat; or the lines of a task's log."""
        held_up = self._held_up()
        lines = (tail.chars for key, tail in self._tails.items() if key not in held_up)
        return any(size > self.beat_bytes for size in chain(self._sizes(results), lines))

    def _sizes(self, results: bool) -> Iterator[int]:
        """The bytes of what could go now."""
        held_up = self._held_up()
        yield from (_checkpoint_bytes(kept[0]) for key, kept in self._checkpoints.items() if key not in held_up)
        if results:
            yield from (self._size(r) for r in self._results if (r.task_id, r.attempt) not in held_up)

    def _size(self, result: Result) -> int:
        """A result's, with the end of its log."""
        tail = self._last_tails.get((result.task_id, result.attempt)) if self._last_tails else None
        return _result_bytes(result) + (tail.chars if tail else 0)

    def beat_took(self, seconds: float, size: int) -> None:
        """A heartbeat that carried `size` bytes was answered, or given up, after so long: the line may be slow."""
        if seconds > _BEAT_SECONDS:
            self.beat_bytes = max(_BEAT_BYTES_LEAST, self.beat_bytes // 2)
        elif size > self.beat_bytes // 2:
            self.beat_bytes = min(BEAT_BYTES, self.beat_bytes * 2)

    @property
    def is_empty(self) -> bool:
        """Whether everything has been delivered."""
        return not (self._results or self._checkpoints or self._on_their_way)

    @property
    def is_flooded(self) -> bool:
        """Whether so much waits that the tasks should wait, too."""
        with self._changed:
            parcels = [c for p in self._on_their_way for c in p.checkpoints]
            waiting = [c for kept in self._checkpoints.values() for c in kept]
            return sum(map(_checkpoint_bytes, [*parcels, *waiting])) > _FLOOD_BYTES

    def add(self, results: Iterable[Result]) -> None:
        """Results to deliver."""
        with self._changed:
            if self._tails:
                results = list(results)
                ended = [(r.task_id, r.attempt) for r in results]
                self._last_tails.update({key: self._tails.pop(key) for key in ended if key in self._tails})
            self._results.extend(results)
            self._changed.tell()

    def restore(self, parcel: Parcel) -> None:
        """Deliver what an earlier worker could not."""
        with self._changed:
            for checkpoint in parcel.checkpoints:
                self.save(checkpoint)
            self.add(parcel.results)

    def save(self, checkpoint: Checkpoint) -> None:
        """A checkpoint to deliver; of a task's older ones only those that carry output stay."""
        key = checkpoint.task_id, checkpoint.attempt
        with self._changed:
            kept = [c for c in self._checkpoints.get(key, ()) if c.output]
            self._checkpoints[key] = [*kept, checkpoint]
            self._changed.tell()

    def say(self, grant: Grant, lines: Iterable[Said]) -> None:
        """Log lines of a running attempt, for the next heartbeat or its result, whichever comes first."""
        with self._changed:
            key = grant.task_id, grant.attempt
            tail = self._tails.get(key)
            if tail is None:
                tail = self._tails[key] = Tail(grant)
            tail.extend(lines)

    def drop(self, keys: Collection[Key]) -> list[Key]:
        """Forget what waits about these grants; returns those that had a result.

        What is on its way is left alone: the answer to that message decides.
        """
        with self._changed:
            for key in keys:
                self._checkpoints.pop(key, None)
                self._tails.pop(key, None)
            dropped = [key for r in self._results if (key := (r.task_id, r.attempt)) in keys]
            if dropped:
                self._results = deque(r for r in self._results if (r.task_id, r.attempt) not in keys)
                for key in dropped:
                    self._last_tails.pop(key, None)
        return dropped

    def results(self) -> Iterator[Result]:
        """Every result that the dispatcher has not answered for (to be used under the lock)."""
        yield from self._results
        for parcel in self._on_their_way:
            yield from parcel.results

    # --- parcels

    def pack(self, logs: bool = False, limit: int = _PARCEL_BYTES) -> Parcel:
        """What can be sent now, in a message of `limit` bytes; with `logs` the lines of what still runs, too."""
        with self._changed:
            parcel = Parcel()
            held_up = self._held_up()
            room = _Room(limit, self._parcel_items)
            self._pack_checkpoints(parcel, held_up, room)
            self._pack_results(parcel, held_up, room)
            if logs:
                self._pack_logs(parcel, held_up, room)
            parcel.size = room.taken
            if parcel:
                self._on_their_way.append(parcel)
            return parcel

    def pack_all(self) -> Iterator[Parcel]:
        """Everything, parcel by parcel, also what is on its way: for the disk, when the worker ends."""
        with self._changed:
            yield from self._on_their_way
            self._on_their_way.clear()
            while parcel := self.pack():
                self._on_their_way.clear()
                yield parcel

    def _held_up(self) -> set[Key]:
        parcels = self._on_their_way
        held_up = {(c.task_id, c.attempt) for p in parcels for c in p.checkpoints}
        return held_up | {(s.task_id, s.attempt) for p in parcels for s in p.logs}

    def _pack_checkpoints(self, parcel: Parcel, held_up: set[Key], room: _Room) -> None:
        for key, waiting in list(self._checkpoints.items()):
            if key in held_up:
                continue
            while waiting and room.take(_checkpoint_bytes(waiting[0])):
                parcel.checkpoints.append(waiting.pop(0))
            if waiting:
                held_up.add(key)
            else:
                del self._checkpoints[key]

    def _pack_results(self, parcel: Parcel, held_up: set[Key], room: _Room) -> None:
        later: list[Result] = []
        tails, now = self._last_tails, time.monotonic()
        while self._results and not room.is_full:
            result = self._results.popleft()
            if (held_up and (result.task_id, result.attempt) in held_up) or not room.take(self._size(result)):
                later.append(result)
                continue
            if tails and (tail := tails.get((result.task_id, result.attempt))):
                result.log = tail.aged(now)  # made anew for each try
            parcel.results.append(result)
        self._results.extendleft(reversed(later))

    def _pack_logs(self, parcel: Parcel, held_up: set[Key], room: _Room) -> None:
        for key, tail in self._tails.items():
            if tail and key not in held_up and room.take(tail.chars):
                parcel.logs.append(tail.take())

    def delivered(self, parcel: Parcel) -> None:
        """The dispatcher has answered for all of the parcel."""
        with self._changed:
            self._parcel_items = min(2 * self._parcel_items, _PARCEL_ITEMS)
            if self._last_tails:
                for result in parcel.results:
                    self._last_tails.pop((result.task_id, result.attempt), None)
            self._arrived(parcel)

    def too_much(self, parcel: Parcel) -> None:
        """The parcel was refused as a whole: half of it is sent next, and so on, to find what is bad."""
        self._halve(parcel)
        self.returned(parcel)

    def _halve(self, parcel: Parcel) -> None:
        self._parcel_items = max(1, len(parcel) // 2)

    def _arrived(self, parcel: Parcel) -> None:
        if parcel in self._on_their_way:
            self._on_their_way.remove(parcel)
        self._changed.tell()

    def returned(self, parcel: Parcel) -> None:
        """The parcel did not get through: everything in it waits again."""
        with self._changed:
            if parcel.size > FREIGHT_BYTES:  # perhaps the line does not last for so much
                self._halve(parcel)
            self._arrived(parcel)
            self._results.extendleft(reversed(parcel.results))
            for lines in parcel.logs:
                key = lines.task_id, lines.attempt
                tail = self._tails.get(key, self._last_tails.get(key))
                if tail is not None:  # else its task was dropped meanwhile
                    tail.put_back(lines.lines)
            for checkpoint in reversed(parcel.checkpoints):
                newer = self._checkpoints.get((checkpoint.task_id, checkpoint.attempt), [])
                if checkpoint.output or not newer:
                    self._checkpoints[checkpoint.task_id, checkpoint.attempt] = [checkpoint, *newer]


def _bytes(body: Raw) -> int:
    return len(memoryview(body))


def _checkpoint_bytes(checkpoint: Checkpoint) -> int:
    return _ITEM_BYTES + _bytes(checkpoint.state) + sum(map(_bytes, checkpoint.output))


def _result_bytes(result: Result) -> int:
    size = _ITEM_BYTES + _bytes(result.result) + _bytes(result.error)
    if result.checkpoint is not None:
        size += _bytes(result.checkpoint.state) + sum(map(_bytes, result.checkpoint.output))
    return size
