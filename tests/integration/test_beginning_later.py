"""A saga that is to begin later begins then, once, whatever happens meanwhile; or never."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, get_args

import pytest

from recourse.declare.declaration import Coordination, Earlier
from recourse.declare.shape import read, record
from recourse.errors import TransientError
from recourse.events import moment
from recourse.orchestration.executions import Runs
from recourse.testing.ground import LEDGER, Ground, ground
from tests.feeding import Feeding
from tests.ground import ground as trips
from tests.integration.asking import DAY, SPENDING
from tests.integration.calling import PATH, Answer, Caller
from tests.integration.test_api import standing
from tests.integration.trips import TRIP, stock

keys = itertools.count()
each_coordination = pytest.mark.parametrize("coordination", get_args(Coordination))
SAGAS = {"spending": SPENDING}
LATER = 3 * DAY
asha = Caller()


@pytest.fixture
def own() -> Iterator[Ground]:
    made: Ground
    with ground(SAGAS) as made, made.clock.standing():
        yield made


def now(made: Ground, ahead: float = 0) -> str:
    return moment(datetime.fromtimestamp(made.clock.seconds() + ahead, UTC))


def start(made: Ground, coordination: Coordination, ahead: float = LATER, **how: Any) -> str:
    saga = made.start(
        "spending",
        {"spending_id": f"s-{next(keys)}", "amount": 50},
        key=f"{next(keys)}",
        coordination=coordination,
        begins_at=now(made, ahead),
        **how,
    )
    made.settle()
    return saga


def must_not_have_begun(made: Ground, saga: str) -> None:
    seen = made.view(saga)
    assert seen["status"] == "RUNNING"
    assert {step["status"] for step in seen["steps"]} == {"PENDING"}
    assert made.business_rows() == {}
    assert made.rows(LEDGER, f"outbox#{saga}") == []


def must_succeed(made: Ground, saga: str) -> None:
    made.settle()
    seen = made.view(saga)
    assert seen["status"] == "SUCCEEDED", seen
    record = made.ledger.get(saga)
    assert record is not None and record.due_at is None and not record.scheduled
    assert [event.path for event in record.entered].count("started") == 1
    spent = [row for (_, key), row in made.business_rows().items() if key == f"spent#{saga}"]
    assert len(spent) == 1


@each_coordination
def test_it_begins_when_its_time_has_come_and_not_before(
    own: Ground, coordination: Coordination
) -> None:
    saga = start(own, coordination)
    own.clock.sleep(LATER - 0.001)
    assert own.sweep() == {}
    own.settle()
    must_not_have_begun(own, saga)
    own.clock.sleep(0.001)
    begins_at = own.view(saga)["begins_at"]
    assert begins_at == now(own), "at that very moment"
    assert own.sweep() == {saga: f"begun, for it was not to begin before {begins_at}"}
    must_succeed(own, saga)
    assert own.view(saga)["begins_at"] == begins_at


@each_coordination
def test_one_that_fires_late_or_twice_begins_once(own: Ground, coordination: Coordination) -> None:
    saga = start(own, coordination)
    own.clock.sleep(5 * LATER)
    before = own.ledger.get(saga)
    assert before is not None
    own.sweep()
    for _ in range(2):
        own.sweeper._begin(before)  # as another sweeper does that has read it before
        own.settle()
    assert own.sweep() == {}, "its deadline is measured from when it began"
    must_succeed(own, saga)


@each_coordination
def test_two_sweepers_at_once_begin_it_once(own: Ground, coordination: Coordination) -> None:
    saga = start(own, coordination)
    own.clock.sleep(LATER)
    record = own.ledger.get(saga)
    assert record is not None
    with ThreadPoolExecutor(2) as pool:
        each = [pool.submit(replace(own.sweeper)._begin, record) for _ in range(2)]
    assert all(one.result() for one in each)
    must_succeed(own, saga)


@each_coordination
def test_a_cancel_before_its_time_has_no_effect_to_undo(
    own: Ground, coordination: Coordination
) -> None:
    saga = start(own, coordination)
    own.clock.sleep(LATER / 2)
    assert own.cancel(saga)
    own.settle()
    seen = own.view(saga)
    assert seen["status"] == "COMPENSATED"
    assert seen["reason"]["error"] == "StepCancelledError"
    assert own.business_rows() == {}
    own.clock.sleep(LATER)
    assert own.sweep() == {}
    own.settle()
    assert own.business_rows() == {}


@each_coordination
def test_a_cancel_whose_run_is_not_started_is_made_up_for(
    own: Ground, coordination: Coordination
) -> None:
    saga = start(own, coordination)
    own.ledger.call_off(saga, at=now(own))
    own.settle()
    own.clock.sleep(120)
    assert own.sweep() == {saga: "started run 1, which was recorded but not started"}
    own.settle()
    assert own.view(saga)["status"] == "COMPENSATED"
    assert own.business_rows() == {}


@each_coordination
def test_a_cancel_at_its_very_time_and_the_beginning_are_one_or_the_other(
    own: Ground, coordination: Coordination
) -> None:
    saga = start(own, coordination)
    own.clock.sleep(LATER)
    with ThreadPoolExecutor(2) as pool:
        began = pool.submit(own.ledger.begin, saga, at=now(own))
        called = pool.submit(own.ledger.call_off, saga, at=now(own))
    assert began.result() == called.result()
    own.runs.start(began.result())
    own.settle()
    ended = own.view(saga)["status"]
    assert ended == ("COMPENSATED" if began.result().run else "SUCCEEDED")
    assert bool(own.business_rows()) == (ended == "SUCCEEDED")


@each_coordination
def test_a_saga_that_begins_but_cannot_be_run_is_run_later(
    own: Ground, coordination: Coordination, monkeypatch: pytest.MonkeyPatch
) -> None:
    def throttled(*_: object) -> None:
        raise TransientError("throttled")

    saga = start(own, coordination)
    own.clock.sleep(LATER)
    with monkeypatch.context() as patch:
        patch.setattr(Runs, "start", throttled)
        assert "was not started: throttled" in own.sweep()[saga]
    if coordination == "choreography":
        must_succeed(own, saga)  # its event is all it needs
    own.clock.sleep(61)
    own.sweep()
    must_succeed(own, saga)


@each_coordination
def test_a_deploy_before_it_begins_changes_nothing_about_it(coordination: Coordination) -> None:
    """It begins by the shape that it was recorded with, though that has one step more by now."""
    earlier = replace(SPENDING, steps=[step for step in SPENDING.all if step.name != "earmark"])
    own: Ground
    with ground({"spending": earlier}) as own, own.clock.standing():
        saga = start(own, coordination)
        recorded = read(record(earlier))
        own.deploy(SAGAS, [Earlier(recorded=recorded)])
        own.clock.sleep(LATER)
        own.sweep()
        must_succeed(own, saga)
        assert "earmark" not in own.statuses(saga)


@each_coordination
def test_a_deploy_that_retires_its_saga_lets_it_begin(coordination: Coordination) -> None:
    own: Ground
    with ground(SAGAS) as own, own.clock.standing():
        saga = start(own, coordination)
        own.deploy({}, [Earlier(recorded=read(record(SPENDING)))])
        own.clock.sleep(LATER)
        own.sweep()
        must_succeed(own, saga)


@each_coordination
def test_nobody_s_feed_has_it_before_it_begins(own: Ground, coordination: Coordination) -> None:
    feeding = Feeding(own)
    saga = start(own, coordination)
    assert feeding.settle() == 0
    own.clock.sleep(LATER)
    own.sweep()
    own.settle()
    assert feeding.settle() == len(own.ledger.get(saga).entered)  # type: ignore[union-attr]


# Through the API.


@pytest.fixture(scope="module")
def api() -> Iterator[Ground]:
    with trips() as made, standing(made):
        stock(made)
        yield made


def ask(not_before: str, key: str, trip: str = "t-later", **headers: str) -> Answer:
    body = {**TRIP, "trip_id": trip}
    return asha("POST", PATH, body, idempotency_key=key, not_before=not_before, **headers)


def test_the_api_records_it_and_says_when_it_begins(api: Ground) -> None:
    ahead = datetime.now(UTC) + timedelta(days=2)
    text = ahead.astimezone(timezone(timedelta(hours=5, minutes=30))).isoformat()
    got = ask(text, "later-1")
    assert got.status == 202
    saga, begins_at = got.json["saga_id"], got.json["begins_at"]
    assert timedelta(0) <= datetime.fromisoformat(begins_at) - ahead < timedelta(milliseconds=1)
    assert (got.json["status"], got.json["ended_at"]) == ("RUNNING", None)
    assert {step["status"] for step in got.json["steps"]} == {"PENDING"}
    assert got.json["steps"][0]["started_at"] is None
    api.settle()
    shown = asha("GET", f"/sagas/{saga}")
    assert shown.json["begins_at"] == begins_at
    listed = asha("GET", "/sagas?status=RUNNING&business_key=t-later").json["items"]
    assert [one["saga_id"] for one in listed] == [saga]
    assert asha("GET", f"/sagas/{saga}/events").json["items"] == []
    assert ask(text, "later-1").json["saga_id"] == saga
    utc = ahead.isoformat().replace("+00:00", "z").replace("T", "t")
    assert ask(utc, "later-1").status == 202, "the same moment, written in another way"
    for other in ("2020-01-01T00:00:00Z", moment(ahead + timedelta(seconds=1))):
        refused = ask(other, "later-1")
        assert (refused.status, refused.json["type"].rpartition(":")[2]) == (
            409,
            "idempotency-key-reused",
        )
        assert begins_at in refused.json["detail"]
    without = asha("POST", PATH, {**TRIP, "trip_id": "t-later"}, idempotency_key="later-1")
    assert without.status == 409
    gone = asha("POST", f"/sagas/{saga}/cancel")
    assert gone.status == 202
    api.settle()
    assert asha("GET", f"/sagas/{saga}").json["status"] == "COMPENSATED"
    assert asha("POST", f"/sagas/{saga}/cancel").status == 202, "and again"
    assert ask(text, "later-1").json["status"] == "COMPENSATED"


def test_a_time_that_has_passed_is_now(api: Ground) -> None:
    got = ask("2020-01-01T00:00:00Z", "past-1", "t-past")
    assert got.status == 202 and got.json["begins_at"] == "2020-01-01T00:00:00.000Z"
    api.settle()
    saga = asha("GET", f"/sagas/{got.json['saga_id']}").json
    assert saga["status"] == "SUCCEEDED"
    assert ask("2020-01-01T00:00:00Z", "past-1", "t-past").json["saga_id"] == saga["saga_id"]


@pytest.mark.parametrize(
    "text",
    [
        *("", "now", "tomorrow", "1796000000", "2026-12-24", "2026-12-24T18:05:00"),
        *("2026-13-24T18:05:00Z", "2026-12-24T18:05Z", "20261224T180500Z", "2026-W52-4T18:05:00Z"),
        *("2026-12-24T18:05:00+5:30", "2026-12-24T24:05:00Z", "0001-01-01T00:00:00+05:00"),
        "٢٠٢٦-12-24T18:05:00Z",
    ],
)
def test_what_is_no_moment_is_refused(api: Ground, text: str) -> None:
    got = ask(text, "refused")
    assert (got.status, got.json["type"].rpartition(":")[2]) == (400, "malformed")
    assert "Not-Before: must be a moment by RFC 3339 with its offset" in got.json["detail"]


def test_more_than_a_year_ahead_is_too_far(api: Ground) -> None:
    got = ask(moment(datetime.now(UTC) + timedelta(days=400)), "refused")
    assert (got.status, got.json["type"].rpartition(":")[2]) == (422, "invalid")
    assert got.json["errors"][0]["field"] == "Not-Before"
    assert ask(moment(datetime.now(UTC) + timedelta(days=365)), "next-year").status == 202
