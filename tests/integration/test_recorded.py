"""What the commit before has written is read by this one, and this one writes the same.

Rows, messages and events are those of `tests/recorded`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from recourse.events.relay import relay
from recourse.feed.feed import cursor_of
from recourse.feed.live import frame
from recourse.functions import feed as feed_function
from recourse.ledger.record import Record
from recourse.store.items import encode_item
from recourse.testing.ground import LEDGER
from tests.feeding import TABLE, Feeding
from tests.ground import Ground
from tests.integration.test_every_saga import supply
from tests.recorded import LOOKUP_FAILED, Recorded, load

RECORDED = load()
BY_FAULT = ("done", "refused", "given up", "parked in its undo", "parked after its pivot")
"""What happens again when the same is asked for."""
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|\+00:00)")

_NUMBER = re.compile(r"\bINV-(\d{8})-[0-9A-F]{8}\b(?!-)")
"""An invoice's number until 2026-11, which had but the first digits of the saga's id."""

each = pytest.mark.parametrize("one", RECORDED, ids=lambda one: one.name)
each_by_fault = pytest.mark.parametrize(
    "one",
    [one for one in RECORDED if one.name.partition(": ")[2] in BY_FAULT],
    ids=lambda one: one.name,
)


@pytest.fixture(scope="module")
def feeding(bare: Ground) -> Feeding:
    made = Feeding(bare)
    supply(bare)
    return made


@pytest.fixture
def place(bare: Ground, feeding: Feeding) -> Iterator[Ground]:
    """A ground where nothing is under way."""
    ground = bare
    yield ground
    ground.stream.fetch()
    for queue in ground._backend.values():
        queue._messages.clear()
    ground.forget()
    ids = {one.saga_id for one in RECORDED} | {LOOKUP_FAILED["row"]["pk"]}
    for table in ground._tables.values():
        for key in [key for key in table.items if ids & set(re.split("[#.]", key.value))]:
            del table.items[key]
    ground._tables[TABLE].items.clear()


@pytest.fixture
def published(place: Ground) -> Iterator[list[tuple[str, dict[str, str]]]]:
    """The messages, and their attributes, that are published from now on."""
    found: list[tuple[str, dict[str, str]]] = []

    def keep(params: dict[str, Any], **_: Any) -> None:
        for entry in params["PublishBatchRequestEntries"]:
            named = {n: one["StringValue"] for n, one in entry["MessageAttributes"].items()}
            found.append((entry["Message"], named))

    place.sns.meta.events.register("provide-client-params.sns.PublishBatch", keep)
    yield found
    place.sns.meta.events.unregister("provide-client-params.sns.PublishBatch", keep)


def put(ground: Ground, table: str, row: Mapping[str, Any]) -> None:
    ground.dynamodb.put_item(TableName=table, Item=encode_item(dict(row)))


def inserted(row: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a new row in the stream of its table."""
    return {"eventName": "INSERT", "dynamodb": {"NewImage": encode_item(dict(row))}}


def take(ground: Ground, queue: str, text: str) -> None:
    """Have a message taken off a queue, once."""
    ground.sqs.send_message(QueueUrl=ground.queues[queue], MessageBody=text)
    assert ground.deliver(queue)
    assert not ground.dead_lettered(queue)


def never(record: Mapping[str, Any], why: str) -> None:
    raise AssertionError(f"dead-lettered: {why}")


def timeless(value: Any) -> Any:
    """It without its moments, which are never the same."""
    return json.loads(_MOMENT.sub("…", json.dumps(value)))


def renumbered(one: Recorded, value: Any) -> Any:
    """It with the number that the saga's invoice gets when it is issued today."""
    saga = re.sub(r"(?<=.)(?=(.{8})+$)", "-", one.saga_id.upper())
    return json.loads(_NUMBER.sub(rf"INV-\1-{saga}", json.dumps(value)))


def as_then(view: Mapping[str, Any]) -> dict[str, Any]:
    """A saga as the API showed it before it said which steps wait for an operator."""
    return {name: value for name, value in view.items() if name != "stuck"}


def by_id(texts: list[str]) -> dict[str, Any]:
    found = [timeless(json.loads(text)) for text in texts]
    return {event["id"]: event for event in found}


@each
def test_a_row_of_the_ledger_is_shown_as_it_was(one: Recorded, place: Ground) -> None:
    assert len(one.rows) > 1
    for row, view in zip(one.rows, one.views, strict=True):
        put(place, LEDGER, row)
        assert as_then(place.view(one.saga_id)) == view


def since(place: Ground, saga_id: str, row: dict[str, Any]) -> dict[str, Any]:
    """What is written otherwise than when it was recorded: that it waits for an operator."""
    record = place.ledger.get(saga_id)
    assert record is not None
    if record.status != "RUNNING" or not place.ledger.is_parked(record):
        return {}
    return {"listed_status": row["listed_status"].replace("RUNNING", "PARKED")}


@each
def test_a_row_of_the_ledger_is_written_back_as_it_was(one: Recorded, place: Ground) -> None:
    for row in one.rows:
        put(place, LEDGER, row)
        place.ledger.put_off(one.saga_id, not_before="2026-11-24T12:00:00.000Z")
        changed = {"version": row["version"] + 1, "not_before": "2026-11-24T12:00:00.000Z"}
        changed |= since(place, one.saga_id, row)
        assert place.row(LEDGER, one.saga_id) == row | changed
        # To the last byte: what a client has seen is what it sees again.
        assert json.dumps(place.row(LEDGER, one.saga_id)) == json.dumps(row | changed)


@each
def test_the_ledger_takes_its_messages(one: Recorded, place: Ground) -> None:
    first, last = one.rows[0], one.rows[-1]
    put(place, LEDGER, last | {name: first[name] for name in ("entered", "waiting", "status")})
    for queue, index in one.taken:
        if queue == LEDGER:
            take(place, LEDGER, one.published[index][0])
            assert not place.waiting(LEDGER)
    # When it ended is when the ledger heard of it.
    assert as_then(place.view(one.saga_id)) | {"ended_at": None} == one.views[-1] | {
        "ended_at": None
    }
    row = place.row(LEDGER, one.saga_id)
    assert row is not None and not row["waiting"]
    assert by_id([json.dumps(event | {"sequence": 0}) for event in row["entered"]]) == by_id(
        [json.dumps(event | {"sequence": 0}) for event in last["entered"]]
    )


@each
def test_a_consumer_takes_its_messages(one: Recorded, place: Ground) -> None:
    put(place, LEDGER, one.rows[0])
    for queue, index in one.taken:
        if queue != LEDGER:
            take(place, queue, one.published[index][0])
            place.lose(queue)


@each_by_fault
def test_what_was_started_comes_to_the_same_and_says_the_same(
    one: Recorded, place: Ground, published: list[tuple[str, dict[str, str]]]
) -> None:
    put(place, LEDGER, one.rows[0])
    record = place.ledger.get(one.saga_id)
    assert record is not None
    put(place, LEDGER, next(row for row in one.outbox if row["pk"].endswith(".started")))
    place.runs.start(record)
    place.settle()
    first_at_rest = next(
        (row, view)
        for row, view in zip(one.rows[1:], one.views[1:], strict=True)
        if not row["waiting"]
    )
    assert timeless(as_then(place.view(one.saga_id))) == timeless(renumbered(one, first_at_rest[1]))
    recorded = renumbered(one, by_id([text for text, _ in one.published]))
    told = by_id([text for text, _ in published])
    assert told == {event: recorded[event] for event in told}
    assert len(told) == sum(event["data"].get("run", 0) == 0 for event in recorded.values())


@each
def test_the_relay_publishes_its_rows(
    one: Recorded, place: Ground, published: list[tuple[str, dict[str, str]]]
) -> None:
    records = [inserted(row) for row in one.outbox]
    assert relay(place.sns, place.topic, records, never) == len(records)
    named = dict((text, named) for text, named in one.published)
    assert published == [(row["event"], named[row["event"]]) for row in one.outbox]


@each
def test_the_feed_shows_its_rows(one: Recorded, place: Ground, feeding: Feeding) -> None:
    for row in one.feed:
        put(place, TABLE, row)
    entries = feeding.feed.read(one.owner, 0)
    assert [frame(one.owner, entry) for entry in entries] == [
        f"id: {cursor_of(one.owner, row['position'])}\ndata: {row['event']}\n\n"
        for row in one.feed[1:]
    ]
    named = [inserted(row) for row in one.feed[1:]]
    assert relay(place.sns, feeding.topic, named, never) == len(one.feed) - 1


@each
def test_the_ledger_feeds_what_it_fed(one: Recorded, place: Ground, feeding: Feeding) -> None:
    record = inserted(one.rows[-1])
    assert feed_function.handle_batch(feeding.feed, [record], never) == len(one.feed) - 1
    fed = feeding.feed._rows(one.owner, 1, 1000)
    assert [(row["position"], row["event"]) for row in fed] == [
        (row["position"], row["event"]) for row in one.feed[1:]
    ]


@each
def test_the_sweeper_tells_again_what_was_told(
    one: Recorded, place: Ground, published: list[tuple[str, dict[str, str]]]
) -> None:
    put(place, LEDGER, one.rows[-1])
    for row in one.outbox:
        put(place, LEDGER, row)
    place.stream.fetch()
    record = place.ledger.get(one.saga_id)
    assert record is not None
    found = place.sweeper.markers.read(record).events()
    again = place.ledger.republish(one.saga_id, found, at=record.started_at)
    assert again.entered == record.entered
    while place.relay():
        pass
    told = {text for text, _ in published}
    assert told and told <= {row["event"] for row in one.outbox}


def test_a_recovery_that_ended_under_the_former_name_of_a_failed_lookup_is_followed_by_another(
    place: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, row = LOOKUP_FAILED["execution"], LOOKUP_FAILED["row"]
    put(place, LEDGER, row)
    for table, rows in LOOKUP_FAILED["rows"].items():
        for one in rows:
            put(place, table, one)
    place.stream.fetch()
    later = datetime.fromisoformat(row["started_at"]).timestamp() + 3600
    sweeper = replace(place.sweeper, clock=lambda: later)
    assert run["error"] == "Blind"
    assert sweeper.handle_run_end(run["name"], run["status"], run["error"]) == {}, "not at once"
    assert place.ledger.get(row["pk"]) == Record.from_row(row)
    described = place.sfn.describe_execution

    def describe(executionArn: str) -> Any:
        return run if executionArn.endswith(run["name"]) else described(executionArn=executionArn)

    monkeypatch.setattr(place.sfn, "describe_execution", describe)
    assert sweeper.sweep() == {row["pk"]: "run 1 ended FAILED (Blind): recovery 2"}
    place.settle()
    assert place.view(row["pk"])["status"] == "COMPENSATED"
