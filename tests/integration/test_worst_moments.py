"""A question is decided at the worst moments: as its time is up, as it is withdrawn, at a release.

Whatever meets a decision between its read and its write, one of the two counts, and the saga comes
to the end that this one says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from threading import Event
from typing import Any

import pytest

from recourse.declare import shape
from recourse.declare.declaration import Coordination, Earlier, Step
from recourse.declare.saga import Saga
from recourse.testing import calls
from recourse.testing.ground import Ground, ground
from tests.integration import asking
from tests.integration.asking import DAY, SPENDING
from tests.integration.test_waiting import (
    each_coordination,
    must_end,
    must_wait,
    rows,
    start,
)
from tests.patience import PATIENCE

WITHIN = 7 * DAY
WRITE = ("TransactWriteItems",)
EARLIER = [Earlier(recorded=shape.read(shape.record(SPENDING)))]


@pytest.fixture
def own() -> Iterator[Ground]:
    """A ground whose clock stands still, but for what it is moved on."""
    made: Ground
    with ground({"spending": SPENDING}) as made, made.clock.standing():
        yield made


def decide(made: Ground, saga: str, approved: bool = True, by: str = "a") -> Any:
    return made.decide(saga, "approval", approved=approved, reason="so", by=by)


def move_to(made: Ground, saga: str, milliseconds: int) -> None:
    """Move on to so long before the second at which the time of a question is up."""
    record = made.ledger.get(saga)
    assert record is not None
    asked = record.question(made.ledger.shape(record))
    assert asked is not None
    until = datetime.fromisoformat(asked.question["answer_by"]).timestamp()
    made.clock.sleep(until - milliseconds / 1000 - made.clock.seconds())


@each_coordination
@pytest.mark.parametrize(("before", "taken"), [(1, True), (0, False)], ids=["just before", "at it"])
def test_the_second_at_which_its_time_is_up_is_too_late_and_the_one_before_is_not(
    own: Ground, before: int, taken: bool, coordination: Coordination
) -> None:
    saga = start(own, coordination)
    move_to(own, saga, before)
    outcome = decide(own, saga)
    assert (outcome.taken, outcome.late) == (taken, not taken)
    if taken:
        own.clock.sleep(1)
        assert "is up" not in str(own.sweep()), "what is decided cannot expire"
        must_end(own, saga, "SUCCEEDED", "APPROVED")
    else:
        own.sweep()
        seen = must_end(own, saga, "COMPENSATED", "WITHDRAWN")
        assert seen["reason"]["error"] == "NoAnswerError"


def expire(made: Ground, saga: str) -> None:
    made.clock.sleep(1)
    assert "is up" in made.sweep()[saga]


def cancel(made: Ground, saga: str) -> None:
    assert made.cancel(saga)


def say_no(made: Ground, saga: str) -> None:
    assert decide(made, saga, approved=False, by="b").taken


RIVALS = {
    "its time is up": (expire, "WITHDRAWN", "NoAnswerError"),
    "it is cancelled": (cancel, "WITHDRAWN", "StepCancelledError"),
    "another says no": (say_no, "DENIED", "DeniedError"),
}


@each_coordination
@pytest.mark.parametrize(("rival", "approval", "error"), RIVALS.values(), ids=RIVALS)
def test_what_comes_between_the_read_and_the_write_of_a_decision_counts_and_not_that(
    own: Ground,
    rival: Callable[[Ground, str], None],
    approval: str,
    error: str,
    coordination: Coordination,
) -> None:
    saga = start(own, coordination)
    move_to(own, saga, 1)
    with calls.before(lambda: rival(own, saga), *WRITE):
        assert not decide(own, saga).taken
    own.clock.sleep(3600)
    own.sweep()
    assert must_end(own, saga, "COMPENSATED", approval)["reason"]["error"] == error


@each_coordination
def test_a_decision_in_time_that_is_written_as_its_time_is_taken_for_up_counts(
    own: Ground, coordination: Coordination
) -> None:
    """The sweeper has read that nobody has decided; the decision had been read before that."""
    saga = start(own, coordination)
    move_to(own, saga, 1)
    is_read, may_write = Event(), Event()

    def hold() -> None:
        is_read.set()
        assert may_write.wait(PATIENCE)

    with ThreadPoolExecutor(1) as pool, calls.before(hold, *WRITE):
        decision = pool.submit(decide, own, saga)
        assert is_read.wait(PATIENCE)

        def meanwhile(function: str, task: dict[str, Any], run: Callable[[], Any]) -> Any:
            if task.get("phase") == "expire":
                may_write.set()
                assert decision.result(PATIENCE).taken
            return run()

        own.mishap = meanwhile
        expire(own, saga)
    must_end(own, saga, "SUCCEEDED", "APPROVED")


@each_coordination
@pytest.mark.parametrize("at", [0, 1], ids=["the claim of the pivot", "the withdrawal"])
def test_a_decision_between_the_read_and_the_write_of_a_cancel_is_taken_and_undone_with_the_rest(
    own: Ground, at: int, coordination: Coordination
) -> None:
    saga = start(own, coordination)
    taken: list[bool] = []
    with calls.before(lambda: taken.append(decide(own, saga).taken), *WRITE, number=at):
        cancelled = own.cancel(saga)
    assert taken == [True]
    # In an orchestration the run goes on as soon as it is decided, and is past its pivot then.
    assert cancelled == (at == 1 or coordination == "choreography")
    own.clock.sleep(3600)
    own.sweep()
    own.settle()
    if cancelled:
        # What it went on to do before it heard of the cancel is undone as well.
        assert own.view(saga)["status"] == "COMPENSATED"
        left = rows(own, saga)
        assert (left.pop("approval"), set(left.values())) == ("WITHDRAWN", {"RELEASED"})
    else:
        must_end(own, saga, "SUCCEEDED", "APPROVED")


@each_coordination
def test_sixteen_who_decide_and_cancel_at_once_come_to_one_end(
    own: Ground, coordination: Coordination
) -> None:
    saga = start(own, coordination)
    with ThreadPoolExecutor(16) as pool:
        cancels = [pool.submit(own.cancel, saga) for _ in range(4)]
        decisions = [
            pool.submit(decide, own, saga, number % 2 == 0, f"{number}") for number in range(12)
        ]
    assert len({one.result() for one in cancels}) == 1, "cancelled is one decision"
    taken = [one.result() for one in decisions if one.result().taken]
    assert len(taken) <= 1
    own.clock.sleep(3600)
    own.sweep()
    said_no = bool(taken) and not taken[0].answer["approved"]
    must_end(own, saga, "COMPENSATED", "DENIED" if said_no else "WITHDRAWN")


def spending(*steps: Step[Any]) -> Saga:
    return Saga(
        "spending",
        request=asking.Spending,
        business_key="spending_id",
        deadline=30 * DAY,
        steps=steps,
    )


RESERVE, APPROVAL, EARMARK, SPEND = SPENDING.all
RELEASES = {
    "the step that asks goes": spending(
        RESERVE, Step("earmark", asking.earmark, undo=asking.unmark, takes=["amount"]), SPEND
    ),
    "the step that asks is renamed": spending(
        RESERVE,
        Step("consent", asking.ask, undo=asking.withdraw, takes=["amount"], after=["reserve"]),
        Step("earmark", asking.earmark, undo=asking.unmark, takes=["amount"], after=["consent"]),
        SPEND,
    ),
    "the step that asks comes last before the pivot": spending(
        RESERVE,
        Step("earmark", asking.earmark, undo=asking.unmark, takes=["amount"]),
        APPROVAL,
        SPEND,
    ),
    "the saga is retired": None,
}
ENDS = {
    "yes": ("SUCCEEDED", "APPROVED"),
    "no": ("COMPENSATED", "DENIED"),
    "nothing": ("COMPENSATED", "WITHDRAWN"),
    "a cancel": ("COMPENSATED", "WITHDRAWN"),
}


@pytest.mark.matrix
@each_coordination
@pytest.mark.parametrize("said", ENDS)
@pytest.mark.parametrize("release", RELEASES.values(), ids=RELEASES)
def test_a_saga_that_waits_while_a_release_comes_is_decided_by_the_shape_it_began_with(
    own: Ground, release: Saga | None, said: str, coordination: Coordination
) -> None:
    saga = start(own, coordination)
    own.deploy({"spending": release} if release else {}, EARLIER)
    must_wait(own, saga)
    match said:
        case "yes" | "no":
            assert decide(own, saga, approved=said == "yes").taken
        case "nothing":
            own.clock.sleep(WITHIN)
            assert decide(own, saga).late
            assert "is up" in own.sweep()[saga]
        case _:
            assert own.cancel(saga)
            assert not decide(own, saga).taken
    seen = must_end(own, saga, *ENDS[said])
    assert [step["name"] for step in seen["steps"]] == ["reserve", "approval", "earmark", "spend"]
