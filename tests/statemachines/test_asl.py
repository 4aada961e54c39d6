"""What a declaration compiles to: every task is bounded, retried and caught, every path ends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from recourse.declare.saga import Saga
from recourse.orchestration.compiler import compile_saga
from recourse.run.failures import THROTTLES, TRANSIENT
from statemachines import SAGAS

pytestmark = pytest.mark.of_all
every_saga = pytest.mark.parametrize("saga", SAGAS.values(), ids=SAGAS)


def machines(machine: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A machine and those of its parallel branches."""
    yield machine
    for state in machine["States"].values():
        for branch in state.get("Branches", []):
            yield from machines(branch)


def follow(state: dict[str, Any]) -> set[str]:
    found = {state[key] for key in ("Next", "Default") if key in state}
    found |= {way["Next"] for key in ("Catch", "Choices") for way in state.get(key, [])}
    return found


def tasks(saga: Saga) -> Iterator[tuple[str, dict[str, Any]]]:
    for machine in machines(compile_saga(saga)):
        yield from ((n, s) for n, s in machine["States"].items() if s["Type"] == "Task")


@every_saga
def test_every_target_exists_and_every_state_is_reached(saga: Saga) -> None:
    for machine in machines(compile_saga(saga)):
        reached, ahead = set(), {machine["StartAt"]}
        while ahead:
            name = ahead.pop()
            assert name in machine["States"], f"nothing is called {name}"
            reached.add(name)
            ahead |= follow(machine["States"][name]) - reached
        assert reached == set(machine["States"])


@every_saga
def test_every_task_has_its_own_timeout_and_the_machine_has_none(saga: Saga) -> None:
    assert all(state["TimeoutSeconds"] >= 1 for _, state in tasks(saga))
    assert all("TimeoutSeconds" not in machine for machine in machines(compile_saga(saga)))


@every_saga
def test_every_task_but_parking_catches_everything(saga: Saga) -> None:
    for name, state in tasks(saga):
        if name != "Park":
            assert state["Catch"][-1]["ErrorEquals"] == ["States.ALL"], name


@every_saga
def test_every_task_has_four_tries_with_backoff_full_jitter_and_a_cap(saga: Saga) -> None:
    for name, state in tasks(saga):
        retry = state["Retry"][-1]
        assert retry["MaxAttempts"] >= 3, name
        assert retry["BackoffRate"] > 1
        assert retry["JitterStrategy"] == "FULL"
        assert retry["MaxDelaySeconds"] > retry["IntervalSeconds"]


@every_saga
def test_each_kind_of_error_is_retried_for_as_long_as_it_deserves(saga: Saga) -> None:
    for name, state in tasks(saga):
        if name == "Park":
            continue
        step, phase = state["Parameters"]["step"], state["Parameters"]["phase"]
        turns_back = phase == "action" and saga.role(step) != "retriable"
        retries = [one for one in state["Retry"] if one["MaxAttempts"]]
        kinds = [list(THROTTLES), list(TRANSIENT), ["States.ALL"]][: 2 if turns_back else 3]
        assert [one["ErrorEquals"] for one in retries] == kinds, name
        waits = [longest(one) for one in retries]
        assert waits[0] > 30 * 60, "there was no room for it"
        assert turns_back or waits[1] > 5 * 60, "it is waited out, for minutes"
        if phase == "undo":
            assert waits[2] < 10, "a defect does not pass"


def longest(retry: dict[str, Any]) -> float:
    """Seconds between the first and the last try, at the most."""
    pauses = (
        min(retry["MaxDelaySeconds"], retry["IntervalSeconds"] * retry["BackoffRate"] ** n)
        for n in range(retry["MaxAttempts"])
    )
    return float(sum(pauses))


@every_saga
def test_a_failing_step_is_undone_first_then_the_earlier_ones_in_reverse(saga: Saga) -> None:
    states = compile_saga(saga)["States"]
    compensable = [s.name for s in saga.all if saga.role(s.name) == "compensable"]
    for rank, group in enumerate(saga.groups):
        if saga.role(group[0].name) != "compensable":
            continue
        name = " | ".join(step.name for step in group)
        caught = states[states[name]["Catch"][-1]["Next"]]
        recovering, *firsts = caught["Choices"]
        for member, choice in zip(group[:-1], firsts, strict=True):
            assert choice["Variable"].endswith(".Error"), choice
            assert choice["StringEquals"] == member.name
            first = states[choice["Next"]]
            assert (first["Parameters"]["step"], first["Parameters"]["phase"]) == (
                member.name,
                "undo",
            )
            assert first["Next"] == first["Catch"][-1]["Next"] == caught["Default"]
        assert recovering["Variable"] == "$.saga.recover"
        assert states[recovering["Next"]]["Type"] == "Fail", (
            "a recovery whose look-up failed undoes nothing"
        )
        walked, at = [], caught["Default"]
        while at.endswith(".undo"):
            walked.append(at.removesuffix(".undo"))
            assert states[at]["Catch"][-1]["Next"] == states[at]["Next"], "the others still run"
            at = states[at]["Next"]
        done = [s.name for before in saga.groups[: rank + 1] for s in before]
        assert walked == list(reversed(done))
        assert at == "Undone?"
    assert set(compensable) == {n.removesuffix(".undo") for n in states if n.endswith(".undo")}


@every_saga
def test_the_pivot_is_settled_and_nothing_after_it_goes_back(saga: Saga) -> None:
    states = compile_saga(saga)["States"]
    pivot = saga.pivot.name
    assert states[pivot]["Catch"][-1]["Next"] == f"{pivot}.settle"
    settle = states[f"{pivot}.settle"]
    assert settle["Catch"][0]["ErrorEquals"] == ["StepCancelledError"]
    assert settle["Catch"][-1]["Next"] == "Park"
    assert settle["Next"] == states[pivot]["Next"]
    seen, ahead = set(), {states[pivot]["Next"]}
    while ahead:
        name = ahead.pop()
        seen.add(name)
        ahead |= follow(states[name]) - seen
    assert not any(name.endswith(".undo") for name in seen)


@every_saga
def test_a_groups_results_are_each_its_own_and_beside_those_of_the_steps_before(
    saga: Saga,
) -> None:
    for rank, group in enumerate(saga.groups):
        if len(group) == 1:
            continue
        state = compile_saga(saga)["States"][" | ".join(step.name for step in group)]
        begins = [branch["StartAt"] for branch in state["Branches"]]
        assert begins == [step.name for step in group]
        assert state["ResultSelector"] == {f"{n}.$": f"$[{at}]" for at, n in enumerate(begins)}
        assert state["ResultPath"] == f"$.results.Together{rank}"


@every_saga
def test_parking_is_tried_again_whatever_happens(saga: Saga) -> None:
    retries = compile_saga(saga)["States"]["Park"]["Retry"]
    assert [one["ErrorEquals"] for one in retries] == [list(THROTTLES), ["States.ALL"]]
    assert longest(retries[-1]) > 5 * 60


@every_saga
def test_the_happy_path_has_no_choice_and_no_bookkeeping(saga: Saga) -> None:
    states = compile_saga(saga)["States"]
    entered, at = [], compile_saga(saga)["StartAt"]
    while "Next" in states[at]:
        entered.append(at)
        at = states[at]["Next"]
    steps = [state for name in entered for state in (states[name].get("Branches") or [name])]
    assert at == "Succeeded"
    assert len(steps) == len(saga.all)
    assert len(entered) == len(saga.groups)


@every_saga
def test_no_step_is_given_more_than_it_takes(saga: Saga) -> None:
    for name, state in tasks(saga):
        if name == "Park":
            continue
        step = saga.by_name[state["Parameters"]["step"]]
        assert state["Parameters"]["request"] == {f"{n}.$": f"$.request.{n}" for n in step.takes}
