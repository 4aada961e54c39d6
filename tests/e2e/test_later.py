"""A saga begins later, or is cancelled until then, from outside, in both coordinations."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pytest

from recourse.cli.api import Api
from recourse.declare.declaration import Coordination

each_coordination = pytest.mark.parametrize("coordination", get_args(Coordination))


def start(api: Api, coordination: Coordination, seconds: float) -> dict[str, Any]:
    """Order a transfer between two accounts that nobody else uses, so many seconds ahead."""
    name = uuid.uuid4().hex[:12]
    for side in ("from", "to"):
        body = {"currency": "INR", "balance": 1000}
        api.call("PUT", f"/accounts/{side}-{name}", json=body)
    request = {
        "transfer_id": name,
        "from_account": f"from-{name}",
        "to_account": f"to-{name}",
        "amount": {"amount": 400, "currency": "INR"},
    }
    at = (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
    return api.start("transfer", request, key=name, coordination=coordination, not_before=at)


def balances(api: Api, saga: dict[str, Any]) -> list[int]:
    name = saga["business_key"]
    return [api.get(f"/accounts/{side}-{name}")["balance"] for side in ("from", "to")]


@each_coordination
def test_it_begins_then_by_itself(api: Api, coordination: Coordination) -> None:
    saga = start(api, coordination, seconds=2)
    assert {step["status"] for step in saga["steps"]} == {"PENDING"}
    *_, last = api.follow(saga["saga_id"])
    assert last["status"] == "SUCCEEDED"
    assert balances(api, saga) == [600, 1400]
    first = api.get(f"/sagas/{saga['saga_id']}/events")["items"][0]
    assert first["type"] == "recourse.transfer.started"
    assert first["time"] >= saga["begins_at"]


@each_coordination
def test_it_is_cancelled_until_then_with_no_effect(api: Api, coordination: Coordination) -> None:
    saga = start(api, coordination, seconds=3600)
    api.call("POST", f"/sagas/{saga['saga_id']}/cancel")
    *_, last = api.follow(saga["saga_id"])
    assert last["status"] == "COMPENSATED"
    assert balances(api, saga) == [1000, 1000]
