"""A saga waits for somebody's decision, from outside, in both coordinations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

import pytest

from recourse.cli.api import Api, ApiError
from recourse.declare.declaration import Coordination
from tests.e2e.visits import PRICE, Visit
from tests.patience import until


@pytest.fixture(params=get_args(Coordination))
def visit(request: pytest.FixtureRequest, api: Api) -> Iterator[Visit]:
    yield Visit(api, request.param).stocked()


def ended(visit: Visit, saga_id: str) -> str:
    *_, saga = visit.api.follow(saga_id)
    return str(saga["status"])


def test_an_approved_claim_lets_the_visit_go_on(visit: Visit) -> None:
    saga_id = visit.start()
    assert visit.slot() == (0, 1, 0) and visit.balance() == PRICE
    decided = visit.decide(saga_id, decision="approve", reason="covered")
    assert (decided["status"], decided["decided"]["reason"]) == ("approved", "covered")
    with pytest.raises(ApiError, match=r"not open any more.* has approved it at .*: covered"):
        visit.decide(saga_id, decision="reject", reason="too late")
    assert ended(visit, saga_id) == "SUCCEEDED"
    assert visit.balance() == PRICE - PRICE // 4
    until(lambda: visit.slot() == (0, 0, 1), "the place is booked")
    assert saga_id not in visit.open_claims()


def test_a_rejected_claim_undoes_the_visit(visit: Visit) -> None:
    saga_id = visit.start()
    visit.decide(saga_id, decision="reject", reason="not on this policy")
    assert ended(visit, saga_id) == "COMPENSATED"
    reason = visit.api.get(f"/sagas/{saga_id}")["reason"]
    assert reason == {
        "step": "claim",
        "error": "ClaimRefusedError",
        "message": "not on this policy",
    }
    assert visit.slot() == (1, 0, 0) and visit.balance() == PRICE


def test_a_visit_that_waits_can_be_cancelled(visit: Visit) -> None:
    saga_id = visit.start()
    visit.api.call("POST", f"/sagas/{saga_id}/cancel")
    with pytest.raises(ApiError, match="withdrawn"):
        visit.decide(saga_id, decision="approve")
    assert ended(visit, saga_id) == "COMPENSATED"
    assert visit.slot() == (1, 0, 0) and visit.balance() == PRICE
