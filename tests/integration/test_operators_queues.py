"""Nobody is asked about a saga at rest: what operators' queues hold of it is taken out."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, get_args

import pytest
from botocore.exceptions import ClientError

from recourse.declare.declaration import Coordination
from recourse.queues.deadletters import OperatorQueue, check_empty, deadletters_of
from recourse.queues.reach import AT_A_STRETCH, DEPLOY_TIME, Reach
from recourse.testing.ground import LEDGER, PARKED
from tests.events import event
from tests.ground import Ground, ground
from tests.integration.trips import TRIP, must_agree, stock

DAY = 24 * 3600
keys = itertools.count()
each_coordination = pytest.mark.parametrize("coordination", get_args(Coordination))


def start(made: Ground, coordination: Coordination, **faults: str) -> str:
    named = {name.replace("__", "."): fault for name, fault in faults.items()}
    return made.start(
        "travel-booking", TRIP, key=f"{next(keys)}", faults=named, coordination=coordination
    )


def resting(made: Ground, name: str) -> list[str]:
    """What a queue of operators holds, and shows again at once."""
    url = made.sqs.get_queue_url(QueueName=name)["QueueUrl"]
    got = made.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=0)
    return sorted(one["Body"] for one in got.get("Messages", []))


def put(made: Ground, name: str, body: str) -> None:
    url = made.sqs.get_queue_url(QueueName=name)["QueueUrl"]
    made.sqs.send_message(QueueUrl=url, MessageBody=body)


def subjects(bodies: list[str]) -> set[str]:
    return {json.loads(body)["subject"] for body in bodies}


@pytest.fixture
def own() -> Iterator[Ground]:
    """A ground of one's own, whose sweeper has the operators' queues."""
    with ground() as made:
        stock(made)
        made.sweeper.queues = made.operators_queues
        yield made


@each_coordination
def test_a_notice_of_a_parked_saga_is_gone_within_a_round_when_it_is_at_rest(
    own: Ground, coordination: Coordination
) -> None:
    parked, resolved = (
        start(own, coordination, capture="reject", payment__undo="reject:4") for _ in range(2)
    )
    own.settle()
    assert subjects(resting(own, PARKED)) == {parked, resolved}
    own.sweep()
    assert subjects(resting(own, PARKED)) == {parked, resolved}, "both need an operator"
    own.resolve(resolved, "payment", skip=False)
    own.settle()
    assert must_agree(own, resolved) == "COMPENSATED"
    own.sweep()
    assert subjects(resting(own, PARKED)) == {parked}


def test_only_what_is_about_a_saga_at_rest_is_taken_out_of_operators_queues(own: Ground) -> None:
    over, running = start(own, "orchestration"), start(own, "choreography")
    own.deliver("FlightsHold")
    while own.view(over)["status"] != "SUCCEEDED":
        own.relay()
        own.deliver(LEDGER)
    hold = event(over, "travel-booking", "done", step="flight")
    envelope = {"Type": "Notification", "TopicArn": "arn", "Message": hold.to_json()}
    stays = [
        "{not json",
        json.dumps({"subject": over}),
        json.dumps({"subject": over, "type": "recourse.nowhere.done"}),
        event(running, "travel-booking", "done", step="flight").to_json(),
        event("nobody", "travel-booking", "done", step="flight").to_json(),
        json.dumps({"detail": {"name": running}}),
        json.dumps({"detail": {}}),
    ]
    goes = [hold.to_json(), json.dumps(envelope), json.dumps({"detail": {"name": f"{over}-r1"}})]
    places = [deadletters_of(name) for name in (LEDGER, "FlightsHold", PARKED)]
    for place in places:
        for body in (*stays, *goes):
            put(own, place, body)
    kept = deadletters_of("flights-confirm")
    put(own, kept, goes[0])
    own.sweep()
    for place in places:
        assert resting(own, place) == sorted(stays)
    assert resting(own, kept) == [goes[0]], "a hold that is still to be confirmed"


def test_a_queue_that_cannot_be_cleared_keeps_no_saga_from_being_looked_after(
    own: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    saga_id = own.start("travel-booking", TRIP, key="late-start", run=False)
    put(own, PARKED, "{not json")
    own.clock.sleep(61)

    def refuse(**_: Any) -> None:
        raise ConnectionError("no queue")

    with monkeypatch.context() as patch:
        patch.setattr(own.sqs, "receive_message", refuse)
        with pytest.raises(ExceptionGroup):
            own.sweep()
    own.settle()
    assert must_agree(own, saga_id) == "SUCCEEDED"


@contextmanager
def out_of_reach(made: Ground, name: str, why: str) -> Iterator[None]:
    """A queue cannot be found, or may not be used, as long as the block lasts."""
    find = made.sqs.get_queue_url

    def found(QueueName: str) -> Any:
        if QueueName == name:
            raise ClientError({"Error": {"Code": why, "Message": QueueName}}, "GetQueueUrl")
        return find(QueueName=QueueName)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(made.sqs, "get_queue_url", found)
        yield


def restart(made: Ground) -> None:
    """A new process, which remembers nothing."""
    made.operators_queues = [OperatorQueue(made.sqs, one.own) for one in made.operators_queues]
    made.sweeper.queues = made.operators_queues
    made.sweeper.reach = Reach(made.dynamodb, LEDGER, lambda *one: made.passed_over.append(one))


@pytest.mark.parametrize("why", ["AccessDenied", "AWS.SimpleQueueService.NonExistentQueue"])
def test_a_queue_that_a_deploy_keeps_out_of_reach_is_an_error_when_it_stays_so(
    own: Ground, why: str
) -> None:
    """Though each look is a process of its own, as short as Lambda likes."""
    saga_id = start(own, "orchestration", capture="reject", payment__undo="reject:4")
    own.settle()
    own.resolve(saga_id, "payment", skip=False)
    own.settle()
    name = own.operators_queues[-1].own
    began = own.clock.seconds()

    def watch() -> None:
        check_empty(own.operators_queues[-1:], own.sweeper.reach, own.clock.seconds())

    with out_of_reach(own, name, why):
        for pause in (0, *[AT_A_STRETCH - 60] * 2):
            own.clock.sleep(pause)
            restart(own)
            own.sweep()
            watch()
        assert resting(own, PARKED) == [], "the others are gone through"
        own.clock.sleep(DEPLOY_TIME - 2 * (AT_A_STRETCH - 60) + 1)
        restart(own)
        with pytest.raises(ExceptionGroup, match="could not be checked"):
            own.sweep()
        with pytest.raises(ClientError, match=name):
            watch()
    assert own.passed_over == [(name, datetime.fromtimestamp(int(began), UTC))], "told once"
    restart(own)
    own.sweep()
    watch()


def test_the_next_deploy_has_its_own_hour_and_is_told_of_as_well(own: Ground) -> None:
    name = own.operators_queues[-1].own
    for _ in range(3):
        with out_of_reach(own, name, "AccessDenied"):
            own.sweep()
        own.clock.sleep(AT_A_STRETCH + 1)
    assert [one for one, _ in own.passed_over] == [name] * 3


def test_another_failure_is_an_error_at_once_and_begins_no_hour(own: Ground) -> None:
    name = own.operators_queues[-1].own
    with out_of_reach(own, name, "ThrottlingException"), pytest.raises(ExceptionGroup):
        own.sweep()
    assert own.passed_over == [] and own.rows(LEDGER, "unreached#") == []


@each_coordination
def test_a_notice_of_a_saga_that_waits_for_an_operator_outlives_what_sqs_keeps(
    own: Ground, coordination: Coordination
) -> None:
    """SQS drops a message after 14 days; a saga waits for as long as it takes."""
    saga_id = start(own, coordination, capture="reject", payment__undo="reject")
    own.settle()
    put(own, PARKED, "of no saga")
    before = resting(own, PARKED)
    sent = sent_at(own, PARKED)
    for days in (6, 8, 8):
        own.clock.sleep(days * DAY)
        own.sweep()
        assert resting(own, PARKED) == before
    now = sent_at(own, PARKED)
    assert now.pop("of no saga") == sent.pop("of no saga"), "nobody knows when to let go of it"
    assert all(now[body] - sent[body] >= 14 * DAY * 1000 for body in sent) and sent
    assert notice(own)["MessageAttributes"]["outcome"]["StringValue"] == "parked"
    own.resolve(saga_id, "payment", skip=True)
    own.settle()
    own.sweep()
    assert resting(own, PARKED) == ["of no saga"]


def sent_at(made: Ground, name: str) -> dict[str, int]:
    """When each message of a queue was sent, in milliseconds, by its body."""
    return {one.body: int(one.sent_timestamp) for one in made._backend[name]._messages}


def notice(made: Ground) -> dict[str, Any]:
    url = made.sqs.get_queue_url(QueueName=PARKED)["QueueUrl"]
    asked: Any = {"MessageAttributeNames": ["All"], "VisibilityTimeout": 0}
    got = made.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, **asked)["Messages"]
    found: list[dict[str, Any]] = [one for one in got if one["Body"] != "of no saga"]
    (only,) = found
    return only
