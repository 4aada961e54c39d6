"""Every consumer and every subscriber, on what is told of every saga: each hears, once, and safely.

A consumer needs nothing here but its file.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from lambdas.consumers import consumers
from lambdas.subscribers import subscribers
from recourse.errors import PoisonError
from recourse.feed.feed import Feed
from recourse.functions import kit
from recourse.queues.consumer import Consumer, Declaration
from recourse.queues.message import Message
from recourse.testing.ground import LEDGER
from recourse.testing.handlers import ACCOUNT
from statemachines import SAGAS
from tests import feeding
from tests.ground import Ground
from tests.integration.test_every_saga import start, supply

pytestmark = pytest.mark.of_all
EVERY: dict[str, Declaration] = {**consumers(), **subscribers()}
TABLES = {"ledger": LEDGER, "feed": feeding.TABLE}
TIME = SimpleNamespace(get_remaining_time_in_millis=lambda: 30_000)

each = pytest.mark.parametrize("module", EVERY)


@pytest.fixture(scope="module")
def heard(bare: Ground) -> dict[str, list[dict[str, Any]]]:
    """What each hears of every saga that succeeded, was undone, and could not be undone.

    As SQS has it, by module; a subscriber is told the same by SNS.
    """
    supply(bare)
    fed = feeding.Feeding(bare)
    queues = {module: fed.subscribe(one.name, one.hears) for module, one in EVERY.items()}
    for saga in SAGAS.values():
        start(bare, saga, {}, "orchestration")
        start(bare, saga, {saga.pivot.name: "reject"}, "orchestration")
        for step in [step for step in saga.all if step.undo][:1]:
            faults = {saga.pivot.name: "reject", f"{step.name}.undo": "error"}
            start(bare, saga, faults, "orchestration")
    bare.settle()
    while fed.settle():
        pass
    return {module: list(received(bare, url)) for module, url in queues.items()}


def received(ground: Ground, url: str) -> Iterator[dict[str, Any]]:
    """Every message of a queue, as Lambda gets it."""
    while got := ground.sqs.receive_message(
        QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
    ).get("Messages"):
        for one in got:
            yield {
                "messageId": one["MessageId"],
                "receiptHandle": one["ReceiptHandle"],
                "body": one["Body"],
                "attributes": {"ApproximateReceiveCount": "1"},
                "messageAttributes": {
                    name: {"stringValue": value["StringValue"]}
                    for name, value in one["MessageAttributes"].items()
                },
                "eventSourceARN": f"arn:aws:sqs:us-east-1:{ACCOUNT}:any",
            }


@pytest.fixture
def listening(
    bare: Ground, module: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[ModuleType, Mapping[str, str]]]:
    """A consumer's module as its function has it, and its tables."""
    declared = EVERY[module]
    tables = TABLES | {"table": declared.name}
    if "table" in declared.may and declared.name not in bare._tables:
        bare._table(declared.name)
    for what in declared.may:
        monkeypatch.setenv(declared.variable(what), tables.get(what, ""))
    monkeypatch.setattr(kit, "known", lambda: SAGAS)
    monkeypatch.setattr(kit, "dynamodb", lambda: bare.dynamodb)
    monkeypatch.setattr(kit, "ledger", lambda: bare.ledger)
    monkeypatch.setattr(kit, "feed", lambda: Feed(bare.dynamodb, feeding.TABLE))
    monkeypatch.setattr(kit, "queue", bare._source)
    found = import_module(module)
    made = [one for one in vars(found).values() if hasattr(one, "cache_clear")]
    for one in made:
        one.cache_clear()
    yield found, tables
    for one in made:
        one.cache_clear()


def deliver(module: ModuleType, declared: Declaration, records: list[dict[str, Any]]) -> None:
    """Have a function take messages; none of them may fail."""
    if isinstance(declared, Consumer):
        answer = module.handler({"Records": records}, TIME)
        assert answer == {"batchItemFailures": []}
        return
    for record in records:
        module.handler({"Records": [{"Sns": {"Message": record["body"]}}]}, TIME)


def used(params: Mapping[str, Any], operation: str) -> Iterator[tuple[str, str]]:
    """The tables that a call of DynamoDB uses, and the actions that it has to be allowed there."""
    if operation == "TransactWriteItems":
        kinds = {"Put": "PutItem", "Update": "UpdateItem", "Delete": "DeleteItem"}
        for item in params["TransactItems"]:
            ((kind, write),) = item.items()
            yield write["TableName"], f"dynamodb:{kinds.get(kind, 'ConditionCheckItem')}"
    else:
        for table in params.get("RequestItems", [params.get("TableName")]):
            yield table, f"dynamodb:{operation}"


@each
def test_each_hears_something(heard: dict[str, list[dict[str, Any]]], module: str) -> None:
    assert heard[module], "what it hears is never told of any saga"


@each
def test_what_comes_again_is_done_once(
    bare: Ground,
    heard: dict[str, list[dict[str, Any]]],
    module: str,
    listening: tuple[ModuleType, Mapping[str, str]],
) -> None:
    found, declared = listening[0], EVERY[module]
    deliver(found, declared, heard[module])
    rows = bare.rows(declared.name, "") if "table" in declared.may else []
    assert rows or "table" not in declared.may, "it keeps nothing in its table"
    deliver(found, declared, heard[module])
    if isinstance(declared, Consumer):
        for record in heard[module]:
            found.handle(Message.of(record))
    if rows:
        assert bare.rows(declared.name, "") == rows


@each
def test_each_does_no_more_than_it_says(
    bare: Ground,
    heard: dict[str, list[dict[str, Any]]],
    module: str,
    listening: tuple[ModuleType, Mapping[str, str]],
) -> None:
    found, tables = listening
    declared = EVERY[module]
    calls: set[tuple[str, str]] = set()

    def note(params: Mapping[str, Any], model: Any, **_: Any) -> None:
        calls.update(used(params, model.name))

    if "table" in declared.may:
        bare._tables[declared.name].items.clear()
    events = bare.dynamodb.meta.events
    events.register("provide-client-params.dynamodb", note)
    try:
        deliver(found, declared, heard[module])
    finally:
        events.unregister("provide-client-params.dynamodb", note)
    allowed = {
        (tables[what], action)
        for what, actions in declared.may.items()
        if what in tables
        for action in actions
    }
    assert calls <= allowed


@pytest.mark.parametrize("body", ["", "{", "[]", '{"type": 1}', "[" * 100_000])
@pytest.mark.parametrize("module", consumers())
def test_what_is_no_event_is_poison(
    module: str, body: str, listening: tuple[ModuleType, Mapping[str, str]]
) -> None:
    with pytest.raises(PoisonError):
        listening[0].handle(Message("m", body, {}, None, 1))


def test_none_loads_the_cdk_or_a_validator() -> None:
    """They would be paid for at every cold start."""
    code = f"""
import sys
for module in {list(EVERY)}:
    __import__(module)
print([one for one in ("aws_cdk", "pydantic", "fpdf") if one in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr
