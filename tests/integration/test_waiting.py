"""A saga waits for somebody's decision: once, in time, and whatever happens meanwhile."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, get_args

import pytest

from recourse.declare.declaration import Coordination
from recourse.testing.ground import LEDGER, Ground, ground
from tests.integration.asking import DAY, SPENDING

keys = itertools.count()
each_coordination = pytest.mark.parametrize("coordination", get_args(Coordination))
SAGAS = {"spending": SPENDING}


@pytest.fixture
def own() -> Iterator[Ground]:
    with ground(SAGAS) as made:
        yield made


def start(made: Ground, coordination: Coordination, amount: int = 500, **faults: str) -> str:
    """Start one that waits, unless it is small."""
    named = {name.replace("__", "."): fault for name, fault in faults.items()}
    body = {"spending_id": f"s-{next(keys)}", "amount": amount}
    saga = made.start(
        "spending", body, key=f"{next(keys)}", faults=named, coordination=coordination
    )
    made.settle()
    return saga


def rows(made: Ground, saga: str) -> dict[str, str]:
    """The status of each row of a saga, by what it is."""
    found = {}
    for (_, key), row in made.business_rows().items():
        what, _, whose = key.partition("#")
        if whose == saga:
            found[what] = row.get("status", "SPENT")
    return found


def must_wait(made: Ground, saga: str) -> None:
    seen = made.view(saga)
    assert (seen["status"], made.statuses(saga)["approval"]) == ("RUNNING", "RUNNING")
    assert rows(made, saga) == {"reserve": "HELD", "approval": "OPEN"}
    record = made.ledger.get(saga)
    assert record is not None and record.waits_for == "approvals"


def must_end(made: Ground, saga: str, status: str, approval: str) -> dict[str, Any]:
    made.settle()
    seen = made.view(saga)
    assert seen["status"] == status, seen
    whole = {"reserve": "HELD", "earmark": "HELD", "spent": "SPENT"}
    gone = {"reserve": "RELEASED"}
    kept = whole if status == "SUCCEEDED" else gone
    assert rows(made, saga) == {**kept, "approval": approval}
    record = made.ledger.get(saga)
    assert record is not None and record.waits_for is None and record.due_at is None
    return seen


@each_coordination
def test_what_needs_nobody_waits_for_nobody(own: Ground, coordination: Coordination) -> None:
    saga = start(own, coordination, amount=50)
    must_end(own, saga, "SUCCEEDED", "APPROVED")


@each_coordination
def test_a_saga_waits_and_goes_on_by_the_answer(own: Ground, coordination: Coordination) -> None:
    saga = start(own, coordination)
    must_wait(own, saga)
    outcome = own.decide(saga, "approval", approved=True, by="approver-1")
    assert outcome.taken
    seen = must_end(own, saga, "SUCCEEDED", "APPROVED")
    assert seen["steps"][1]["result"] == {"by": "approver-1", "reserved": 500}
    kinds = [event.path for event in own.ledger.get(saga).entered]  # type: ignore[union-attr]
    assert kinds == [
        *("started", "reserve.done", "approval.asked", "approval.done"),
        *("earmark.done", "spend.done", "succeeded"),
    ]


@each_coordination
def test_a_no_compensates_with_its_reason(own: Ground, coordination: Coordination) -> None:
    saga = start(own, coordination)
    assert own.decide(saga, "approval", approved=False, reason="too dear").taken
    seen = must_end(own, saga, "COMPENSATED", "DENIED")
    assert seen["reason"] == {"step": "approval", "error": "DeniedError", "message": "too dear"}
