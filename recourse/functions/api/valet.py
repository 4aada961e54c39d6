"""Valet keys through the API: issue, list, show, complete, revoke, introspect.

Redeeming and following links is `recourse.functions.valet`, a function of its own that starts
faster.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qs, quote

from aws_lambda_powertools.event_handler import Response
from typing_extensions import TypedDict

from recourse.functions import kit, settings
from recourse.functions.api import http
from recourse.functions.api.parameters import CURSOR, LIMIT, Number
from recourse.functions.api.routes import FAILURES, Answer, Operation, Page, Parameter, Routes
from recourse.functions.api.valet_models import (
    AuditedKeyView,
    CommittedView,
    IssuedKeyView,
    ShownKeyView,
    Status,
    ValetKey,
    multipart,
)
from recourse.imports.finish import result_key
from recourse.problems import ProblemError, invalid
from recourse.store.cursors import BadCursorError
from recourse.text import LONGEST_ID
from recourse.valet.keys import Actor, Key, moment

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.data_classes import APIGatewayProxyEventV2

    from recourse.functions.caller import Caller
    from recourse.imports.table import Import
    from recourse.ledger.record import Record

SCOPE = "valet:issue"
FORM = "application/x-www-form-urlencoded"
routes = Routes(
    "Valet keys",
    "Upload and download documents directly, by keys that expire",
    needs="VALET_TABLE",
)


class _Form(TypedDict):
    token: str


class _Introspection(TypedDict):
    active: bool


class _PublicKeys(TypedDict):
    keys: list[dict[str, Any]]


AUDIT_LIMIT = Number("limit", "how many rows of the trail at most", default=100, most=100)
WITHDRAW = Parameter(
    "withdraw",
    "also end every download of its object, at once",
    {"type": "string", "enum": ["true", "false"], "default": "false"},
    problem="invalid",
)


@routes.post(
    "/valet-keys",
    Operation(
        "issue-valet-key",
        "Issue a valet key: only this response has its token",
        scope=SCOPE,
        takes=ValetKey,
        example={
            "operation": "upload",
            "object": "passports/asha.pdf",
            "upload": {
                "content_type": "application/pdf",
                "content_length": 1192,
                "sha256": "160ecac95ab65d325330cce1960cc562ce04105323fc36f100ca891b034d80e5",
            },
        },
        answers=[Answer(201, "issued", IssuedKeyView, headers={"Location": "the key's address"})],
        problems=["bad-object-name", "unknown-content-type", "upload-too-large", "too-often"],
    ),
)
def issue() -> Response[str]:
    """Issue a key: only this response has its token."""
    event = routes.current_event
    who = http.caller(event, SCOPE)
    asked = http.body(event, ValetKey)
    if (asked["operation"] == "upload") != (asked["upload"] is not None):
        raise invalid("upload", "an upload must have it, a download must not")
    issued = kit.valet_issuer().issue(
        who.subject,
        asked["operation"],
        asked["object"],
        expires_in=asked["expires_in"],
        max_uses=asked["max_uses"],
        upload=asked["upload"],
        by=_by(event, who),
    )
    key = issued.key
    answer: IssuedKeyView = {
        "key_id": key.key_id,
        "token": issued.token,
        "link": f"{_address(event)}/v/{issued.token}",
        "expires_at": moment(key.expires),
        "object": key.object,
        "multipart": multipart(key),
    }
    return http.answer(201, answer, headers={"location": f"/valet-keys/{key.key_id}"})


@routes.get(
    "/valet-keys",
    Operation(
        "list-valet-keys",
        "List your own valet keys, the newest first",
        scope=SCOPE,
        parameters=[CURSOR, LIMIT],
        answers=[Answer(200, "a page, and the cursor of the next", Page[ShownKeyView])],
    ),
)
def page() -> Response[str]:
    """List the caller's keys, the newest first."""
    event = routes.current_event
    who = http.caller(event, SCOPE)
    try:
        keys, cursor = kit.valet_keys().page(
            who.subject,
            cursor=event.query_string_parameters.get("cursor"),
            limit=LIMIT.of(event),
        )
    except BadCursorError:
        raise ProblemError("bad-cursor", "use the cursor of the previous page") from None
    return http.answer(200, {"items": [_view(key) for key in keys], "cursor": cursor})


@routes.get(
    "/valet-keys/<key_id>",
    Operation(
        "show-valet-key",
        "Show a valet key and a page of its audit trail, the newest first",
        scope=SCOPE,
        parameters=[CURSOR, AUDIT_LIMIT],
        answers=[Answer(200, "the key, and the cursor of the trail's next page", AuditedKeyView)],
        problems=["not-found"],
    ),
)
def show(key_id: str) -> Response[str]:
    """Show a key and a page of its audit trail."""
    event = routes.current_event
    who = http.caller(event, SCOPE, or_operator=True)
    keys = kit.valet_keys()
    key = keys.get(_id(key_id), _owner(who))
    try:
        audit, cursor = keys.trail(
            key.key_id,
            cursor=event.query_string_parameters.get("cursor"),
            limit=AUDIT_LIMIT.of(event),
        )
    except BadCursorError:
        raise ProblemError("bad-cursor", "use the cursor of the previous page") from None
    return http.answer(200, _view(key) | {"audit": audit, "cursor": cursor})


@routes.post(
    "/valet-keys/<key_id>/complete",
    Operation(
        "complete-valet-key",
        "Commit an upload, which makes it visible",
        scope=SCOPE,
        answers=[Answer(200, "committed", CommittedView)],
        problems=[
            *("not-found", "not-an-upload", "nothing-uploaded", "key-expired", "key-revoked"),
            *("wrong-length", "wrong-content", "wrong-hash"),
        ],
    ),
)
def complete(key_id: str) -> Response[str]:
    """Commit an upload."""
    event = routes.current_event
    who = http.caller(event, SCOPE, or_operator=True)
    done = kit.valet_committer().complete(_id(key_id), _by(event, who), _owner(who))
    return http.answer(200, dict(done))


@routes.delete(
    "/valet-keys/<key_id>",
    Operation(
        "revoke-valet-key",
        "Revoke a valet key",
        scope=SCOPE,
        parameters=[WITHDRAW],
        answers=[Answer(204, "revoked")],
        problems=["not-found", "object-not-found"],
    ),
)
def revoke(key_id: str) -> Response[str]:
    """Revoke a key; with `withdraw=true`, its object as well."""
    event = routes.current_event
    who = http.caller(event, SCOPE, or_operator=True)
    withdraw = event.query_string_parameters.get("withdraw", "false")
    if withdraw not in ("true", "false"):
        raise invalid("withdraw", "must be true or false")
    committer = kit.valet_committer()
    end = committer.withdraw if withdraw == "true" else committer.revoke
    end(_id(key_id), _by(event, who), _owner(who))
    return http.answer(204)


@routes.post(
    "/valet-keys/introspect",
    Operation(
        "introspect-valet-key",
        "Introspect a token (RFC 7662)",
        scope=SCOPE,
        takes=_Form,
        content_type=FORM,
        example={"token": "not-a-token"},
        answers=[Answer(200, "whether it is active", _Introspection)],
        problems=["malformed", "not-a-form", "invalid"],
    ),
)
def introspect() -> Response[str]:
    """Introspect a token, for a resource server (RFC 7662)."""
    event = routes.current_event
    http.caller(event, SCOPE)
    content_type = event.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() != FORM:
        raise ProblemError("not-a-form", f"send {FORM}")
    try:
        body = event.decoded_body or ""
        tokens = parse_qs(body, strict_parsing=bool(body), max_num_fields=10, errors="strict").get(
            "token", []
        )
    except ValueError as problem:
        raise ProblemError("malformed", "the body is not a valid form") from problem
    if len(tokens) != 1:
        raise invalid("token", f"must be there once, got {len(tokens)}")
    return http.answer(200, kit.valet_issuer().introspect(tokens[0]))


@routes.get(
    "/.well-known/jwks.json",
    Operation(
        "jwks",
        "The public keys of valet keys' tokens (RFC 7517)",
        answers=[Answer(200, "the current keys, and those before a rotation", _PublicKeys)],
        problems=FAILURES,
    ),
)
def jwks() -> Response[str]:
    """The public keys that verify tokens, with those before a rotation (RFC 7517)."""
    keys = [dict(one) for one in kit.valet_issuer().jwks().values()]
    return http.answer(200, {"keys": keys}, headers={"cache-control": "public, max-age=300"})


def links(event: APIGatewayProxyEventV2, who: Caller, record: Record) -> dict[str, str]:
    """Links to the documents that a saga's steps have stored, by the steps' names.

    Only the owner gets them. Each document has one key, so a link is the same until it is revoked.
    Without valet keys there are none.
    """
    if who.subject != record.owner or routes.is_missing:
        return {}
    shape = kit.ledger().shape(record)
    found = {}
    for step in record.view(shape)["steps"]:
        if shape.by_name[step["name"]].documents and step["status"] == "DONE":
            key = step["result"]["object"]

            def find(key: str = key) -> dict[str, str]:
                return kit.stored(key)

            token = kit.valet_issuer().lend(
                f"{record.saga_id}#{step['name']}",
                record.owner,
                key,
                find,
                _by(event, who),
            )
            if token:
                found[step["name"]] = f"{_address(event)}/v/{token}"
    return found


def result_link(event: APIGatewayProxyEventV2, who: Caller, found: Import) -> dict[str, str]:
    """The link to the file that says what became of each row of an import, by `result`."""

    def find() -> dict[str, str]:
        assert found.result is not None
        return {
            "bucket": settings.required("VALET_BUCKET"),
            "key": result_key(found.import_id),
            "version": found.result,
            "content_type": "application/x-ndjson",
        }

    about = f"import#{found.import_id}#{found.result}"
    name = f"imports/{found.import_id}.jsonl"
    token = kit.valet_issuer().lend(about, found.owner, name, find, _by(event, who))
    return {"result": f"{_address(event)}/v/{token}"} if token else {}


def _by(event: APIGatewayProxyEventV2, who: Caller) -> Actor:
    return Actor(who.subject, event.raw_event["requestContext"]["http"].get("sourceIp", "unknown"))


def _owner(who: Caller) -> str | None:
    """Whose key it must be; None for an operator, who sees every owner's."""
    return None if who.is_operator else who.subject


def _id(key_id: str) -> str:
    if len(key_id) > LONGEST_ID:
        raise ProblemError("not-found", "there is no such valet key")
    return key_id


def _address(event: APIGatewayProxyEventV2) -> str:
    """The API's public URL: as configured, else the gateway's own."""
    configured = os.environ.get("PUBLIC_URL")
    return configured or f"https://{event.raw_event['requestContext']['domainName']}"


def _view(key: Key) -> ShownKeyView:
    path = f"/valet-keys/{quote(key.key_id)}"
    return {
        "key_id": key.key_id,
        "owner": key.owner,
        "operation": key.operation,
        "object": key.object,
        "status": cast("Status", key.status(kit.valet_keys().clock())),
        "created_at": key.created_at,
        "expires_at": moment(key.expires),
        "revoked_at": key.revoked_at,
        "max_uses": key.max_uses,
        "uses": key.uses,
        "parts_redeemed": key.parts_redeemed,
        "upload": dict(key.upload) if key.upload else None,
        "multipart": multipart(key),
        "outcome": dict(key.outcome) if key.outcome else None,
        "links": {"self": path, "complete": f"{path}/complete"},
    }
