"""A run is of the version of a machine that was compiled from its saga's shape."""

from __future__ import annotations

from typing import Any

import pytest

from recourse.declare.shape import digest, record
from recourse.errors import TransientError
from recourse.orchestration.executions import Versions
from statemachines.order import ORDER

MACHINE = "arn:aws:states:eu-west-1:111122223333:stateMachine:Order"
OURS = digest(record(ORDER))


class StepFunctions:
    """Step Functions with a machine of these versions, a page for each, the newest first."""

    def __init__(self, *descriptions: str) -> None:
        self.descriptions = descriptions
        self.asked: list[str] = []

    def list_state_machine_versions(
        self, stateMachineArn: str, nextToken: str = "0"
    ) -> dict[str, Any]:
        self.asked.append(stateMachineArn)
        page = int(nextToken)
        number = len(self.descriptions) - page
        found = [{"stateMachineVersionArn": f"{MACHINE}:{number}"}] if number else []
        more = {"nextToken": str(page + 1)} if number > 1 else {}
        return {"stateMachineVersions": found, **more}

    def describe_state_machine(self, stateMachineArn: str) -> dict[str, Any]:
        number = int(stateMachineArn.rpartition(":")[2])
        return {"description": self.descriptions[len(self.descriptions) - number]}


def versions(newest: str, *descriptions: str) -> tuple[Versions, StepFunctions]:
    sfn = StepFunctions(*descriptions)
    return Versions(sfn, {"order": f"{MACHINE}:9 {newest}"}), sfn  # type: ignore[arg-type]


def test_the_newest_is_known_without_a_call() -> None:
    find, sfn = versions(OURS)
    assert find(ORDER) == f"{MACHINE}:9"
    assert sfn.asked == []


def test_an_older_one_is_found_by_its_description_and_looked_for_once() -> None:
    find, sfn = versions("another", "another", OURS, "the first")
    assert [find(ORDER), find(ORDER)] == [f"{MACHINE}:2"] * 2
    assert sfn.asked == [MACHINE] * 2


@pytest.mark.parametrize("descriptions", [(), ("another", "the first")])
def test_one_that_is_not_there_yet_is_looked_for_again(descriptions: tuple[str, ...]) -> None:
    """New code may run before its machine is deployed: the sweeper tries the start again."""
    find, sfn = versions("another", *descriptions)
    with pytest.raises(TransientError, match=f"no version for the shape {OURS}"):
        find(ORDER)
    sfn.descriptions = (OURS, *descriptions)
    assert find(ORDER) == f"{MACHINE}:{len(sfn.descriptions)}"
