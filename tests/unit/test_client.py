"""The client and several dispatchers: it goes on to one that works, and never submits twice."""

from __future__ import annotations

import contextlib
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import msgspec
import pytest

from shared import errors
from shared.client import DispatcherClient
from shared.protocol import BATCH_MAX, Exchange, Submission, WorkerInfo


class Answering:
    """A dispatcher that always says the same."""

    def __init__(self, error: errors.BatonError | None = None) -> None:
        self.asked = 0
        self.error = error
        answering = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                answering.asked += 1
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, body = answering.says()
                encoded = body if isinstance(body, bytes) else msgspec.json.encode(body)
                self.send_response(status)
                self.send_header("Content-Length", str(len(encoded)))
                self.end_headers()
                self.wfile.write(encoded)

            do_GET = do_POST

            def log_message(self, *arguments: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def says(self) -> tuple[int, Any]:
        if self.error is None:
            return 201, {"task_id": 1, "status": "pending"}
        return self.error.http_status, self.error.body()


class Proxy(Answering):
    """Somebody else in a dispatcher's place."""

    def __init__(self, status: int, page: bytes) -> None:
        super().__init__()
        self.answer = status, page

    def says(self) -> tuple[int, Any]:
        return self.answer


@contextlib.contextmanager
def answering(*dispatchers: Answering) -> Iterator[None]:
    threads = [Thread(target=d.server.serve_forever, args=(0.01,), daemon=True) for d in dispatchers]
    for thread in threads:
        thread.start()
    yield
    for dispatcher in dispatchers:
        dispatcher.server.shutdown()
        dispatcher.server.server_close()


def nobody() -> str:
    """A URL where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def client(first: str, *others: str) -> DispatcherClient:
    """One that begins with `first`."""
    made = DispatcherClient([first, *others])
    made.urls = [first, *others]
    return made


def test_one_that_is_away_is_passed_over_and_the_next_one_kept() -> None:
    good, other = Answering(), Answering()
    with answering(good, other):
        made = client(nobody(), good.url, other.url)
        for _ in range(5):
            made.submit(Submission("noop"))

    assert (good.asked, other.asked) == (5, 0)


@pytest.mark.parametrize("error", [errors.DatabaseUnavailable(), errors.Busy()], ids=lambda error: error.code)
def test_one_that_cannot_write_is_passed_over(error: errors.Unavailable) -> None:
    bad, good = Answering(error), Answering()
    with answering(bad, good):
        made = client(bad.url, good.url)
        for _ in range(3):
            made.submit(Submission("noop"))

    assert (bad.asked, good.asked) == (1, 3)


def test_what_may_be_stored_is_not_submitted_again() -> None:
    bad, good = Answering(errors.Unconfirmed()), Answering()
    with answering(bad, good):
        made = client(bad.url, good.url)
        with pytest.raises(errors.Unconfirmed):
            made.submit(Submission("noop"))

    assert (bad.asked, good.asked) == (1, 0)


def test_when_all_are_away_the_caller_hears_of_it() -> None:
    with pytest.raises(errors.Unreachable):
        client(nobody(), nobody()).submit(Submission("noop"))


def test_a_dispatcher_that_is_preferred_is_asked_first() -> None:
    client = DispatcherClient([f"http://127.0.0.1:{port}" for port in (1, 2, 3)])

    client.prefer("http://127.0.0.1:3")
    client.prefer("http://127.0.0.1:4")

    assert client.urls[0] == "http://127.0.0.1:3"
    assert sorted(client.urls) == [f"http://127.0.0.1:{port}" for port in (1, 2, 3)]


PAGE = b"<html>Please log in</html>"
PROXIES = pytest.mark.parametrize(
    ("status", "page"), [(200, PAGE), (200, b'"\xff"'), (200, b"[]"), (200, b""), (301, b"")]
)
CALLS: dict[str, Callable[[DispatcherClient], Any]] = {
    "stats": lambda made: made.stats(),
    "output": lambda made: list(made.output(1)),
    "exchange": lambda made: made.exchange(Exchange(WorkerInfo("w1"))),
}


@PROXIES
@pytest.mark.parametrize("call", ["stats", "exchange"])
def test_an_answer_that_is_not_a_dispatchers_is_none(status: int, page: bytes, call: str) -> None:
    proxy = Proxy(status, page)
    with answering(proxy), pytest.raises(errors.Unreachable) as caught:
        CALLS[call](client(proxy.url))

    assert proxy.url in caught.value.message
    assert f"answers {status}" in caught.value.message
    assert "check DISPATCHER_URL" in caught.value.message


@pytest.mark.parametrize("call", CALLS)
def test_a_proxy_that_answers_itself_is_passed_over(call: str) -> None:
    proxy, good = Proxy(200, PAGE), Proxy(200, b"{}")
    with answering(proxy, good):
        made = client(proxy.url, good.url)
        for _ in range(3):
            CALLS[call](made)

    assert (proxy.asked, good.asked) == (1, 3)


def test_a_submission_goes_elsewhere_after_a_redirect_but_not_after_a_page_that_may_hide_an_answer() -> None:
    redirect, page, good = Proxy(301, b""), Proxy(200, PAGE), Answering()
    with answering(redirect, page, good):
        client(redirect.url, good.url).submit(Submission("noop"))
        with pytest.raises(errors.Unreachable):
            client(page.url, good.url).submit(Submission("noop"))

    assert (redirect.asked, page.asked, good.asked) == (1, 1, 1)


@pytest.mark.parametrize("key", ["", "k" * 201, "a\r\nX-Other: 1", "Schlüssel"])
def test_a_key_that_no_header_can_carry_is_refused_before_anything_is_sent(key: str) -> None:
    good = Answering()
    with answering(good):
        made = client(good.url)
        sent = (lambda: made.submit(Submission("noop"), key), lambda: made.submit_flow({"tasks": []}, key))
        for send in sent:
            with pytest.raises(errors.Invalid) as caught:
                send()
            assert caught.value.details == {"field": "Idempotency-Key"}

    assert good.asked == 0


def test_a_key_without_room_for_the_number_of_a_request_is_refused_where_there_are_several() -> None:
    many = [Submission("noop")] * (BATCH_MAX + 1)
    good = Proxy(201, b'{"task_ids":[1]}')
    with answering(good):
        made = client(good.url)
        with pytest.raises(errors.Invalid, match="1 to 193"):
            made.submit_many(many, "k" * 200)
        assert good.asked == 0

        made.submit_many(many, "k" * 193)
        made.submit_many(many[:BATCH_MAX], "k" * 200)

    assert good.asked == 3


def test_many_clients_spread_over_the_dispatchers() -> None:
    first = Counter(DispatcherClient(["http://a", "http://b", "http://c"]).urls[0] for _ in range(300))

    assert len(first) == 3
    assert min(first.values()) > 50


class Filling(Answering):
    """Takes so many requests, then it is full."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def says(self) -> tuple[int, Any]:
        if self.asked > self.room:
            return 503, errors.Busy().body()
        return 201, {"task_ids": [self.asked]}


def test_an_error_has_the_ids_of_what_was_stored_before_it() -> None:
    full = Filling(room=2)
    with answering(full), pytest.raises(errors.Busy) as caught:
        client(full.url).submit_many([Submission("noop")] * (2 * BATCH_MAX + 1))

    assert caught.value.details["stored"] == [1, 2]


class Paging(Answering):
    """Has five tasks and shows two at a time."""

    def says(self) -> tuple[int, Any]:
        newest = 7 - 2 * self.asked
        left = [{"task_id": task_id, "payload": {"x": 1}} for task_id in range(max(1, newest - 1), newest + 1)]
        return 200, {"tasks": left[::-1], "next": newest - 1 if newest > 2 else None}


def test_every_task_is_asked_for_a_page_at_a_time() -> None:
    paging = Paging()
    with answering(paging):
        tasks = client(paging.url).every_task(tag="sweep")
        first = next(tasks)
        asked = paging.asked
        rest = [task["task_id"] for task in tasks]

    assert (first, asked) == ({"task_id": 5, "payload": {"x": 1}}, 1)
    assert (rest, paging.asked) == ([4, 3, 2, 1], 3)
