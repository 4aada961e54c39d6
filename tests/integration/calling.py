"""The API called as the gateway calls it, and what it answers."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import lambdas.api as api_module
from tests.description import must_be_described
from tests.integration.trips import TRIP

TRAVELLER = "sagas:write sagas:read"
PREFIX = "recourse/"
PATH = "/sagas/travel-booking"
keys = itertools.count()


@dataclass(frozen=True)
class Answer:
    """What the API answered."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@dataclass(frozen=True)
class Caller:
    """Somebody who calls the API through the gateway.

    A caller without a subject has no token. `claims` are those in which the issuer has scopes.
    """

    subject: str | None = "asha"
    scope: str = TRAVELLER
    claims: Callable[[list[str]], Mapping[str, str]] = lambda scopes: {"scope": " ".join(scopes)}

    def __call__(
        self,
        method: str,
        target: str,
        body: Any = None,
        **headers: str,
    ) -> Answer:
        parts = urlsplit(target, allow_fragments=False)
        sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        context: dict[str, Any] = {
            "stage": "$default",
            "requestId": "r",
            "http": {"method": method, "path": parts.path},
        }
        if self.subject is not None:
            scopes = self.claims([PREFIX + one for one in self.scope.split()])
            context["authorizer"] = {"jwt": {"claims": {"sub": self.subject, **scopes}}}
        event: dict[str, Any] = {
            "version": "2.0",
            "rawPath": parts.path,
            "rawQueryString": parts.query,
            "headers": {name.replace("_", "-").lower(): text for name, text in headers.items()},
            "requestContext": context,
            "isBase64Encoded": sent is not None,
        }
        if parts.query:
            query = parse_qsl(parts.query, keep_blank_values=True)
            event["queryStringParameters"] = dict(query)
        if sent is not None:
            event["body"] = base64.b64encode(sent).decode()
        answer = api_module.handler(event, None)
        headers = {name.lower(): value for name, value in answer.get("headers", {}).items()}
        must_be_described(method, parts.path, answer["statusCode"], answer["body"])
        return Answer(answer["statusCode"], headers, answer["body"])

    def start(self, body: Any = TRIP, *, key: str | None = None, **headers: str) -> Answer:
        """Start a trip, under a key of its own unless one is given."""
        key = key or f"api-{next(keys)}"
        return self("POST", PATH, body, Idempotency_Key=key, **headers)

    def get(self, saga: str, **headers: str) -> Answer:
        return self("GET", f"/sagas/{saga}", **headers)
