"""Requests and responses of the API about sagas, and the parameters."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal, NotRequired, cast, get_args

from annotated_types import Len
from typing_extensions import TypedDict

from recourse.declare.declaration import Coordination
from recourse.declare.request import request_model
from recourse.declare.shape import Role, Shape, digest, record
from recourse.functions import settings
from recourse.functions.api import http
from recourse.functions.api.parameters import Choice
from recourse.functions.api.routes import Parameter, SagaName
from recourse.ledger.history import STATUSES, Status
from recourse.problems import ProblemError, invalid
from recourse.run import faults
from recourse.text import moment

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.data_classes import APIGatewayProxyEventV2

    from recourse.declare.saga import Saga

LONGEST_KEY = 512


@request_model
class Resolution:
    """An operator's decision on a stuck step; a skip needs a reason."""

    action: Literal["retry", "skip"]
    reason: Annotated[str, Len(0, 1000)] | None = None


@request_model
class Reversing:
    """Why a saga is reversed."""

    reason: Annotated[str, Len(0, 1000)] | None = None


class _Reverses(TypedDict):
    saga_id: str
    reason: str | None
    by: str


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
    question: NotRequired[dict[str, Any]]
    begins_at: NotRequired[str]


class SagaView(TypedDict):
    """A saga and its steps; `reason` is its first failure.

    `stuck` names the steps that wait for an operator to resolve them. `traceparent` is the span in
    which it was started: the caller's, or else its own. `reverses` is the saga that it reverses,
    with who began that and why; `reversed_by` the saga that reverses it, or has tried to, if that
    was COMPENSATED. `begins_at` is before when it must not begin: until it has, every step of it is
    PENDING. So is a step that is done later until its own `begins_at`, which it has until then.
    """

    saga_id: str
    saga: Annotated[str, SagaName()]
    coordination: Coordination
    status: Status
    reason: _Reason | None
    owner: str
    business_key: str
    started_at: str
    begins_at: NotRequired[str]
    ended_at: str | None
    steps: list[_Step]
    stuck: list[str]
    traceparent: NotRequired[str]
    reverses: NotRequired[_Reverses]
    reversed_by: NotRequired[str]
    links: dict[str, str]


class _Waits(TypedDict):
    name: str
    scope: str
    within: float
    remind: float | None


class _Later(TypedDict):
    delay: float | None
    not_before: str | None


class _DeclaredStep(TypedDict):
    name: str
    role: Role
    undo: bool
    optional: bool
    external: bool
    takes: list[str]
    after: list[str]
    timeout: float
    attempts: int
    waits: _Waits | None
    later: _Later | None


class DeclarationView(TypedDict):
    """What a saga began with, whatever its declaration has become since; `shape` is its digest.

    The steps of one of the `stages` run together, and each stage after the one before; undos run
    the other way. Of a step: its `role`, `compensable` before the pivot and `retriable` after it;
    whether it has an `undo`, may be left out by a request (`optional`), and acts outside DynamoDB
    (`external`); the fields of the request that it `takes`, and the steps whose results it is given
    (`after`); its `timeout` in seconds, and its tries in all (`attempts`). `waits` says whose
    decision it may wait for: what its questions are called, the scope, the seconds within which,
    and those after which it is told once more. `later` says when it is due: seconds after the saga
    has come to it (`delay`), or at a moment of the request (`not_before`, a path). `deadline` is in
    seconds.
    """

    saga: Annotated[str, SagaName()]
    shape: str
    deadline: float
    reverse: str | None
    stages: list[list[_DeclaredStep]]


def declaration(shape: Shape[Any]) -> dict[str, Any]:
    """A shape as a `DeclarationView`."""
    return {
        "saga": shape.name,
        "shape": digest(record(shape)),
        "deadline": shape.deadline,
        "reverse": shape.reverse,
        "stages": [[_declared(shape, step) for step in group] for group in shape.groups],
    }


def _declared(shape: Shape[Any], step: Any) -> dict[str, Any]:
    return {
        "name": step.name,
        "role": shape.role(step.name),
        "undo": step.refs["undo"] is not None,
        "optional": shape.optional(step),
        "external": step.external,
        "takes": list(step.takes),
        "after": list(step.after),
        "timeout": step.timeout,
        "attempts": shape.retry(step).attempts,
        "waits": step.waits and asdict(step.waits),
        "later": step.later and asdict(step.later),
    }


IDEMPOTENCY_KEY = Parameter(
    "Idempotency-Key",
    "the same for a retry, which answers the same saga",
    {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]*$"},
    where="header",
    required=True,
    problem="idempotency-key-missing",
)
LONGEST_AHEAD = timedelta(days=366)
NOT_BEFORE = Parameter(
    "Not-Before",
    "a moment by RFC 3339 with its offset, a year ahead at the most: the saga is recorded now and "
    "begins then, or within a minute or two, and can be cancelled until then with no effect; one "
    "that has passed is now",
    {"type": "string", "format": "date-time"},
    where="header",
    problem="invalid",
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
TRACEPARENT = Parameter(
    "traceparent",
    "the caller's span, by W3C Trace Context: the saga's trace is the same. One that is not valid "
    "is ignored; without one the saga has a trace of its own",
    where="header",
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


def idempotency_key(event: APIGatewayProxyEventV2) -> str:
    """The Idempotency-Key of a start.

    Raises:
        ProblemError: There is none, or it has characters that gateways change.
    """
    key: str = event.headers.get("idempotency-key", "")
    # Gateways differ in what they make of other bytes in a header: a retry could be another key.
    if not 1 <= len(key) <= 255 or not (key.isascii() and key.isprintable()):
        raise ProblemError(
            "idempotency-key-missing",
            "Idempotency-Key: send 1 to 255 printable characters of ASCII, the same for a retry",
        )
    return key


def not_before(event: APIGatewayProxyEventV2) -> datetime | None:
    """Before when the saga of a start must not begin; None for now.

    Raises:
        ProblemError: It is no moment, or too far ahead.
    """
    header = event.headers.get("not-before")
    if header is None:
        return None
    try:
        wanted = moment(header)
    except ValueError as problem:
        raise ProblemError("malformed", f"Not-Before: {problem}") from None
    must_be_near("Not-Before", wanted, header)
    return wanted


def must_be_near(field: str, wanted: datetime, text: str) -> None:
    """Check that a moment for which something waits is a year ahead at the most.

    Raises:
        ProblemError: It is further.
    """
    if wanted > datetime.now(UTC) + LONGEST_AHEAD:
        raise invalid(field, f"must be a year ahead at the most, got {text}")


def faults_asked(event: APIGatewayProxyEventV2, saga: Saga) -> dict[str, str]:
    """The faults on demand that a start asks for, by target.

    Raises:
        ProblemError: This deployment has none, or there is no such fault.
    """
    header = event.headers.get("recourse-chaos")
    if header is None:
        return {}
    if not settings.chaos():
        raise ProblemError("chaos-off", "deploy with the context chaos=on to inject faults")
    try:
        return faults.parse(header, saga)
    except faults.UnknownFaultError as error:
        raise ProblemError("unknown-fault", str(error)) from None


def coordination_of(asked: str | None, saga: Saga) -> Coordination:
    """How a saga is coordinated: without steps that listen it would be recorded, and never begin.

    Raises:
        ProblemError: The API has no such coordination.
    """
    wanted = saga.coordination if asked is None else asked
    has = get_args(Coordination) if settings.choreography() else ("orchestration",)
    if wanted not in has:
        why = "" if settings.choreography() else ": this API has no choreography"
        detail = f"coordination: must be {' or '.join(has)}, got {wanted!r}{why}"
        raise ProblemError("unknown-coordination", detail)
    return cast("Coordination", wanted)
