"""Reads the transcripts in the documents and runs them against a real dispatcher in this process.

A transcript is a fenced block of `$ curl …` calls, each followed by a line `HTTP <status>` and the body.
A comment `<!-- clock: +3 -->` before a block lets three seconds pass. Lease ids are random, so a
documented one stands for the real one from where it first appears.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from werkzeug.test import Client

from dispatcher.app import create_app
from dispatcher.monitor import Monitor
from shared.log import Log
from tests.support.dispatcher import Dispatcher

HOST = "localhost:5000"
STEP_SECONDS = 0.5  # that pass between two calls
TRANSCRIBED = (
    "protocol.md",
    "retries.md",
    "limits.md",
    "flows.md",
    "schedules.md",
)  # of docs/, each for a dispatcher of its own
UNCERTAIN = ("uptime_seconds",)  # measured by the process, not by the clock given to it
_CLOCK = re.compile(r"<!-- clock: \+(\d+) -->")


@dataclass
class Call:
    """One call as documented."""

    line: int
    wait_seconds: float
    method: str
    target: str
    headers: dict[str, str]
    body: str | None
    status: int
    answer: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.method} {self.target}"


def read(text: str) -> Iterator[Call]:
    """Every documented call, in order."""
    wait = 0.0
    lines = text.splitlines()
    inside = False
    for number, line in enumerate(lines, 1):
        if line.startswith("```"):
            inside = line == "```console"
        elif marker := _CLOCK.match(line):
            wait += float(marker.group(1))
        elif inside and line.startswith("$ curl "):
            yield _call(lines, number, wait)
            wait = 0.0


def _call(lines: list[str], number: int, wait: float) -> Call:
    at = number - 1
    command = lines[at]
    while command.endswith("\\"):
        at += 1
        command = command[:-1] + lines[at].strip()
    heading = lines[at + 1]
    answer: list[str] = []
    for line in lines[at + 2 :]:
        if line.startswith(("$ ", "```")):
            break
        answer.append(line)
    method, target, headers, body = _curl(shlex.split(command.removeprefix("$ ")))
    status = int(heading.removeprefix("HTTP "))
    return Call(number, wait, method, target, headers, body, status, "\n".join(answer))


def _curl(words: list[str]) -> tuple[str, str, dict[str, str], str | None]:
    """The options of curl that the document uses."""
    method, target, headers, body = "", "", {}, None
    rest = iter(words[1:])
    for word in rest:
        if word == "-X":
            method = next(rest)
        elif word == "--json":
            headers["Content-Type"] = "application/json"
            body = next(rest)
        elif word == "-H":
            name, _, value = next(rest).partition(": ")
            headers[name] = value
        elif word == "-d":
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            body = next(rest)
        else:
            assert word.startswith(HOST), f"unexpected in a curl command: {word}"
            target = word.removeprefix(HOST)
    return method or ("GET" if body is None else "POST"), target, headers, body


class AwakeMonitor(Monitor):
    """Its duties run when the transcript lets time pass, not in a thread."""

    alive = True


class Stage:
    """Sends documented calls to a dispatcher; `lease_ids` are the documented ones and what they stand for."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        log = Log("dispatcher", dispatcher.log_stream)
        self.clock = dispatcher.clock
        self.monitor = AwakeMonitor(dispatcher.ledger, log)
        self.app = create_app(dispatcher.ledger, dispatcher.records, self.monitor, log)
        self.lease_ids: dict[str, str] = {}

    def run(self, call: Call) -> tuple[int, list[Any]]:
        """Let time pass, send the call; returns the status and the JSON values answered."""
        self.clock.advance(STEP_SECONDS + call.wait_seconds)
        if call.wait_seconds:
            self.monitor.run_once()
        response = Client(self.app).open(
            call.target, method=call.method, headers=call.headers, data=self._real(call.body)
        )
        return response.status_code, values(response.get_data(as_text=True))

    def _real(self, body: str | None) -> str | None:
        for documented, real in self.lease_ids.items():
            body = body and body.replace(documented, real)
        return body

    def differences(self, documented: Any, real: Any, where: str = "$") -> list[str]:
        """What the document says otherwise than the dispatcher."""
        if isinstance(documented, dict) and isinstance(real, dict):
            if list(documented) != list(real):
                return [f"{where}: documented fields {list(documented)}, real ones {list(real)}"]
            return [d for key in real for d in self._field(documented[key], real[key], where, key)]
        if isinstance(documented, list) and isinstance(real, list) and len(documented) == len(real):
            pairs = enumerate(zip(documented, real, strict=True))
            return [d for i, (ours, theirs) in pairs for d in self.differences(ours, theirs, f"{where}[{i}]")]
        return [] if documented == real else [f"{where}: documented {documented!r}, real {real!r}"]

    def _field(self, documented: Any, real: Any, where: str, key: str) -> list[str]:
        if key == "lease_id":
            documented = self.lease_ids.setdefault(documented, real)
        if key in UNCERTAIN:
            documented = real if isinstance(documented, float) else documented
        return self.differences(documented, real, f"{where}.{key}")


def values(text: str) -> list[Any]:
    """The JSON values in a text, one after the other."""
    decoder = json.JSONDecoder()
    found: list[Any] = []
    rest = text.strip()
    while rest:
        value, end = decoder.raw_decode(rest)
        found.append(value)
        rest = rest[end:].lstrip()
    return found
