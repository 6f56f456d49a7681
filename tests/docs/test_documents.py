"""The documents against the code: settings, routes, links, dependencies, lengths, words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from analysis import generate
from dispatcher.app import create_app
from shared.log import Log
from shared.settings import ROOT, Settings
from tests.docs.transcripts import TRANSCRIBED, read
from tests.support.dispatcher import Dispatcher

README = (ROOT / "README.md").read_text()
PROTOCOL = (ROOT / "docs" / "protocol.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
_LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")


def routes(dispatcher: Dispatcher) -> set[str]:
    """Every route as the documents write it: `GET /tasks/<id>`."""
    app = create_app(dispatcher.ledger, dispatcher.records, dispatcher.monitor, Log("dispatcher"))
    return {
        f"{method} {re.sub(r'<.*?>', '<id>', rule.rule)}"
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }


def test_generated_files_are_current() -> None:
    assert generate.stale() == [], "run `make docs`"


def test_a_changed_setting_makes_the_generated_files_stale(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    for path, text in generate.texts().items():
        (tmp_path / path.relative_to(ROOT)).write_text(text.replace("LEASE_SECONDS", "RENT_SECONDS"))

    assert {path.name for path in generate.stale(tmp_path)} == {".env", "settings.md"}


def test_the_page_of_settings_has_every_one() -> None:
    text = (ROOT / "docs" / "settings.md").read_text()
    names = [setting.name.upper() for setting in fields(Settings)]
    assert [name for name in names if f"| `{name}` |" not in text] == []


def test_readme_lists_every_route_and_no_other(dispatcher: Dispatcher) -> None:
    table = README.partition("## API")[2].partition("\n## ")[0]
    assert set(re.findall(r"`([A-Z]+ /[^`]*)`", table)) == routes(dispatcher)


def test_the_protocol_has_a_heading_for_every_route_and_no_other(dispatcher: Dispatcher) -> None:
    headings = "\n".join(line for line in PROTOCOL.splitlines() if line.startswith("### "))
    headings = headings.replace("&lt;", "<").replace("&gt;", ">")
    assert set(re.findall(r"\b([A-Z]+ /[^\s,:]*)", headings)) == routes(dispatcher)


def test_the_documents_have_a_transcript_of_every_call(dispatcher: Dispatcher) -> None:
    older_names = {"DELETE /task/<id>", "GET /tasks/<id>"}  # each does what its twin does
    shown = {
        f"{call.method} {re.sub(r'(?<=/)(?:[0-9]+|w[0-9]|night)(?=/|$)', '<id>', call.target.partition('?')[0])}"
        for name in TRANSCRIBED
        for call in read((ROOT / "docs" / name).read_text())
        if call.status < 400
    }
    assert routes(dispatcher) - shown == older_names


def test_readme_is_short_enough_to_be_read() -> None:
    assert len(README.splitlines()) <= 200


def test_readme_shows_the_example_as_it_is() -> None:
    name, shown = re.findall(r"<!-- example: (\S+) -->\n```python\n(.*?)```", README, re.DOTALL)[0]
    assert shown in (ROOT / name).read_text()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    targets = [target for target in _LINK.findall(document.read_text()) if "://" not in target]
    assert [target for target in targets if not (document.parent / target).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_names_in_documents_exist(document: Path) -> None:
    """A path in backquotes is a path of the checkout, or of the part that the document is about."""
    known = {str(path.relative_to(ROOT)) for path in _files()}
    mentioned = set(re.findall(r"`([a-z_]+(?:/[a-z_0-9]+)*\.(?:py|sh|sql|md))`", document.read_text()))
    invented = {"0002_queues.sql"}
    assert {m for m in mentioned - invented if not any(k == m or k.endswith(f"/{m}") for k in known)} == set()


def test_internals_names_methods_that_exist() -> None:
    text = (ROOT / "docs" / "internals.md").read_text()
    sources = "\n".join(path.read_text() for path in _files() if path.suffix == ".py")
    lacking = []
    for owner, name in re.findall(r"`([A-Z]\w+|attempts|submissions)\.(\w+)(?:\(\w*\))?`", text):
        where = _body_of(sources, owner) if owner[0].isupper() else sources
        if not re.search(rf"\b(def {name}\b|self\.{name}\b)", where):
            lacking.append(f"{owner}.{name}")
    assert lacking == []
    assert len(text.splitlines()) <= 120


def test_every_dependency_has_its_reason() -> None:
    lines = [
        line.strip()
        for name in ("requirements.in", "requirements-dev.in")
        for line in (ROOT / name).read_text().splitlines()
    ]
    names = [re.split(r"[\[<>=~! ;]", line)[0] for line in lines if line and not line.startswith(("#", "-"))]
    explained = re.findall(r"^- \*\*(\S+)\*\*: \S", CONTRIBUTING, re.MULTILINE)
    assert sorted(explained) == sorted(names)


def test_every_command_of_make_is_explained() -> None:
    targets = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert [target for target in targets if target != "help" and f"| `make {target}` |" not in CONTRIBUTING] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_documents_use_our_words(document: Path) -> None:
    assert re.findall(r"\b[Jj]obs?\b", document.read_text()) == []


def _files() -> Iterator[Path]:
    for pattern in ("*.*", "*/*.*", "*/*/*.*", "*/*/*/*.*"):
        for path in ROOT.glob(pattern):
            if path.is_file() and not path.relative_to(ROOT).parts[0].startswith((".venv", ".git")):
                yield path


def _body_of(sources: str, kind: str) -> str:
    """The text of a class."""
    found = re.search(rf"^class {kind}\b.*?(?=^\S|\Z)", sources, re.MULTILINE | re.DOTALL)
    return found.group() if found else ""
