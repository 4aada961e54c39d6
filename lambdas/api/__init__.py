"""The HTTP API: what every deployment has of it, and what this one's services hold."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response
from botocore.exceptions import BotoCoreError, ClientError

from lambdas.api import about, deadletters, events, holdings, http, redeem, sagas, valet, webhooks
from recourse.problems import ProblemError
from recourse.step import TransientError
from recourse.store.aws import is_passing
<<<<<<< HEAD

INFO = {
    "title": "Recourse",
    "version": about.VERSION,
    "description": "Sagas that end as booked or as if they had never been.",
}
GROUPS = (
    sagas.routes,
    events.routes,
    deadletters.routes,
    valet.routes,
    redeem.routes,
    webhooks.routes,
    about.routes,
    holdings.routes,  # the last: its paths may be any
)
=======
from recourse.store.contention import ContentionError
from recourse.store.cursors import BadCursorError
from recourse.store.table import Table
from recourse.valet.errors import ValetError
from services.holdings import HOLDINGS
from statemachines import SAGAS
from statemachines.fields import is_id

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from recourse.projection import Status

VERSION = "0.1.0"
LONGEST_ID = 128
LONGEST_KEY = 512
TOLD = 20
"""How many reasons and sagas of a dead-letter queue an answer names, the most frequent first."""
>>>>>>> table
app = APIGatewayHttpResolver()
for group in GROUPS:
    app.include_router(group.router)
logger = Logger()


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Answer one request."""
    return app.resolve(event, context)


@app.exception_handler(ProblemError)
def _problem(error: ProblemError) -> Response[str]:
    return http.problem(error)


<<<<<<< HEAD
@app.exception_handler([TransientError, BotoCoreError, TimeoutError])
=======
@app.exception_handler(ValetError)
def _refused_key(error: ValetError) -> Response[str]:
    return http.problem(refused(error))


@app.exception_handler([TransientError, BotoCoreError])
>>>>>>> table
def _try_again(error: Exception) -> Response[str]:
    logger.warning(str(error))
    return http.problem(ProblemError("try-again", "it may work in a moment"))


@app.exception_handler(ClientError)
def _refused(error: ClientError) -> Response[str]:
    """AWS refused a call: busy, or asked wrongly."""
    answer: Response[str] = _try_again(error) if is_passing(error) else _internal(error)
    return answer


@app.exception_handler(Exception)
def _internal(error: Exception) -> Response[str]:
    logger.exception("not foreseen")
    return http.problem(ProblemError("internal", "the log has what happened"))


@app.not_found
def _not_found(error: Exception) -> Response[str]:
    return http.problem(ProblemError("not-found", f"nothing is at {app.current_event.path}"))
<<<<<<< HEAD
=======


# Sagas.


@app.post("/sagas/<name>")
def start(name: str) -> Response[str]:
    """Start a saga: record it, then run it; what could not be run now is left to the sweeper."""
    event = app.current_event
    who = http.caller(event, "sagas:write")
    saga = SAGAS.get(unquote(name))
    if saga is None:
        raise ProblemError("not-found", f"there is no saga {unquote(name)!r}")
    key = event.headers.get("idempotency-key", "")
    if not 1 <= len(key) <= 255 or not key.isprintable():
        raise ProblemError(
            "idempotency-key-missing", "send 1 to 255 printable characters, the same for a retry"
        )
    faults = _faults(event.headers.get("recourse-chaos"), saga)
    asked = event.query_string_parameters.get("coordination")
    coordination = _coordination(asked, saga)
    body = http.body(event, saga.request)
    if (found := limits.size(body)) > limits.REQUEST:
        detail = f"a request must be at most {limits.REQUEST} bytes, got {found}"
        raise ProblemError("too-large", detail)
    wanted = Record(
        saga_id=saga_id(saga.name, who.subject, key),
        saga=saga.name,
        owner=who.subject,
        business_key=body[saga.business_key],
        coordination=coordination,
        request=body,
        body=digest(body),
        started_at=events.now(),
        faults=faults,
    )
    if body.get("documents") and kit.ledger().get(wanted.saga_id) is None:
        _must_be_there(who.subject, body["documents"])
    try:
        record, _ = kit.ledger().start(wanted, any_coordination=asked is None)
    except KeyReusedError as problem:
        raise ProblemError(
            "idempotency-key-reused",
            f"it stands for {problem}: use a new Idempotency-Key for a new request",
        ) from None
    if len(record.entered) == 1:
        _run(record)
    headers = {"location": f"/sagas/{record.saga_id}", "etag": _etag(record)}
    return http.answer(202, _view(record), headers=headers)


@app.get("/sagas/<saga_id>")
def show(saga_id: str) -> Response[str]:
    """Show a saga; wait for it to change, where that is preferred."""
    event = app.current_event
    record = _owned(saga_id, "sagas:read")
    known = http.known_tags(event.headers)
    before = known or {_etag(record)}
    headers: dict[str, str] = {}
    if seconds := http.preferred_wait(event.headers):
        headers["preference-applied"] = f"wait={seconds}"
        record = _changed(record, before, seconds)
    headers["etag"] = _etag(record)
    if headers["etag"] in known:
        return http.answer(304, headers=headers)
    view = _view(record)
    try:
        view["links"] |= valet.links(event, http.caller(event, "sagas:read"), record)
    except (TransientError, BotoCoreError, ClientError):
        # The saga is what was asked for; whoever looks again gets the links as well.
        logger.exception("no links to documents", extra={"saga_id": record.saga_id})
    return http.answer(200, view, headers=headers)


@app.get("/sagas")
def page() -> Response[str]:
    """List sagas, the newest first."""
    event = app.current_event
    who = http.caller(event, "sagas:read")
    query = event.query_string_parameters
    _one_of("saga", query.get("saga"), SAGAS)
    _one_of("status", query.get("status"), STATUSES)
    status: Status | None = query.get("status")  # type: ignore[assignment]
    key = query.get("business_key")
    if key is not None and not 1 <= len(key) <= LONGEST_KEY:
        _wrong("business_key", f"should have 1 to {LONGEST_KEY} characters")
    try:
        records, cursor = kit.ledger().page(
            owner=None if who.is_operator else who.subject,
            saga=query.get("saga"),
            status=status,
            business_key=key,
            cursor=query.get("cursor"),
            limit=http.number(event, "limit", default=20, most=100),
        )
    except BadCursorError:
        raise ProblemError("bad-cursor", "use the cursor of the page before") from None
    items = [_view(record) for record in records]
    return http.answer(200, {"items": items, "cursor": cursor})


@app.post("/sagas/<saga_id>/cancel")
def cancel(saga_id: str) -> Response[str]:
    """Cancel a saga, unless its pivot has acted."""
    record = _owned(saga_id, "sagas:write", or_operator=True)
    if record.status == "SUCCEEDED" or (
        record.status == "RUNNING" and not kit.runs().cancel(record)
    ):
        pivot = SAGAS[record.saga].pivot.name
        raise ProblemError("past-the-pivot", f"the step {pivot!r} has decided it")
    return http.answer(202, _view(kit.ledger().get(record.saga_id) or record))


@app.post("/sagas/<saga_id>/steps/<step>/resolve")
def resolve(saga_id: str, step: str) -> Response[str]:
    """Decide on a stuck step, as an operator."""
    event = app.current_event
    who = http.caller(event, "operator")
    record = _owned(saga_id, "operator")
    if unquote(step) not in SAGAS[record.saga].by_name:
        raise ProblemError("not-found", f"{record.saga} has no step {unquote(step)!r}")
    asked = http.body(event, Resolution)
    reason = (asked["reason"] or "").strip()
    if asked["action"] == "skip" and not reason:
        _wrong("reason", "a skip needs one")
    try:
        record = kit.ledger().resolve(
            record.saga_id,
            unquote(step),
            skip=asked["action"] == "skip",
            reason=reason,
            by=who.subject,
        )
    except NothingToResolveError:
        raise ProblemError("nothing-to-resolve", f"the step {step!r} is not stuck") from None
    except PivotSkippedError:
        raise ProblemError("pivot-not-skipped", _of_the_pivot(SAGAS[record.saga])) from None
    _run(record)
    return http.answer(202, _view(record))


def _of_the_pivot(saga: Saga) -> str:
    """What becomes of a saga whose pivot is stuck, for the operator who wanted to skip it."""
    rank = saga.rank(saga.pivot.name)
    before, after = (
        ", ".join(step.name for group in groups for step in group)
        for groups in (reversed(saga.groups[:rank]), saga.groups[rank + 1 :])
    )
    forward = f"goes forward to {after}" if after else "has succeeded"
    back = f"is undone ({before})" if before else "has come to nothing"
    return (
        f"the step {saga.pivot.name!r} decides the saga, so it cannot be left as it is. Retry it: "
        f"if it has acted, the saga {forward}; if not, it never will, and the saga {back}"
    )


def _must_be_there(owner: str, documents: Mapping[str, str]) -> None:
    """Hold a request to the owner's documents: what it names is there when it is first asked.

    Raises:
        ProblemError: Some are not.
    """
    missing = kit.valet_keys().missing(owner, list(dict.fromkeys(documents.values())))
    for name, document in documents.items():
        if document in missing:
            _wrong(f"documents.{name}", f"there is no document {document!r} of yours")


def _run(record: Record) -> None:
    """Start a run that has been recorded; if that fails, the sweeper starts it."""
    try:
        kit.runs().start(record)
    except TransientError:
        logger.exception("recorded, and left to the sweeper", extra={"saga_id": record.saga_id})


def _owned(saga_id: str, scope: str, *, or_operator: bool = False) -> Record:
    """A saga that the caller may see.

    Raises:
        ProblemError: There is none; another's is as if it were not there.
    """
    who = http.caller(app.current_event, scope, or_operator=or_operator)
    saga_id = unquote(saga_id)
    record = kit.ledger().get(saga_id) if len(saga_id) <= LONGEST_ID else None
    if record is None or not who.owns(record.owner):
        raise ProblemError("not-found", f"there is no saga {saga_id!r}")
    return record


def _changed(record: Record, before: Collection[str], seconds: int) -> Record:
    """The saga once it differs from what the caller knows, is at rest, or the time is up."""
    until = time.monotonic() + seconds
    pause = 0.1
    while _etag(record) in before and record.status not in AT_REST and time.monotonic() < until:
        time.sleep(min(pause, max(0.0, until - time.monotonic())))
        pause = min(pause * 1.5, 0.5)
        record = kit.ledger().get(record.saga_id) or record
    return record


def _view(record: Record) -> dict[str, Any]:
    path = f"/sagas/{record.saga_id}"
    links = {"self": path, "cancel": f"{path}/cancel"}
    return record.view(SAGAS[record.saga]) | {"links": links}


def _etag(record: Record) -> str:
    return f'"{record.version}"'


def _faults(header: str | None, saga: Saga) -> dict[str, str]:
    if header is None:
        return {}
    if not settings.chaos():
        raise ProblemError("chaos-off", "deploy with the context chaos=on to have faults injected")
    try:
        return chaos.parse(header, saga)
    except chaos.UnknownFaultError as error:
        raise ProblemError("unknown-fault", str(error)) from None


def _coordination(asked: str | None, saga: Saga) -> Coordination:
    if asked is None:
        return saga.coordination
    if asked not in get_args(Coordination):
        raise ProblemError(
            "unknown-coordination", f"{asked!r}: there are {', '.join(get_args(Coordination))}"
        )
    return cast("Coordination", asked)


def _one_of(name: str, value: str | None, allowed: Mapping[str, Any] | tuple[str, ...]) -> None:
    if value is not None and value not in allowed:
        _wrong(name, f"should be one of {', '.join(allowed)}")


def _wrong(name: str, message: str) -> NoReturn:
    raise ProblemError(
        "invalid", f"{name}: {message}", errors=[{"field": name, "message": message}]
    )


# Dead-letter queues.


@app.get("/deadletters")
def deadletters() -> Response[str]:
    """Show every dead-letter queue, with how much rests there."""
    http.caller(app.current_event, "operator")
    items = [
        {
            "name": one.name,
            "waiting": one.waiting(),
            "redrives_to": one.redrives_to,
            "why_not": one.why_not,
        }
        for one in kit.deadletters().values()
    ]
    return http.answer(200, {"items": items, "cursor": None})


@app.post("/deadletters/<name>/redrive")
def redrive(name: str) -> Response[str]:
    """Send back what rests in a dead-letter queue, or say what would be, as an operator."""
    event = app.current_event
    who = http.caller(event, "operator")
    found = kit.deadletters().get(unquote(name))
    if found is None:
        raise ProblemError("not-found", f"there is no dead-letter queue {unquote(name)!r}")
    if found.why_not:
        raise ProblemError("not-redrivable", f"{found.name}: {found.why_not}")
    asked = http.body(event, Redrive)
    done = found.redrive(saga_id=asked["saga_id"], dry_run=asked["dry_run"])
    if done.moved:
        about = {"by": who.subject, "queue": found.name, "moved": done.moved}
        logger.info("redriven", extra=about | {"reasons": dict(done.reasons)})
    reasons = [{"reason": text, "count": n} for text, n in done.reasons.most_common(TOLD)]
    sagas = [{"saga_id": saga, "count": n} for saga, n in done.sagas.most_common(TOLD)]
    return http.answer(
        200,
        {
            "name": found.name,
            "dry_run": asked["dry_run"],
            "looked_at": done.looked_at,
            "matched": done.matched,
            "moved": done.moved,
            "left": done.left,
            "reasons": reasons,
            "sagas": sagas,
        },
    )


# What services hold.


def _table(kind: str) -> Table:
    return Table(kit.dynamodb(), kit.service_tables()[HOLDINGS[kind].service])


def _row(kind: str, thing: str) -> Item | None:
    return _table(kind).get(HOLDINGS[kind].key(thing))


def _holding(kind: str) -> None:
    if kind not in HOLDINGS:
        raise ProblemError("not-found", f"nothing is at {app.current_event.path}")


@app.get("/<kind>/<thing>")
def show_holding(kind: str, thing: str) -> Response[str]:
    """Show a thing that a service holds."""
    http.caller(app.current_event, "sagas:read")
    _holding(kind)
    thing = unquote(thing)
    row = _row(kind, thing) if len(thing) <= LONGEST_ID else None
    if row is None:
        raise ProblemError("not-found", f"there is no {HOLDINGS[kind].noun} {thing!r}")
    return http.answer(200, HOLDINGS[kind].show(row))


@app.put("/<kind>/<thing>")
def put_holding(kind: str, thing: str) -> Response[str]:
    """Make a thing as the body says, or change it, as an operator."""
    http.caller(app.current_event, "operator")
    _holding(kind)
    thing = unquote(thing)
    if not is_id(thing) or len(thing) > LONGEST_ID:
        _wrong("id", f"should have at most {LONGEST_ID} characters, no space, slash or number sign")
    holding = HOLDINGS[kind]
    body = http.body(app.current_event, holding.body)
    table = _table(kind)

    def attempt() -> bool:
        row = _row(kind, thing)
        writes = holding.change(thing, row, body)
        if writes is None:
            raise ProblemError("in-use", "what is held and confirmed, or its currency, forbids it")
        table.transact([table.write_request(one) for one in writes])
        return row is None

    try:
        is_new = table.retry(attempt, what=f"{holding.noun} {thing!r}")
    except ContentionError:
        raise ProblemError("try-again", "others keep changing it") from None
    return http.answer(201 if is_new else 200, holding.show(_row(kind, thing) or {}))


# Open to everybody.


@app.get("/health")
def health() -> Response[str]:
    """Say that it is there, and what it is."""
    live = {"sse": settings.required("SSE_URL"), "ws": settings.required("WEBSOCKET_URL")}
    told = {"status": "ok", "version": VERSION, "chaos": settings.chaos(), "events": live}
    return http.answer(200, told)


@app.get("/openapi.json")
def openapi() -> Response[str]:
    """Describe the API."""
    from lambdas.api.openapi import document

    return http.answer(200, document(VERSION), headers={"cache-control": "max-age=300"})


@app.get("/docs")
def docs() -> Response[str]:
    """Show the description to a person."""
    from lambdas.api.openapi import page

    return http.answer(
        200, page(), content_type="text/html; charset=utf-8", headers={"cache-control": "no-cache"}
    )
>>>>>>> table
