"""Tries: what may pass is waited out, a defect is not, and what never ran is no try."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from threading import Event
from typing import Any, get_args

import pytest
from botocore.exceptions import ClientError

from recourse.declare.declaration import Coordination
from recourse.declare.shape import PASSING
from recourse.errors import TransientError
from recourse.store.aws import THROTTLE_CODES
from recourse.testing.handlers import Killed
from tests.ground import Ground, ground
from tests.integration.large import LARGE, asked
from tests.patience import PATIENCE

keys = itertools.count()
each_coordination = pytest.mark.parametrize("coordination", get_args(Coordination))


class ProviderDownError(TransientError):
    """A provider does not answer; a service of a user's own calls it so."""


@pytest.fixture(scope="module")
def place() -> Iterator[Ground]:
    with ground({"large": LARGE}) as made:
        yield made


@pytest.fixture(autouse=True)
def no_mishap(place: Ground) -> Iterator[None]:
    before = place.mishap
    yield
    place.mishap = before


class Failing:
    """A mishap: a phase of a step fails so often, and its calls are counted."""

    def __init__(
        self, step: str, phase: str, problem: Callable[[], BaseException], times: int = 1000
    ) -> None:
        self._at = (step, phase)
        self._problem = problem
        self._times = times
        self.calls: Counter[tuple[str, str]] = Counter()
        self.order: list[tuple[str, str]] = []

    def __call__(self, function: str, task: dict[str, Any], run: Callable[[], Any]) -> Any:
        at = (task["step"], task["phase"])
        self.calls[at] += 1
        self.order.append(at)
        if at == self._at and self.calls[at] <= self._times:
            raise self._problem()
        return run()


def run(place: Ground, coordination: Coordination, mishap: Any, **steps: dict[str, Any]) -> str:
    place.mishap = mishap
    saga_id = place.start("large", asked(**steps), key=f"{next(keys)}", coordination=coordination)
    place.settle()
    return saga_id


@each_coordination
@pytest.mark.parametrize("step", ["left", "middle", "decide", "after"])
def test_any_transient_error_of_a_services_own_is_tried_again(
    place: Ground, step: str, coordination: Coordination
) -> None:
    failing = Failing(step, "action", lambda: ProviderDownError("no answer"), times=3)
    saga_id = run(place, coordination, failing)
    assert place.view(saga_id)["status"] == "SUCCEEDED"
    assert failing.calls[step, "action"] == 4
    attempts = {one["name"]: one["attempts"] for one in place.view(saga_id)["steps"]}
    assert attempts[step] == 4


@each_coordination
def test_a_throttle_of_any_call_of_a_step_is_waited_out_whatever_it_is_called(
    place: Ground, coordination: Coordination
) -> None:
    most = PASSING.attempts - 1
    codes = sorted(THROTTLE_CODES)
    for first in range(0, len(codes), most):
        left = [throttled(code) for code in codes[first : first + most]]
        failing = Failing("after", "action", left.pop, times=len(left))
        saga_id = run(place, coordination, failing)
        assert place.view(saga_id)["status"] == "SUCCEEDED"
        assert left == []


def throttled(code: str) -> ClientError:
    return ClientError(
        {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": 400}},  # type: ignore[typeddict-item]
        "PutObject",
    )


@each_coordination
@pytest.mark.parametrize("step", ["right", "middle", "decide"])
@pytest.mark.parametrize("text", ["no answer", '{"error": "quoted"}', "x" * 5000])
def test_a_transient_error_that_stays_keeps_its_own_name_and_text(
    place: Ground, step: str, text: str, coordination: Coordination
) -> None:
    saga_id = run(place, coordination, Failing(step, "action", lambda: ProviderDownError(text)))
    view = place.view(saga_id)
    assert view["status"] == "COMPENSATED"
    assert (view["reason"]["step"], view["reason"]["error"]) == (step, "ProviderDownError")
    assert view["reason"]["message"][:900] == text[:900]
    (shown,) = (one for one in view["steps"] if one["name"] == step)
    assert (shown["error"], shown["attempts"]) == ("ProviderDownError", 4)


@each_coordination
@pytest.mark.parametrize(
    ("step", "phase", "fails"),
    [
        ("middle", "undo", {"decide": {"refusal": 1}}),
        ("after", "action", {}),
    ],
)
def test_what_may_pass_is_waited_out_where_there_is_no_way_back(
    place: Ground, step: str, phase: str, fails: Any, coordination: Coordination
) -> None:
    times = PASSING.attempts - 1
    failing = Failing(step, phase, lambda: TransientError("throttled"), times)
    saga_id = run(place, coordination, failing, **fails)
    assert place.view(saga_id)["status"] == ("COMPENSATED" if fails else "SUCCEEDED")
    stays = Failing(step, phase, lambda: ProviderDownError("throttled"))
    saga_id = run(place, coordination, stays, **fails)
    (stuck,) = (s for s in place.view(saga_id)["steps"] if s["error"] == "ProviderDownError")
    assert stuck["name"] == step
    assert stuck["undo_attempts" if fails else "attempts"] == PASSING.attempts
    assert stays.calls[step, phase] == PASSING.attempts


@each_coordination
def test_a_defect_of_an_undo_is_parked_as_soon_as_ever(
    place: Ground, coordination: Coordination
) -> None:
    failing = Failing("middle", "undo", lambda: TypeError("a mistake"))
    saga_id = run(place, coordination, failing, decide={"refusal": 1})
    assert place.view(saga_id)["status"] == "COMPENSATION_FAILED"
    assert failing.calls["middle", "undo"] == LARGE.retry(LARGE.by_name["middle"]).attempts == 4


@each_coordination
def test_a_defect_of_an_action_is_not_tried_again(
    place: Ground, coordination: Coordination
) -> None:
    failing = Failing("middle", "action", lambda: KeyError("a mistake"))
    saga_id = run(place, coordination, failing)
    assert place.view(saga_id)["reason"]["error"] == "KeyError"
    assert failing.calls["middle", "action"] == 1


@pytest.mark.parametrize(
    ("step", "phase", "fails"),
    [("middle", "action", {}), ("middle", "undo", {"decide": {"refusal": 1}})],
)
def test_a_throttled_invocation_is_no_try_of_an_orchestration(
    place: Ground, step: str, phase: str, fails: Any
) -> None:
    """It goes on for longer than any step is tried, and the step's own tries come after it."""
    calls = itertools.count()

    def mishap(function: str, task: dict[str, Any], run_it: Callable[[], Any]) -> Any:
        if (task["step"], task["phase"]) == (step, phase):
            match next(calls):
                case n if n < 40:
                    raise LambdaThrottledError
                case n if n < 43:
                    raise TransientError("its own")
        return run_it()

    saga_id = run(place, "orchestration", mishap, **fails)
    assert place.view(saga_id)["status"] == ("COMPENSATED" if fails else "SUCCEEDED")


class LambdaThrottledError(Exception):
    """What Step Functions says where a function has no room."""


LambdaThrottledError.__name__ = "Lambda.TooManyRequestsException"


@pytest.mark.parametrize("phase", ["action", "undo"])
def test_deliveries_that_never_reach_the_function_are_no_tries(place: Ground, phase: str) -> None:
    """Twenty are throttled, or killed before they begin; then three tries fail, and one works."""
    failing = Failing("middle", phase, lambda: ProviderDownError("no answer"), times=3)
    place.mishap = failing
    fails = {"decide": {"refusal": 1}} if phase == "undo" else {}
    saga_id = place.start("large", asked(**fails), key=f"{next(keys)}", coordination="choreography")
    never = itertools.count()
    shipped = place.listeners["LargeMiddle"].handle_batch

    def unreached(records: Any) -> Any:
        waits_for = "decide.failed" if phase == "undo" else "right.done"
        if any(waits_for in one["body"] for one in records) and next(never) < 20:
            raise Killed
        return shipped(records)

    place.listeners["LargeMiddle"].handle_batch = unreached  # type: ignore[method-assign]
    try:
        place.settle()
    finally:
        place.listeners["LargeMiddle"].handle_batch = shipped  # type: ignore[method-assign]
    assert next(never) > 20
    assert place.view(saga_id)["status"] == ("COMPENSATED" if fails else "SUCCEEDED")
    (step,) = (one for one in place.view(saga_id)["steps"] if one["name"] == "middle")
    # The first delivery that arrives is not the first of all, so it is counted when it begins.
    assert step["undo_attempts" if fails else "attempts"] == 4


def test_what_works_at_once_writes_nothing_to_count_it(place: Ground) -> None:
    saga_id = run(place, "choreography", lambda function, task, run_it: run_it())
    assert place.view(saga_id)["status"] == "SUCCEEDED"
    rows = place.rows("large", f"inbox#{saga_id}")
    assert rows and all("tries" not in row for row in rows)


def test_the_tries_of_an_action_are_none_of_its_undo(place: Ground) -> None:
    """Both wait for several steps or none, and each side keeps what it has heard for itself."""
    tries = LARGE.retry(LARGE.by_name["middle"]).attempts - 1
    acting = Failing("middle", "action", lambda: ProviderDownError("no answer"), tries)
    undoing = Failing("middle", "undo", lambda: TypeError("a mistake"), tries)

    def both(function: str, task: dict[str, Any], run_it: Callable[[], Any]) -> Any:
        return acting(function, task, lambda: undoing(function, task, run_it))

    saga_id = run(place, "choreography", both, decide={"refusal": 1})
    assert place.view(saga_id)["status"] == "COMPENSATED"
    (step,) = (one for one in place.view(saga_id)["steps"] if one["name"] == "middle")
    assert (step["attempts"], step["undo_attempts"]) == (tries + 1, tries + 1)


def test_a_step_whose_process_dies_at_every_try_is_given_up(place: Ground) -> None:
    saga_id = run(place, "choreography", Failing("middle", "action", Killed))
    view = place.view(saga_id)
    assert (view["status"], view["reason"]["step"]) == ("COMPENSATED", "middle")


@each_coordination
@pytest.mark.parametrize("failing", ["left", "right"])
@pytest.mark.parametrize("acted", [False, True], ids=["before", "after"])
def test_in_a_group_the_step_that_fails_is_undone_first(
    place: Ground, failing: str, acted: bool, coordination: Coordination
) -> None:
    other = "left" if failing == "right" else "right"
    undone: list[str] = []

    def mishap(function: str, task: dict[str, Any], run_it: Callable[[], Any]) -> Any:
        if task["step"] == failing and task["phase"] == "action":
            if acted:
                run_it()
            raise ProviderDownError("no answer")
        answer = run_it()
        if task["phase"] in ("undo", "give_up"):
            undone.append(task["step"])
        return answer

    saga_id = run(place, coordination, mishap)
    status = place.view(saga_id)["status"]
    if acted and coordination == "choreography":
        # It acted and has told of it: nobody has to hear it answer.
        assert status == "SUCCEEDED"
        return
    assert status == "COMPENSATED"
    assert list(dict.fromkeys(undone)) == [failing, other]


def test_an_undo_of_a_group_that_fails_at_first_is_parked_once_and_only_if_it_stays(
    place: Ground,
) -> None:
    failing = Failing("left", "undo", lambda: TypeError("a mistake"), times=5)
    saga_id = run(place, "orchestration", failing, left={"refusal": 1})
    assert place.view(saga_id)["status"] == "COMPENSATED"
    stays = Failing("left", "undo", lambda: TypeError("a mistake"))
    right_has_acted = Event()

    def after_right(function: str, task: dict[str, Any], run_it: Callable[[], Any]) -> Any:
        """The branch of the right one might else be stopped before it begins."""
        if task["phase"] == "action" and task["step"] == "left":
            assert right_has_acted.wait(PATIENCE)
        answer = stays(function, task, run_it)
        if task["phase"] == "action" and task["step"] == "right":
            right_has_acted.set()
        return answer

    saga_id = run(place, "orchestration", after_right, left={"refusal": 1})
    assert place.view(saga_id)["status"] == "COMPENSATION_FAILED"
    assert place.statuses(saga_id)["left"] == "UNDO_FAILED"
    assert place.statuses(saga_id)["right"] == "UNDONE"
