"""How the published AWS saga samples lose money: one test for each failing that it excludes here.

Each section names the sample; each docstring says what it does where ours must not.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from recourse.declare.declaration import Step
from recourse.declare.ids import SagaId
from recourse.declare.request import request_model
from recourse.declare.saga import Saga
from recourse.orchestration.compiler import compile_saga
from recourse.run.failures import THROTTLES, TRANSIENT
from recourse.store.items import encode
from recourse.testing.ground import LEDGER, Mishap
from recourse.testing.handlers import Killed
from services import flights, hotels, invoices, payments
from statemachines import SAGAS
from statemachines.fields import Payer
from statemachines.travel_booking import FlightAsk, HotelAsk
from tests.ground import Ground, ground
from tests.integration.trips import HOLDS, PRICE, THINGS, TRIP, must_agree, must_be_whole

SAGA = SAGAS["travel-booking"]
COMPENSABLE = [step.name for step in SAGA.all if SAGA.role(step.name) == "compensable"]
REJECTED = {"capture": "reject"}
"""Everything is held, and then undone."""
MACHINES = Path(__file__).parents[2] / "statemachines"
keys = itertools.count()
each_saga = pytest.mark.parametrize("saga", SAGAS.values(), ids=SAGAS)
each_compensable = pytest.mark.parametrize("step", COMPENSABLE)

Run = Callable[[], Any]


@contextmanager
def mishaps(ground: Ground, mishap: Mishap) -> Iterator[None]:
    before, ground.mishap = ground.mishap, mishap
    try:
        yield
    finally:
        ground.mishap = before


def book(
    ground: Ground, faults: dict[str, str] | None = None, *, mishap: Mishap | None = None
) -> str:
    """A trip under faults and a mishap, settled and in agreement with its status; its id."""
    with mishaps(ground, mishap or ground.mishap):
        saga = ground.start("travel-booking", TRIP, key=f"p{next(keys)}", faults=faults)
        ground.settle()
    must_agree(ground, saga)
    return saga


def status(ground: Ground, saga: str) -> str:
    return str(ground.view(saga)["status"])


def everything(ground: Ground) -> dict[tuple[str, str], dict[str, Any]]:
    """What every service shows of what it holds."""
    return {thing: ground.held(*thing) for thing in THINGS}


def at(step: str, phase: str, do: Callable[[Run], Any]) -> Mishap:
    """A mishap that takes the place of every call of a step's phase."""

    def mishap(function: str, task: dict[str, Any], run: Run) -> Any:
        mine = (task.get("step"), task.get("phase")) == (step, phase)
        return do(run) if mine else run()

    return mishap


def failing(problem: BaseException) -> Callable[[Run], Any]:
    """Fail without any effect."""

    def fail(_: Run) -> Any:
        raise problem

    return fail


def unheard(run: Run) -> Any:
    """Act, and be too late to say so."""
    run()
    raise TimeoutError


def machines(machine: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A compiled machine and those of its branches."""
    yield machine
    for state in machine["States"].values():
        for branch in state.get("Branches", []):
            yield from machines(branch)


# aws-samples/step-functions-workflows-collection, saga-pattern-*.


@pytest.mark.parametrize("step", HOLDS)
def test_an_undo_undoes_the_very_row_that_its_action_wrote(shared: Ground, step: str) -> None:
    """Its reserve writes one sort key and its cancel deletes another: no rollback ever works."""
    written: dict[str, Any] = {}

    def look(run: Run) -> Any:
        written.update(run())
        return dict(written)

    before = everything(shared)
    saga = book(shared, {"payment": "reject"}, mishap=at(step, "action", look))
    row = shared.row(HOLDS[step], written["booking_id"])
    assert row is not None and row["status"] == "RELEASED"
    assert len(shared.rows(HOLDS[step], f"booking#{saga}")) == 1, "there is no other"
    assert status(shared, saga) == "COMPENSATED"
    assert everything(shared) == before


def test_giving_money_back_never_deletes_the_payment(shared: Ground) -> None:
    """Its refund deletes the payment's record, and with it what could be told of it."""
    saga = book(shared, REJECTED)
    payment = shared.row("payments", f"payment#{saga}")
    assert payment is not None
    assert (payment["status"], payment["amount"]["amount"]) == ("VOIDED", PRICE)
    moved = {row["pk"].rpartition("#")[2] for row in shared.rows("payments", f"movement#{saga}")}
    assert moved == {"authorise", "void"}


@request_model
class PrepaidRequest:
    """A room that is taken after it has been paid."""

    order_id: str
    flight: FlightAsk
    hotel: HotelAsk
    payment: Payer


PREPAID = Saga(
    "prepaid",
    request=PrepaidRequest,
    business_key="order_id",
    steps=[
        Step("flight", flights.hold, undo=flights.release, takes=["flight"]),
        Step(
            "payment",
            payments.authorise,
            undo=payments.void,
            takes=["payment"],
            after=["flight"],
        ),
        Step("capture", payments.capture, undo=payments.refund),
        Step("hotel", hotels.hold, undo=hotels.release, takes=["hotel"]),
        Step("invoice", invoices.issue, after=["flight", "hotel"], pivot=True),
    ],
)
PREPAID_ORDER = {name: TRIP[name] for name in ("flight", "hotel", "payment")} | {"order_id": "o-1"}


@pytest.fixture(scope="module")
def bare() -> Iterator[Ground]:
    """One ground for the module, with a saga more that takes the money before it holds the room."""
    with ground({**SAGAS, PREPAID.name: PREPAID}) as made:
        yield made


@pytest.mark.parametrize("fault", ["reject", "crash"])
def test_a_refund_changes_the_payment_and_leaves_it_there(shared: Ground, fault: str) -> None:
    """Its refund deletes the payment's record."""
    before = everything(shared)
    saga = shared.start("prepaid", PREPAID_ORDER, key=f"r-{fault}", faults={"hotel": fault})
    shared.settle()
    assert status(shared, saga) == "COMPENSATED"
    payment = shared.row("payments", f"payment#{saga}")
    assert payment is not None and payment["status"] == "REFUNDED"
    assert everything(shared) == before


# aws-samples/aws-step-functions-long-lived-transactions.


class ProvisionedThroughputExceededException(Exception):
    """What a throttled table says."""


@pytest.mark.parametrize(
    "problem",
    [
        pytest.param(TimeoutError(), id="a timeout"),
        pytest.param(ProvisionedThroughputExceededException(), id="a throttle"),
        pytest.param(Killed(), id="a dead process"),
        pytest.param(ZeroDivisionError(), id="a mistake"),
    ],
)
@each_compensable
def test_whatever_fails_a_step_compensates(
    shared: Ground, step: str, problem: BaseException
) -> None:
    """It catches its own errors by name, so a timeout or a throttle ends it without undoing."""
    before = everything(shared)
    saga = book(shared, mishap=at(step, "action", failing(problem)))
    assert status(shared, saga) == "COMPENSATED"
    assert shared.view(saga)["reason"]["step"] == step
    assert everything(shared) == before


@pytest.mark.of_all
@each_saga
def test_no_task_relies_on_the_names_of_errors(saga: Saga) -> None:
    """It catches its own errors by name only."""
    for machine in machines(compile_saga(saga)):
        for name, state in machine["States"].items():
            if state["Type"] in ("Task", "Parallel") and name != "Park":
                assert state["Catch"][-1]["ErrorEquals"] == ["States.ALL"], name
    assert {"States.Timeout", "Lambda.TooManyRequestsException"} <= {*TRANSIENT, *THROTTLES}


@pytest.mark.parametrize("fault", ["reject", "error", "late"])
def test_releasing_what_was_never_held_is_no_failure_and_the_money_still_comes_back(
    shared: Ground, fault: str
) -> None:
    """Its release fails where nothing was reserved, so the customer is never refunded."""
    before = everything(shared)
    saga = shared.start("prepaid", PREPAID_ORDER, key=f"n-{fault}", faults={"hotel": fault})
    shared.settle()
    assert status(shared, saga) == "COMPENSATED"
    assert shared.row("hotels", f"booking#{saga}#hotel") is None
    undone = shared.row("hotels", f"marker#{saga}#hotel#undo")
    assert undone is not None and undone["outcome"] == "empty"
    assert everything(shared) == before


@pytest.mark.parametrize("faults", [{}, REJECTED, {"hotel": "crash"}])
def test_nothing_decides_by_an_index(shared: Ground, faults: dict[str, str]) -> None:
    """It looks reservations up through an index, which may not know of them yet."""
    calls: list[tuple[str, dict[str, Any]]] = []

    def note(model: Any, params: dict[str, Any], **_: Any) -> None:
        calls.append((model.name, json.loads(params["body"])))

    hooks = shared.dynamodb.meta.events
    hooks.register("before-call.dynamodb", note)
    try:
        saga = shared.start("travel-booking", TRIP, key=f"i{next(keys)}", faults=faults)
        shared.settle()
    finally:
        hooks.unregister("before-call.dynamodb", note)
    assert status(shared, saga) == ("COMPENSATED" if faults else "SUCCEEDED")
    assert {name for name, _ in calls} == {
        *("GetItem", "BatchGetItem", "TransactWriteItems", "PutItem"),
    }
    for name, asked in calls:
        reads = {"GetItem": [asked], "BatchGetItem": [*asked.get("RequestItems", {}).values()]}
        assert all(read["ConsistentRead"] for read in reads.get(name, [])), asked


def test_a_step_that_fails_after_the_pivot_never_makes_a_paid_trip_a_failed_one(
    shared: Ground,
) -> None:
    """A notification that fails makes it report a committed order as failed."""
    saga = book(shared, mishap=at("invoice", "action", failing(ZeroDivisionError())))
    view = shared.view(saga)
    assert view["status"] == "RUNNING", "until an operator looks at the invoice"
    assert shared.statuses(saga) == dict.fromkeys([*COMPENSABLE, "capture"], "DONE") | {
        "invoice": "FAILED"
    }
    must_be_whole(shared, saga)
    record = shared.ledger.get(saga)
    assert record is not None
    ends = {event.kind for event in record.entered}
    assert not ends & {"compensated", "compensation_failed", "undone"}
    shared.resolve(saga, "invoice", skip=False)
    shared.settle()
    assert must_agree(shared, saga) == "SUCCEEDED"


def floats(value: Any) -> list[float]:
    """Every float in plain data."""
    match value:
        case float():
            return [value]
        case dict():
            return [found for inner in value.values() for found in floats(inner)]
        case list() | tuple():
            return [found for inner in value for found in floats(inner)]
    return []


def test_money_is_never_a_float(shared: Ground) -> None:
    """Its prices are floats, and sums of those do not add up."""
    sagas = [book(shared), book(shared, REJECTED)]
    assert floats({"a": [{"b": 0.1}]}) == [0.1]
    for saga in sagas:
        assert floats(shared.view(saga)) == []
        record = shared.ledger.get(saga)
        assert record is not None
        assert floats([event.to_dict() for event in record.entered]) == []
    for table in (*shared.services, LEDGER):
        for page in shared.dynamodb.get_paginator("scan").paginate(TableName=table):
            text = json.dumps(page["Items"])
            assert not [n for n in text.split('"N": "')[1:] if "." in n.partition('"')[0]], table
    with pytest.raises(TypeError, match="float"):
        encode({"amount": 480.0})


# cdk-patterns/serverless, the-saga-stepfunction.


@each_compensable
def test_an_undo_does_not_need_to_be_told_the_actions_result(shared: Ground, step: str) -> None:
    """Its undo takes an id from the step's result, so what timed out cannot be undone."""
    before = everything(shared)
    saga = book(shared, mishap=at(step, "action", unheard))
    assert status(shared, saga) == "COMPENSATED"
    shown = next(s for s in shared.view(saga)["steps"] if s["name"] == step)
    assert (shown["status"], shown["error"]) == ("UNDONE", "StepTimedOutError")
    assert everything(shared) == before
    for state in compile_saga(SAGA)["States"].values():
        if state.get("Parameters", {}).get("phase") == "undo":
            assert state["Parameters"]["results"] == {}


def test_two_sagas_of_one_business_key_do_not_touch_each_others_rows(shared: Ground) -> None:
    """Its default trip id is a constant: a second failing saga deletes the first one's trip."""
    first = book(shared)
    before = everything(shared)
    second = book(shared, REJECTED)
    third = book(shared, {"flight": "crash"})
    keys_of = {shared.view(saga)["business_key"] for saga in (first, second, third)}
    assert keys_of == {TRIP["trip_id"]}
    assert [status(shared, saga) for saga in (second, third)] == ["COMPENSATED"] * 2
    must_be_whole(shared, first)
    assert everything(shared) == before


def test_a_run_is_named_for_its_saga_which_is_named_for_who_asked_for_it(shared: Ground) -> None:
    """Its executions have no name, so that a start that is tried again is a second trip."""
    ids = {
        shared.start("travel-booking", TRIP, key="named", faults={"car": "reject"}) for _ in "ab"
    }
    assert ids == {SagaId.of("travel-booking", "asha", "named")}
    shared.settle()
    (saga,) = ids
    assert shared.execution(saga)["name"] == saga
    assert must_agree(shared, saga) == "COMPENSATED"


@each_compensable
def test_an_undo_that_keeps_failing_is_caught_and_parked_and_the_others_run(
    shared: Ground, step: str
) -> None:
    """Its undo has three retries and no catch: the saga strands with the rest not undone."""
    broken = at(step, "undo", failing(ZeroDivisionError()))
    saga = book(shared, REJECTED, mishap=broken)
    statuses = shared.statuses(saga)
    assert statuses.pop(step) == "UNDO_FAILED"
    assert {statuses[name] for name in COMPENSABLE if name != step} == {"UNDONE"}
    assert status(shared, saga) == "COMPENSATION_FAILED"
    assert shared.execution(saga)["error"] == "Parked"
    shared.resolve(saga, step, skip=False)
    shared.settle()
    assert must_agree(shared, saga) == "COMPENSATED"


@pytest.mark.parametrize("seed", range(6))
def test_no_saga_strands_under_its_forty_percent_of_faults(shared: Ground, seed: int) -> None:
    """Under its own injected faults, 40 % of calls, 7.5 % of its failing sagas strand."""
    chance = random.Random(seed)

    def flaky(function: str, task: dict[str, Any], run: Run) -> Any:
        if chance.random() < 0.4:
            raise ConnectionError
        return run()

    before = everything(shared)
    saga = book(shared, REJECTED, mishap=flaky)
    for step in COMPENSABLE:
        if shared.statuses(saga)[step] == "UNDO_FAILED":
            shared.resolve(saga, step, skip=False)
            shared.settle()
    assert must_agree(shared, saga) == "COMPENSATED"
    assert everything(shared) == before


@pytest.mark.of_all
@each_saga
def test_no_machine_has_a_timeout_that_would_skip_compensation(saga: Saga) -> None:
    """Its machine has five minutes, after which nothing is undone."""
    committed = json.loads((MACHINES / f"{saga.name}.asl.json").read_text())
    for machine in machines(committed):
        assert "TimeoutSeconds" not in machine
        tasks = [state for state in machine["States"].values() if state["Type"] == "Task"]
        assert all(state["TimeoutSeconds"] > 0 for state in tasks), "each task has one instead"


# aws-samples/saga-orchestration-netcore-blog.


@pytest.mark.parametrize("fault", ["reject", "error", "late"])
@pytest.mark.parametrize("step", HOLDS)
def test_undoing_adds_no_stock_that_was_never_taken(shared: Ground, step: str, fault: str) -> None:
    """Its revert adds stock whether or not any was taken."""
    before = everything(shared)
    saga = book(shared, {step: fault})
    assert shared.statuses(saga)[step] == "FAILED", "its undo has run, and found nothing"
    undone = shared.row(HOLDS[step], f"marker#{saga}#{step}#undo")
    assert undone is not None and undone["outcome"] == "empty"
    assert everything(shared) == before


@each_compensable
def test_an_error_of_an_undo_is_not_swallowed(shared: Ground, step: str) -> None:
    """It swallows what its reverts raise, and goes on as if they had worked."""
    saga = book(shared, REJECTED, mishap=at(step, "undo", failing(ZeroDivisionError("a slip"))))
    view = shared.view(saga)
    shown = next(s for s in view["steps"] if s["name"] == step)
    assert (shown["error"], shown["message"]) == ("ZeroDivisionError", "a slip")
    assert view["reason"]["step"] == "capture", "why it is undone is still the first failure"
    assert shown["undo_attempts"] == SAGA.retry(SAGA.by_name[step]).attempts
    record = shared.ledger.get(saga)
    assert record is not None
    (told,) = [event for event in record.entered if event.kind == "undo_failed"]
    assert told.error == {"type": "ZeroDivisionError", "message": "a slip"}


# aws-samples/serverless-patterns, the durable functions' sagas.


@pytest.mark.parametrize("how", [unheard, failing(ZeroDivisionError())], ids=["acted", "not"])
@each_compensable
def test_the_failing_step_is_itself_undone_and_first(
    shared: Ground, step: str, how: Callable[[Run], Any]
) -> None:
    """They undo the steps before the one that failed, which may have acted as well."""
    undone: list[str] = []
    around = at(step, "action", how)

    def mishap(function: str, task: dict[str, Any], run: Run) -> Any:
        if task.get("phase") == "undo":
            undone.append(task["step"])
        return around(function, task, run)

    saga = book(shared, mishap=mishap)
    assert status(shared, saga) == "COMPENSATED"
    rank = SAGA.rank(step)
    together = [s.name for s in SAGA.groups[rank]]
    earlier = [s.name for group in SAGA.groups[:rank] for s in group]
    assert undone[0] == step
    # Where it ran together with others, it is asked once more in its turn, and answers as before.
    once = list(dict.fromkeys(undone))
    assert set(once[: len(together)]) == set(together), "all of them when they run together"
    assert once[len(together) :] == earlier[::-1]
    assert shared.statuses(saga)[step] == ("UNDONE" if how is unheard else "FAILED")


def test_a_failed_undo_is_not_reported_as_compensated(shared: Ground) -> None:
    """They log every undo as compensated, those that failed too."""
    saga = book(shared, REJECTED | {"hotel.undo": "error"})
    record = shared.ledger.get(saga)
    assert record is not None
    told = [event.path for event in record.entered]
    assert told[-1] == "compensation_failed"
    assert "hotel.undo_failed" in told
    assert "hotel.undone" not in told and "compensated" not in told
    view = shared.view(saga)
    assert (view["status"], view["ended_at"]) == ("COMPENSATION_FAILED", None)
    assert shared.execution(saga)["error"] == "Parked"


@pytest.mark.parametrize("times", [2, 3])
@pytest.mark.parametrize("faults", [{}, REJECTED, {"car": "reject"}])
def test_a_decrement_happens_once_however_often_it_is_delivered(
    shared: Ground, faults: dict[str, str], times: int
) -> None:
    """Their steps run at least once, and their decrements count every time."""

    def again(function: str, task: dict[str, Any], run: Run) -> Any:
        for _ in range(times - 1):
            try:
                run()
            except Exception:
                continue
        return run()

    before = everything(shared)
    saga = book(shared, faults, mishap=again)
    if faults:
        assert status(shared, saga) == "COMPENSATED"
        assert everything(shared) == before
        return
    assert status(shared, saga) == "SUCCEEDED"
    after = everything(shared)
    seats, account = ("flights", "AI-202"), ("accounts", "acct-asha")
    taken = TRIP["flight"]["seats"]
    assert after[seats]["available"] == before[seats]["available"] - taken
    assert after[seats]["confirmed"] == before[seats]["confirmed"] + taken
    assert after[account]["balance"] == before[account]["balance"] - PRICE
