"""What happens to a saga from outside: nothing is lost, nothing is done twice."""

from __future__ import annotations

import itertools
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from recourse.errors import StepCancelledError, TransientError
from recourse.events import outbox_row
from recourse.events.relay import PublishError, relay
from recourse.ledger.ledger import KeyReusedError, NothingToResolveError, UnknownSagaError
from recourse.ledger.record import Record
from recourse.orchestration import sweeper as sweeper_module
from recourse.orchestration.executions import Runs, run_name
from recourse.store.items import encode_item
from recourse.testing.ground import LEDGER
from recourse.testing.handlers import Killed
from statemachines import SAGAS
from tests.events import event
from tests.ground import Ground
from tests.integration.trips import HOLDS, PRICE, TRIP, must_agree, must_be_gone, must_hold

SAGA = SAGAS["travel-booking"]
STEPS = [step.name for step in SAGA.all]
COMPENSABLE = [name for name in STEPS if SAGA.role(name) == "compensable"]
keys = itertools.count()


@pytest.fixture(autouse=True)
def no_mishap(shared: Ground) -> Iterator[None]:
    before = shared.mishap
    yield
    shared.mishap = before


@pytest.fixture(autouse=True)
def no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeper_module, "GRACE_PERIOD", timedelta(0))


def key() -> str:
    return f"k{next(keys)}"


def at(step: str, phase: str, do: Callable[[dict[str, Any]], None], *, after: bool) -> Any:
    """A mishap: something happens once, just before or after a step's phase."""
    happened = threading.Event()

    def mishap(function: str, task: dict[str, Any], run: Callable[[], Any]) -> Any:
        mine = (task.get("step"), task.get("phase")) == (step, phase) and not happened.is_set()
        if mine and not after:
            happened.set()
            do(task)
        answer = run()
        if mine and after:
            happened.set()
            do(task)
        return answer

    return mishap


def abort(ground: Ground) -> Callable[[dict[str, Any]], None]:
    def stop(task: dict[str, Any]) -> None:
        machine = ground.runs.machines["travel-booking"].replace(":stateMachine:", ":execution:")
        name = run_name(task["saga"]["id"], task["saga"]["recover"])
        ground.sfn.stop_execution(executionArn=f"{machine}:{name}")

    return stop


def sweep_until_at_rest(ground: Ground, saga: str) -> str:
    ground.settle()
    for _ in range(5):
        record = ground.ledger.get(saga)
        assert record is not None
        if record.status in ("SUCCEEDED", "COMPENSATED"):
            break
        ground.hear_of_end(saga, record.run)
        ground.settle()
    return must_agree(ground, saga)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_an_execution_aborted_around_any_step_comes_to_its_end(
    shared: Ground, step: str, after: bool
) -> None:
    shared.mishap = at(step, "action", abort(shared), after=after)
    saga = shared.start("travel-booking", TRIP, key=key())
    assert shared.execution(saga)["status"] == "ABORTED"
    shared.mishap = lambda function, task, run: run()
    status = sweep_until_at_rest(shared, saga)
    # The handler was called in any case, so from the pivot on it is booked, else it is undone.
    past = SAGA.rank(step) >= SAGA.rank("capture")
    assert status == ("SUCCEEDED" if past else "COMPENSATED")


@pytest.mark.parametrize("step", COMPENSABLE)
def test_an_execution_aborted_while_it_is_undone_is_undone_whole(shared: Ground, step: str) -> None:
    shared.mishap = at(step, "undo", abort(shared), after=False)
    saga = shared.start("travel-booking", TRIP, key=key(), faults={"capture": "reject"})
    assert shared.execution(saga)["status"] == "ABORTED"
    assert sweep_until_at_rest(shared, saga) == "COMPENSATED"


def test_a_recovery_that_is_aborted_is_recovered(shared: Ground) -> None:
    saga_id = ""

    def mishap(function: str, task: dict[str, Any], run: Callable[[], Any]) -> Any:
        if task.get("step") == "payment" and task["saga"]["recover"] < 2:
            abort(shared)(task)
        return run()

    shared.mishap = mishap
    saga_id = shared.start("travel-booking", TRIP, key=key())
    assert sweep_until_at_rest(shared, saga_id) == "COMPENSATED"
    record = shared.ledger.get(saga_id)
    assert record is not None and record.run == 2


@pytest.mark.parametrize("fails_at", COMPENSABLE)
@pytest.mark.parametrize("captured", [True, False], ids=["captured", "not captured"])
def test_a_recovery_that_cannot_look_up_undoes_nothing_and_is_followed_by_another(
    shared: Ground, captured: bool, fails_at: str
) -> None:
    shared.mishap = at("capture", "action", abort(shared), after=captured)
    faults = {} if captured else {"capture": "reject"}
    saga = shared.start("travel-booking", TRIP, key=key(), faults=faults)
    shared.settle()

    def lookup_fails(function: str, task: dict[str, Any], run: Callable[[], Any]) -> Any:
        if (task.get("step"), task.get("phase")) == (fails_at, "action"):
            raise TransientError("throttled for long")
        return run()

    shared.mishap = lookup_fails
    assert saga in shared.hear_of_end(saga)
    assert shared.execution(saga, 1)["error"] == "LookupFailed"
    assert shared.hear_of_end(saga, 1) == {}, "not at once"
    shared.settle()
    must_hold(shared)
    for step, kind in HOLDS.items():
        booking = shared.row(kind, f"booking#{saga}#{step}")
        assert booking is not None and booking["status"] != "RELEASED"
    shared.mishap = lambda function, task, run: run()
    assert saga in shared.sweeper.sweep()
    shared.settle()
    assert must_agree(shared, saga) == ("SUCCEEDED" if captured else "COMPENSATED")


def test_a_saga_that_cannot_be_looked_after_keeps_no_other_from_it(
    shared: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = [shared.start("travel-booking", TRIP, key=key(), run=False) for _ in range(3)]
    run = Runs.start

    def refuse_one(runs: Runs, record: Record) -> None:
        if record.saga_id == lost[1]:
            raise TransientError("not this one, not now")
        run(runs, record)

    monkeypatch.setattr(Runs, "start", refuse_one)
    with pytest.raises(ExceptionGroup) as problems:
        shared.sweeper.sweep()
    (problem,) = problems.value.exceptions
    assert problem.__notes__ == [f"saga {lost[1]}"]
    shared.settle()
    assert [must_agree(shared, saga) for saga in lost] == ["SUCCEEDED", "RUNNING", "SUCCEEDED"]
    monkeypatch.undo()
    shared.sweep(0)
    shared.settle()
    assert must_agree(shared, lost[1]) == "SUCCEEDED"


def test_a_start_that_was_recorded_and_never_run_is_run(shared: Ground) -> None:
    saga = shared.start("travel-booking", TRIP, key=key(), run=False)
    assert saga in shared.sweeper.sweep()
    shared.settle()
    assert must_agree(shared, saga) == "SUCCEEDED"
    assert saga not in shared.sweeper.sweep()


@pytest.mark.parametrize("kind", [Killed, TimeoutError])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", [*STEPS, *(f"{name}.undo" for name in COMPENSABLE)])
def test_a_process_that_dies_once_changes_nothing(
    shared: Ground, step: str, after: bool, kind: type[BaseException]
) -> None:
    def die(task: dict[str, Any]) -> None:
        raise kind

    name, _, undo = step.partition(".")
    faults = {"capture": "reject"} if undo else {}
    shared.mishap = at(name, undo or "action", die, after=after)
    saga = shared.start("travel-booking", TRIP, key=key(), faults=faults)
    shared.settle()
    assert must_agree(shared, saga) == ("COMPENSATED" if undo else "SUCCEEDED")


@pytest.mark.parametrize("step", COMPENSABLE)
def test_cancelling_before_the_pivot_compensates(shared: Ground, step: str) -> None:
    cancelled = []

    def cancel(task: dict[str, Any]) -> None:
        record = shared.ledger.get(task["saga"]["id"])
        assert record is not None
        cancelled.append(shared.runs.cancel(record))

    shared.mishap = at(step, "action", cancel, after=True)
    saga = shared.start("travel-booking", TRIP, key=key())
    shared.settle()
    assert cancelled == [True]
    assert must_agree(shared, saga) == "COMPENSATED"
    reason = shared.view(saga)["reason"]
    assert (reason["step"], reason["error"]) == ("capture", StepCancelledError.__name__)
    assert shared.statuses(saga)["capture"] == "FAILED"


def test_cancelling_at_the_same_time_as_the_pivot_is_one_decision(shared: Ground) -> None:
    answers: dict[str, bool] = {}

    def mishap(function: str, task: dict[str, Any], run: Callable[[], Any]) -> Any:
        if (task.get("step"), task.get("phase")) != ("capture", "action"):
            return run()
        record = shared.ledger.get(task["saga"]["id"])
        assert record is not None
        with ThreadPoolExecutor(2) as pool:
            acting, cancelling = pool.submit(run), pool.submit(shared.runs.cancel, record)
        answers[record.saga_id] = cancelling.result()
        return acting.result()

    shared.mishap = mishap
    for _ in range(8):
        saga = shared.start("travel-booking", TRIP, key=key())
        shared.settle()
        expected = "COMPENSATED" if answers[saga] else "SUCCEEDED"
        assert must_agree(shared, saga) == expected


def test_after_the_pivot_it_cannot_be_cancelled(shared: Ground) -> None:
    saga = shared.start("travel-booking", TRIP, key=key())
    record = shared.ledger.get(saga)
    assert record is not None
    assert shared.runs.cancel(record) is False
    shared.settle()
    assert must_agree(shared, saga) == "SUCCEEDED"


def test_a_saga_past_its_deadline_is_cancelled(shared: Ground) -> None:
    swept: list[dict[str, str]] = []

    def sweep(task: dict[str, Any]) -> None:
        shared.settle()
        swept.append(shared.sweep(0))

    shared.mishap = at("payment", "action", sweep, after=True)
    saga = shared.start("travel-booking", TRIP, key=key())
    shared.settle()
    assert swept == [{saga: "cancelled, past its deadline"}]
    assert must_agree(shared, saga) == "COMPENSATED"


def test_the_same_start_is_the_same_saga_and_another_body_is_refused(shared: Ground) -> None:
    same = key()
    first = shared.start("travel-booking", TRIP, key=same)
    assert shared.start("travel-booking", TRIP, key=same) == first
    with pytest.raises(KeyReusedError):
        shared.start("travel-booking", TRIP | {"trip_id": "other"}, key=same)
    shared.settle()
    assert must_agree(shared, first) == "SUCCEEDED"


def test_only_what_is_stuck_is_resolved(shared: Ground) -> None:
    saga = shared.start("travel-booking", TRIP, key=key())
    shared.settle()
    with pytest.raises(NothingToResolveError):
        shared.resolve(saga, "flight", skip=False)
    with pytest.raises(UnknownSagaError):
        shared.resolve("nobody", "flight", skip=False)


def test_a_relay_that_was_down_tells_all_of_it_later(shared: Ground) -> None:
    saga = shared.start("travel-booking", TRIP, key=key())
    records = shared.stream.fetch()

    class Down:
        def publish_batch(self, **_: Any) -> Any:
            raise EndpointConnectionError(endpoint_url="no topic")

    down: Any = Down()
    with pytest.raises(PublishError, match="no topic"):
        relay(down, "topic", records, shared.lose_record, patience=0)
    assert shared.view(saga)["status"] == "RUNNING"
    for record in records:
        shared.stream.add(record)
    shared.settle(twice=True)
    assert must_agree(shared, saga) == "SUCCEEDED"


def test_a_message_that_is_no_event_is_dead_lettered_alone(shared: Ground) -> None:
    saga = shared.start("travel-booking", TRIP, key=key())
    shared.sqs.send_message(QueueUrl=shared.queues["ledger"], MessageBody="{not json")
    shared.settle()
    (message,) = shared.dead_lettered("ledger")
    assert message["Body"] == "{not json"
    assert must_agree(shared, saga) == "SUCCEEDED"


# What becomes of single calls of DynamoDB.

Hook = Callable[[str, dict[str, Any]], Any]


@contextmanager
def calls(ground: Ground, before: Hook | None = None, after: Hook | None = None) -> Iterator[None]:
    """Let something happen before and after each call; what `before` returns is the answer."""

    def called(model: Any, params: dict[str, Any], **_: Any) -> Any:
        return before(model.name, json.loads(params["body"])) if before else None

    def answered(model: Any, **_: Any) -> None:
        if after:
            after(model.name, {})

    hooks = ground.dynamodb.meta.events
    hooks.register("before-call.dynamodb", called)
    hooks.register("after-call.dynamodb", answered)
    try:
        yield
    finally:
        hooks.unregister("before-call.dynamodb", called)
        hooks.unregister("after-call.dynamodb", answered)


THROTTLED: Any = (
    SimpleNamespace(status_code=400),
    {
        "Error": {"Code": "ProvisionedThroughputExceededException", "Message": "slower"},
        "ResponseMetadata": {"HTTPStatusCode": 400},
    },
)


def tables(asked: Mapping[str, Any]) -> set[str]:
    """The tables that a call names."""
    items = [next(iter(one.values()))["TableName"] for one in asked.get("TransactItems", ())]
    return {*items, *asked.get("RequestItems", ()), *filter(None, [asked.get("TableName")])}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("call", ["GetItem", "BatchGetItem", "TransactWriteItems"])
@pytest.mark.parametrize("undo", [False, True], ids=["action", "undo"])
def test_a_process_that_dies_at_any_of_its_calls_changes_nothing(
    shared: Ground, undo: bool, call: str, after: bool
) -> None:
    phase = "undo" if undo else "action"
    died: set[str] = set()

    def mishap(function: str, task: dict[str, Any], run: Callable[[], Any]) -> Any:
        step, mine = task.get("step"), threading.get_ident()
        if step is None or task["phase"] != phase or step in died:
            return run()

        def die(name: str, _: dict[str, Any]) -> None:
            if name == call and threading.get_ident() == mine:
                died.add(step)
                raise Killed

        with calls(shared, **{"after" if after else "before": die}):
            return run()

    shared.mishap = mishap
    faults = {"capture": "reject"} if undo else {}
    saga = shared.start("travel-booking", TRIP, key=key(), faults=faults)
    shared.settle()
    assert must_agree(shared, saga) == ("COMPENSATED" if undo else "SUCCEEDED")
    expected = set(COMPENSABLE) if undo else set(STEPS)
    # Each reads its markers and its rows in one call; the invoice has no row to read.
    alone = set() if undo else {"invoice"}
    reads = {"GetItem": alone, "BatchGetItem": expected - alone}
    assert died == reads.get(call, expected)


@pytest.mark.parametrize("faults", [{}, {"capture": "reject"}], ids=["booked", "undone"])
def test_a_table_that_is_throttled_for_a_while_delays_and_changes_nothing(
    shared: Ground, faults: dict[str, str]
) -> None:
    left = Counter(dict.fromkeys([*shared.services, LEDGER], 3))

    def throttle(_: str, asked: dict[str, Any]) -> Any:
        for table in tables(asked) & {table for table, times in left.items() if times > 0}:
            left[table] -= 1
            return THROTTLED

    saga = shared.start("travel-booking", TRIP, key=key(), faults=faults, run=False)
    record = shared.ledger.get(saga)
    assert record is not None
    with calls(shared, throttle):
        shared.runs.start(record)
        shared.settle(twice=True)
    assert must_agree(shared, saga) == ("COMPENSATED" if faults else "SUCCEEDED")
    met = {table for table, times in left.items() if times == 0}
    used = {step.service for step in SAGA.all}
    assert met == {*used, LEDGER} - ({"invoices"} if faults else set())


def test_an_event_that_the_topic_did_not_take_is_told_again(shared: Ground) -> None:
    saga = shared.start("travel-booking", TRIP, key=key(), faults={"payment": "reject"})
    records = shared.stream.fetch()

    class Picky:
        """A topic that takes all of a batch but its first."""

        def publish_batch(self, **asked: Any) -> Any:
            entries = asked["PublishBatchRequestEntries"]
            if len(entries) > 1:
                shared.sns.publish_batch(**asked | {"PublishBatchRequestEntries": entries[1:]})
            return {"Failed": [{"Id": entries[0]["Id"], "Code": "InternalError"}]}

    with pytest.raises(PublishError):
        relay(Picky(), shared.topic, records, shared.lose_record, patience=0)  # type: ignore[arg-type]
    for record in records:
        shared.stream.add(record)
    shared.settle()
    assert must_agree(shared, saga) == "COMPENSATED"


def test_sixteen_clients_on_scarce_seats_never_oversell(shared: Ground) -> None:
    seats = shared.held("flights", "AI-202")
    taken = seats["held"] + seats["confirmed"]
    price = {"amount": 4800, "currency": "INR"}
    shared.put("flights", "AI-202", {"total": taken + 10, "price": price})
    before = shared.held("accounts", "acct-asha")["balance"]
    try:
        with ThreadPoolExecutor(16) as pool:
            starts = [
                pool.submit(shared.start, "travel-booking", TRIP, key=key()) for _ in range(16)
            ]
            sagas = [start.result() for start in starts]
        shared.settle()
        statuses = [must_agree(shared, saga) for saga in sagas]
        assert statuses.count("SUCCEEDED") == 5, "ten seats, two a trip"
        assert statuses.count("COMPENSATED") == 11
        assert shared.held("flights", "AI-202")["available"] == 0
        assert shared.held("accounts", "acct-asha")["balance"] == before - 5 * PRICE
        for saga, status in zip(sagas, statuses, strict=True):
            if status == "COMPENSATED":
                must_be_gone(shared, saga)
    finally:
        shared.put("flights", "AI-202", {"total": 10_000, "price": price})


class _Sns:
    """An SNS that counts as AWS does."""

    def __init__(self) -> None:
        self.batches: list[list[dict[str, Any]]] = []

    def publish_batch(
        self, *, TopicArn: str, PublishBatchRequestEntries: list[dict[str, Any]]
    ) -> dict[str, Any]:
        assert len(PublishBatchRequestEntries) <= 10
        assert len(json.dumps(PublishBatchRequestEntries, ensure_ascii=False)) < 270_000
        assert sum(len(one["Message"].encode()) for one in PublishBatchRequestEntries) <= 262_144
        self.batches.append(PublishBatchRequestEntries)
        return {}


def _nothing_is_lost(record: Mapping[str, Any], reason: str) -> None:
    raise AssertionError(reason)


def test_large_events_are_relayed_in_batches_that_sns_takes() -> None:
    sizes = [60_000, 60_000, 100_000, 60_000, 250_000, *[100] * 12]
    told = [
        event("s", "travel-booking", "done", step="flight", occasion=str(n), result="x" * size)
        for n, size in enumerate(sizes)
    ]
    records = [
        {"eventName": "INSERT", "dynamodb": {"NewImage": encode_item(outbox_row(one, "asha"))}}
        for one in told
    ]
    sns: Any = _Sns()
    assert relay(sns, "topic", records, _nothing_is_lost) == len(sizes)
    sent = [json.loads(one["Message"]) for batch in sns.batches for one in batch]
    assert sent == [one.to_dict() for one in told]
    assert [len(batch) for batch in sns.batches] == [3, 1, 10, 3]


@pytest.mark.parametrize("change", ["MODIFY", "REMOVE"])
def test_only_a_new_row_is_told_of(change: str) -> None:
    """A row that is written again, or expires, says nothing that was not told."""
    row = encode_item(outbox_row(event("s", "travel-booking", "started"), "asha"))
    sns: Any = _Sns()
    assert relay(sns, "topic", [_changed(change, row)], _nothing_is_lost) == 0
    assert sns.batches == []
    assert relay(sns, "topic", [_changed("INSERT", row)], _nothing_is_lost) == 1


def _changed(change: str, row: Any) -> dict[str, Any]:
    return {"eventName": change, "dynamodb": {"NewImage": row}}
