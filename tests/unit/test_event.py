"""An event is one thing everywhere, the same JSON as ever, and what is no event says why."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recourse.choreography.routing import trigger
from recourse.errors import UnreadableError
from recourse.events import Event, error, message_group, outbox_row
from recourse.events.event import saga_id_of
from recourse.ledger.history import SagaHistory, enter
from statemachines import SAGAS
from tests.integration.trips import TRIP
from tests.recorded import load

SAGA = SAGAS["travel-booking"]
AT = "2026-11-24T10:00:00.000Z"
OOPS = error("OopsError", "it went wrong")
CARRIED = {"saga": {"id": "s1"}, "request": TRIP, "results": {"flight": {"price": 1}}}
STARTED = Event.started("s1", SAGA.name, business_key="t-1", coordination="choreography")
ENVELOPE: dict[str, Any] = {
    "specversion": "1.0",
    "id": "s1.flight.done",
    "type": "recourse.travel-booking.flight.done",
    "source": "/sagas/travel-booking",
    "subject": "s1",
    "time": AT,
    "datacontenttype": "application/json",
    "data": {"step": "flight", "attempts": 1, "entered_at": None, "run": 0},
}
WRITTEN = sorted({text for one in load() for text, _ in one.published})
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def of_step(kind: Any, **more: Any) -> Event:
    return Event.of_step("s1", SAGA.name, "flight", kind, run=0, attempts=1, time=AT, **more)


# As JSON.


def test_what_was_written_is_read_and_written_again_to_the_last_byte() -> None:
    assert len(WRITTEN) > 300
    for text in WRITTEN:
        assert Event.parse(text, SAGAS).to_json() == text


def test_an_event_of_a_step_is_this_json() -> None:
    said = of_step("done", result={"price": 1}).to_dict()
    assert json.dumps(said) == json.dumps(
        ENVELOPE | {"data": ENVELOPE["data"] | {"result": {"price": 1}}}
    )
    assert of_step("undone", outcome="empty", follows=["failed"], carried=CARRIED).data == {
        "step": "flight",
        "attempts": 1,
        "entered_at": None,
        "run": 0,
        "outcome": "empty",
        "carried": CARRIED,
        "follows": ["failed"],
    }
    assert of_step("failed", error=OOPS, claimed=True).data == ENVELOPE["data"] | {
        "error": OOPS,
        "early": True,
    }


def test_an_event_of_a_saga_is_named_by_what_happened() -> None:
    assert (STARTED.id, STARTED.type) == ("s1.started", "recourse.travel-booking.started")
    assert STARTED.data == {"business_key": "t-1", "coordination": "choreography"}
    ended = Event.ended("s1", SAGA.name, "compensation_failed", run=2)
    assert (ended.id, ended.path, ended.data) == (
        "s1.compensation_failed.2",
        "compensation_failed",
        {},
    )


def test_a_step_is_parked_once_a_run() -> None:
    parked = [
        Event.parked(
            "s1", SAGA.name, "flight", "undo_failed", run=run, attempts=4, error=OOPS, claimed=False
        )
        for run in (0, 1)
    ]
    assert [one.id for one in parked] == ["s1.flight.undo_failed.r0", "s1.flight.undo_failed.r1"]
    assert all(one.is_parked for one in parked)
    assert parked[1].data == {
        "step": "flight",
        "outcome": "parked",
        "error": OOPS,
        "attempts": 4,
        "run": 1,
        "early": False,
    }


def test_what_nobody_here_knows_of_stays_in_an_event() -> None:
    said = ENVELOPE | {"data": ENVELOPE["data"] | {"since": "a later release"}, "sequence": 3}
    assert Event.from_dict(said).to_dict() == said
    assert Event.from_dict(said).public().to_dict() == said


def test_what_is_carried_is_the_steps_alone_and_what_is_hidden_is_nobodys() -> None:
    carried = of_step("done", carried=CARRIED)
    assert carried.public() == of_step("done")
    assert carried.attributes() == of_step("done").attributes() | {"coordination": "choreography"}
    assert (carried.carried, of_step("done").carried) == (CARRIED, {})
    assert of_step("undone", outcome="empty").is_hidden
    assert not of_step("undone").is_hidden and not of_step("done", outcome="skipped").is_hidden


def test_an_event_is_not_changed_and_its_row_holds_its_text() -> None:
    event = of_step("done")
    with pytest.raises(FrozenInstanceError):
        event.kind = "failed"  # type: ignore[misc]
    row = outbox_row(event, "asha")
    assert (row["pk"], row["event"]) == ("outbox#s1.flight.done", event.to_json())
    assert row["group"] == message_group("asha") != message_group("ravi")
    assert re.fullmatch("[0-9a-f]{32}", row["group"]), "SQS takes 128 characters"


# What is none.


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"id": 7}, "its id must be a text, got 7"),
        ({"subject": ["s1"]}, "its subject must be a text, got list"),
        ({"time": None}, "its time must be a text, got NoneType"),
        ({"sequence": "3"}, "its sequence must be a number, got '3'"),
        ({"type": "theirs.travel-booking.flight.done"}, "its type must be recourse."),
        ({"type": "recourse.travel-booking.hotel.done"}, "its type must be recourse."),
        ({"type": "recourse.cruise.flight.done"}, "its saga must be declared, got 'cruise'"),
        ({"type": "recourse.travel-booking.flight.sold"}, "its kind must be one of done, failed,"),
        ({"type": "recourse.travel-booking.done", "data": {}}, "its kind must be one of started,"),
        ({"type": 7}, "AttributeError"),
        ({"data": []}, "AttributeError"),
        ({"data": {"step": "flight", "run": "first"}}, "its run must be a number, got 'first'"),
        (
            {"data": {"step": "flight", "follows": [["done"]]}},
            "its follows must be a list of kinds",
        ),
        (
            {"data": {"step": "flight", "carried": {"saga": {}}}},
            "its carried must be an object of saga,",
        ),
        (
            {"type": "recourse.travel-booking.flight.failed"},
            "its error must be a type and a message, got dict",
        ),
    ],
)
def test_what_is_no_event_of_a_saga_says_why(changed: dict[str, Any], why: str) -> None:
    with pytest.raises(UnreadableError) as refused:
        Event.parse(json.dumps(ENVELOPE | changed), SAGAS)
    assert str(refused.value).startswith("this is not an event of a saga: ")
    assert why in str(refused.value)


@given(json_values.map(json.dumps) | st.text())
def test_any_text_is_an_event_or_unreadable(text: str) -> None:
    for sagas in (None, SAGAS):
        try:
            assert isinstance(Event.parse(text, sagas), Event)
        except UnreadableError as problem:
            assert str(problem)


@given(st.data())
def test_whatever_is_taken_for_an_event_can_be_worked_with(data: st.DataObject) -> None:
    """A message that fails nowhere but here is dead-lettered at once, not tried a hundred times."""
    said = json.loads(data.draw(st.sampled_from(WRITTEN)))
    for _ in range(data.draw(st.integers(1, 3))):
        place = said["data"] if data.draw(st.booleans()) else said
        name = data.draw(st.sampled_from([*place, "sequence", "outcome", "early", "follows"]))
        if data.draw(st.booleans()):
            place.pop(name, None)
        else:
            place[name] = data.draw(json_values)
        if not isinstance(said.get("data"), dict):
            break
    try:
        event = Event.parse(json.dumps(said), SAGAS)
    except UnreadableError:
        return
    saga = SAGAS[event.saga]
    started = Event.started(event.saga_id, saga.name, business_key="b", coordination="choreography")
    request = event.carried.get("request", {})
    for step in saga.all:
        trigger(saga, step, event, request)
    entered, waiting = enter(saga, event.saga_id, request, [started], [event])
    history = SagaHistory(saga, request, [*entered, *waiting])
    assert len(history.steps(0)) == len(saga.all)
    assert history.status(0) and (history.failure is None or history.failure.error["type"])
    assert event.attributes()["saga"] == saga.name
    assert Event.parse(event.to_json(), SAGAS).to_json() == event.to_json()


@pytest.mark.parametrize(
    ("text", "found"),
    [('{"subject": "s"}', "s"), ("{not json", None), ("[]", None), ("[" * 20_000, None)],
)
def test_what_a_message_is_about_is_known_where_it_says_so(text: str, found: str | None) -> None:
    assert saga_id_of(text) == found


# What it costs.


def test_events_load_no_client_and_no_declaration() -> None:
    loads = "import sys, recourse.events; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", loads], capture_output=True, text=True, check=True)
    loaded = set(ran.stdout.split())
    assert "recourse.events.event" in loaded
    assert not loaded & {
        "botocore",
        "boto3",
        "pydantic",
        "recourse.declare.saga",
        "recourse.events.relay",
    }
