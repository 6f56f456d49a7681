"""HTTP as the client reads it: whatever form a server or a proxy gives its answer, and what is none."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from threading import Event, Thread

import pytest

from shared import errors
from shared.address import shown
from shared.client import DispatcherClient
from shared.line import Line, Silence
from tests.support.waiting import wait_until

SECONDS = 5.0


class Scripted:
    """A server that answers each connection's requests with these bytes, and hangs up after the last."""

    def __init__(self, *connections: list[bytes]) -> None:
        self._connections = connections
        self._server = socket.create_server(("127.0.0.1", 0))
        self._thread = Thread(target=self._serve, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self.received: list[bytes] = []  # what one read of a request brought

    def _serve(self) -> None:
        for answers in self._connections:
            connection, _ = self._server.accept()
            with connection:
                for answer in answers:
                    self.received.append(connection.recv(1 << 16))
                    connection.sendall(answer)

    def __enter__(self) -> Scripted:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._thread.join(SECONDS)
        self._server.close()
        assert not self._thread.is_alive()


@contextlib.contextmanager
def line_to(*connections: list[bytes]) -> Iterator[Line]:
    with Scripted(*connections) as server, contextlib.closing(Line(server.url)) as line:
        yield line


def call(line: Line, body: bytes | None = b"{}") -> tuple[int, bytes]:
    return line.call("POST", "/tasks", body, {"Content-Type": "application/json"}, SECONDS)


WHOLE = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok"


def test_a_request_leaves_in_one_piece() -> None:
    with Scripted([WHOLE]) as server, contextlib.closing(Line(f"{server.url}/baton/")) as line:
        assert call(line) == (201, b"ok")

    host = server.url.removeprefix("http://")
    assert server.received == [
        f"POST /baton/tasks HTTP/1.1\r\nHost: {host}\r\n"
        "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}".encode()
    ]


def test_user_and_password_of_the_url_log_in_and_are_not_shown() -> None:
    with Scripted([WHOLE]) as server:
        url = server.url.replace("http://", "http://lab:s%40cret@")
        with contextlib.closing(Line(url)) as line:
            call(line)

    assert b"\r\nAuthorization: Basic bGFiOnNAY3JldA==\r\n" in server.received[0]  # lab:s@cret
    assert shown(url) == server.url
    assert shown("http://lab:a@b@[::1") == "http://[::1"
    with pytest.raises(errors.Unreachable) as away:
        DispatcherClient(url).stats()
    assert "cret" not in str(away.value)


@pytest.mark.parametrize(
    "answer",
    [
        WHOLE,
        b"HTTP/1.1 201 Created\r\ncontent-length:2\r\nX-Other:  a: b \r\n\r\nok",
        b"HTTP/1.1 201\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"1\r\no\r\n1;name=x\r\nk\r\n0\r\nTrailer: x\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + WHOLE,
        b"HTTP/1.0 201 Created\r\n\r\nok",
    ],
    ids=["length", "other headers", "no reason", "chunks", "continue", "until it hangs up"],
)
def test_every_form_of_an_answer_is_read(answer: bytes) -> None:
    with line_to([answer]) as line:
        assert call(line) == (201, b"ok")


def test_the_connection_is_kept_between_calls() -> None:
    with line_to([WHOLE, WHOLE, b"HTTP/1.1 204 No Content\r\n\r\n", WHOLE]) as line:
        assert [call(line)[0] for _ in range(4)] == [201, 201, 204, 201]


@pytest.mark.parametrize("goodbye", [b"Connection: close\r\n", b""], ids=["announced", "in silence"])
def test_after_the_server_hung_up_the_next_call_connects_again(goodbye: bytes) -> None:
    last = WHOLE.replace(b"\r\n\r\n", b"\r\n" + goodbye + b"\r\n")
    with line_to([last], [WHOLE]) as line:
        first = call(line)
        wait_until(lambda: line._connection and line._connection.is_stale, "the server to hang up")
        second = call(line)

    assert (first, second) == ((201, b"ok"), (201, b"ok"))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "the connection was closed"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "the answer is not HTTP"),
        (b"HTTP/1.1 201 Created\r\nContent-Length: 3\r\n\r\nok", "cut short"),
        (b"HTTP/1.1 201 Created\r\nContent-Len", "cut short"),
        (b"HTTP/1.1 201 Created\r\nContent-Length: two\r\n\r\nok", "invalid literal"),
        (b"HTTP/1.1 abc\r\n\r\n", "invalid literal"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000, "too long a head"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000, "cut short"),
    ],
    ids=["nothing", "no HTTP", "short body", "short head", "length", "status", "endless head", "endless line"],
)
def test_what_is_no_answer_is_silence_and_may_have_been_heard(answer: bytes, reason: str) -> None:
    with line_to([answer]) as line, pytest.raises(Silence, match=reason) as silence:
        call(line)

    assert silence.value.sent


def test_an_answer_that_does_not_come_in_time_is_silence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        line = Line(f"http://127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(Silence, match="timed out") as silence:
            line.call("GET", "/stats", None, {}, 0.05)

    assert silence.value.sent
    line.close()


def test_a_large_body_may_take_longer_than_an_answer() -> None:
    def read_slowly(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            size = 0
            while size < len(body):
                Event().wait(0.02)  # a slow line
                size += len(connection.recv(1 << 14))
            connection.sendall(WHOLE)

    body = b"x" * (1 << 20)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
        Thread(target=read_slowly, args=(server,), daemon=True).start()
        with contextlib.closing(Line(f"http://127.0.0.1:{server.getsockname()[1]}")) as line:
            assert line.call("POST", "/tasks", body, {}, 0.5) == (201, b"ok")


def test_after_a_large_body_the_answer_may_come_later() -> None:
    def answer_late(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            size = 0
            while size < len(body):
                size += len(connection.recv(1 << 16))
            Event().wait(0.3)  # as if the last of it had still been under way
            connection.sendall(WHOLE)

    body = b"x" * (1 << 18)
    with socket.create_server(("127.0.0.1", 0)) as server:
        Thread(target=answer_late, args=(server,), daemon=True).start()
        with contextlib.closing(Line(f"http://127.0.0.1:{server.getsockname()[1]}")) as line:
            assert line.call("POST", "/tasks", body, {}, 0.1) == (201, b"ok")


def test_a_body_that_nobody_takes_is_silence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        line = Line(f"http://127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(Silence, match="timed out"):
            line.call("POST", "/tasks", b"x" * (16 << 20), {}, 0.05)

    line.close()


@pytest.mark.parametrize("url", ["http://no-such-host.invalid", "http://127.0.0.1:1", "http://127.0.0.1:99999"])
def test_what_cannot_be_reached_has_heard_nothing(url: str) -> None:
    with pytest.raises(Silence) as silence:
        Line(url).call("GET", "/stats", None, {}, SECONDS)

    assert not silence.value.sent
