"""Clients that are slow or gone: nobody else notices."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from analysis.cluster import Cluster, cluster
from shared.client import DispatcherClient

SLOW = 200
HALF = b'POST /tasks HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 999\r\n\r\n{"type"'
KEEPALIVE = "02"  # the timer of a socket in /proc/net/tcp


@pytest.fixture
def few_threads(tmp_path: Path) -> Iterator[Cluster]:
    """A dispatcher where next to nobody may wait."""
    with cluster(tmp_path, PARKED_REQUESTS_MAX="1") as running:
        yield running


def connect(baton: Cluster, undo: contextlib.ExitStack) -> socket.socket:
    return undo.enter_context(socket.create_connection(("127.0.0.1", baton.port), 5))


def answers(baton: Cluster) -> bool:
    """Does it answer on a new connection?"""
    with contextlib.closing(DispatcherClient(baton.url, patience_seconds=0.0)) as client:
        return bool(client.ready())


def test_bodies_that_come_slowly_hold_up_nobody(few_threads: Cluster) -> None:
    with contextlib.ExitStack() as undo:
        for _ in range(SLOW):
            connect(few_threads, undo).sendall(HALF)

        assert answers(few_threads)


def test_a_peer_that_vanishes_in_the_middle_of_its_request_is_noticed(few_threads: Cluster) -> None:
    def timer(of: socket.socket) -> str | None:
        """What the dispatcher's end of a connection waits for, says Linux."""
        port = f":{of.getsockname()[1]:04X}"
        lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
        return next((fields[5][:2] for fields in lines if fields[2].endswith(port)), None)

    with contextlib.ExitStack() as undo:
        client = connect(few_threads, undo)
        client.sendall(HALF)

        few_threads.wait(lambda: timer(client) == KEEPALIVE, "the dispatcher to look after the connection")
