"""docs/running.md: what it tells a proxy fits what the dispatcher takes, and its files are there."""

from __future__ import annotations

import re

from shared.protocol import REQUEST_BYTES_MAX
from shared.settings import ROOT, Settings

TEXT = (ROOT / "docs" / "running.md").read_text()


def directive(name: str) -> str:
    (value,) = re.findall(rf"^\s*{name} (\S+);", TEXT, re.MULTILINE)
    return str(value)


def test_the_proxy_passes_what_the_dispatcher_takes() -> None:
    assert int(directive("client_max_body_size").removesuffix("m")) * 1024 * 1024 >= REQUEST_BYTES_MAX


def test_the_proxy_waits_longer_than_a_worker_waits_for_work() -> None:
    assert int(directive("proxy_read_timeout").removesuffix("s")) > 2 * Settings().long_poll_seconds


def test_what_the_page_takes_from_the_checkout_is_there() -> None:
    used = set(re.findall(r"/opt/baton/([\w./@*-]+)", TEXT)) - {".venv/bin/python"}

    assert {"deploy/backup.sh", "deploy/venv.sh", "deploy/baton-*.service"} == used
    assert all(list(ROOT.glob(path)) for path in used)


def test_a_worker_is_called_after_its_machine_and_number_as_the_page_says() -> None:
    unit = (ROOT / "deploy" / "baton-worker@.service").read_text()

    assert "-m worker %H-%i\n" in unit and "`lab7-1`" in TEXT
