"""What a declaration compiles to, judged by a validator of Amazon States Language that is not ours.

cfn-lint, which `make check` runs over the templates, judges the same machines by AWS's schema.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statelint.linter import Linter

from recourse.declare.declaration import Step, Together
from recourse.declare.saga import Saga
from recourse.orchestration.compiler import compile_saga
from statemachines import SAGAS
from tests.statemachines.test_limits import act, decide, declare, follow, take_back

Machine = dict[str, Any]


def problems(machine: Machine) -> list[str]:
    """What the validator says of a machine, with its functions in their places."""
    arn = r"arn:aws:lambda:us-east-1:123456789012:function:\1"
    found = Linter.validate(json.loads(re.sub(r"\$\{(\w+)\}", arn, json.dumps(machine))))
    # AWS takes a whole number where the specification has a float.
    return [one for one in found if not one.endswith("should be a Float")]


@pytest.mark.of_all
@pytest.mark.parametrize("saga", SAGAS.values(), ids=SAGAS)
def test_a_machine_of_ours_is_found_valid(saga: Saga) -> None:
    assert problems(compile_saga(saga)) == []


@st.composite
def shapes(draw: st.DrawFn) -> Saga:
    """Sagas of any shape: steps alone and together, before the pivot and after it."""
    names = iter("abcdefghijklmnopqr")

    def some(make: Callable[[str], Step]) -> list[Step | Together]:
        sizes = draw(st.lists(st.integers(1, 3), max_size=3))
        groups = [[make(next(names)) for _ in range(size)] for size in sizes]
        return [one[0] if len(one) == 1 else Together(*one) for one in groups]

    return declare(
        *some(lambda name: Step(name, act, undo=take_back)),
        Step("pivot", decide, pivot=True),
        *some(lambda name: Step(name, follow)),
    )


@settings(deadline=None)
@given(shapes())
def test_a_machine_of_any_shape_is_found_valid(saga: Saga) -> None:
    assert problems(compile_saga(saga)) == []


def wrong(machine: Machine, change: str) -> None:
    """Make a machine wrong, as AWS would refuse it."""
    task = machine["States"]["payment"]
    group = machine["States"]["flight | hotel | car"]
    match change:
        case "a state that is nowhere":
            task["Next"] = "nowhere"
        case "a state that nothing leads to":
            machine["States"]["alone"] = {"Type": "Succeed"}
        case "a branch that leaves its machine":
            group["Branches"][0]["States"]["flight"]["Next"] = "payment"
        case "a field that does not exist":
            task["Timeout"] = task.pop("TimeoutSeconds")
        case "a path that is none":
            task["Parameters"]["saga.$"] = "saga"
        case "a function that is none":
            task["Parameters"]["saga.$"] = "States.Nothing($.saga)"
        case "a result at no reference path":
            task["ResultPath"] = "$.results[?(@.x)]"
        case "everything caught before something":
            task["Catch"].insert(0, {"ErrorEquals": ["States.ALL"], "Next": task["Next"]})
        case "a delay that shrinks":
            task["Retry"][0]["BackoffRate"] = 0.5
        case "no time at all":
            task["TimeoutSeconds"] = 0
        case "a choice of nothing":
            machine["States"]["car.caught"]["Choices"] = []


@pytest.mark.parametrize(
    "change",
    [
        "a state that is nowhere",
        "a state that nothing leads to",
        "a branch that leaves its machine",
        "a field that does not exist",
        "a path that is none",
        "a function that is none",
        "a result at no reference path",
        "everything caught before something",
        "a delay that shrinks",
        "no time at all",
        "a choice of nothing",
    ],
)
def test_a_machine_that_aws_would_refuse_is_found_invalid(change: str) -> None:
    machine = compile_saga(SAGAS["travel-booking"])
    before = json.dumps(machine)
    wrong(machine, change)
    assert json.dumps(machine) != before
    assert problems(machine)
