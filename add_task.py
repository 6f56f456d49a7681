#!/usr/bin/env python3
"""Submits tasks: `python3 add_task.py 5 100000` asks five times for the primes up to 100,000.

With `--from FILE` a task for each row of a CSV, or for each line of JSON.
Works with the system's python3: it goes on in the project's own .venv, made on first use.
Exit codes: 0 ok, 1 a task failed, 2 usage, 4 dispatcher unreachable, 5 refused, 74 output lost, 124 timed out.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

ROOT = Path(__file__).resolve().parent
PYTHON = ROOT / ".venv" / "bin" / "python"

if __name__ == "__main__" and Path(sys.prefix) != ROOT / ".venv":
    ready = subprocess.run([str(ROOT / "deploy" / "venv.sh")], check=False).returncode
    if ready != 0:
        sys.exit(ready)
    os.execv(PYTHON, [str(PYTHON), str(Path(__file__).resolve()), *sys.argv[1:]])

import click
import msgspec
from rich.console import Console

from shared import errors, exits
from shared.cli import documents, progress, rows
from shared.cli.called import hint
from shared.cli.command import Ids, Moment, Seconds, Whole, flat
from shared.cli.progress import encoded, ids_in_words
from shared.client import DispatcherClient
from shared.follow import Follower
from shared.protocol import DEFAULT_QUEUE, Submission
from shared.settings import load_or_exit

_FIELDS: Final = {"delay": "delay_seconds", "time_limit": "timeout_seconds", "retries": "max_retries"}

_FROM: Final = (
    "A task for each row of FILE; --payload has the fields that all share. In a .csv the header names the fields; "
    "a cell that is a number, true, false or other JSON is taken as that, an empty one is left out, the rest is "
    'text. The text 7 is a quoted JSON string: """7""". In a .jsonl each line is a payload; '
    "'-': the same on standard input."
)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("count", type=Whole(1), required=False)
@click.argument("limit", type=Whole(0, 10**12), required=False)
@click.argument("algorithm", type=click.Choice(["sieve", "trial_division"]), required=False)
@click.option("--type", "type_", metavar="T", help="Submit tasks of this type instead of prime.")
@click.option("--payload", metavar="JSON", help="Their payload, for example '{\"seconds\": 3}'.")
@click.option("--from", "source", metavar="FILE", help=_FROM)
@click.option("--priority", type=Whole(-32768, 32767), default=0, metavar="N", help="Higher goes first.")
@click.option("--delay", type=Seconds(least=0.0), help="Do not start within this (90, 5m, 2h).")
@click.option("--deadline", type=Moment(), help="Do not start after this: ISO 8601, as 2027-01-15T08:00:00Z.")
@click.option("--time-limit", type=Seconds(), help="Stop an attempt that takes longer than this.")
@click.option("--retries", type=Whole(0, 1000), metavar="N", help="Try again so often after failures.")
@click.option("--queue", default=DEFAULT_QUEUE, metavar="Q", help="For workers that serve this queue.")
@click.option("--profile", metavar="P", help="Options that the dispatcher knows by this name.")
@click.option("--limit-key", metavar="K", help="The limit of this key counts it (./baton limits).")
@click.option("--depends-on", metavar="ID", multiple=True, type=Ids(), help="Wait for this task; may be repeated.")
@click.option("--unique-key", metavar="K", help="No second task while one with this key lives.")
@click.option("--tag", "tags", multiple=True, metavar="T", help="A label; may be given several times.")
@click.option("--wait", is_flag=True, help="Show progress until all have ended, then the results.")
@click.option("--timeout", type=Seconds(), help="Wait no longer than this (90, 5m, 2h).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else.")
@click.option("--url", metavar="URL", help="The dispatcher; default from .env.")
def add_task(
    count: int | None,
    limit: int | None,
    algorithm: str | None,
    type_: str | None,
    payload: str | None,
    source: str | None,
    wait: bool,
    timeout: float | None,
    as_json: bool,
    url: str | None,
    **options: Any,
) -> None:
    """Submit COUNT tasks: the primes up to LIMIT by ALGORITHM (sieve or trial_division), or any --type."""
    template = _submission(limit, algorithm, type_, payload, source)
    submissions = _several(msgspec.structs.replace(template, **_described(options)), count, source)
    client = DispatcherClient(url or load_or_exit().dispatcher_urls)
    code = exits.OK
    with exits.exit_codes(f"interrupted; {hint('tasks list')} shows what is stored"):
        answer = _submitted(client, submissions)
    with exits.exit_codes("stopped waiting; the tasks go on"):
        ids: list[int] = answer.get("task_ids") or [answer["task_id"]]
        if warning := answer.get("warning"):
            Console(stderr=True).print(f"warning: {warning}", style="yellow", highlight=False)
        done = "lives already, nothing submitted" if answer.get("existing") else "submitted"
        _tell(f"{done}: {ids_in_words(ids)}", encoded({"task_ids": ids}) if as_json else None, wait)
        if wait:
            client.patience_seconds = progress.PATIENCE_SECONDS
            code = progress.wait(Follower(client, ids), timeout, Console(stderr=as_json), as_json)
    sys.exit(code)


def _several(template: Submission, count: int | None, source: str | None) -> list[Submission]:
    """The template so often, or with the payload of each row."""
    if source is not None and count is not None:
        raise click.UsageError("give COUNT or --from, not both: the file has a row for each task")
    if source is None:
        submissions = [template] * (count or 1)
    else:
        payloads = rows.payloads(source, msgspec.json.decode(template.payload, type=dict[str, msgspec.Raw]))
        submissions = [msgspec.structs.replace(template, payload=payload) for payload in payloads]
    if template.unique_key is not None and len(submissions) > 1:
        raise click.UsageError("with --unique-key give one task: of several only one could live")
    return submissions


def _submitted(client: DispatcherClient, submissions: list[Submission]) -> dict[str, Any]:
    """The dispatcher's answer; of many that need several requests, what is stored is told before an error is."""
    if len(submissions) == 1:
        return client.submit(submissions[0])
    client.ready()  # who is not there is told at once; who goes away between two requests may come back
    client.patience_seconds = progress.PATIENCE_SECONDS
    try:
        return client.submit_many(submissions, uuid4().hex)
    except errors.BatonError as error:
        if stored := error.details.get("stored"):
            words = f"the first {len(stored)} of {len(submissions)} are stored: {ids_in_words(stored)}"
            print(words, file=sys.stderr)
        raise


def _described(options: dict[str, Any]) -> dict[str, Any]:
    """What the options say, in the words of the protocol; a profile fills in what they do not."""
    several = {"tags": list(options.pop("tags")), "depends_on": flat(options.pop("depends_on"))}
    said = {_FIELDS.get(name, name): value for name, value in {**options, **several}.items()}
    return {name: value for name, value in said.items() if value not in (None, [])}


def _tell(words: str, json: str | None, wait: bool) -> None:
    """Which tasks these are; with --wait --json standard output is for the results."""
    if json and wait:
        print(words, file=sys.stderr)
        return
    with exits.at_least_said(words):
        print(json or words)


def _submission(
    limit: int | None, algorithm: str | None, type_: str | None, payload: str | None, source: str | None
) -> Submission:
    if type_ is None:
        if source is not None:
            raise click.UsageError("--from goes with --type")
        if limit is None:
            raise click.UsageError("give a LIMIT, for example: add_task.py 5 100000 (or a --type)")
        if payload is not None:
            raise click.UsageError("--payload goes with --type")
        body = encoded({"limit": limit, **({"algorithm": algorithm} if algorithm else {})})
        return Submission("prime", payload=msgspec.Raw(body.encode()))
    if limit is not None:
        raise click.UsageError("with --type, give COUNT and --payload only")
    if not isinstance(documents.decoded(payload or "{}", "--payload"), dict):
        raise click.UsageError("--payload must be a JSON object, for example '{\"seconds\": 3}'")
    return Submission(type_, payload=msgspec.Raw((payload or "{}").encode()))


if __name__ == "__main__":
    add_task()
