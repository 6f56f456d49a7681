"""Messages on the wire: bodies travel as bytes, clients' unknown fields are refused, workers' ignored."""

from __future__ import annotations

import msgspec
import pytest
from msgspec import Raw

from shared import protocol
from shared.protocol import Exchange, ExchangeAnswer, Grant, GrantedCheckpoint, Submission

CLIENTS = [protocol.Submission, protocol.Batch, protocol.Revival, protocol.TaskFilter, protocol.Waiting]
WORKERS = [protocol.Exchange, protocol.GetTask, protocol.Heartbeat, protocol.SubmitResults, protocol.Result]


@pytest.mark.parametrize("kind", CLIENTS)
def test_messages_of_clients_refuse_unknown_fields(kind: type[msgspec.Struct]) -> None:
    assert kind.__struct_config__.forbid_unknown_fields


@pytest.mark.parametrize("kind", [*WORKERS, protocol.Checkpoint, protocol.Holding, protocol.ExchangeAnswer])
def test_messages_of_workers_ignore_unknown_fields(kind: type[msgspec.Struct]) -> None:
    assert not kind.__struct_config__.forbid_unknown_fields


def test_an_exchange_travels_unchanged() -> None:
    text = (
        b'{"worker":{"worker_id":"w","name":"n","slots":2,"types":["prime"]},'
        b'"holding":[{"lease_id":"l","task_ids":[1,2],"running":[1]}],'
        b'"checkpoints":[{"task_id":1,"attempt":1,"lease_id":"l","seq":4,"state":{ "a": 1e400 },"output":[1]}],'
        b'"results":[{"task_id":2,"attempt":1,"lease_id":"l","outcome":"completed","result":10000000000000000000000}]}'
    )

    message = msgspec.json.decode(text, type=Exchange)

    assert bytes(message.checkpoints[0].state) == b'{ "a": 1e400 }'
    assert msgspec.json.decode(msgspec.json.encode(message), type=Exchange) == message


def test_an_answer_travels_unchanged() -> None:
    saved = GrantedCheckpoint(4, Raw(b'{"n":1}'), 0.5, 1.5, 2)
    answer = ExchangeAnswer(tasks=[Grant(1, 2, "l", 100.0, "prime", Raw(b"{}"), None, saved)], directive="drain")

    again = msgspec.json.decode(msgspec.json.encode(answer), type=ExchangeAnswer)

    assert again.tasks[0].checkpoint is not None
    assert bytes(again.tasks[0].checkpoint.state) == b'{"n":1}'
    assert msgspec.json.encode(again) == msgspec.json.encode(answer)


def test_a_submission_says_only_what_is_not_the_default() -> None:
    assert msgspec.json.encode(Submission("noop")) == b'{"type":"noop"}'


@pytest.mark.parametrize("name", ["a", "a.b-c_9", "x" * 100])
def test_a_types_name(name: str) -> None:
    assert msgspec.json.decode(msgspec.json.encode({"type": name}), type=Submission).type == name


@pytest.mark.parametrize("name", ["", "A", "a b", "é", "a\n", "x" * 101])
def test_not_a_types_name(name: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(msgspec.json.encode({"type": name}), type=Submission)
