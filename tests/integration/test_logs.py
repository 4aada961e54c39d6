"""Each line of a function's log about a saga has its id, its trace, the step and the attempt."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest

from recourse.errors import PoisonError
from recourse.functions import batch, park, step
from recourse.queues.sources import SourceQueue
from recourse.testing.ground import LEDGER
from tests import logs
from tests.ground import Ground, ground
from tests.integration.trips import TRIP, stock
from tests.logs import SENT, Lines


@pytest.fixture(scope="module")
def shared() -> Iterator[Ground]:
    with ground() as made:
        stock(made)
        yield made


@pytest.fixture
def lines() -> Iterator[Lines]:
    with logs.lines() as found:
        yield found


def must_name(lines: Lines, saga: str) -> None:
    """Every line is about a saga, its trace, a step and an attempt, and tells no request."""
    assert lines.said
    for line in lines.said:
        assert line["saga_id"] == saga, line
        assert line["trace_id"] == SENT.trace_id, line
        assert line["step"] and line["attempt"] >= 1, line
        assert line["saga"] == "travel-booking", line
        for text in (TRIP["traveller"]["email"], TRIP["traveller"]["name"], "acct-asha"):
            assert text not in json.dumps(line), line


def logged(_: str, task: dict[str, Any], run: Any) -> Any:
    """A call of a step as its function makes it."""
    runner = mock.Mock(run=lambda _: run())
    return step.run(runner, task)


@pytest.mark.parametrize("coordination", ["orchestration", "choreography"])
@pytest.mark.parametrize("faults", [{}, {"payment": "reject", "flight.undo": "error:1"}])
def test_what_steps_and_consumers_log_names_saga_step_attempt_and_trace(
    shared: Ground,
    lines: Lines,
    monkeypatch: pytest.MonkeyPatch,
    coordination: Any,
    faults: dict[str, str],
) -> None:
    monkeypatch.setattr(step, "metrics", mock.Mock())
    monkeypatch.setattr(shared, "mishap", logged)
    key = f"{coordination} {faults}"
    saga = shared.start(
        "travel-booking", TRIP, key=key, coordination=coordination, faults=faults, trace=SENT
    )
    shared.settle()
    must_name(lines, saga)
    steps = {(line["step"], line.get("phase")) for line in lines.said}
    assert ("payment", "action") in steps
    if faults:
        attempts = {
            one["attempt"]
            for one in lines.said
            if (one["step"], one.get("phase")) == ("flight", "undo")
        }
        assert attempts == {1, 2}, "the first one failed"
    else:
        assert any(line["text"] == "confirmed" for line in lines.said)


def test_what_is_parked_is_named(
    shared: Ground, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    saga = shared.start("travel-booking", TRIP, key="parked", run=False, trace=SENT)
    record = shared.ledger.get(saga)
    assert record is not None
    given = record.input(shared.sagas["travel-booking"])
    stuck = {"Error": "OopsError", "Cause": json.dumps({"errorMessage": "it hangs"})}
    monkeypatch.setenv("LEDGER_TABLE", LEDGER)
    monkeypatch.setattr(park, "metrics", mock.Mock())
    park.handler({"saga": given["saga"], "parked": {"invoice": stuck}, "failure": {}}, None)
    must_name(lines, saga)
    assert [line["step"] for line in lines.said] == ["invoice"]


def test_what_a_consumer_fails_at_and_dead_letters_is_named(shared: Ground, lines: Lines) -> None:
    saga = shared.start("travel-booking", TRIP, key="dead", run=False, trace=SENT)
    row = shared.row(LEDGER, saga)
    assert row is not None
    said = row["entered"][0] | {"type": "recourse.travel-booking.flight.done", "id": "x"}
    said["data"] = {"step": "flight", "result": {"secret": TRIP["traveller"]["email"]}}
    queue = mock.Mock(spec=SourceQueue)
    queue.is_last_receive.return_value = True

    def record(body: str) -> dict[str, Any]:
        return {
            "messageId": "m",
            "receiptHandle": "r",
            "body": body,
            "attributes": {"ApproximateReceiveCount": "3", "SentTimestamp": "0"},
            "messageAttributes": {},
            "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:q",
        }

    def handle(_: Any) -> None:
        raise errors.pop()

    errors: list[Exception] = [ValueError("oops"), PoisonError("oops")]
    context = mock.Mock(get_remaining_time_in_millis=lambda: 60_000)
    messages = [record(json.dumps(said))] * 2
    batch.handle_each(handle, messages, lambda _: queue, context)
    must_name(lines, saga)
    assert {line["attempt"] for line in lines.said} == {3}
    assert {line["message_id"] for line in lines.said} == {"m"}
    before = len(lines.said)
    batch.handle_each(handle, [record('{"secret": 1}')], lambda _: queue, context)
    assert all("secret" not in json.dumps(line) for line in lines.said[before:])
