"""Valet keys through the API: issue, complete, revoke, see, introspect.

Redeeming and following links is `lambdas.valet`, a function of its own that starts quicker.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, unquote

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.router import APIGatewayHttpRouter

from lambdas import kit
from lambdas.api import http
from lambdas.api.models import ValetKey
from recourse.problems import ProblemError, invalid
from recourse.store.cursors import BadCursorError
from recourse.valet.keys import By, Key, moment
from statemachines import SAGAS

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.data_classes import APIGatewayProxyEventV2

    from lambdas.caller import Caller
    from recourse.ledger import Record

SCOPE = "valet:issue"
LONGEST_ID = 128
routes = APIGatewayHttpRouter()  # type: ignore[no-untyped-call]


@routes.post("/valet-keys")
def issue() -> Response[str]:
    """Issue a key: the only answer that holds its token."""
    event = routes.current_event
    who = http.caller(event, SCOPE)
    asked = http.body(event, ValetKey)
    if (asked["operation"] == "upload") != (asked["upload"] is not None):
        raise invalid("upload", "an upload says what it will be, a download does not")
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
    answer = {
        "key_id": key.key_id,
        "token": issued.token,
        "link": f"{_address(event)}/v/{issued.token}",
        "expires_at": moment(key.expires),
        "object": key.object,
        "multipart": _multipart(key),
    }
    return http.answer(201, answer, headers={"location": f"/valet-keys/{key.key_id}"})


@routes.get("/valet-keys")
def page() -> Response[str]:
    """List one's own keys, the newest first."""
    event = routes.current_event
    who = http.caller(event, SCOPE)
    try:
        keys, cursor = kit.valet_keys().page(
            who.subject,
            cursor=event.query_string_parameters.get("cursor"),
            limit=http.number(event, "limit", default=20, most=100),
        )
    except BadCursorError:
        raise ProblemError("bad-cursor", "use the cursor of the page before") from None
    return http.answer(200, {"items": [_view(key) for key in keys], "cursor": cursor})


@routes.get("/valet-keys/<key_id>")
def show(key_id: str) -> Response[str]:
    """Show a key and its audit trail."""
    who = http.caller(routes.current_event, SCOPE, or_operator=True)
    keys = kit.valet_keys()
    key = keys.get(_id(key_id), _owner(who))
    return http.answer(200, _view(key) | {"audit": keys.trail(key.key_id)})


@routes.post("/valet-keys/<key_id>/complete")
def complete(key_id: str) -> Response[str]:
    """Commit an upload."""
    event = routes.current_event
    who = http.caller(event, SCOPE, or_operator=True)
    done = kit.valet_committer().complete(_id(key_id), _by(event, who), _owner(who))
    return http.answer(200, dict(done))


@routes.delete("/valet-keys/<key_id>")
def revoke(key_id: str) -> Response[str]:
    """Revoke a key; with `withdraw=true`, its object as well."""
    event = routes.current_event
    who = http.caller(event, SCOPE, or_operator=True)
    withdraw = event.query_string_parameters.get("withdraw", "false")
    if withdraw not in ("true", "false"):
        raise invalid("withdraw", "should be true or false")
    committer = kit.valet_committer()
    end = committer.withdraw if withdraw == "true" else committer.revoke
    end(_id(key_id), _by(event, who), _owner(who))
    return http.answer(204)


@routes.post("/valet-keys/introspect")
def introspect() -> Response[str]:
    """Say whether a token is good, to a resource server (RFC 7662)."""
    event = routes.current_event
    http.caller(event, SCOPE)
    content_type = event.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        raise ProblemError("not-a-form", "send application/x-www-form-urlencoded")
    try:
        body = event.decoded_body or ""
        tokens = parse_qs(body, strict_parsing=bool(body), max_num_fields=10).get("token", [])
    except ValueError as problem:
        raise ProblemError("malformed", "the body is no form") from problem
    if len(tokens) != 1:
        raise invalid("token", "should be there once")
    return http.answer(200, kit.valet_issuer().introspect(tokens[0]))


@routes.get("/.well-known/jwks.json")
def jwks() -> Response[str]:
    """The public keys of tokens, those before a rotation among them (RFC 7517)."""
    keys = [dict(one) for one in kit.valet_issuer().jwks().values()]
    return http.answer(200, {"keys": keys}, headers={"cache-control": "public, max-age=300"})


def links(event: APIGatewayProxyEventV2, who: Caller, record: Record) -> dict[str, str]:
    """Links to the documents that a saga's steps have stored, by the steps' names.

    Each is of the one key to that document, for its owner's eyes alone, until that is revoked.
    """
    if who.subject != record.owner:
        return {}
    saga = SAGAS[record.saga]
    found = {}
    for step in record.view(saga)["steps"]:
        if saga.by_name[step["name"]].action.documents and step["status"] == "DONE":
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


def _by(event: APIGatewayProxyEventV2, who: Caller) -> By:
    return By(who.subject, event.raw_event["requestContext"]["http"].get("sourceIp", "unknown"))


def _owner(who: Caller) -> str | None:
    """Whose key it must be; an operator sees everybody's."""
    return None if who.is_operator else who.subject


def _id(key_id: str) -> str:
    key_id = unquote(key_id)
    if len(key_id) > LONGEST_ID:
        raise ProblemError("not-found", "there is no such valet key")
    return key_id


def _address(event: APIGatewayProxyEventV2) -> str:
    """Where the API is: what the stage says, else the gateway's own name."""
    told = os.environ.get("PUBLIC_URL")
    return told or f"https://{event.raw_event['requestContext']['domainName']}"


def _multipart(key: Key) -> dict[str, Any] | None:
    """What a client needs to know of the parts; whose they are is not its to say."""
    if not key.multipart:
        return None
    return {name: key.multipart[name] for name in ("part_size", "parts")}


def _view(key: Key) -> dict[str, Any]:
    path = f"/valet-keys/{quote(key.key_id)}"
    return {
        "key_id": key.key_id,
        "owner": key.owner,
        "operation": key.operation,
        "object": key.object,
        "status": key.status(kit.valet_keys().clock()),
        "created_at": key.created_at,
        "expires_at": moment(key.expires),
        "revoked_at": key.revoked_at,
        "max_uses": key.max_uses,
        "uses": key.uses,
        "parts_redeemed": key.parts_redeemed,
        "upload": dict(key.upload) if key.upload else None,
        "multipart": _multipart(key),
        "outcome": dict(key.outcome) if key.outcome else None,
        "links": {"self": path, "complete": f"{path}/complete"},
    }
