"""Again is answered as before: what is delivered again gets what its marker holds."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, get_args

import pytest

from recourse.declare.declaration import Coordination
from recourse.declare.step import Call, Decision, action, confirm, undo
from recourse.errors import Refusal, TransientError
from recourse.run.runner import StepRunner
from recourse.testing.calls import recorded, stale
from tests.ground import Ground
from tests.integration.bench import S1, S2, TABLE, Bench, book, hold, release
from tests.integration.trips import TRIP

COORDINATIONS: tuple[Coordination, ...] = get_args(Coordination)
each_coordination = pytest.mark.parametrize("coordination", COORDINATIONS)


class AskedTwiceError(Exception):
    """The author's function was asked although its step's marker was there."""


def once(decide: Callable[[Call], Decision]) -> Callable[[Call], Decision]:
    """A function of an author who never thought of being asked again."""
    asked: list[Call] = []

    def ask(call: Call) -> Decision:
        asked.append(call)
        if len(asked) > 1:
            raise AskedTwiceError(call.step)
        return decide(call)

    return ask


@pytest.fixture
def forgetful(bench: Bench) -> Bench:
    """A step all of whose functions raise when they are asked a second time."""
    bench.runner = StepRunner(
        bench.dynamodb,
        TABLE,
        action()(once(lambda call: Decision(result="held"))),
        undo()(once(lambda call: Decision())),
        confirm()(once(lambda call: Decision())),
        **bench.time,
    )
    return bench


def test_each_phase_is_answered_from_its_own_marker(forgetful: Bench) -> None:
    for phase, answer in (
        ("action", "held"),
        ("confirm", {"outcome": "done"}),
        ("undo", {"outcome": "done"}),
    ):
        for _ in range(3):
            assert forgetful.ask(phase) == answer


def test_an_action_after_the_pivot_is_answered_from_its_own_marker(forgetful: Bench) -> None:
    assert [forgetful.ask(role="retriable") for _ in range(3)] == ["held"] * 3
    assert forgetful.ask(role="retriable", recover=1) == "held"


def test_what_an_author_reads_is_not_asked_for_once_there_is_a_marker(bench: Bench) -> None:
    def reads(call: Call) -> list[str]:
        if bench.row("thing#1") != {"pk": "thing#1", "free": 5}:
            raise AskedTwiceError(call.step)
        return ["thing#1"]

    @action(reads=reads)
    def rename(call: Call) -> Decision:
        return Decision(result="renamed")

    bench.runner = StepRunner(bench.dynamodb, TABLE, rename, **bench.time)
    assert bench.ask() == "renamed"
    bench.dynamodb.delete_item(TableName=TABLE, Key={"pk": {"S": "thing#1"}})
    assert bench.ask() == "renamed"


@pytest.mark.parametrize("phase", ["action", "undo", "confirm"])
@pytest.mark.parametrize("problem", [LookupError, TransientError, Refusal])
def test_a_delivery_that_meets_another_one_is_answered_as_that_one_was(
    bench: Bench, phase: str, problem: type[Exception]
) -> None:
    """Another delivery commits after this one has read; the author's function then raises."""
    if phase != "action":
        bench.ask()
    bench.runner = StepRunner(bench.dynamodb, TABLE, hold, release, book)

    def overtaken(call: Call) -> Decision:
        bench.ask(phase)
        raise problem("what was read is no longer so")

    made: Any = {"action": action, "undo": undo, "confirm": confirm}[phase]
    sides: dict[str, Any] = {"action": hold, "undo": release, "confirm": book}
    sides[phase] = made()(overtaken)
    meeting = StepRunner(bench.dynamodb, TABLE, **sides, **bench.time)
    answer = {"wanted": 2} if phase == "action" else {"outcome": "done"}
    assert bench.ask(phase, runner=meeting) == bench.ask(phase) == answer
    assert bench.free == (5 if phase == "undo" else 3)


def test_an_error_without_a_marker_goes_out_as_it_is(bench: Bench) -> None:
    @action()
    def broken(call: Call) -> Decision:
        raise LookupError("a defect")

    bench.runner = StepRunner(bench.dynamodb, TABLE, broken, **bench.time)
    with pytest.raises(LookupError, match="a defect"):
        bench.ask()


@each_coordination
def test_an_undo_that_had_committed_is_answered_from_its_marker(
    fresh: Ground, coordination: Coordination
) -> None:
    faults = {"capture": "reject", "payment.undo": "crash:1"}
    saga = fresh.start(
        "travel-booking", TRIP, key="again", faults=faults, coordination=coordination
    )
    fresh.settle()
    view = fresh.view(saga)
    payment = next(step for step in view["steps"] if step["name"] == "payment")
    assert (view["status"], payment["status"]) == ("COMPENSATED", "UNDONE")
    assert payment["error"] is None
    assert not any(name.endswith("_failed") for name in told(fresh, saga))
    assert not any(fresh.dead_lettered(name) for name in fresh.queues)
    if coordination == "orchestration":
        assert fresh.execution(saga)["error"] == "Compensated"


@each_coordination
def test_a_recovery_after_a_void_undoes_the_rest(fresh: Ground, coordination: Coordination) -> None:
    faults = {"capture": "reject", "flight.undo": "error:99"}
    saga = fresh.start(
        "travel-booking", TRIP, key="recovered", faults=faults, coordination=coordination
    )
    fresh.settle()
    assert fresh.view(saga)["status"] == "COMPENSATION_FAILED"
    fresh.resolve(saga, "flight", skip=True)
    fresh.settle()
    assert fresh.view(saga)["status"] == "COMPENSATED"
    assert fresh.statuses(saga)["payment"] == "UNDONE"


@each_coordination
@pytest.mark.parametrize("faults", [{}, {"capture": "reject"}, {"payment": "reject"}])
def test_every_task_may_be_delivered_again_at_the_end_two_at_once(
    fresh: Ground, coordination: Coordination, faults: dict[str, str]
) -> None:
    tasks: list[tuple[str, dict[str, Any]]] = []

    def note(function: str, task: dict[str, Any], run: Callable[[], Any]) -> Any:
        tasks.append((function, task))
        return run()

    fresh.mishap = note
    saga = fresh.start(
        "travel-booking", TRIP, key="twice", faults=faults, coordination=coordination
    )
    fresh.settle()
    before, status = everything(fresh), fresh.view(saga)["status"]
    runners = {name: fresh._runner(step) for name, step in fresh.steps.items()}

    def again(delivery: tuple[str, dict[str, Any]]) -> Any:
        function, task = delivery
        unfaulted = {**task, "saga": {**task["saga"], "chaos": {}}}
        try:
            return runners[function].run(unfaulted)
        except Exception as problem:
            return type(problem).__name__

    assert len(tasks) >= 4
    with ThreadPoolExecutor(2) as pool:
        for delivery in tasks:
            first, second = pool.map(again, [delivery, delivery])
            assert first == second
    assert everything(fresh) == before
    fresh.settle()
    assert (everything(fresh), fresh.view(saga)["status"]) == (before, status)


def told(ground: Ground, saga: str) -> list[str]:
    """The types of the events that have entered, in order."""
    record = ground.ledger.get(saga)
    assert record is not None
    return [event.type for event in record.entered]


def everything(ground: Ground) -> dict[str, list[dict[str, Any]]]:
    """Every row of every service."""
    return {service: ground.rows(service, "") for service in ground.services}


def test_the_marker_comes_with_the_rows_in_one_consistent_read(bench: Bench) -> None:
    with recorded() as calls:
        bench.ask()
        bench.ask("undo")
        bench.ask("confirm", saga_id=S2)
    reads = [call for call in calls if call.operation == "BatchGetItem"]
    asked = [call.parameters["RequestItems"][TABLE]["Keys"] for call in reads]
    assert [[key["pk"]["S"].rpartition("#")[2] for key in keys] for keys in asked] == [
        ["action", "1"],
        ["undo", "action", S1],
        ["confirm", "action", S2],
    ]
    assert not stale(calls)
