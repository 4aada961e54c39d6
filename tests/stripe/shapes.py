"""The shapes of what is asked of Stripe and of what it answers, as far as we use them.

In our own words, by Stripe's published OpenAPI: github.com/stripe/openapi,
`latest/openapi.spec3.sdk.json`, `info.version` 2026-09-30.endive (schemas `payment_intent`,
`refund`, `api_errors`; the bodies and queries of the paths below, which the types of Stripe's
Python library 16.1.0 repeat). An object has more fields than these; a request may have no others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import jsonschema_rs

VERSION = "2026-09-30.endive"
TEXT = {"type": "string", "maxLength": 5000}
WHOLE = {"type": "integer"}
METADATA = {"type": "object", "additionalProperties": {"type": "string", "maxLength": 500}}
STATUSES = [
    "canceled",
    "processing",
    "requires_action",
    "requires_capture",
    "requires_confirmation",
    "requires_payment_method",
    "succeeded",
]
INTENT = {
    "type": "object",
    "required": [
        "amount",
        "amount_capturable",
        "amount_received",
        "canceled_at",
        "cancellation_reason",
        "capture_method",
        "created",
        "currency",
        "id",
        "last_payment_error",
        "latest_charge",
        "livemode",
        "metadata",
        "object",
        "payment_method",
        "payment_method_types",
        "status",
    ],
    "properties": {
        "amount": WHOLE,
        "amount_capturable": WHOLE,
        "amount_received": WHOLE,
        "canceled_at": {"type": ["integer", "null"]},
        "cancellation_reason": {
            "enum": [
                None,
                "abandoned",
                "automatic",
                "duplicate",
                "expired",
                "failed_invoice",
                "fraudulent",
                "requested_by_customer",
                "void_invoice",
            ]
        },
        "capture_method": {"enum": ["automatic", "automatic_async", "manual"]},
        "created": WHOLE,
        "currency": {"type": "string", "pattern": "^[a-z]{3}$"},
        "id": TEXT,
        "last_payment_error": {"type": ["object", "null"]},
        "latest_charge": {"type": ["string", "null"]},
        "livemode": {"type": "boolean"},
        "metadata": METADATA,
        "object": {"const": "payment_intent"},
        "payment_method": {"type": ["string", "null"]},
        "payment_method_types": {"type": "array", "items": TEXT},
        "status": {"enum": STATUSES},
    },
}
REFUND = {
    "type": "object",
    "required": [
        "amount",
        "charge",
        "created",
        "currency",
        "id",
        "metadata",
        "object",
        "payment_intent",
        "reason",
        "status",
    ],
    "properties": {
        "amount": WHOLE,
        "charge": {"type": ["string", "null"]},
        "created": WHOLE,
        "currency": {"type": "string", "pattern": "^[a-z]{3}$"},
        "id": TEXT,
        "metadata": METADATA,
        "object": {"const": "refund"},
        "payment_intent": {"type": ["string", "null"]},
        "reason": {
            "enum": [
                None,
                "duplicate",
                "expired_uncaptured_charge",
                "fraudulent",
                "requested_by_customer",
            ]
        },
        "status": {"enum": ["pending", "requires_action", "succeeded", "failed", "canceled"]},
    },
}
ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["type"],
            "properties": {
                "type": {
                    "enum": [
                        "api_error",
                        "card_error",
                        "idempotency_error",
                        "invalid_request_error",
                    ]
                },
                "code": TEXT,
                "decline_code": TEXT,
                "message": {"type": "string", "maxLength": 40000},
                "param": TEXT,
                "payment_intent": INTENT,
            },
        }
    },
}


def page(kind: str, of: Mapping[str, Any]) -> dict[str, Any]:
    """A page of a list or of a search."""
    return {
        "type": "object",
        "required": ["data", "has_more", "object", "url"],
        "properties": {
            "data": {"type": "array", "items": of},
            "has_more": {"type": "boolean"},
            "object": {"const": kind},
            "url": TEXT,
        },
    }


def asked(*required: str, **fields: Any) -> dict[str, Any]:
    """A body or a query, whose fields are text; other names are refused."""
    return {
        "type": "object",
        "required": list(required),
        "properties": {name: {"type": "string", **field} for name, field in fields.items()},
        "patternProperties": {r"^metadata\[[^\[\]]{1,40}\]$": {"type": "string", "maxLength": 500}},
        "additionalProperties": False,
    }


NUMBER = {"pattern": "^[0-9]+$"}
MANUAL = {"enum": ["automatic", "automatic_async", "manual"]}
TRUE = {"enum": ["true", "false"]}
PAYMENT_METHOD = {
    "payment_method": {},
    "payment_method_data[type]": {"enum": ["card"]},
    "payment_method_data[card][token]": {},
}
ONE = r"/v1/payment_intents/pi_\w+"
OPERATIONS: Mapping[str, tuple[str, str, dict[str, Any], dict[str, Any]]] = {
    "create": (
        "POST",
        "/v1/payment_intents",
        asked(
            "amount",
            "currency",
            amount=NUMBER,
            currency={"pattern": "^[a-z]{3}$"},
            capture_method=MANUAL,
            confirm=TRUE,
            **{"payment_method_types[]": {}},
            **PAYMENT_METHOD,
            error_on_requires_action=TRUE,
        ),
        INTENT,
    ),
    "confirm": (
        "POST",
        f"{ONE}/confirm",
        asked(**PAYMENT_METHOD, error_on_requires_action=TRUE, capture_method=MANUAL),
        INTENT,
    ),
    "capture": ("POST", f"{ONE}/capture", asked(amount_to_capture=NUMBER), INTENT),
    "cancel": ("POST", f"{ONE}/cancel", asked(cancellation_reason={}), INTENT),
    "retrieve": ("GET", ONE, asked(), INTENT),
    "list": (
        "GET",
        "/v1/payment_intents",
        asked(limit=NUMBER, starting_after={}, **{"created[gte]": NUMBER}),
        page("list", INTENT),
    ),
    "search": (
        "GET",
        "/v1/payment_intents/search",
        asked("query", query={}, limit=NUMBER, page={}),
        page("search_result", INTENT),
    ),
    "refund": (
        "POST",
        "/v1/refunds",
        asked(payment_intent={}, charge={}, amount=NUMBER, reason={}),
        REFUND,
    ),
    "refunds": (
        "GET",
        "/v1/refunds",
        asked(payment_intent={}, charge={}, limit=NUMBER),
        page("list", REFUND),
    ),
}
"""By what is done: the method, the path, what is asked and what is answered."""


def operation(method: str, path: str) -> str:
    """What is done there.

    Raises:
        LookupError: Nothing.
    """
    for name, (verb, form, _, _) in OPERATIONS.items():
        if verb == method and re.fullmatch(form, path):
            return name
    raise LookupError(f"{method} {path}")


def check(shape: Mapping[str, Any], value: Any) -> None:
    """Check that a value has a shape.

    Raises:
        AssertionError: It has not.
    """
    wrong = [f"{one.instance_path}: {one.message}" for one in _validator(shape).iter_errors(value)]
    assert not wrong, (wrong, value)


def _validator(shape: Mapping[str, Any]) -> Any:
    return jsonschema_rs.validator_for(dict(shape))
