"""Imports through the API: begin, show, list, resume."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Interval, Len
from aws_lambda_powertools import Logger
from aws_lambda_powertools.event_handler import Response
from botocore.exceptions import BotoCoreError, ClientError
from typing_extensions import TypedDict

from recourse.declare.declaration import Coordination
from recourse.declare.request import request_model
from recourse.declare.reverse import reversed_by
from recourse.errors import TransientError
from recourse.functions import kit
from recourse.functions.api import http, valet
from recourse.functions.api.parameters import CURSOR, LIMIT
from recourse.functions.api.routes import Answer, Operation, Page, Routes, SagaName
from recourse.functions.api.saga_models import IDEMPOTENCY_KEY, coordination_of, idempotency_key
from recourse.imports.check import MOST_BYTES
from recourse.imports.rows import Format
from recourse.imports.table import (
    Import,
    ImportReusedError,
    NotResumableError,
    Status,
    import_id_of,
)
from recourse.ledger.record import digest
from recourse.problems import ProblemError, invalid
from recourse.store.cursors import BadCursorError
from recourse.valet.keys import object_pk
from recourse.valet.names import object_name
from recourse.valet.types import OCTETS, canonical, guess

if TYPE_CHECKING:
    from recourse.functions.caller import Caller

logger = Logger()
routes = Routes("Imports", "Start a saga for each row of a file", needs="IMPORTS_TABLE")
FORMATS: dict[str, Format] = {"text/csv": "csv", "application/x-ndjson": "jsonl"}
MOST_AT_ONCE = 20
_ID = re.compile(r"[0-9a-f]{32}")
Percent = Annotated[int, Interval(ge=0, le=100)]


@request_model
class NewImport:
    """The file of an import, which was uploaded by a valet key, and the saga of its rows.

    `tolerated_failures` is how many percent of the rows may be bad, or fail to start, before no
    more are started: 100 never stops. `concurrency` is how many batches, of 45 sagas at the most,
    are recorded at the same time.
    """

    saga: Annotated[str, Len(1, 100), SagaName()]
    object: Annotated[str, Len(1, 1000)]
    coordination: Coordination | None = None
    tolerated_failures: Percent = 100
    concurrency: Annotated[int, Interval(ge=1, le=MOST_AT_ONCE)] = 4


@request_model
class Resuming:
    """How an import goes on."""

    tolerated_failures: Percent | None = None


class _Problem(TypedDict):
    line: int
    field: str
    why: str


class ImportView(TypedDict):
    """An import, and how far it is.

    It is CHECKING while its file is read, STARTING while its sagas are started, and COMPLETED where
    all were tried. It is STOPPED where more rows failed than are tolerated and INTERRUPTED where
    what ran it has died: then, as where some rows are `not_started`, it can be resumed. It has
    FAILED where nothing of the file can be imported.

    `rows` is null until they are counted; `bad` of them cannot be started, and the first hundred of
    these are in `problems`. Of the others `started` were started by this import, `already_there`
    before it, and `not_started` could not be. Started is recorded: they begin as there is room, so
    that few of an owner's are in flight at once. `links.result` is a link to a file of JSON Lines
    that says what became of each row.
    """

    import_id: str
    saga: Annotated[str, SagaName()]
    object: str
    sha256: str
    coordination: Coordination | None
    tolerated_failures: int
    concurrency: int
    status: Status
    why: str | None
    created_at: str
    updated_at: str
    ended_at: str | None
    rows: int | None
    bad: int
    started: int
    already_there: int
    not_started: int
    problems: list[_Problem]
    links: dict[str, str]


@routes.post(
    "/imports",
    Operation(
        "begin-import",
        "Start a saga for each row of a file of CSV or JSON Lines that was uploaded",
        scope="sagas:write",
        takes=NewImport,
        example={"saga": "travel-booking", "object": "trips.csv", "tolerated_failures": 10},
        parameters=[IDEMPOTENCY_KEY],
        answers=[Answer(202, "accepted", ImportView, headers={"Location": "the import's address"})],
        problems=[
            *("not-found", "object-not-found", "bad-object-name", "idempotency-key-reused"),
            "unknown-coordination",
        ],
    ),
)
def begin() -> Response[str]:
    """Begin an import: record it, then run it. If that fails, it is seen as interrupted."""
    event = routes.current_event
    who = http.caller(event, "sagas:write")
    key = idempotency_key(event)
    asked = http.body(event, NewImport)
    saga = kit.sagas().get(asked["saga"])
    if saga is None:
        raise ProblemError("not-found", f"there is no saga {asked['saga']!r}")
    if asked["saga"] in reversed_by(kit.sagas()):
        raise invalid("saga", f"{saga.name} is started by the reverse of another saga alone")
    coordination_of(asked["coordination"], saga)
    import_id, sent = import_id_of(who.subject, key), digest(http.sent(event))
    found = kit.imports().get(import_id)
    if found is None:
        found = _wanted(import_id, who, asked, sent)
    elif found.body != sent:
        raise _reused(import_id)
    try:
        found = kit.imports().begin(found)
    except ImportReusedError:
        raise _reused(import_id) from None
    return _accepted(found, who)


@routes.get(
    "/imports",
    Operation(
        "list-imports",
        "List your own imports, the newest first",
        scope="sagas:read",
        parameters=[CURSOR, LIMIT],
        answers=[Answer(200, "a page, and the cursor of the next", Page[ImportView])],
    ),
)
def page() -> Response[str]:
    """List the caller's imports."""
    event = routes.current_event
    who = http.caller(event, "sagas:read")
    try:
        found, cursor = kit.imports().page(
            who.subject,
            cursor=event.query_string_parameters.get("cursor"),
            limit=LIMIT.of(event),
        )
    except BadCursorError:
        raise ProblemError("bad-cursor", "use the cursor of the previous page") from None
    items = [_view(kit.import_runs().seen(one)) for one in found]
    return http.answer(200, {"items": items, "cursor": cursor})


@routes.get(
    "/imports/<import_id>",
    Operation(
        "show-import",
        "Show an import, and how far it is",
        scope="sagas:read",
        answers=[Answer(200, "the import", ImportView)],
        problems=["not-found"],
    ),
)
def show(import_id: str) -> Response[str]:
    """Show an import."""
    found, who = _owned(import_id, "sagas:read")
    return http.answer(200, _linked(found, who))


@routes.post(
    "/imports/<import_id>/resume",
    Operation(
        "resume-import",
        "Go on with an import that was stopped or interrupted, or try again what was not started",
        scope="sagas:write",
        takes=Resuming,
        is_bodiless=True,
        example={"tolerated_failures": 50},
        answers=[Answer(202, "accepted", ImportView)],
        problems=["not-found", "not-resumable"],
    ),
)
def resume(import_id: str) -> Response[str]:
    """Resume an import."""
    found, who = _owned(import_id, "sagas:write", or_operator=True)
    event = routes.current_event
    asked = http.body(event, Resuming) if event.body else {"tolerated_failures": None}
    try:
        found = kit.imports().resume(found, asked["tolerated_failures"])
    except NotResumableError as problem:
        detail = f"it is {problem}: nothing is left to start"
        raise ProblemError("not-resumable", detail) from None
    return _accepted(found, who)


def _wanted(import_id: str, who: Caller, asked: dict[str, Any], sent: str) -> Import:
    """The import that is asked for, with its file as that is now.

    Raises:
        ProblemError: There is no such file, or it cannot be imported.
    """
    name = object_name(asked["object"])
    row = kit.valet_keys().row(object_pk(who.subject, name))
    if row is None or row["state"] != "VISIBLE":
        raise ProblemError("object-not-found", f"you have no document {name!r}: upload it first")
    kind = canonical(row["content_type"])
    kind = guess(name) if kind == OCTETS else kind
    if kind not in FORMATS:
        raise invalid("object", f"must be {' or '.join(FORMATS)}, is {kind}")
    if row["content_length"] > MOST_BYTES:
        raise invalid(
            "object", f"must have at most {MOST_BYTES} bytes, has {row['content_length']}"
        )
    imports = kit.imports()
    file = {"key": row["key"], "version": row["version"], "sha256": row["sha256"]}
    return Import(
        import_id=import_id,
        owner=who.subject,
        saga=asked["saga"],
        object=name,
        file=file | {"format": FORMATS[kind], "length": row["content_length"]},
        body=sent,
        created_at=imports.now,
        updated_at=imports.now,
        expires_at=imports.expiry,
        coordination=asked["coordination"],
        tolerated_failures=asked["tolerated_failures"],
        concurrency=asked["concurrency"],
    )


def _reused(import_id: str) -> ProblemError:
    return ProblemError(
        "idempotency-key-reused",
        f"it was used for another import, which /imports/{import_id} shows",
    )


def _accepted(found: Import, who: Caller) -> Response[str]:
    """What is answered once an import is recorded; run it where that was not done yet."""
    try:
        kit.import_runs().start(found)
    except TransientError:
        logger.exception("import not started", extra={"import_id": found.import_id})
    found = kit.imports().get(found.import_id) or found
    headers = {"location": f"/imports/{found.import_id}"}
    return http.answer(202, _linked(found, who), headers=headers)


def _owned(import_id: str, scope: str, *, or_operator: bool = False) -> tuple[Import, Caller]:
    """An import that the caller may see, as it is, and the caller.

    Raises:
        ProblemError: There is none, or it is another owner's: both answer 404.
    """
    who = http.caller(routes.current_event, scope, or_operator=or_operator)
    found = kit.imports().get(import_id) if _ID.fullmatch(import_id) else None
    if found is None or not who.owns(found.owner):
        raise ProblemError("not-found", f"there is no import {import_id!r}")
    return kit.import_runs().seen(found), who


def _linked(found: Import, who: Caller) -> dict[str, Any]:
    """An import with the link to its result, which its owner alone gets."""
    view = _view(found)
    if found.result and who.subject == found.owner:
        try:
            view["links"] |= valet.result_link(routes.current_event, who, found)
        except (TransientError, BotoCoreError, ClientError):
            # The import is what was asked for; a later request gets the link as well.
            logger.exception(
                "the link to a result is missing", extra={"import_id": found.import_id}
            )
    return view


def _view(found: Import) -> dict[str, Any]:
    path = f"/imports/{found.import_id}"
    same = (
        *("import_id", "saga", "object", "coordination", "tolerated_failures", "concurrency"),
        *("status", "why", "created_at", "updated_at", "ended_at", "rows", "bad"),
        *("already_there", "not_started"),
    )
    return {
        **{name: getattr(found, name) for name in same},
        "sha256": found.file["sha256"],
        "started": found.sagas_started,
        "problems": [one._asdict() for one in found.problems],
        "links": {"self": path} | ({"resume": f"{path}/resume"} if found.may_resume else {}),
    }
