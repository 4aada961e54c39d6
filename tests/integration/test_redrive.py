"""What is dead-lettered rests with its reason, and goes back when an operator says so."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from botocore.exceptions import EndpointConnectionError

from recourse.declare.declaration import Coordination
from recourse.events.relay import relay
from recourse.functions import kit
from recourse.queues import deadletters
from recourse.queues.deadletters import REASON, DeadletterQueue, deadletters_of
from recourse.testing.ground import LEDGER
from tests.ground import Ground, ground
from tests.integration.calling import PREFIX
from tests.integration.test_api import asha, fields, nobody, operator, problem
from tests.integration.test_operators_queues import out_of_reach
from tests.integration.trips import TRIP, must_agree, stock

NO_EVENTS = [
    "{not json",
    "[]",
    "[" * 20_000,
    '"text"',
    json.dumps({"subject": "s"}),
    json.dumps({"type": "recourse.nowhere.done", "id": "i", "subject": "s", "time": "t"}),
    json.dumps(
        {
            "type": "recourse.travel-booking.moon.done",
            "id": "i",
            "subject": "s",
            "time": "t",
            "data": {"step": "moon"},
        }
    ),
    json.dumps(
        {
            "type": "recourse.travel-booking.hotel.done",
            "id": "i",
            "subject": ["s"],
            "time": "t",
            "data": {"step": "hotel"},
        }
    ),
]
STREAM = "Relay"


@pytest.fixture
def made() -> Iterator[Ground]:
    """A ground of one's own on which the API stands, with a stream's failures besides."""
    with ground() as made, pytest.MonkeyPatch.context() as patch:
        made.sqs.create_queue(QueueName=deadletters_of(STREAM))
        kept = DeadletterQueue(made.sqs, STREAM, STREAM, why_not="it holds no events")
        patch.setattr(kit, "deadletters", lambda: made.deadletters | {STREAM: kept})
        patch.setattr(kit, "ledger", lambda: made.ledger)
        patch.setenv("SCOPE_PREFIX", PREFIX)
        stock(made)
        yield made


def redrive(name: str, **body: Any) -> dict[str, Any]:
    answer = operator("POST", f"/deadletters/{name}/redrive", body)
    assert answer.status == 200, answer
    found: dict[str, Any] = answer.json
    return found


def waiting(name: str) -> int:
    items = {one["name"]: one for one in operator("GET", "/deadletters").json["items"]}
    return int(items[name]["waiting"])


def put(made: Ground, url: str, body: str, reason: str | None = None) -> None:
    attributes: Any = {"kind": {"DataType": "String", "StringValue": "done"}}
    if reason:
        attributes[REASON] = {"DataType": "String", "StringValue": reason}
    made.sqs.send_message(QueueUrl=url, MessageBody=body, MessageAttributes=attributes)


def deaf(made: Ground, *sagas: str) -> None:
    """Let the ledger fail with these sagas until their messages are dead-lettered."""
    record_events = made.ledger.record_events

    def refuse(saga_id: str, told: Any) -> Any:
        if saga_id in sagas:
            raise ConnectionError("the table cannot be reached")
        return record_events(saga_id, told)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(made.ledger, "record_events", refuse)
        made.settle()


def trip(made: Ground, key: str, coordination: Coordination = "orchestration") -> str:
    return made.start("travel-booking", TRIP, key=key, coordination=coordination)


@pytest.mark.parametrize("name", [LEDGER, "flights-confirm", "FlightsHold"])
def test_what_is_no_event_is_dead_lettered_at_once_with_its_reason_and_the_rest_is_done(
    made: Ground, name: str
) -> None:
    for body in NO_EVENTS:
        made.sqs.send_message(QueueUrl=made.queues[name], MessageBody=body)
    saga = trip(made, "rest", "choreography")
    made.settle()
    assert must_agree(made, saga) == "SUCCEEDED"
    seen = redrive(name, dry_run=True)
    assert seen["matched"] == len(NO_EVENTS) and seen["moved"] == 0
    assert sum(one["count"] for one in seen["reasons"]) == len(NO_EVENTS)
    for one in seen["reasons"]:
        assert one["reason"].startswith(("UnreadableError: ", "UnknownSagaError: ")), one
    rest = made.dead_lettered(name)
    assert sorted(message["Body"] for message in rest) == sorted(NO_EVENTS)


def test_an_event_of_a_saga_that_the_ledger_does_not_know_is_dead_lettered_with_its_reason(
    made: Ground,
) -> None:
    told = {
        "type": "recourse.travel-booking.hotel.done",
        "id": "i",
        "subject": "nobody",
        "time": "t",
        "data": {"step": "hotel"},
    }
    made.sqs.send_message(QueueUrl=made.queues[LEDGER], MessageBody=json.dumps(told))
    made.settle()
    seen = redrive(LEDGER, dry_run=True)
    assert seen["reasons"] == [{"reason": "UnknownSagaError: nobody", "count": 1}]
    assert seen["sagas"] == [{"saga_id": "nobody", "count": 1}]


def test_what_cannot_be_dead_lettered_now_comes_again(
    made: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.sqs.send_message(QueueUrl=made.queues[LEDGER], MessageBody="{not json")

    def refuse(**_: Any) -> None:
        raise EndpointConnectionError(endpoint_url="sqs")

    with monkeypatch.context() as patch:
        patch.setattr(made.sqs, "send_message", refuse)
        assert made.deliver(LEDGER) == 1
    assert waiting(LEDGER) == 0
    made.settle()
    assert waiting(LEDGER) == 1


def test_a_step_that_was_dead_lettered_is_redriven_and_its_saga_comes_to_its_end(
    made: Ground,
) -> None:
    def broken(function: str, task: dict[str, Any], run: Callable[[], Any]) -> Any:
        if function == "HotelsHold":
            raise RuntimeError("the release is broken")
        return run()

    saga = trip(made, "dead-lettered", "choreography")
    well, made.mishap = made.mishap, broken
    made.settle()
    made.mishap = well
    assert made.view(saga)["status"] == "RUNNING"
    assert waiting("HotelsHold") == 1
    done = redrive("HotelsHold")
    assert (done["matched"], done["moved"], done["left"]) == (1, 1, 0)
    assert done["reasons"] == [{"reason": "RuntimeError: the release is broken", "count": 1}]
    assert done["sagas"] == [{"saga_id": saga, "count": 1}]
    assert waiting("HotelsHold") == 0
    made.settle()
    assert must_agree(made, saga) == "SUCCEEDED"


def test_what_its_queue_dead_lettered_is_redriven_by_saga_and_the_rest_is_left_as_it_is(
    made: Ground,
) -> None:
    one, other = trip(made, "one"), trip(made, "other")
    deaf(made, one, other)
    rested = waiting(LEDGER)
    seen = redrive(LEDGER, dry_run=True)
    counts = {saga["saga_id"]: saga["count"] for saga in seen["sagas"]}
    assert set(counts) == {one, other} and sum(counts.values()) == rested
    assert seen["reasons"] == [
        {"reason": "ConnectionError: the table cannot be reached", "count": rested}
    ]
    done = redrive(LEDGER, saga_id=one)
    assert (done["looked_at"], done["matched"], done["moved"]) == (rested, counts[one], counts[one])
    assert done["left"] == waiting(LEDGER) == counts[other]
    made.settle()
    assert must_agree(made, one) == "SUCCEEDED"
    assert made.view(other)["status"] == "RUNNING"
    # What was left is there at once, without any wait.
    assert redrive(LEDGER)["moved"] == counts[other]
    made.settle()
    assert must_agree(made, other) == "SUCCEEDED"


def test_a_dry_run_leaves_everything_as_it_was(made: Ground) -> None:
    url = deadletters_of(made.queues[LEDGER])
    for number in range(12):
        put(made, url, f"{number}", reason=f"reason {number % 2}")
    for _ in range(2):
        seen = redrive(LEDGER, dry_run=True)
        assert (seen["looked_at"], seen["matched"], seen["moved"], seen["left"]) == (12, 12, 0, 12)
        assert sorted(one["count"] for one in seen["reasons"]) == [6, 6]
        assert seen["sagas"] == [{"saga_id": None, "count": 12}]
    assert waiting(LEDGER) == 12 and made.waiting(LEDGER) == 0
    rest = made.dead_lettered(LEDGER)
    assert {message["MessageAttributes"][REASON]["StringValue"] for message in rest} == {
        "reason 0",
        "reason 1",
    }


def test_what_goes_back_is_what_was_published_without_the_old_reason(made: Ground) -> None:
    url = deadletters_of(made.queues["FlightsHold"])
    put(made, url, "plain", reason="an old reason")
    envelope = {"Type": "Notification", "TopicArn": "arn", "Message": "enveloped"}
    put(made, url, json.dumps(envelope))
    assert redrive("FlightsHold")["moved"] == 2
    got = made.sqs.receive_message(
        QueueUrl=made.queues["FlightsHold"], MaxNumberOfMessages=10, MessageAttributeNames=["All"]
    )["Messages"]
    assert sorted(message["Body"] for message in got) == ["enveloped", "plain"]
    assert all(message["MessageAttributes"].keys() == {"kind"} for message in got)


SENT: Any = {
    "reason": {"DataType": "String", "StringValue": "the sender's own"},
    "seal": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
    "weight": {"DataType": "Number.kg", "StringValue": "4.5"},
}
TEN = SENT | {f"a{n}": {"DataType": "String", "StringValue": str(n)} for n in range(7)}


@pytest.mark.parametrize("sent", [SENT, TEN], ids=["three", "ten"])
def test_all_that_a_sender_attached_comes_through_the_dead_letter_queue_and_back(
    made: Ground, sent: Any
) -> None:
    made.sqs.send_message(
        QueueUrl=made.queues[LEDGER], MessageBody="no event", MessageAttributes=sent
    )
    made.settle()
    (why,) = redrive(LEDGER, dry_run=True)["reasons"]  # which makes it visible again at once
    assert why["reason"].startswith("UnreadableError" if len(sent) < 10 else "none given")
    (lost,) = made.dead_lettered(LEDGER)
    attached = lost["MessageAttributes"]
    assert {name: attached[name] for name in sent} == sent
    assert attached.keys() - sent.keys() == ({REASON} if len(sent) < 10 else set())
    made.sqs.change_message_visibility(
        QueueUrl=deadletters_of(made.queues[LEDGER]),
        ReceiptHandle=lost["ReceiptHandle"],
        VisibilityTimeout=0,
    )
    assert redrive(LEDGER)["moved"] == 1
    (got,) = made.sqs.receive_message(QueueUrl=made.queues[LEDGER], MessageAttributeNames=["All"])[
        "Messages"
    ]
    assert got["MessageAttributes"] == sent


def test_what_sns_has_dead_lettered_goes_back_with_the_attributes_in_its_envelope(
    made: Ground,
) -> None:
    envelope = {
        "Type": "Notification",
        "TopicArn": "arn",
        "Message": "enveloped",
        "MessageAttributes": {
            "kind": {"Type": "String", "Value": "done"},
            "seal": {"Type": "Binary", "Value": "AP8="},
        },
    }
    url = deadletters_of(made.queues["FlightsHold"])
    made.sqs.send_message(QueueUrl=url, MessageBody=json.dumps(envelope))
    redrive("FlightsHold")
    (got,) = made.sqs.receive_message(
        QueueUrl=made.queues["FlightsHold"], MessageAttributeNames=["All"]
    )["Messages"]
    assert got["MessageAttributes"] == {
        "kind": {"DataType": "String", "StringValue": "done"},
        "seal": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
    }


def test_the_reason_of_a_message_that_was_dead_lettered_before_is_shown(made: Ground) -> None:
    """It was called `reason`, and may be the sender's: so it goes back with the message."""
    old = {"reason": {"DataType": "String", "StringValue": "UnreadableError: old"}}
    url = deadletters_of(made.queues[LEDGER])
    made.sqs.send_message(QueueUrl=url, MessageBody="x", MessageAttributes=cast("Any", old))
    assert redrive(LEDGER, dry_run=True)["reasons"] == [
        {"reason": "UnreadableError: old", "count": 1}
    ]


def test_one_pass_is_bounded_and_the_next_goes_on(
    made: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadletters, "MAX_REDRIVE", 15)
    url = deadletters_of(made.queues[LEDGER])
    for number in range(20):
        put(made, url, str(number))
    done = redrive(LEDGER)
    assert (done["looked_at"], done["moved"], done["left"]) == (15, 15, 5)
    done = redrive(LEDGER)
    assert (done["moved"], done["left"]) == (5, 0)
    monkeypatch.setattr(deadletters, "MAX_SECONDS", 0)
    put(made, url, "late")
    assert redrive(LEDGER)["looked_at"] == 0


def test_what_comes_back_at_once_is_not_moved_twice_in_one_pass(
    made: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = deadletters_of(made.queues[LEDGER])
    for number in range(3):
        put(made, url, str(number))
    send = made.sqs.send_message

    def comes_back(*, QueueUrl: str, **sent: Any) -> None:
        send(QueueUrl=url, **sent)

    with monkeypatch.context() as patch:
        patch.setattr(made.sqs, "send_message", comes_back)
        assert redrive(LEDGER)["moved"] == 3
    assert sorted(one["Body"] for one in made.dead_lettered(LEDGER)) == ["0", "1", "2"]


def test_a_message_that_could_not_be_sent_is_not_deleted(
    made: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(made, deadletters_of(made.queues[LEDGER]), "precious")

    def refuse(**_: Any) -> None:
        raise EndpointConnectionError(endpoint_url="sqs")

    with monkeypatch.context() as patch:
        patch.setattr(made.sqs, "send_message", refuse)
        problem(operator("POST", f"/deadletters/{LEDGER}/redrive", {}), 503, "try-again")
    assert redrive(LEDGER)["moved"] == 1


def test_every_queue_is_shown_with_where_it_redrives_to_or_why_not(made: Ground) -> None:
    answer = operator("GET", "/deadletters")
    assert answer.status == 200 and answer.json["cursor"] is None
    items = {one["name"]: one for one in answer.json["items"]}
    assert items.keys() == {*made.queues, STREAM}
    assert items[LEDGER] == {
        "name": LEDGER,
        "waiting": 0,
        "redrives_to": LEDGER,
        "why_not": None,
    }
    assert items[STREAM]["redrives_to"] is None
    assert items[STREAM]["why_not"] == "it holds no events"


@pytest.mark.parametrize("why", ["AccessDenied", "AWS.SimpleQueueService.NonExistentQueue"])
def test_a_queue_that_is_out_of_reach_is_shown_without_a_number_and_redriven_later(
    made: Ground, why: str
) -> None:
    put(made, deadletters_of(made.queues["FlightsHold"]), "precious")
    for name in (LEDGER, "FlightsHold"):  # as if the process had found neither before
        made.deadletters[name] = DeadletterQueue(made.sqs, name, name)
    with out_of_reach(made, deadletters_of(LEDGER), why):
        items = {one["name"]: one for one in operator("GET", "/deadletters").json["items"]}
        assert (items[LEDGER]["waiting"], items["FlightsHold"]["waiting"]) == (None, 1)
        for body in ({}, {"dry_run": True}):
            answer = operator("POST", f"/deadletters/{LEDGER}/redrive", body)
            assert f"{LEDGER} is out of reach" in problem(answer, 503, "try-again")["detail"]
        with out_of_reach(made, "FlightsHold", why):  # its source queue is
            problem(operator("POST", "/deadletters/FlightsHold/redrive", {}), 503, "try-again")
    assert redrive("FlightsHold")["moved"] == 1
    items = {one["name"]: one for one in operator("GET", "/deadletters").json["items"]}
    assert items[LEDGER]["waiting"] == 0


def test_what_cannot_be_redriven_is_a_409_and_what_there_is_not_a_404(made: Ground) -> None:
    for body in ({}, {"dry_run": True}):
        refused = problem(
            operator("POST", f"/deadletters/{STREAM}/redrive", body), 409, "not-redrivable"
        )
        assert "it holds no events" in refused["detail"]
        problem(operator("POST", "/deadletters/nowhere/redrive", body), 404, "not-found")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"saga_id": 1}, "saga_id"),
        ({"saga_id": ""}, "saga_id"),
        ({"dry_run": "yes"}, "dry_run"),
        ({"dry_run": None}, "dry_run"),
        ({"all": True}, "all"),
    ],
)
def test_a_wrong_body_is_a_422_that_names_the_field(
    made: Ground, body: dict[str, Any], field: str
) -> None:
    assert fields(operator("POST", f"/deadletters/{LEDGER}/redrive", body)) == {field}


def test_only_an_operator_sees_and_redrives(made: Ground) -> None:
    for method, path in (("GET", "/deadletters"), ("POST", f"/deadletters/{LEDGER}/redrive")):
        problem(asha(method, path, {}), 403, "forbidden")
        problem(nobody(method, path, {}), 401, "unauthorized")


def test_events_that_the_stream_gave_up_are_relayed_again_from_the_outbox(made: Ground) -> None:
    """The way of docs/operations.md: a table's outbox rows, as they are, to the relay."""
    saga = trip(made, "lost")
    made.stream.fetch()
    made.settle()
    assert made.view(saga)["status"] == "RUNNING"
    for table in (*made.services, LEDGER):
        rows = made.dynamodb.scan(
            TableName=table,
            FilterExpression="begins_with(pk, :outbox) AND expires_at >= :since",
            ExpressionAttributeValues={":outbox": {"S": "outbox#"}, ":since": {"N": "0"}},
        )["Items"]
        records = [{"eventName": "INSERT", "dynamodb": {"NewImage": row}} for row in rows]
        relay(made.sns, made.topic, records, made.lose_record)
    made.settle()
    assert must_agree(made, saga) == "SUCCEEDED"
