"""Sagas through the API: start, show, list, cancel, reverse, and resolve stuck steps.

It is longer than other modules, for the routes of one thing stand together.
"""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from aws_lambda_powertools import Logger
from aws_lambda_powertools.event_handler import Response
from botocore.exceptions import BotoCoreError, ClientError

from recourse import events
from recourse.declare import limits
from recourse.declare.ids import BadSagaIdError, SagaId, Traceparent
from recourse.declare.later import value_at
from recourse.declare.reverse import reversed_by
from recourse.declare.saga import Saga
from recourse.declare.shape import Shape
from recourse.declare.shape import digest as digest_of
from recourse.declare.shape import record as recorded
from recourse.errors import NoVersionError, TransientError
from recourse.functions import kit
from recourse.functions.api import admission, http, valet
from recourse.functions.api.events import EventView
from recourse.functions.api.parameters import CURSOR, IF_MATCH, IF_NONE_MATCH, LIMIT
from recourse.functions.api.routes import Answer, Operation, Page, Routes, Sample
from recourse.functions.api.saga_models import (
    BUSINESS_KEY,
    CHAOS,
    COORDINATION,
    IDEMPOTENCY_KEY,
    LONGEST_KEY,
    NOT_BEFORE,
    PREFER,
    STATUS,
    TRACEPARENT,
    DeclarationView,
    Resolution,
    Reversing,
    SagaView,
    coordination_of,
    declaration,
    faults_asked,
    idempotency_key,
    must_be_near,
    not_before,
    saga_choice,
)
from recourse.ledger.history import AT_REST, Status
from recourse.ledger.ledger import (
    ErasedError,
    KeyReusedError,
    NothingToResolveError,
    PivotSkippedError,
    SagaChangedError,
)
from recourse.ledger.record import Record, digest
from recourse.ledger.reversals import (
    NoReverseError,
    NotReversibleError,
    NotSucceededError,
    Reversal,
)
from recourse.ledger.shapes import UnknownShapeError
from recourse.problems import ProblemError, invalid
from recourse.store.cursors import BadCursorError
from recourse.text import moment, unseen

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from aws_lambda_powertools.utilities.data_classes import APIGatewayProxyEventV2

    from recourse.functions.caller import Caller

logger = Logger()
routes = Routes("Sagas", "Start, watch, cancel and reverse sagas, and resolve stuck steps")


def _starts(sagas: Mapping[str, Saga]) -> Iterator[Operation]:
    """How each saga is started that is not started by `reverse`."""
    reversing = reversed_by(sagas)
    for saga in (one for one in sagas.values() if one.name not in reversing):
        yield Operation(
            f"start-{saga.name}",
            f"Start {saga.name}: {', '.join(step.name for step in saga.all)}",
            path=f"/sagas/{saga.name}",
            scope="sagas:write",
            takes=saga.request,
            example=Sample(f"{saga.name}.json"),
            parameters=[IDEMPOTENCY_KEY, NOT_BEFORE, CHAOS, COORDINATION, TRACEPARENT],
            answers=[
                Answer(
                    202,
                    "accepted",
                    SagaView,
                    headers={"Location": "the saga's address", "ETag": "its version"},
                )
            ],
            problems=[
                *("not-found", "idempotency-key-reused", "chaos-off", "saga-erased"),
                "limit-reached",
            ],
        )


@routes.post("/sagas/<name>", _starts)
def start(name: str) -> Response[str]:
    """Start a saga: record it, then run it; if that fails, the sweeper runs it later.

    One that is `Not-Before` a time is recorded, and the sweeper begins it.
    """
    event = routes.current_event
    who = http.caller(event, "sagas:write")
    saga = kit.sagas().get(name)
    if saga is None:
        raise ProblemError("not-found", f"there is no saga {name!r}")
    if first := reversed_by(kit.sagas()).get(name):
        names = " or ".join(one.name for one in first)
        raise ProblemError("not-found", f"{name} is started by the reverse of a {names} alone")
    key = idempotency_key(event)
    faults = faults_asked(event, saga)
    begins = not_before(event)
    begins_at = None if begins is None else events.moment(begins)
    asked = event.query_string_parameters.get("coordination")
    saga_id, sent = SagaId.of(saga.name, who.subject, key), digest(http.sent(event))
    try:
        coordination = coordination_of(asked, saga)
        body = _request(event, saga)
    except ProblemError:
        # A release may refuse what the one before has taken: a retry still answers its saga.
        before = kit.ledger().get(saga_id)
        same = before and before.was_sent(sent) and begins_at == before.asked_to_begin_at
        if before and same and asked in (None, before.coordination):
            return _accepted(before)
        raise
    wanted = Record(
        saga_id=saga_id,
        saga=saga.name,
        owner=who.subject,
        business_key=body[saga.business_key],
        coordination=coordination,
        request=body,
        body=sent,
        started_at=events.now(),
        faults=faults,
        begins_at=begins_at,
        scheduled=begins is not None and begins > datetime.now(UTC),
    )
    if body.get("documents") and kit.ledger().get(wanted.saga_id) is None:
        _must_be_there(who.subject, body["documents"])
    trace = Traceparent.sent(event.headers.get("traceparent"))
    try:
        record = admission.begin(
            who,
            lambda: kit.ledger().start(wanted, any_coordination=asked is None, trace=trace),
            lambda: kit.ledger().get(saga_id) is not None,
        )
    except KeyReusedError as problem:
        raise ProblemError(
            "idempotency-key-reused",
            f"it was used for {problem}, which /sagas/{saga_id} shows: a retry sends the same "
            "body and headers, and a new Idempotency-Key starts one more saga beside that one",
        ) from None
    except ErasedError:
        raise ProblemError(
            "saga-erased",
            "the Idempotency-Key was used for a saga whose owner's data have been erased since: "
            "nothing is started; a new Idempotency-Key starts one more saga",
        ) from None
    return _accepted(record)


@routes.get(
    "/sagas/<saga_id>",
    Operation(
        "show-saga",
        "Show a saga",
        scope="sagas:read",
        parameters=[IF_NONE_MATCH, PREFER],
        answers=[
            Answer(200, "the saga", SagaView, headers={"ETag": "its version"}),
            Answer(304, "it has not changed"),
        ],
        problems=["not-found", "limit-reached"],
    ),
)
def show(saga_id: str) -> Response[str]:
    """Show a saga; wait for it to change, where that is preferred."""
    event = routes.current_event
    record = _owned(saga_id, "sagas:read")
    known = http.known_tags(event.headers)
    before = known or {_etag(record)}
    headers: dict[str, str] = {}
    if seconds := http.preferred_wait(event.headers):
        headers["preference-applied"] = f"wait={seconds}"
        record = _changed(record, before, seconds, http.caller(event, "sagas:read").subject)
    headers["etag"] = _etag(record)
    if headers["etag"] in known:
        return http.answer(304, headers=headers)
    view = _view(record)
    try:
        view["links"] |= valet.links(event, http.caller(event, "sagas:read"), record)
    except (TransientError, UnknownShapeError, BotoCoreError, ClientError):
        # The saga is what was asked for; a later request gets the links as well.
        logger.exception("links to documents are missing", extra=record.log_fields)
    return http.answer(200, view, headers=headers)


@routes.get(
    "/sagas/<saga_id>/events",
    Operation(
        "show-events",
        "Show the events of a saga, in order",
        scope="sagas:read",
        answers=[
            Answer(
                200,
                "all there are so far, for as long as the saga is kept, which is longer than the "
                "feed, `GET /events`, keeps them; the cursor is null",
                Page[EventView],
            )
        ],
        problems=["not-found"],
    ),
)
def show_events(saga_id: str) -> Response[str]:
    """Show the events of a saga."""
    record = _owned(saga_id, "sagas:read")
    entered = [] if record.scheduled else record.entered
    items = [event.to_dict() for event in entered if not event.is_hidden]
    return http.answer(200, {"items": items, "cursor": None})


@routes.get(
    "/sagas/<saga_id>/declaration",
    Operation(
        "show-declaration",
        "Show what a saga began with: its steps, which run together, and the pivot",
        scope="sagas:read",
        answers=[
            Answer(200, "the same for as long as the saga is kept", DeclarationView),
        ],
        problems=["not-found", "shape-unknown"],
    ),
)
def show_declaration(saga_id: str) -> Response[str]:
    """Show the shape that a saga began with, whatever is declared by now."""
    return http.answer(200, declaration(_shape(_owned(saga_id, "sagas:read"))))


def _listing(sagas: Mapping[str, Saga]) -> Iterator[Operation]:
    """How they are listed."""
    yield Operation(
        "list-sagas",
        "List sagas, the newest first",
        scope="sagas:read",
        parameters=[saga_choice(sagas), STATUS, BUSINESS_KEY, CURSOR, LIMIT],
        answers=[
            Answer(
                200,
                "a page, and the cursor of the next; where few sagas match, a page may be "
                "short or empty and still have a cursor",
                Page[SagaView],
            )
        ],
    )


@routes.get("/sagas", _listing)
def page() -> Response[str]:
    """List sagas, the newest first."""
    event = routes.current_event
    who = http.caller(event, "sagas:read")
    query = event.query_string_parameters
    saga, status = saga_choice(kit.known()).of(event), cast("Status | None", STATUS.of(event))
    key = query.get("business_key")
    if key is not None and not 1 <= len(key) <= LONGEST_KEY:
        raise invalid("business_key", f"must have 1 to {LONGEST_KEY} characters, got {len(key)}")
    if key is not None and (flaw := unseen(key)):
        raise invalid("business_key", flaw)
    try:
        records, cursor = kit.ledger().queries.page(
            owner=None if who.is_operator else who.subject,
            saga=saga,
            status=status,
            business_key=key,
            cursor=query.get("cursor"),
            limit=LIMIT.of(event),
        )
    except BadCursorError:
        raise ProblemError("bad-cursor", "use the cursor of the previous page") from None
    items = [_view(record) for record in records]
    return http.answer(200, {"items": items, "cursor": cursor})


@routes.post(
    "/sagas/<saga_id>/cancel",
    Operation(
        "cancel-saga",
        "Cancel a saga whose pivot has not completed",
        scope="sagas:write",
        answers=[Answer(202, "accepted: it will be compensated", SagaView)],
        problems=["not-found", "past-the-pivot", "not-deployed", "shape-unknown"],
    ),
)
def cancel(saga_id: str) -> Response[str]:
    """Cancel a saga, unless its pivot has completed."""
    record = _owned(saga_id, "sagas:write", or_operator=True)
    shape = _shape(record)
    pivot = shape.pivot.name
    if record.scheduled:
        must_be_deployed(shape, *shape.by_name, runs=True)
        record = kit.ledger().call_off(record.saga_id, at=events.now())
        _run(record)  # only undoes, unless it has begun meanwhile
    if record.status == "RUNNING":
        must_be_deployed(shape, pivot)
    if record.status == "SUCCEEDED" or (
        record.status == "RUNNING" and not kit.runs().cancel(record)
    ):
        raise ProblemError("past-the-pivot", f"its pivot {pivot!r} has completed")
    if record.status == "RUNNING" and record.due_at is not None:
        kit.decisions(not_moved_on).withdraw(record)
    return http.answer(202, _view(kit.ledger().get(record.saga_id) or record))


@routes.post(
    "/sagas/<saga_id>/reverse",
    Operation(
        "reverse-saga",
        "Reverse a saga that has succeeded, by the saga that its declaration names for it",
        scope="sagas:write",
        takes=Reversing,
        is_bodiless=True,
        example={"reason": "the traveller is ill"},
        parameters=[CHAOS, COORDINATION, TRACEPARENT],
        answers=[
            Answer(
                202,
                "the saga that reverses it: begun now, or before, unless that was COMPENSATED",
                SagaView,
                headers={"Location": "the reversing saga's address", "ETag": "its version"},
            )
        ],
        problems=[
            *("not-found", "no-reverse", "not-succeeded", "not-reversible"),
            *("shape-unknown", "saga-erased", "chaos-off", "limit-reached"),
        ],
    ),
)
def reverse(saga_id: str) -> Response[str]:
    """Reverse a saga: the reversing one is recorded, then run, as any start is."""
    event = routes.current_event
    first = _owned(saga_id, "sagas:write", or_operator=True)
    by = http.caller(event, "sagas:write", or_operator=True)
    reason = http.body(event, Reversing)["reason"] if event.body else None
    asked = Reversal(by=by.subject, reason=reason)
    if saga := _reverse_of(first):
        wanted = event.query_string_parameters.get("coordination")
        coordination, faults = coordination_of(wanted, saga), faults_asked(event, saga)
        asked = replace(asked, coordination=coordination, faults=faults)
    trace = Traceparent.sent(event.headers.get("traceparent"))
    try:
        return _accepted(_reversed(by, first, asked, trace))
    except NoReverseError:
        detail = f"no saga is declared that reverses a {first.saga}"
        raise ProblemError("no-reverse", detail) from None
    except NotSucceededError as problem:
        detail = f"it is {problem}: only a saga that has SUCCEEDED can be reversed"
        raise ProblemError("not-succeeded", detail) from None
    except ErasedError:
        raise ProblemError(
            "saga-erased",
            "its owner's data have been erased since, and with them what would be taken back",
        ) from None
    except NotReversibleError as problem:
        detail = f"its reverse cannot be made of what it has: {problem}"
        raise ProblemError("not-reversible", detail) from None
    except UnknownShapeError as problem:
        raise ProblemError("shape-unknown", str(problem)) from None


def _reversed(by: Caller, first: Record, asked: Reversal, trace: Traceparent | None) -> Record:
    """The saga that reverses another: begun now, within the limits of who asks, or before."""

    def start() -> tuple[Record, bool]:
        record = kit.ledger().reverse(first.saga_id, asked, trace=trace)
        return record, record.saga_id != first.reversed_by

    def is_there() -> bool:
        before = kit.ledger().get(first.reversed_by) if first.reversed_by else None
        return before is not None and before.status != "COMPENSATED"

    return admission.begin(by, start, is_there)


@routes.post(
    "/sagas/<saga_id>/steps/<step>/resolve",
    Operation(
        "resolve-step",
        "Retry or skip a stuck step",
        scope="operator",
        takes=Resolution,
        example={"action": "retry"},
        parameters=[IF_MATCH],
        answers=[Answer(202, "accepted", SagaView, headers={"ETag": "its version"})],
        problems=[
            *("not-found", "nothing-to-resolve", "pivot-not-skipped"),
            *("saga-changed", "not-deployed", "shape-unknown"),
        ],
    ),
)
def resolve(saga_id: str, step: str) -> Response[str]:
    """Resolve a stuck step, as an operator."""
    event = routes.current_event
    who = http.caller(event, "operator")
    record = _owned(saga_id, "operator")
    shape = _shape(record)
    if step not in shape.by_name:
        raise ProblemError("not-found", f"{record.saga} has no step {step!r}")
    asked = http.body(event, Resolution)
    seen = http.seen_tags(event.headers)
    if seen is not None and _etag(record) not in seen:
        raise _changed_since(record)
    reason = (asked["reason"] or "").strip()
    if asked["action"] == "skip" and not reason:
        raise invalid("reason", "a skip needs a reason")
    if kit.ledger().stuck_step(record, step):
        must_be_deployed(shape, *shape.by_name, runs=True)  # a run comes to all of them
    try:
        record = kit.ledger().resolve(
            record.saga_id,
            step,
            skip=asked["action"] == "skip",
            reason=reason,
            by=who.subject,
            version=None if seen is None else record.version,
        )
    except SagaChangedError:
        raise _changed_since(record) from None
    except NothingToResolveError:
        raise ProblemError("nothing-to-resolve", f"the step {step!r} is not stuck") from None
    except PivotSkippedError:
        raise ProblemError("pivot-not-skipped", _of_the_pivot(shape)) from None
    _run(record)
    return http.answer(202, _view(record), headers={"etag": _etag(record)})


def _changed_since(record: Record) -> ProblemError:
    """What is answered where the caller has seen another version than there is now."""
    detail = f"If-Match: look at /sagas/{record.saga_id} again, and decide by what it is now"
    return ProblemError("saga-changed", detail)


def _of_the_pivot(shape: Shape[Any]) -> str:
    """What a retry of a stuck pivot leads to, for the operator who wanted to skip it."""
    rank = shape.rank(shape.pivot.name)
    before, after = (
        ", ".join(step.name for group in groups for step in group)
        for groups in (reversed(shape.groups[:rank]), shape.groups[rank + 1 :])
    )
    forward = f"goes forward to {after}" if after else "has succeeded"
    back = f"is undone ({before})" if before else "ends with nothing to undo"
    return (
        f"the step {shape.pivot.name!r} decides the saga's outcome, so it cannot be skipped. Retry "
        f"it: if it has completed, the saga {forward}; if not, it never will, and the saga {back}"
    )


def _request(event: APIGatewayProxyEventV2, saga: Saga) -> dict[str, Any]:
    """The request in a body.

    Raises:
        ProblemError: It is not valid, or too large.
    """
    body: dict[str, Any] = http.body(event, saga.request)
    if (found := limits.size(body)) > limits.REQUEST:
        detail = f"a request must be at most {limits.REQUEST} bytes, got {found}"
        raise ProblemError("too-large", detail)
    for step in saga.all:
        wait = step.later
        if wait and wait.not_before and (text := value_at(body, wait.not_before)):
            must_be_near(wait.not_before, moment(text), text)
    return body


def _accepted(record: Record) -> Response[str]:
    """What a start is answered, and each retry of it; run it where that was not done yet."""
    if len(record.entered) == 1 and not record.scheduled:
        _run(record)
    headers = {"location": f"/sagas/{record.saga_id}", "etag": _etag(record)}
    return http.answer(202, _view(record), headers=headers)


def _must_be_there(owner: str, documents: Mapping[str, str]) -> None:
    """Check that the documents that a request names in `documents` are the owner's.

    Raises:
        ProblemError: Some do not exist, or the deployment has no documents.
    """
    if valet.routes.is_missing:
        raise invalid("documents", "this API has no valet keys, so nobody has documents")
    missing = kit.valet_keys().missing(owner, list(dict.fromkeys(documents.values())))
    for name, document in documents.items():
        if document in missing:
            raise invalid(f"documents.{name}", f"you have no document {document!r}")


def _shape(record: Record) -> Shape[Any]:
    """The shape that a saga began with.

    Raises:
        ProblemError: Nothing says what its steps are.
    """
    try:
        return kit.ledger().shape(record)
    except UnknownShapeError as problem:
        raise ProblemError("shape-unknown", str(problem)) from None


def must_be_deployed(shape: Shape[Any], *steps: str, runs: bool = False) -> None:
    """Check that what a saga began with is still there, as far as a call needs it.

    Args:
        shape: The shape that it began with.
        steps: The steps whose functions are called.
        runs: Whether its state machine is.

    Raises:
        ProblemError: It was taken out by force; the message says what can be done.
    """
    there = {step.function for one in kit.deployed() for step in one.all}
    gone = [name for name in steps if shape.by_name[name].function not in there]
    why = ", ".join(
        f"the step {name!r} needs the function {shape.by_name[name].function}" for name in gone
    )
    try:
        if shape.name not in kit.known():
            why = why or f"{shape.name!r} is neither declared nor recorded here"
        elif runs and not why:
            kit.runs().version(shape)
    except NoVersionError as problem:
        why = str(problem)
    except TransientError:
        return  # what is tried next says so, or leaves it to the sweeper
    if why:
        raise ProblemError(
            "not-deployed",
            f"{why}. Put back what was taken out, the functions and the shape "
            f"{digest_of(recorded(shape))} in {shape.name}.shape.json, which git has; deploy, and "
            "try again",
        )


def not_moved_on(record: Record, problem: Exception) -> None:
    """Log that a saga goes on only by the sweeper."""
    logger.warning("not moved on: left to the sweeper: %s", problem, extra=record.log_fields)


def _run(record: Record) -> None:
    """Start a run that has been recorded; if that fails, the sweeper starts it."""
    try:
        kit.runs().start(record)
    except TransientError:
        logger.exception("not started: left to the sweeper", extra=record.log_fields)


def _owned(saga_id: str, scope: str, *, or_operator: bool = False) -> Record:
    """A saga that the caller may see.

    Raises:
        ProblemError: There is none, or it is another owner's: both answer 404.
    """
    who = http.caller(routes.current_event, scope, or_operator=or_operator)
    try:
        record = kit.ledger().get(SagaId(saga_id))
    except BadSagaIdError:
        record = None
    if record is None or not who.owns(record.owner):
        raise ProblemError("not-found", f"there is no saga {saga_id!r}")
    return record


def _changed(record: Record, before: Collection[str], seconds: int, by: str) -> Record:
    """The saga once it differs from the versions known, is at rest, or the time is up.

    Raises:
        LimitReachedError: As many requests `by` this caller wait as may.
    """
    until = time.monotonic() + seconds
    pause = 0.1

    def is_known() -> bool:
        return _etag(record) in before and record.status not in AT_REST

    if is_known():
        with kit.slots("waits").held(by):
            while is_known() and (left := until - time.monotonic()) > 0:
                time.sleep(min(pause, left))
                pause = min(pause * 1.5, 0.5)
                record = kit.ledger().get(record.saga_id) or record
    return record


def _reverse_of(record: Record) -> Saga | None:
    """The saga that reverses it by now, if there is one."""
    declared = kit.sagas().get(record.saga)
    return kit.sagas()[declared.reverse] if declared and declared.reverse else None


def _view(record: Record) -> dict[str, Any]:
    path = f"/sagas/{record.saga_id}"
    links = {"self": path, "cancel": f"{path}/cancel"}
    if record.status == "SUCCEEDED" and _reverse_of(record):
        links["reverse"] = f"{path}/reverse"
    if record.reverses:
        links["reverses"] = f"/sagas/{record.reverses['saga_id']}"
    if record.reversed_by:
        links["reversed_by"] = f"/sagas/{record.reversed_by}"
    return kit.ledger().view(record) | {"links": links}


def _etag(record: Record) -> str:
    return f'"{record.version}"'
