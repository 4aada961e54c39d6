"""Dead-letter queues through the API: how much waits in each, and redriving it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from annotated_types import Len
from aws_lambda_powertools import Logger
from aws_lambda_powertools.event_handler import Response
from botocore.exceptions import ClientError
from typing_extensions import TypedDict

from recourse.declare.request import request_model
from recourse.functions import kit
from recourse.functions.api import http
from recourse.functions.api.routes import Answer, Operation, Page, Routes
from recourse.problems import ProblemError

if TYPE_CHECKING:
    from recourse.queues.deadletters import DeadletterQueue

LISTED = 20
"""How many reasons and sagas of a dead-letter queue an answer names, the most frequent first."""
logger = Logger()
routes = Routes(
    "Dead-letter queues", "Messages that were given up, and redriving them; for operators"
)


@request_model
class Redrive:
    """Which messages of a dead-letter queue to redrive; a dry run moves none."""

    saga_id: Annotated[str, Len(1, 128)] | None = None
    dry_run: bool = False


class DeadlettersView(TypedDict):
    """A dead-letter queue, and how many messages wait in it: null while it is out of reach."""

    name: str
    waiting: int | None
    redrives_to: str | None
    why_not: str | None


class _Reasons(TypedDict):
    reason: str
    count: int


class _Sagas(TypedDict):
    saga_id: str | None
    count: int


class RedrivenView(TypedDict):
    """The result of one pass through a dead-letter queue."""

    name: str
    dry_run: bool
    looked_at: int
    matched: int
    moved: int
    left: int
    reasons: list[_Reasons]
    sagas: list[_Sagas]


@routes.get(
    "/deadletters",
    Operation(
        "list-deadletters",
        "List every dead-letter queue, with how many messages wait in it",
        scope="operator",
        answers=[Answer(200, "all of them", Page[DeadlettersView])],
    ),
)
def deadletters() -> Response[str]:
    """List every dead-letter queue, with how many messages wait in it.

    One that a deploy keeps out of reach is shown without a number: where it stays so, it is the
    sweeper that alerts somebody.
    """
    http.caller(routes.current_event, "operator")
    items: list[DeadlettersView] = [
        {
            "name": one.name,
            "waiting": _waiting(one),
            "redrives_to": one.redrives_to,
            "why_not": one.why_not,
        }
        for one in kit.deadletters().values()
    ]
    return http.answer(200, {"items": items, "cursor": None})


def _waiting(queue: DeadletterQueue) -> int | None:
    """How many messages wait in a queue; None while it is out of reach."""
    try:
        return queue.waiting()
    except ClientError as problem:
        if not _is_out_of_reach(problem):
            raise
        return None


def _is_out_of_reach(problem: ClientError) -> bool:
    from recourse.queues.reach import is_out_of_reach

    return is_out_of_reach(problem)


@routes.post(
    "/deadletters/<name>/redrive",
    Operation(
        "redrive",
        "Redrive the messages of a dead-letter queue, or only count them",
        scope="operator",
        takes=Redrive,
        example={"dry_run": True},
        answers=[Answer(200, "the result of one pass through it", RedrivenView)],
        problems=["not-found", "not-redrivable"],
    ),
)
def redrive(name: str) -> Response[str]:
    """Redrive the messages of a dead-letter queue, or only count them, as an operator."""
    event = routes.current_event
    who = http.caller(event, "operator")
    found = kit.deadletters().get(name)
    if found is None:
        raise ProblemError("not-found", f"there is no dead-letter queue {name!r}")
    if found.why_not:
        raise ProblemError("not-redrivable", f"{found.name}: {found.why_not}")
    asked = http.body(event, Redrive)
    try:
        done = found.redrive(saga_id=asked["saga_id"], dry_run=asked["dry_run"])
    except ClientError as problem:
        if not _is_out_of_reach(problem):
            raise
        detail = f"{found.name} is out of reach: retry when no deploy is under way"
        raise ProblemError("try-again", detail) from problem
    if done.moved:
        about = {"by": who.subject, "queue": found.name, "moved": done.moved}
        logger.info("redriven", extra=about | {"reasons": dict(done.reasons)})
    answer: RedrivenView = {
        "name": found.name,
        "dry_run": asked["dry_run"],
        "looked_at": done.looked_at,
        "matched": done.matched,
        "moved": done.moved,
        "left": done.left,
        "reasons": [{"reason": text, "count": n} for text, n in done.reasons.most_common(LISTED)],
        "sagas": [{"saga_id": saga, "count": n} for saga, n in done.sagas.most_common(LISTED)],
    }
    return http.answer(200, answer)
