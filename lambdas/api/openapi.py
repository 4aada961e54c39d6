"""The API's description, OpenAPI 3.1, made from the very models that validate requests."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any, get_args

from aws_lambda_powertools.event_handler import openapi as powertools_openapi
from pydantic import TypeAdapter

from lambdas.api.events import DEFAULT_PAGE, LARGEST_PAGE
from lambdas.api.http import LONGEST_WAIT
from lambdas.api.models import Redrive, Registration, Replay, Resolution, ValetKey
from lambdas.api.problems import TYPES
from recourse.chaos import FAULTS
from recourse.projection import STATUSES
from recourse.saga import Coordination
from services.holdings import HOLDINGS
from statemachines import SAGAS

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
MAYBE_TEXT: Schema = {"type": ["string", "null"]}
NUMBER: Schema = {"type": "integer"}
STEP_STATUSES = [
    "PENDING",
    "RUNNING",
    "DONE",
    "FAILED",
    "UNDOING",
    "UNDONE",
    "SKIPPED",
    "UNDO_FAILED",
]


def _object(properties: Schema, *, optional: tuple[str, ...] = ()) -> Schema:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


MONEY = _object({"amount": NUMBER, "currency": TEXT})
STEP = _object(
    {
        "name": TEXT,
        "status": {"type": "string", "enum": STEP_STATUSES},
        "attempts": NUMBER,
        "undo_attempts": NUMBER,
        "result": {},
        "error": MAYBE_TEXT,
        "message": MAYBE_TEXT,
        "started_at": MAYBE_TEXT,
        "ended_at": MAYBE_TEXT,
    }
)
SAGA = _object(
    {
        "saga_id": TEXT,
        "saga": {"type": "string", "enum": list(SAGAS)},
        "coordination": {"type": "string", "enum": list(get_args(Coordination))},
        "status": {"type": "string", "enum": list(STATUSES)},
        "reason": _object({"step": TEXT, "error": TEXT, "message": TEXT})
        | {"type": ["object", "null"]},
        "owner": TEXT,
        "business_key": TEXT,
        "started_at": TEXT,
        "ended_at": MAYBE_TEXT,
        "steps": {"type": "array", "items": STEP},
        "links": {"type": "object", "additionalProperties": TEXT},
    }
)
EVENT = _object(
    {
        "specversion": {"const": "1.0"},
        "id": TEXT,
        "type": TEXT,
        "source": TEXT,
        "subject": TEXT,
        "time": TEXT,
        "datacontenttype": TEXT,
        "sequence": NUMBER,
        "data": {"type": "object"},
    }
)
DEADLETTERS = _object(
    {"name": TEXT, "waiting": NUMBER, "redrives_to": MAYBE_TEXT, "why_not": MAYBE_TEXT}
)
REDRIVEN = _object(
    {
        "name": TEXT,
        "dry_run": {"type": "boolean"},
        "looked_at": NUMBER,
        "matched": NUMBER,
        "moved": NUMBER,
        "left": NUMBER,
        "reasons": {"type": "array", "items": _object({"reason": TEXT, "count": NUMBER})},
        "sagas": {"type": "array", "items": _object({"saga_id": MAYBE_TEXT, "count": NUMBER})},
    }
)
PROBLEM = _object(
    {
        "type": {"type": "string", "enum": [f"urn:recourse:problem:{kind}" for kind in TYPES]},
        "title": TEXT,
        "status": NUMBER,
        "detail": TEXT,
        "errors": {"type": "array", "items": _object({"field": TEXT, "message": TEXT})},
    },
    optional=("errors",),
)
PARTS = _object({"part_size": NUMBER, "parts": NUMBER}) | {"type": ["object", "null"]}
ISSUED_KEY = _object(
    {
        "key_id": TEXT,
        "token": TEXT,
        "link": TEXT,
        "expires_at": TEXT,
        "object": TEXT,
        "multipart": PARTS,
    }
)
SHOWN_KEY = _object(
    {
        "key_id": TEXT,
        "owner": TEXT,
        "operation": {"type": "string", "enum": ["upload", "download"]},
        "object": TEXT,
        "status": {
            "type": "string",
            "enum": ["ACTIVE", "USED_UP", "EXPIRED", "REVOKED", "COMPLETED", "QUARANTINED"],
        },
        "created_at": TEXT,
        "expires_at": TEXT,
        "revoked_at": MAYBE_TEXT,
        "max_uses": NUMBER,
        "uses": NUMBER,
        "parts_redeemed": NUMBER,
        "upload": {"type": ["object", "null"]},
        "multipart": PARTS,
        "outcome": {"type": ["object", "null"]},
        "links": {"type": "object", "additionalProperties": TEXT},
        "audit": {
            "type": "array",
            "items": _object(
                {
                    "time": TEXT,
                    "action": TEXT,
                    "outcome": TEXT,
                    "caller": TEXT,
                    "address": TEXT,
                    "detail": TEXT,
                },
                optional=("detail",),
            ),
        },
    },
    optional=("audit",),
)
COMMITTED = _object(
    {
        "key_id": TEXT,
        "object": TEXT,
        "version": TEXT,
        "content_type": TEXT,
        "content_length": NUMBER,
        "sha256": TEXT,
        "completed_at": TEXT,
    }
)
SIGNED_REQUEST = _object(
    {
        "method": {"type": "string", "enum": ["GET", "PUT"]},
        "url": TEXT,
        "headers": {"type": "object", "additionalProperties": TEXT},
        "expires_at": TEXT,
    }
)
LINKS = {"type": "object", "additionalProperties": TEXT}
_WEBHOOK = {
    "webhook_id": TEXT,
    "url": TEXT,
    "events": {"type": "array", "items": TEXT},
    "status": {"type": "string", "enum": ["ENABLED", "DISABLED"]},
    "created_at": TEXT,
    "failing_since": MAYBE_TEXT,
    "disabled_at": MAYBE_TEXT,
    "disabled_reason": MAYBE_TEXT,
    "links": LINKS,
}
WEBHOOK = _object(_WEBHOOK)
WEBHOOK_WITH_SECRET = _object(_WEBHOOK | {"secret": TEXT})
DELIVERY = _object(
    {
        "event_id": TEXT,
        "type": TEXT,
        "attempt": NUMBER,
        "outcome": {"type": "string", "enum": ["delivered", "failed", "given-up"]},
        "status": {"type": ["integer", "null"]},
        "error": MAYBE_TEXT,
        "latency_ms": NUMBER,
        "response": TEXT,
        "at": TEXT,
        "next_attempt_at": MAYBE_TEXT,
        "replay_id": MAYBE_TEXT,
    }
)
GATEWAY = _object({"message": TEXT})
"""What the gateway itself says of a token that it does not take."""
HEALTH = _object(
    {
        "status": TEXT,
        "version": TEXT,
        "chaos": {"type": "boolean"},
        "events": _object({"sse": TEXT, "ws": TEXT}),
    }
)


def _problems(*statuses: int) -> Schema:
    """The problems of a call; any that needs a token may also meet these four."""
    found: Schema = {}
    for status in sorted({*statuses, 401, 403, 500, 503}):
        content = {"application/problem+json": {"schema": _ref("Problem")}}
        if status in (401, 403):
            content["application/json"] = {"schema": GATEWAY}
        titles = "; ".join(title for known, title in TYPES.values() if known == status)
        found[str(status)] = {"description": titles, "content": content}
    return found


def _json(schema: Schema, description: str, **headers: str) -> Schema:
    answer: Schema = {
        "description": description,
        "content": {"application/json": {"schema": schema}},
    }
    if headers:
        answer["headers"] = {
            name: {"description": text, "schema": TEXT} for name, text in headers.items()
        }
    return answer


def _body(schema: Schema) -> Schema:
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _parameter(where: str, name: str, schema: Schema, text: str, *, required: bool) -> Schema:
    found = {"in": where, "name": name, "schema": schema, "description": text}
    return found | {"required": required}


def _path(*names: str) -> list[Schema]:
    return [_parameter("path", name, TEXT, f"the {name}", required=True) for name in names]


def _operation(summary: str, scope: str | None, responses: Schema, **more: Any) -> Schema:
    security = [{"bearer": [scope]}] if scope else []
    return {"summary": summary, "security": security, "responses": responses} | more


@cache
def document(version: str) -> Schema:
    """The whole description.

    Args:
        version: The API's version.
    """
    schemas: Schema = {
        "Saga": SAGA,
        "Event": EVENT,
        "Deadletters": DEADLETTERS,
        "Redriven": REDRIVEN,
        "Problem": PROBLEM,
        "Health": HEALTH,
        "IssuedKey": ISSUED_KEY,
        "ShownKey": SHOWN_KEY,
        "Committed": COMMITTED,
        "SignedRequest": SIGNED_REQUEST,
        "Webhook": WEBHOOK,
        "WebhookWithSecret": WEBHOOK_WITH_SECRET,
        "Delivery": DELIVERY,
    }
    models = [saga.request for saga in SAGAS.values()]
    models += {one: 0 for h in HOLDINGS.values() for one in (h.body, h.shown)}
    models += [Resolution, Redrive, ValetKey, Registration, Replay]
    for model in models:
        made = TypeAdapter(model).json_schema(ref_template="#/components/schemas/{model}")
        schemas |= made.pop("$defs", {})
        schemas[model.__name__] = made
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Recourse",
            "version": version,
            "description": "Sagas that end as booked or as if they had never been.",
        },
        "paths": _saga_paths()
        | _feed_paths()
        | _deadletter_paths()
        | _holding_paths()
        | _valet_paths()
        | _webhook_paths()
        | _open_paths(),
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
            },
        },
    }


def _saga_paths() -> Schema:
    found: Schema = {}
    for saga in SAGAS.values():
        found[f"/sagas/{saga.name}"] = {
            "post": _operation(
                f"Start {saga.name}: {', '.join(step.name for step in saga.all)}",
                "sagas:write",
                {
                    "202": _json(
                        _ref("Saga"),
                        "recorded, and under way",
                        Location="the saga's address",
                        ETag="its version",
                    )
                }
                | _problems(400, 404, 409, 413, 415, 422),
                operationId=f"start-{saga.name}",
                requestBody=_body(_ref(saga.request.__name__)),
                parameters=[
                    _parameter(
                        "header",
                        "Idempotency-Key",
                        {"type": "string", "minLength": 1, "maxLength": 255},
                        "the same for a retry: it answers the same saga",
                        required=True,
                    ),
                    _parameter(
                        "header",
                        "Recourse-Chaos",
                        TEXT,
                        f"faults, as step=fault or step.undo=fault:n; {', '.join(FAULTS)}",
                        required=False,
                    ),
                    _parameter(
                        "query",
                        "coordination",
                        {"type": "string", "enum": list(get_args(Coordination))},
                        "how it is coordinated; the declaration says what it is otherwise",
                        required=False,
                    ),
                ],
            )
        }
    found["/sagas"] = {
        "get": _operation(
            "List sagas, the newest first",
            "sagas:read",
            {
                "200": _json(
                    _object(
                        {"items": {"type": "array", "items": _ref("Saga")}, "cursor": MAYBE_TEXT}
                    ),
                    "a page, and the cursor of the next; where few sagas match it may be short, or "
                    "empty, and the cursor goes on",
                )
            }
            | _problems(400, 422),
            operationId="list-sagas",
            parameters=[
                _parameter("query", "saga", {"enum": list(SAGAS)}, "only these", required=False),
                _parameter(
                    "query", "status", {"enum": list(STATUSES)}, "only these", required=False
                ),
                _parameter(
                    "query",
                    "business_key",
                    {"type": "string", "minLength": 1, "maxLength": 512},
                    "only these",
                    required=False,
                ),
                _parameter("query", "cursor", TEXT, "where the page before ended", required=False),
                _parameter(
                    "query",
                    "limit",
                    {"type": "integer", "minimum": 1, "maximum": 100, "default": 20},
                    "how many at most",
                    required=False,
                ),
            ],
        )
    }
    found["/sagas/{saga_id}"] = {
        "get": _operation(
            "Show a saga",
            "sagas:read",
            {"200": _json(_ref("Saga"), "the saga", ETag="its version")}
            | {"304": {"description": "it has not changed"}}
            | _problems(404),
            operationId="show-saga",
            parameters=[
                *_path("saga_id"),
                _parameter("header", "If-None-Match", TEXT, "the ETag known", required=False),
                _parameter(
                    "header",
                    "Prefer",
                    TEXT,
                    "wait=N: answer when it changes, or after N seconds, at most 20",
                    required=False,
                ),
            ],
        )
    }
    found["/sagas/{saga_id}/cancel"] = {
        "post": _operation(
            "Cancel a saga whose pivot has not acted",
            "sagas:write",
            {"202": _json(_ref("Saga"), "it will be compensated")} | _problems(404, 409),
            operationId="cancel-saga",
            parameters=_path("saga_id"),
        )
    }
    found["/sagas/{saga_id}/steps/{step}/resolve"] = {
        "post": _operation(
            "Retry or skip a stuck step",
            "operator",
            {"202": _json(_ref("Saga"), "decided, and under way")}
            | _problems(400, 404, 409, 413, 415, 422),
            operationId="resolve-step",
            parameters=_path("saga_id", "step"),
            requestBody=_body(_ref("Resolution")),
        )
    }
    return found


def _feed_paths() -> Schema:
    return {
        "/events": {
            "get": _operation(
                "Read your own events, in order",
                "sagas:read",
                {
                    "200": _json(
                        _object(
                            {"items": {"type": "array", "items": _ref("Event")}, "cursor": TEXT}
                        ),
                        "a page, and the cursor to go on from, now or later",
                        ETag="what the page ends with",
                    )
                }
                | {"304": {"description": "nothing has come since"}}
                | _problems(400, 410, 422),
                operationId="read-events",
                parameters=[
                    _parameter(
                        "query", "after", TEXT, "where the page before ended", required=False
                    ),
                    _parameter(
                        "query",
                        "limit",
                        {
                            "type": "integer",
                            "minimum": 1,
                            "maximum": LARGEST_PAGE,
                            "default": DEFAULT_PAGE,
                        },
                        "how many at most",
                        required=False,
                    ),
                    _parameter(
                        "query",
                        "wait",
                        {"type": "integer", "minimum": 0, "maximum": LONGEST_WAIT, "default": 0},
                        "seconds to wait where nothing has come",
                        required=False,
                    ),
                    _parameter("query", "saga_id", TEXT, "only this saga's", required=False),
                    _parameter("header", "If-None-Match", TEXT, "the ETag known", required=False),
                    _parameter("header", "Prefer", TEXT, "wait=N, as `wait`", required=False),
                ],
            )
        },
        "/events/stream": {
            "get": _operation(
                "Hear your own events as server-sent events",
                "sagas:read",
                {
                    "200": {
                        "description": "what comes after the cursor; `id` is the cursor, `data` "
                        "the event. `GET /health` says where the stream is that does not end.",
                        "content": {"text/event-stream": {"schema": TEXT}},
                    }
                }
                | _problems(400, 410),
                operationId="stream-events",
                parameters=[
                    _parameter(
                        "header", "Last-Event-ID", TEXT, "the last `id` known", required=False
                    ),
                    _parameter(
                        "query", "after", TEXT, "the same, where it is absent", required=False
                    ),
                ],
            )
        },
    }


def _deadletter_paths() -> Schema:
    items = {"type": "array", "items": _ref("Deadletters")}
    return {
        "/deadletters": {
            "get": _operation(
                "List every dead-letter queue, with how much rests there",
                "operator",
                {"200": _json(_object({"items": items, "cursor": MAYBE_TEXT}), "all of them")}
                | _problems(),
                operationId="list-deadletters",
            )
        },
        "/deadletters/{name}/redrive": {
            "post": _operation(
                "Send back what rests in a dead-letter queue, or say what would be",
                "operator",
                {"200": _json(_ref("Redriven"), "how one pass through it went")}
                | _problems(400, 404, 409, 413, 415, 422),
                operationId="redrive",
                parameters=_path("name"),
                requestBody=_body(_ref("Redrive")),
            )
        },
    }


def _holding_paths() -> Schema:
    found: Schema = {}
    for kind, holding in HOLDINGS.items():
        shown = holding.shown.__name__
        found[f"/{kind}/{{id}}"] = {
            "get": _operation(
                f"Show one of the {kind}",
                "sagas:read",
                {"200": _json(_ref(shown), "as it is now")} | _problems(404),
                operationId=f"show-{holding.noun}",
                parameters=_path("id"),
            ),
            "put": _operation(
                f"Make or change one of the {kind}",
                "operator",
                {
                    "200": _json(_ref(shown), "changed"),
                    "201": _json(_ref(shown), "made"),
                }
                | _problems(400, 404, 409, 413, 415, 422),
                operationId=f"put-{holding.noun}",
                parameters=_path("id"),
                requestBody=_body(_ref(holding.body.__name__)),
            ),
        }
    return found


def _valet_paths() -> Schema:
    key = _path("key_id")
    part = _object({"number": NUMBER, "sha256": TEXT, "content_length": NUMBER})
    redeemed = _object({"token": TEXT, "part": part}, optional=("part",))
    form = _object({"token": TEXT})
    return {
        "/valet-keys": {
            "post": _operation(
                "Issue a valet key: this answer alone has its token",
                "valet:issue",
                {"201": _json(_ref("IssuedKey"), "issued", Location="the key's address")}
                | _problems(400, 413, 415, 422, 429),
                operationId="issue-valet-key",
                requestBody=_body(_ref("ValetKey")),
            ),
            "get": _operation(
                "List one's own valet keys, the newest first",
                "valet:issue",
                {
                    "200": _json(
                        _object(
                            {
                                "items": {"type": "array", "items": _ref("ShownKey")},
                                "cursor": MAYBE_TEXT,
                            }
                        ),
                        "a page, and the cursor of the next",
                    )
                }
                | _problems(400, 422),
                operationId="list-valet-keys",
                parameters=[
                    _parameter(
                        "query", "cursor", TEXT, "where the page before ended", required=False
                    ),
                    _parameter(
                        "query",
                        "limit",
                        {"type": "integer", "minimum": 1, "maximum": 100, "default": 20},
                        "how many at most",
                        required=False,
                    ),
                ],
            ),
        },
        "/valet-keys/{key_id}": {
            "get": _operation(
                "Show a valet key and its audit trail",
                "valet:issue",
                {"200": _json(_ref("ShownKey"), "the key")} | _problems(404),
                operationId="show-valet-key",
                parameters=key,
            ),
            "delete": _operation(
                "Revoke a valet key",
                "valet:issue",
                {"204": {"description": "it is revoked"}} | _problems(404, 422),
                operationId="revoke-valet-key",
                parameters=[
                    *key,
                    _parameter(
                        "query",
                        "withdraw",
                        {"type": "string", "enum": ["true", "false"], "default": "false"},
                        "end every download of its object, at once",
                        required=False,
                    ),
                ],
            ),
        },
        "/valet-keys/{key_id}/complete": {
            "post": _operation(
                "Commit an upload, so that it becomes visible",
                "valet:issue",
                {"200": _json(_ref("Committed"), "visible")} | _problems(404, 409, 410, 422),
                operationId="complete-valet-key",
                parameters=key,
            )
        },
        "/valet-keys/introspect": {
            "post": _operation(
                "Say whether a token is good (RFC 7662)",
                "valet:issue",
                {"200": _json(_object({"active": {"type": "boolean"}}), "whether it is")}
                | _problems(400, 415, 422),
                operationId="introspect-valet-key",
                requestBody={
                    "required": True,
                    "content": {"application/x-www-form-urlencoded": {"schema": form}},
                },
            )
        },
        "/valet-keys/redeem": {
            "post": _operation(
                "Redeem a token for a request to S3 that is good for ten seconds",
                None,
                {"200": _json(_ref("SignedRequest"), "what to send to S3")}
                | _problems(400, 404, 410, 413, 415, 422, 429),
                operationId="redeem-valet-key",
                requestBody=_body(redeemed),
            )
        },
        "/v/{token}": {
            "get": _operation(
                "Follow a download key as a link",
                None,
                {
                    "307": {
                        "description": "to S3",
                        "headers": {"Location": {"description": "the URL", "schema": TEXT}},
                    }
                }
                | _problems(400, 404, 410, 429),
                operationId="follow-valet-key",
                parameters=_path("token"),
            )
        },
        "/.well-known/jwks.json": {
            "get": _operation(
                "The public keys of valet keys' tokens (RFC 7517)",
                None,
                {
                    "200": _json(
                        _object({"keys": {"type": "array", "items": {"type": "object"}}}),
                        "today's, and those before a rotation",
                    )
                }
                | _problems(),
                operationId="jwks",
            )
        },
    }


def _webhook_paths() -> Schema:
    webhook = _path("webhook_id")

    def listed(items: str) -> Schema:
        return _object({"items": {"type": "array", "items": _ref(items)}, "cursor": MAYBE_TEXT})

    def accepted(of: str) -> Schema:
        return _json(_object({of: TEXT, "links": LINKS}), "it is under way; the log has it")

    return {
        "/webhooks": {
            "post": _operation(
                "Register a webhook: this answer alone has its first secret",
                "sagas:read",
                {"201": _json(_ref("WebhookWithSecret"), "registered", Location="its address")}
                | _problems(400, 409, 413, 415, 422),
                operationId="register-webhook",
                requestBody=_body(_ref("Registration")),
            ),
            "get": _operation(
                "List one's own webhooks, the newest first",
                "sagas:read",
                {"200": _json(listed("Webhook"), "all of them")} | _problems(),
                operationId="list-webhooks",
            ),
        },
        "/webhooks/{webhook_id}": {
            "get": _operation(
                "Show a webhook",
                "sagas:read",
                {"200": _json(_ref("Webhook"), "the webhook")} | _problems(404),
                operationId="show-webhook",
                parameters=webhook,
            ),
            "delete": _operation(
                "Delete a webhook",
                "sagas:read",
                {"204": {"description": "nothing more is delivered to it"}} | _problems(404),
                operationId="delete-webhook",
                parameters=webhook,
            ),
        },
        "/webhooks/{webhook_id}/test": {
            "post": _operation(
                "Send a test event, once",
                "sagas:read",
                {"202": accepted("event_id")} | _problems(404),
                operationId="test-webhook",
                parameters=webhook,
            )
        },
        "/webhooks/{webhook_id}/rotate": {
            "post": _operation(
                "Make a new secret; the one before signs beside it for a day",
                "sagas:read",
                {"200": _json(_ref("WebhookWithSecret"), "with the new secret")} | _problems(404),
                operationId="rotate-webhook",
                parameters=webhook,
            )
        },
        "/webhooks/{webhook_id}/enable": {
            "post": _operation(
                "Bring back a webhook that was disabled, from now on",
                "sagas:read",
                {"200": _json(_ref("Webhook"), "enabled")} | _problems(404),
                operationId="enable-webhook",
                parameters=webhook,
            )
        },
        "/webhooks/{webhook_id}/replay": {
            "post": _operation(
                "Deliver again: one event by its event_id, or those between from and to",
                "sagas:read",
                {"202": accepted("replay_id")} | _problems(400, 404, 409, 413, 415, 422),
                operationId="replay-webhook",
                parameters=webhook,
                requestBody=_body(_ref("Replay")),
            )
        },
        "/webhooks/{webhook_id}/deliveries": {
            "get": _operation(
                "Show what was attempted, the newest first",
                "sagas:read",
                {"200": _json(listed("Delivery"), "a page, and the cursor of the next")}
                | _problems(400, 404, 422),
                operationId="list-deliveries",
                parameters=[
                    *webhook,
                    _parameter(
                        "query", "cursor", TEXT, "where the page before ended", required=False
                    ),
                    _parameter(
                        "query",
                        "limit",
                        {"type": "integer", "minimum": 1, "maximum": 100, "default": 20},
                        "how many at most",
                        required=False,
                    ),
                ],
            )
        },
    }


def _open_paths() -> Schema:
    return {
        "/health": {
            "get": _operation("Whether it is there", None, {"200": _json(_ref("Health"), "it is")})
        },
        "/openapi.json": {
            "get": _operation("This", None, {"200": _json({"type": "object"}, "this document")})
        },
        "/docs": {
            "get": _operation(
                "This, for people",
                None,
                {"200": {"description": "a page", "content": {"text/html": {"schema": TEXT}}}},
            )
        },
    }


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Recourse: the API</title>
<style>{css}</style></head>
<body><div id="swagger-ui"></div><script>{script}</script>
<script>SwaggerUIBundle({{url: "openapi.json", dom_id: "#swagger-ui", deepLinking: true}})</script>
</body></html>
"""


@cache
def page() -> str:
    """The description as a page, with everything that it needs in it."""
    assets = files(powertools_openapi) / "swagger_ui"
    return PAGE.format(
        css=(assets / "swagger-ui.min.css").read_text(),
        script=(assets / "swagger-ui-bundle.min.js").read_text(),
    )
