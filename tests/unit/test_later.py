"""A step that is done later is declared so, written down and read again, or refused."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from recourse import Moment, Together
from recourse.choreography.routing import listeners
from recourse.declare.declaration import Earlier
from recourse.declare.later import Later
from recourse.declare.shape import digest, read, record
from recourse.errors import DeclarationError
from recourse.orchestration.compiler import WAITING, compile_saga
from tests.integration.asking import SPENDING
from tests.integration.delaying import LATER, STEPS, staying

NOW = datetime(2026, 11, 30, tzinfo=UTC)


@pytest.mark.parametrize("step", STEPS)
def test_a_shape_has_when_its_step_is_due(step: str) -> None:
    saga = LATER[step]
    recorded = record(saga)
    found = read(recorded)
    assert found.by_name[step].later == Later(delay=3 * 24 * 3600)
    assert [one.name for one in found.all if one.later] == [step]
    assert digest(record(found)) == digest(recorded)
    assert digest(record(Earlier(recorded=found))) == digest(recorded)
    assert Earlier(recorded=found).by_name[step].later == saga.by_name[step].later


@pytest.mark.parametrize("step", STEPS)
def test_a_machine_catches_that_a_step_is_not_due_and_does_not_try_again(step: str) -> None:
    state = compile_saga(LATER[step])["States"][step]
    assert state["Parameters"]["later"] == {"delay": 3 * 24 * 3600}
    assert state["Catch"][0] == {
        "ErrorEquals": ["WaitingError"],
        "ResultPath": None,
        "Next": WAITING,
    }
    again = [r for r in state["Retry"] if {"WaitingError", "States.ALL"} & {*r["ErrorEquals"]}]
    assert [one["MaxAttempts"] for one in again][:1] in ([], [0])


def test_what_is_done_later_hears_that_it_is_due() -> None:
    heard = listeners([LATER["check_in"]])
    due = "recourse.stay-check-in.check_in.due"
    assert [name for name, types in heard.items() if due in types] == ["DelayingCheckIn"]


@pytest.mark.parametrize(
    ("later", "why"),
    [
        ({"delay": 0}, "delay must be 1 to 31536000 seconds, got 0"),
        ({"delay": timedelta(days=1)}, "delay must be 1 to 31536000 seconds"),
        ({"delay": True}, "delay must be 1 to 31536000 seconds, got True"),
        ({"delay": 10, "not_before": "stay.arrives_at"}, "write one of them"),
        ({"not_before": 5}, "must be the dotted path of a Moment"),
        ({"not_before": "stay.arrives_at"}, "must be within a field that it takes, got []"),
        ({"not_before": "stay.leaves_at", "takes": ["stay"]}, "Stay has no field 'leaves_at'"),
        ({"not_before": "stay", "takes": ["stay"]}, "the type of stay must be Moment"),
        ({"not_before": "stay.arrives_at.x", "takes": ["stay"]}, "is of no @request_model class"),
    ],
)
def test_what_cannot_be_waited_for_is_refused(later: dict[str, Any], why: str) -> None:
    with pytest.raises(DeclarationError) as refused:
        staying("check_in", **later)
    assert why in str(refused.value) and "'check_in'" in str(refused.value)


def test_nothing_runs_beside_what_waits_and_nobody_is_asked_there() -> None:
    saga = LATER["check_in"]
    first, second, *others = saga.all
    beside = Together(first, replace(second, after=[]))
    with pytest.raises(DeclarationError, match="write its Step outside of the Together"):
        replace(saga, steps=[beside, *others])
    steps = [replace(s, delay=5) if s.waits else s for s in SPENDING.all]
    with pytest.raises(DeclarationError, match="let one step be later, and the next one ask"):
        replace(SPENDING, steps=steps)


def test_a_delay_is_scaled_and_a_moment_is_not() -> None:
    assert Later(delay=100).due({}, NOW, 0.1) == NOW + timedelta(seconds=10)
    trip = Later(not_before="trip.departs_at")
    later = {"trip": {"departs_at": "2026-12-01T05:30:00+05:30"}}
    assert trip.due(later, NOW, 0.1) == NOW + timedelta(days=1)
    for nothing in ({}, {"trip": None}, {"trip": {"departs_at": None}}):
        assert trip.due(nothing, NOW, 1) == NOW


def test_a_moment_is_checked_where_a_request_is() -> None:
    adapter = TypeAdapter(Moment)
    assert adapter.validate_python("2026-12-24T18:05:00+05:30")
    with pytest.raises(ValidationError, match="must be a moment by RFC 3339"):
        adapter.validate_python("2026-12-24")
