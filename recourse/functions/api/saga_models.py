"""Requests and responses of the API about sagas, and the parameters."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, Literal, get_args

from annotated_types import Len
from typing_extensions import TypedDict

from recourse.declare.declaration import Coordination
from recourse.declare.request import request_model
from recourse.functions.api import http
from recourse.functions.api.parameters import Choice
from recourse.functions.api.routes import Parameter, SagaName
from recourse.ledger.history import STATUSES, Status
from recourse.run import faults

LONGEST_KEY = 512


@request_model
class Resolution:
    """An operator's decision on a stuck step; a skip needs a reason."""

    action: Literal["retry", "skip"]
    reason: Annotated[str, Len(0, 1000)] | None = None


class _Reason(TypedDict):
    step: str
    error: str
    message: str


class _Step(TypedDict):
    name: str
    status: Literal[
        "PENDING", "RUNNING", "DONE", "FAILED", "UNDOING", "UNDONE", "SKIPPED", "UNDO_FAILED"
    ]
    attempts: int
    undo_attempts: int
    result: Any
    error: str | None
    message: str | None
    started_at: str | None
    ended_at: str | None


class SagaView(TypedDict):
    """A saga and its steps; `reason` is its first failure."""

    saga_id: str
    saga: Annotated[str, SagaName()]
    coordination: Coordination
    status: Status
    reason: _Reason | None
    owner: str
    business_key: str
    started_at: str
    ended_at: str | None
    steps: list[_Step]
    links: dict[str, str]


IDEMPOTENCY_KEY = Parameter(
    "Idempotency-Key",
    "the same for a retry, which answers the same saga",
    {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]*$"},
    where="header",
    required=True,
    problem="idempotency-key-missing",
)
CHAOS = Parameter(
    "Recourse-Chaos",
    f"faults, as step=fault or step.undo=fault:n; {', '.join(faults.FAULTS)}",
    where="header",
    problem="unknown-fault",
)
COORDINATION = Parameter(
    "coordination",
    "how the saga is coordinated; by default as it is declared",
    {"type": "string", "enum": list(get_args(Coordination))},
    problem="unknown-coordination",
)
STATUS = Choice("status", "only these", STATUSES)
BUSINESS_KEY = Parameter(
    "business_key",
    "only these",
    {"type": "string", "minLength": 1, "maxLength": LONGEST_KEY},
    problem="invalid",
)
PREFER = Parameter(
    "Prefer",
    f"wait=N: answer when it changes, or after N seconds, at most {http.LONGEST_WAIT}",
    where="header",
)


def saga_choice(names: Collection[str]) -> Choice:
    """The parameter that filters a list by declaration."""
    return Choice("saga", "only these", names)
