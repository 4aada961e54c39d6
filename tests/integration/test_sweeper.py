"""The sweeper: whom it looks after, when and how often; and what it tells the ledger again."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, get_args

import pytest
from aws_lambda_powertools import Metrics
from botocore.exceptions import EndpointConnectionError

from bench.recovery import recover
from recourse import events
from recourse.declare.declaration import Coordination
from recourse.errors import TransientError
from recourse.events import Event
from recourse.functions import kit
from recourse.functions import sweeper as sweeper_function
from recourse.ledger.record import Record
from recourse.orchestration import sweeper as sweeper_module
from recourse.orchestration.executions import Run, Runs
from recourse.orchestration.sweeper import (
    GRACE_PERIOD,
    HEALING_DELAY,
    LEASE_DURATION,
    LONGEST_DELAY,
    MAX_RECOVERIES,
)
from recourse.queues.called import operators_queues, redriven_queues
from recourse.queues.deadletters import MessagesWaitError, deadletters_of
from recourse.store.aws import client
from recourse.store.items import encode
from recourse.store.lease import Lease
from recourse.testing.ground import LEDGER
from recourse.testing.handlers import ACCOUNT
from statemachines import SAGAS
from tests.ground import Ground, ground
from tests.integration.trips import HOLDS, TRIP, must_agree, stock

SAGA = SAGAS["travel-booking"]
SOON, LATE = GRACE_PERIOD.total_seconds() + 1, HEALING_DELAY.total_seconds() + 1
keys = itertools.count()
each_coordination = pytest.mark.parametrize("coordination", get_args(Coordination))


@pytest.fixture(scope="module")
def made() -> Iterator[Ground]:
    with ground() as made:
        stock(made)
        yield made


@pytest.fixture(autouse=True)
def at_rest(made: Ground) -> Iterator[None]:
    """Each test leaves no saga behind that the next one would meet."""
    well = made.mishap
    made.alarms.clear()
    made.clock.reset()
    yield
    made.mishap = well
    made.dynamodb.delete_item(TableName=LEDGER, Key={"pk": {"S": "lease#sweeper"}})
    for row in made.rows(LEDGER, ""):
        if row.get("status") in ("RUNNING", "COMPENSATING", "COMPENSATION_FAILED"):
            made.dynamodb.delete_item(TableName=LEDGER, Key={"pk": {"S": row["pk"]}})
    made.settle()


def start(made: Ground, coordination: Coordination = "orchestration", **faults: str) -> str:
    named = {name.replace("__", "."): fault for name, fault in faults.items()}
    key = f"sweep-{next(keys)}"
    return made.start("travel-booking", TRIP, key=key, faults=named, coordination=coordination)


def record(made: Ground, saga_id: str) -> Record:
    found = made.ledger.get(saga_id)
    assert found is not None
    return found


def aborted_at(made: Ground, step: str, phase: str = "action", *, every: bool = False) -> None:
    """From now on a run is aborted when it comes to a step: once, or every time."""
    met: list[str] = []

    def mishap(function: str, task: dict[str, Any], run: Any) -> Any:
        if (task.get("step"), task.get("phase")) == (step, phase) and (every or not met):
            met.append(step)
            saga = task["saga"]
            arn = made.execution(saga["id"], saga["recover"])["executionArn"]
            made.sfn.stop_execution(executionArn=arn)
            raise TransientError("cut off")
        return run()

    made.mishap = mishap


def well(function: str, task: dict[str, Any], run: Any) -> Any:
    return run()


# Whom it looks after, and when.


def unstarted(made: Ground, number: int) -> list[str]:
    """Sagas that were recorded and not run, the oldest first."""
    found = []
    for index in range(number):
        key = f"unstarted-{next(keys)}"
        saga_id = made.start("travel-booking", TRIP, key=key, run=False)
        row = made.row(LEDGER, saga_id)
        assert row is not None
        moment = events.moment(datetime.now(UTC) - timedelta(minutes=5) + timedelta(seconds=index))
        made.dynamodb.update_item(
            TableName=LEDGER,
            Key={"pk": {"S": saga_id}},
            UpdateExpression="SET started = :started, started_at = :at",
            ExpressionAttributeValues={
                ":started": {"S": f"{moment}#{saga_id}"},
                ":at": {"S": moment},
            },
        )
        found.append(saga_id)
    made.settle()
    return found


@pytest.fixture
def looks(made: Ground, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float]]:
    """Every DescribeExecution: of which saga, and when by the sweeper's clock."""
    found: list[tuple[str, float]] = []

    def describe(runs: Runs, record: Record) -> Run:
        found.append((record.saga_id, made.clock.seconds()))
        return Run("RUNNING")

    monkeypatch.setattr(Runs, "describe", describe)
    return found


def test_a_saga_is_left_alone_until_its_grace_is_over(
    made: Ground, looks: list[tuple[str, float]]
) -> None:
    saga_id = made.start("travel-booking", TRIP, key="young", run=False)
    made.clock.sleep(GRACE_PERIOD.total_seconds() - 30)
    made.sweep()
    assert looks == []
    made.clock.sleep(31)
    made.sweep()
    assert [saga for saga, _ in looks] == [saga_id]


def test_the_oldest_are_looked_after_first_no_more_than_ten_in_a_second(
    made: Ground, looks: list[tuple[str, float]]
) -> None:
    sagas = unstarted(made, 35)
    made.sweep()
    assert [saga for saga, _ in looks] == sagas
    for (_, first), (_, eleventh) in zip(looks, looks[10:], strict=False):
        assert eleventh - first >= 0.99


def test_what_is_parked_is_passed_over(made: Ground, looks: list[tuple[str, float]]) -> None:
    forward, back = start(made, invoice="error"), start(made, capture="reject", car__undo="reject")
    made.settle()
    assert made.statuses(forward)["invoice"] == "FAILED"
    assert made.view(back)["status"] == "COMPENSATION_FAILED"
    for passed in (SOON, LATE, SAGA.deadline + 1):
        made.clock.sleep(passed)
        assert made.sweep() == {}
    assert looks == []


@pytest.mark.parametrize(
    "fault", [{"invoice": "error"}, {"capture": "reject", "car__undo": "reject"}]
)
def test_the_end_of_a_parked_run_starts_no_recovery(made: Ground, fault: dict[str, str]) -> None:
    saga_id = start(made, "orchestration", **fault)
    assert made.execution(saga_id)["error"] == "Parked"
    assert made.hear_of_end(saga_id) == {}, "nobody has told the ledger yet"
    made.clock.sleep(SOON)
    assert made.sweep() == {}
    made.settle()
    assert made.hear_of_end(saga_id) == {}
    assert record(made, saga_id).run == 0


def test_what_the_end_of_a_run_does_not_say_is_left_to_the_next_round(made: Ground) -> None:
    aborted_at(made, "payment")
    saga_id = start(made)
    made.mishap = well
    made.settle()
    assert made.sweeper.handle_run_end(saga_id, "FAILED", None) == {}
    for somebody_elses in ("nobody", "my-run", "a-r"):
        assert made.sweeper.handle_run_end(somebody_elses, "ABORTED", None) == {}
    made.clock.sleep(SOON)
    assert saga_id in made.sweep()
    made.clock.sleep(SOON)
    assert made.sweeper.handle_run_end(saga_id, "ABORTED", None) == {}, (
        "another run is under way by now"
    )
    made.settle()
    assert must_agree(made, saga_id) == "COMPENSATED"


def test_a_start_that_is_not_taken_is_said_to_be_none(made: Ground) -> None:
    saga_id = made.start("travel-booking", TRIP, key="not-taken", run=False)

    def refuse(**_: Any) -> None:
        raise EndpointConnectionError(endpoint_url="states")

    sfn: Any = SimpleNamespace(start_execution=refuse, exceptions=made.sfn.exceptions)
    with pytest.raises(TransientError):
        replace(made.runs, sfn=sfn).start(record(made, saga_id))


def test_a_choreography_has_no_run_of_the_machine_until_it_is_recovered(made: Ground) -> None:
    saga_id = start(made, "choreography")
    assert made.runs.describe(record(made, saga_id)).state == "ABSENT"


def test_a_choreography_that_is_old_and_under_way_is_left_alone(made: Ground) -> None:
    saga_id = start(made, "choreography", invoice="error:7")
    while not made.row("payments", f"marker#{saga_id}#capture#action"):
        made.relay(1)
        for name in made.queues:
            if made.waiting(name):
                made.deliver(name)
    while made.relay():
        made.deliver(LEDGER)
    found = record(made, saga_id)
    assert made.statuses(saga_id)["capture"] == "DONE"
    long_ago = events.moment(datetime.now(UTC) - timedelta(days=1))
    started = replace(found.entered[0], time=long_ago)
    old = [event.to_dict() for event in (started, *found.entered[1:])]
    made.dynamodb.update_item(
        TableName=LEDGER,
        Key={"pk": {"S": saga_id}},
        UpdateExpression="SET entered = :old",
        ExpressionAttributeValues={":old": encode(old)},
    )
    made.clock.sleep(SOON)
    assert made.sweep() == {}


# One at a time, and on from where it stopped.


def test_a_second_sweeper_goes_away_at_once(made: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    unstarted(made, 2)
    met: list[dict[str, str]] = []
    lease = another(made)

    def describe(runs: Runs, record: Record) -> Run:
        met.append(replace(made.sweeper, lease=lease).sweep())
        return Run("RUNNING")

    monkeypatch.setattr(Runs, "describe", describe)
    made.sweep()
    assert met == [{}, {}]
    assert lease.acquire(), "it is free after the round"
    lease.release()


def another(made: Ground) -> Lease:
    """The lease of another process."""
    return Lease(
        made.dynamodb, LEDGER, "lease#sweeper", seconds=LEASE_DURATION, clock=made.clock.seconds
    )


def test_a_sweeper_that_died_is_followed_when_its_lease_has_ended(made: Ground) -> None:
    dead, next_one = another(made), another(made)
    assert dead.acquire()
    made.clock.sleep(LEASE_DURATION - 1)
    assert not next_one.acquire()
    made.clock.sleep(2)
    assert next_one.acquire()
    assert not dead.renew() and not dead.renew()
    dead.release()
    assert not dead.acquire(), "it is the other's still"
    next_one.release()


def test_a_lease_that_is_renewed_goes_on(made: Ground) -> None:
    holder, other = another(made), another(made)
    assert holder.acquire()
    for _ in range(5):
        made.clock.sleep(LEASE_DURATION * 0.6)
        assert holder.renew()
        assert not other.acquire()
    holder.release()
    assert other.acquire()
    other.release()


def test_a_sweeper_whose_lease_was_taken_stops(
    made: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    sagas = unstarted(made, 3)
    met: list[str] = []
    other = another(made)

    def describe(runs: Runs, record: Record) -> Run:
        met.append(record.saga_id)
        made.clock.sleep(LEASE_DURATION + 1)
        assert other.acquire()
        return Run("RUNNING")

    monkeypatch.setattr(sweeper_module, "ROUND_TIME_LIMIT", 10 * LEASE_DURATION)
    monkeypatch.setattr(Runs, "describe", describe)
    made.sweep()
    assert met == sagas[:1]
    other.release()


def test_a_round_that_is_not_finished_goes_on_where_it_stopped(
    made: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    sagas = unstarted(made, 10)
    rounds: list[list[str]] = []

    def describe(runs: Runs, record: Record) -> Run:
        rounds[-1].append(record.saga_id)
        made.clock.sleep(sweeper_module.ROUND_TIME_LIMIT / 3.5)
        return Run("RUNNING")

    monkeypatch.setattr(Runs, "describe", describe)
    for _ in range(4):
        rounds.append([])
        made.sweep()
    first_three = list(itertools.chain(*rounds[:3]))
    assert first_three == sagas, "none twice before the youngest had its turn"
    assert rounds[3] == sagas[: len(rounds[3])] != []


# Recoveries have growing delays and an end.


def swept_until_parked(made: Ground, saga_id: str) -> list[tuple[float, float]]:
    """Go round until the saga is parked; between which moments each recovery was opened.

    While it is put off nothing happens, and the clock goes on to the last second of that.
    """
    opened: list[tuple[float, float]] = []
    for _ in range(4 * MAX_RECOVERIES):
        before = made.clock.seconds()
        done = made.sweep().get(saga_id, "")
        if "recovery" in done:
            opened.append((before, made.clock.seconds()))
        made.settle()
        if "parked" in done:
            return opened
        until = record(made, saga_id).not_before
        left = datetime.fromisoformat(until).timestamp() - made.clock.seconds() if until else 60
        made.clock.sleep(left - 1 if left > 1 else left + 0.01)
    raise AssertionError(f"neither parked nor recovered: {made.view(saga_id)}")


@pytest.mark.parametrize("acted", [True, False], ids=["captured", "not captured"])
def test_recoveries_that_come_to_no_end_follow_with_growing_delays_and_then_it_is_parked(
    made: Ground, acted: bool
) -> None:
    aborted_at(made, "invoice" if acted else "hotel", every=True)
    saga_id = start(made)
    made.settle()
    opened = swept_until_parked(made, saga_id)
    assert len(opened) == MAX_RECOVERIES
    for index, (earlier, later) in enumerate(itertools.pairwise(opened)):
        due = min(GRACE_PERIOD * 2**index, LONGEST_DELAY).total_seconds()
        assert later[1] - earlier[0] >= due - 1, "no sooner"
        assert later[0] - earlier[1] <= due + 2, "no later"
    view = made.view(saga_id)
    stuck = [s["name"] for s in view["steps"] if s["error"] == "RecoveryFailedError"]
    if acted:
        assert (view["status"], stuck) == ("RUNNING", ["invoice"])
        assert made.statuses(saga_id)["invoice"] == "FAILED"
    else:
        assert view["status"] == "COMPENSATION_FAILED"
        assert stuck == ["flight", "hotel", "car", "payment"]
    message = next(s["message"] for s in view["steps"] if s["name"] == stuck[-1])
    assert message == f"{MAX_RECOVERIES} recoveries did not end the saga: the last ABORTED"
    assert made.sweep() == {}
    made.mishap = well
    made.resolve(saga_id, stuck[0], skip=False)
    made.settle()
    assert must_agree(made, saga_id) == ("SUCCEEDED" if acted else "COMPENSATED")


def test_where_the_pivot_cannot_even_be_claimed_it_is_the_pivot_that_is_parked(
    made: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    aborted_at(made, "hotel", every=True)
    saga_id = start(made)
    made.settle()

    def refuse(runs: Runs, *_: Any) -> Any:
        raise TransientError("the function is gone")

    with monkeypatch.context() as patch:
        patch.setattr(Runs, "_invoke", refuse)
        swept_until_parked(made, saga_id)
    view = made.view(saga_id)
    assert view["status"] == "RUNNING"
    assert view["reason"]["step"] == "capture"
    assert view["reason"]["error"] == "RecoveryFailedError"
    made.mishap = well
    made.resolve(saga_id, "capture", skip=False)
    made.settle()
    assert must_agree(made, saga_id) == "COMPENSATED"


@pytest.mark.parametrize(
    ("state", "error"),
    [("TIMED_OUT", None), ("FAILED", "States.Runtime"), ("FAILED", "States.DataLimitExceeded")],
)
def test_a_run_that_ended_in_any_other_way_is_recovered(
    made: Ground, state: str, error: str | None
) -> None:
    aborted_at(made, "payment")
    saga_id = start(made)
    made.mishap = well
    made.settle()
    ended = f"{state} ({error})" if error else state
    assert made.sweeper.handle_run_end(saga_id, state, error) == {
        saga_id: f"run 0 ended {ended}: recovery 1"
    }
    made.settle()
    assert must_agree(made, saga_id) == "COMPENSATED"


def test_an_operators_retry_begins_with_short_delays_again(made: Ground) -> None:
    aborted_at(made, "invoice", every=True)
    saga_id = start(made)
    made.settle()
    swept_until_parked(made, saga_id)
    made.resolve(saga_id, "invoice", skip=False)
    assert record(made, saga_id).recoveries == 0
    made.mishap = well
    assert saga_id in made.hear_of_end(saga_id, record(made, saga_id).run)
    made.settle()
    assert must_agree(made, saga_id) == "SUCCEEDED"


def test_the_number_of_a_recovery_never_goes_back(made: Ground) -> None:
    aborted_at(made, "payment", every=True)
    saga_id = start(made)
    made.settle()
    now = events.now()
    assert made.ledger.recover(saga_id, 0, not_before=now, failure={}).run == 1
    assert made.ledger.recover(saga_id, 1, not_before=now, failure={}).run == 2
    before = record(made, saga_id)
    assert made.ledger.recover(saga_id, 0, not_before=now, failure={}) == before
    assert before.run == 2


@pytest.mark.parametrize("step", ["flight", "hotel", "car"])
@pytest.mark.parametrize("fault", ["reject", "error"])
def test_a_run_cut_off_before_the_undo_of_its_failing_step_keeps_its_reason(
    made: Ground, step: str, fault: str
) -> None:
    aborted_at(made, "car", "undo")
    saga_id = start(made, "orchestration", **{step: fault})
    assert made.execution(saga_id)["status"] == "ABORTED"
    made.mishap = well
    made.settle()
    assert saga_id in made.hear_of_end(saga_id)
    made.settle()
    assert must_agree(made, saga_id) == "COMPENSATED"
    reason = made.view(saga_id)["reason"]
    error = "TransientError" if fault == "error" else SAGA.by_name[step].action.refuses[0].__name__
    assert (reason["step"], reason["error"]) == (step, error)


def test_a_run_whose_history_cannot_be_had_is_recovered_all_the_same(
    made: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    aborted_at(made, "hotel", "undo")
    saga_id = start(made, hotel="error")
    made.mishap = well
    made.settle()

    def deny(code: str) -> Any:
        def denied(**_: Any) -> Any:
            error: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": 400}}
            raise made.sfn.exceptions.ClientError(error, "GetExecutionHistory")

        return denied

    with monkeypatch.context() as patch:
        patch.setattr(made.sfn, "get_execution_history", deny("ThrottlingException"))
        with pytest.raises(TransientError):
            made.hear_of_end(saga_id)
        assert record(made, saga_id).run == 0
        patch.setattr(made.sfn, "get_execution_history", deny("AccessDeniedException"))
        assert saga_id in made.hear_of_end(saga_id)
    made.settle()
    assert must_agree(made, saga_id) == "COMPENSATED"
    assert made.view(saga_id)["reason"]["step"] == "capture"


def test_many_that_are_aborted_at_once_are_at_rest_within_minutes_at_its_pace(made: Ground) -> None:
    """`python -m bench recovery` does so with a thousand."""
    found = recover(made, 25)
    assert (found.left, found.most_in_a_second <= 10) == (0, True)
    assert found.seconds <= 2 * 60 + 5
    assert len(found.asked) == 25


# What was lost on its way to the ledger is told again.


def lose(made: Ground, saga_id: str, *kinds: str) -> None:
    """Let the relay lose events of a saga."""
    ids = {f"outbox#{saga_id}.{kind}" for kind in kinds}
    records = made.stream.fetch()
    kept = [one for one in records if one["dynamodb"]["NewImage"]["pk"]["S"] not in ids]
    assert len(records) - len(kept) == len(ids), "so many are lost"
    made.stream.give_back(kept)


def forget_outbox(made: Ground, saga_id: str) -> None:
    """Let a saga's outbox rows expire."""
    for table in (*made.services, LEDGER):
        for row in made.rows(table, f"outbox#{saga_id}"):
            made.dynamodb.delete_item(TableName=table, Key={"pk": {"S": row["pk"]}})


LOSSES: list[tuple[dict[str, str], list[str], str]] = [
    ({}, [f"{step.name}.done"], "SUCCEEDED") for step in SAGA.all
]
LOSSES += [
    ({}, [f"{step.name}.done" for step in SAGA.all], "SUCCEEDED"),
    ({"payment": "reject"}, ["payment.failed"], "COMPENSATED"),
    ({"payment": "reject"}, ["payment.undone"], "COMPENSATED"),
    ({"payment": "reject"}, ["flight.undone", "car.undone"], "COMPENSATED"),
    ({"payment": "reject"}, ["payment.failed", "flight.done", "hotel.undone"], "COMPENSATED"),
    ({"capture": "reject"}, ["capture.failed", "payment.undone"], "COMPENSATED"),
    ({"invoice": "error"}, ["invoice.failed.r0"], "RUNNING"),
    ({"capture": "reject", "car__undo": "reject"}, ["car.undo_failed.r0"], "COMPENSATION_FAILED"),
]


@pytest.mark.parametrize("expired", [False, True], ids=["outbox", "markers"])
@pytest.mark.parametrize(("faults", "lost", "status"), LOSSES)
def test_a_run_that_has_ended_is_told_again_where_events_of_it_were_lost(
    made: Ground, faults: dict[str, str], lost: list[str], status: str, expired: bool
) -> None:
    saga_id = start(made, "orchestration", **faults)
    lose(made, saga_id, *lost)
    made.settle()
    assert made.view(saga_id)["status"] in ("RUNNING", "COMPENSATING")
    if expired:
        forget_outbox(made, saga_id)
    made.clock.sleep(SOON)
    assert made.sweep() == {}, "it may still come"
    made.clock.sleep(LATE)
    done = made.sweep()[saga_id]
    if expired and status in ("RUNNING", "COMPENSATION_FAILED"):
        # No marker says that an operator is needed: the next run says it again.
        assert done == "run 0 ended FAILED (Parked): recovery 1"
    else:
        assert done == "published again what the ledger lacked"
    made.settle()
    assert must_agree(made, saga_id) == status
    assert made.alarms == []
    if faults.get("payment"):
        assert made.view(saga_id)["reason"]["error"] == "PaymentDeclinedError"
    if status == "SUCCEEDED":
        for step, kind in HOLDS.items():
            booking = made.row(kind, f"booking#{saga_id}#{step}")
            assert booking is not None and booking["status"] == "CONFIRMED", "it was told as well"
    assert made.sweep() == {}


@pytest.mark.parametrize(
    "faults",
    [{}, {"payment": "reject"}, {"hotel": "error"}, {"hotel": "crash"}, {"capture": "reject"}],
)
def test_what_is_made_from_a_marker_says_what_was_told_of_it(
    made: Ground, faults: dict[str, str]
) -> None:
    saga_id = start(made, "orchestration", **faults)
    made.settle()
    told = said(made, saga_id)
    forget_outbox(made, saga_id)
    again = said(made, saga_id)
    # An error that only the failing step's undo told of is in no marker, nor is the start.
    unmarked = {one for one in told if one.endswith((".started", ".failed"))} - set(again)
    for one in unmarked:
        undone = told.get(f"{one.removesuffix('.failed')}.undone", {"follows": ["failed"]})
        undone["follows"].remove("failed")
    assert again == {one: what for one, what in told.items() if one not in unmarked}
    assert len(again) >= 4


def said(made: Ground, saga_id: str) -> dict[str, dict[str, Any]]:
    """What the markers say now, by event; but for what only the outbox knows."""
    only_told = {"attempts", "entered_at", "run"}
    return {
        one.id: {k: v for k, v in one.data.items() if k not in only_told}
        for one in made.sweeper.markers.read(record(made, saga_id)).events()
    }


def unhealable(made: Ground) -> str:
    """A saga whose run has ended as no row says."""
    saga_id = start(made)
    lose(made, saga_id, "invoice.done")
    made.settle()
    forget_outbox(made, saga_id)
    marker = {"pk": {"S": f"marker#{saga_id}#invoice#action"}}
    made.dynamodb.delete_item(TableName="invoices", Key=marker)
    made.clock.sleep(LATE)
    return saga_id


def test_a_run_that_parked_what_was_done_after_all_is_recovered(made: Ground) -> None:
    """The pivot acts, and its function can tell nobody: forward, not to an operator."""

    def broken(function: str, task: dict[str, Any], run: Any) -> Any:
        answer = run()
        if task.get("step") == "capture":
            raise TransientError("it answers nobody")
        return answer

    made.mishap = broken
    saga_id = start(made)
    made.mishap = well
    made.settle()
    assert made.execution(saga_id)["error"] == "Parked"
    assert made.statuses(saga_id)["capture"] == "DONE"
    made.clock.sleep(LATE)
    assert made.sweep() == {saga_id: "run 0 ended FAILED (Parked): recovery 1"}
    made.settle()
    assert must_agree(made, saga_id) == "SUCCEEDED"
    assert made.alarms == []


def test_what_cannot_be_healed_raises_an_alarm_that_names_the_saga_once_a_day(
    made: Ground,
) -> None:
    saga_id = unhealable(made)
    for _ in range(3):
        made.sweep()
        made.clock.sleep(SOON)
    ((named, why),) = made.alarms
    assert named == saga_id
    assert why == "run 0 ended SUCCEEDED, and its markers do not agree"
    made.clock.sleep(timedelta(days=1).total_seconds())
    made.sweep()
    assert [saga for saga, _ in made.alarms] == [saga_id] * 2


def test_the_function_tells_the_topic_of_alarms_and_looks_after_what_it_is_told_of(
    made: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = made.sns.create_topic(Name="alarms")["TopicArn"]
    queue = made.sqs.create_queue(QueueName="on-call")["QueueUrl"]
    arn = f"arn:aws:sqs:us-east-1:{ACCOUNT}:on-call"
    made.sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    told = {
        "LEDGER_TABLE": LEDGER,
        "PARAMETERS": "/recourse/Ground",
        "QUEUE_PREFIX": "Ground-",
        "CHOREOGRAPHY": "on",
        "RECOURSE_SAGAS": "statemachines:SAGAS",
        "ALARMS_TOPIC_ARN": topic,
    }
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    for service in made.services:
        name = f"/recourse/Ground/tables/{service}"
        client("ssm").put_parameter(Name=name, Value=service, Type="String")
    for name in operators_queues(made.sagas.values(), choreography=True):
        made.sqs.create_queue(QueueName=f"Ground-{name}")
    monkeypatch.setattr(sweeper_function, "metrics", Metrics(namespace="Recourse"))
    monkeypatch.setattr(kit, "runs", lambda: made.runs)
    made_once = (kit.sweeper, kit.ledger, kit.dynamodb, kit.parameters)
    for one in made_once:
        one.cache_clear()
    try:
        aborted_at(made, "payment")
        saga_id = start(made)
        made.mishap = well
        made.settle()
        detail = {"name": saga_id, "status": "ABORTED", "error": None}
        assert sweeper_function.handler({"detail": detail}, None) == {
            saga_id: "run 0 ended ABORTED: recovery 1"
        }
        made.settle()
        assert must_agree(made, saga_id) == "COMPENSATED"
        ended = {"name": saga_id, "status": "FAILED", "error": "Compensated"}
        assert sweeper_function.handler({"detail": ended}, None) == {}
        sweeper = kit.sweeper(sweeper_function.alarm, sweeper_function.passed_over)
        monkeypatch.setattr(sweeper, "clock", made.clock.seconds)
        saga_id = unhealable(made)
        done = sweeper_function.handler({"detail-type": "Scheduled Event", "detail": {}}, None)
        assert done[saga_id].startswith("not healed")
    finally:
        for one in made_once:
            one.cache_clear()
    (message,) = made.sqs.receive_message(QueueUrl=queue)["Messages"]
    assert saga_id in json.loads(message["Body"])["Message"]


def test_messages_in_dead_letter_queues_without_alarms_fail_the_sweeper_once_in_a_while(
    made: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its errors have an alarm, which so is one for all of these queues; every saga comes first."""
    queues = {
        name: made.sqs.create_queue(QueueName=f"Shop-dev-{name}-deadletters")["QueueUrl"]
        for name in ("Ledger", "Mailer", "Relay")
    }
    monkeypatch.setenv("WATCHED_QUEUES", json.dumps(list(queues)))
    monkeypatch.setenv("QUEUE_PREFIX", "Shop-dev-")
    monkeypatch.setenv("RECOURSE_SAGAS", "statemachines:SAGAS")
    monkeypatch.setenv("CHOREOGRAPHY", "on")
    for name in redriven_queues(made.sagas.values(), choreography=True):
        url = made.sqs.create_queue(QueueName=f"Shop-dev-{deadletters_of(name)}")["QueueUrl"]
        queues.setdefault(name, url)
    monkeypatch.setenv("LEDGER_TABLE", LEDGER)
    monkeypatch.setattr(kit, "dynamodb", lambda: made.dynamodb)
    monkeypatch.setattr(kit, "sweeper", lambda *_: made.sweeper)
    monkeypatch.setattr(sweeper_function, "metrics", Metrics(namespace="Recourse"))
    kit.reach.cache_clear()
    kit._watched.cache_clear()

    def sweep(minute: int) -> dict[str, str]:
        return sweeper_function.handler({"time": f"2026-11-29T13:{minute:02}:00Z"}, None)

    try:
        assert sweep(0) == {}
        for name, count in (("Mailer", 2), ("FlightsHold", 3), ("Relay", 1)):
            for number in range(count):
                made.sqs.send_message(QueueUrl=queues[name], MessageBody=str(number))
        assert sweep(1) == {}
        saga_id = unhealable(made)
        with pytest.raises(
            MessagesWaitError,
            match=r"Shop-dev-FlightsHold-deadletters: 3, Shop-dev-Mailer-deadletters: 2, "
            r"Shop-dev-Relay-deadletters: 1$",
        ):
            sweep(15)
        assert [saga for saga, _ in made.alarms] == [saga_id]
        for url in queues.values():
            made.sqs.purge_queue(QueueUrl=url)
        assert sweep(30) == {}
    finally:
        kit.reach.cache_clear()
        kit._watched.cache_clear()


def test_an_alarm_that_could_not_be_raised_is_raised_in_the_next_round(
    made: Ground,
) -> None:
    saga_id = unhealable(made)

    def silent(saga: str, why: str) -> None:
        raise ConnectionError("nobody is told")

    with pytest.raises(ExceptionGroup):
        replace(made.sweeper, alarm=silent).sweep()
    made.sweep()
    assert [saga for saga, _ in made.alarms] == [saga_id]


SILENCES = [
    *(({}, lost) for lost in ("started", "hotel.done", "payment.done", "capture.done")),
    ({"payment": "reject"}, "payment.undone"),
    ({"capture": "error"}, "capture.failed"),
]
"""What a choreography was, by its faults, when it stopped for one event was lost."""


def silenced(made: Ground, faults: dict[str, str], lost: str) -> str:
    """A choreography that is silent, for an event was lost to the ledger and the steps."""
    saga_id = start(made, "choreography", **faults)
    while not any(
        one["dynamodb"]["NewImage"]["pk"]["S"] == f"outbox#{saga_id}.{lost}"
        for one in made.stream._records
    ):
        made.relay(1)
        for name in made.queues:
            if made.waiting(name):
                made.deliver(name)
        made.pass_time()
    lose(made, saga_id, lost)
    made.settle()
    assert made.view(saga_id)["status"] in ("RUNNING", "COMPENSATING")
    made.clock.reset()
    return saga_id


@pytest.mark.parametrize(("faults", "lost"), SILENCES)
def test_a_choreography_goes_on_where_an_event_was_lost(
    made: Ground, faults: dict[str, str], lost: str
) -> None:
    saga_id = silenced(made, faults, lost)
    made.clock.sleep(SOON)
    assert made.sweep() == {}
    made.clock.sleep(LATE)
    assert "published its events again" in made.sweep()[saga_id]
    assert made.sweep() == {}, "once"
    made.settle()
    assert must_agree(made, saga_id) == ("COMPENSATED" if faults else "SUCCEEDED")
    assert record(made, saga_id).run == 0, "no recovery was needed"


@pytest.mark.parametrize(("faults", "lost"), SILENCES)
def test_a_choreography_goes_on_though_sns_regards_no_filter_for_a_quarter_of_an_hour(
    made: Ground, faults: dict[str, str], lost: str
) -> None:
    """As long may it take after a deploy; its events are published at growing intervals."""
    saga_id = silenced(made, faults, lost)
    told = []
    for minute in range(1, 60):
        made.clock.sleep(60)
        if saga_id in made.sweep():
            told.append(minute)
            if minute > 15:
                break
            while made.relay():
                for name in made.queues:
                    made.lose(name)
    assert len(told) == 4
    assert all(2 * one <= then <= 2 * one + 1 for one, then in itertools.pairwise([1.5, *told]))
    made.settle()
    assert must_agree(made, saga_id) == ("COMPENSATED" if faults else "SUCCEEDED")
    assert record(made, saga_id).run == 0, "no recovery was needed"


def test_a_claim_past_the_deadline_whose_event_was_lost_is_heard_of_all_the_same(
    made: Ground,
) -> None:
    saga_id = start(made, "choreography")
    made.relay(1)
    made.deliver("HotelsHold")
    assert made.runs.cancel(record(made, saga_id))
    made.stream.fetch()
    for name in made.queues:
        made.lose(name)
    assert made.sweep(1e-9)[saga_id] == "cancelled, past its deadline"
    made.settle()
    assert must_agree(made, saga_id) == "COMPENSATED"


def test_a_choreography_that_is_undone_goes_on_where_an_event_was_lost(made: Ground) -> None:
    saga_id = start(made, "choreography", capture="reject")
    while not made.row("payments", f"marker#{saga_id}#payment#undo"):
        made.relay(1)
        for name in made.queues:
            if made.waiting(name):
                made.deliver(name)
    lose(made, saga_id, "payment.undone")
    made.settle()
    made.clock.sleep(LATE)
    made.sweep()
    made.settle()
    assert must_agree(made, saga_id) == "COMPENSATED"
    assert record(made, saga_id).run == 0


def test_a_choreography_whose_last_event_only_the_ledger_missed_needs_no_recovery(
    made: Ground,
) -> None:
    saga_id = start(made, "choreography")
    while not made.row("invoices", f"marker#{saga_id}#invoice#action"):
        made.relay(1)
        for name in made.queues:
            if made.waiting(name):
                made.deliver(name)
    lose(made, saga_id, "invoice.done")
    made.settle()
    forget_outbox(made, saga_id)
    made.clock.sleep(SAGA.deadline + LATE)
    assert "published again what was lost" in made.sweep()[saga_id]
    made.settle()
    assert must_agree(made, saga_id) == "SUCCEEDED"
    assert record(made, saga_id).run == 0


def test_a_throttled_table_is_asked_for_the_markers_again(
    made: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a table leaves out when it is busy is not absent."""
    saga_id = start(made)
    lose(made, saga_id, "capture.done")
    made.settle()
    forget_outbox(made, saga_id)
    ask, busy = made.dynamodb.batch_get_item, itertools.cycle([True, False])

    def throttled(*, RequestItems: dict[str, Any]) -> Any:
        if next(busy):
            return {"Responses": {}, "UnprocessedKeys": RequestItems}
        return ask(RequestItems=RequestItems)

    made.clock.sleep(LATE)
    with monkeypatch.context() as patch:
        patch.setattr(made.dynamodb, "batch_get_item", throttled)
        made.sweep()
    made.settle()
    assert must_agree(made, saga_id) == "SUCCEEDED"


# The ledger itself.


def test_two_batches_of_one_saga_at_once_lose_nothing_of_each_other(
    made: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    saga_id = start(made)
    told = [
        Event.parse(row["event"])
        for table in made.services
        for row in made.rows(table, f"outbox#{saga_id}")
    ]
    first, second = told[::2], told[1::2]
    put = made.dynamodb.put_item
    met: list[str] = []

    def overtaken(**asked: Any) -> Any:
        if not met:
            met.append(saga_id)
            made.ledger.record_events(saga_id, second)
        return put(**asked)

    with monkeypatch.context() as patch:
        patch.setattr(made.dynamodb, "put_item", overtaken)
        made.ledger.record_events(saga_id, first)
    found = record(made, saga_id)
    known = {one.id for one in [*found.entered, *found.waiting]}
    assert known >= {one.id for one in told}
    assert found.status == "SUCCEEDED"


def test_a_paid_hold_is_booked_though_its_table_was_throttled(
    made: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    saga_id = start(made)
    ask, busy = made.dynamodb.batch_get_item, itertools.cycle([True, False])

    def throttled(*, RequestItems: dict[str, Any]) -> Any:
        if next(busy):
            return {"Responses": {}, "UnprocessedKeys": RequestItems}
        return ask(RequestItems=RequestItems)

    with monkeypatch.context() as patch:
        patch.setattr(made.dynamodb, "batch_get_item", throttled)
        made.settle()
    assert must_agree(made, saga_id) == "SUCCEEDED"
