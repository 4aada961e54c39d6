"""What every route needs: the caller, the validated body, and the response."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.event_handler import Response

from recourse.functions.caller import Caller, scopes_of
from recourse.problems import MEDIA_TYPE, ProblemError

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.data_classes import APIGatewayProxyEventV2
    from pydantic import TypeAdapter

LARGEST_BODY = 64 * 1024
LONGEST_WAIT = 20
_WAIT = re.compile(r"(?:^|[,;\s])wait=(\d{1,6})(?:$|[,;\s])", re.IGNORECASE | re.ASCII)
_TAG = re.compile(r'"[^"]*"')


def caller(event: APIGatewayProxyEventV2, scope: str, *, or_operator: bool = False) -> Caller:
    """The caller, who must have a scope, or be an operator where that is allowed.

    An operator may always read.

    Raises:
        ProblemError: There is no token (401), or it lacks the scope (403).
    """
    context = event.raw_event["requestContext"]
    claims = context.get("authorizer", {}).get("jwt", {}).get("claims")
    if not claims or "sub" not in claims:
        raise ProblemError("unauthorized", "send a bearer token in the header Authorization")
    prefix = os.environ.get("SCOPE_PREFIX", "")
    found = Caller(claims["sub"], scopes_of(claims.get("scope", ""), prefix))
    operators_may = or_operator or scope == "sagas:read"
    if scope not in found.scopes and not (found.is_operator and operators_may):
        raise ProblemError("forbidden", f"this needs the scope {scope!r}")
    return found


def body(event: APIGatewayProxyEventV2, model: type) -> Any:
    """The validated body, as plain JSON, with a null for each optional field that is absent.

    Raises:
        ProblemError: It cannot be read (400, 413, 415), or is not valid (422, naming the fields).
    """
    from pydantic import ValidationError

    content_type = event.headers.get("content-type", "application/json")
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise ProblemError("not-json", f"Content-Type is {content_type!r}: send application/json")
    try:
        raw = (event.decoded_body or "").encode()
    except ValueError as problem:
        raise ProblemError("malformed", "the body is not UTF-8") from problem
    if len(raw) > LARGEST_BODY:
        raise ProblemError(
            "too-large", f"a body must be at most {LARGEST_BODY} bytes, got {len(raw)}"
        )
    try:
        adapter = adapter_of(model)
        return adapter.dump_python(adapter.validate_json(raw), mode="json")
    except ValidationError as problem:
        found = problem.errors(include_url=False, include_context=False, include_input=False)
        if any(error["type"] == "json_invalid" for error in found):
            raise ProblemError(
                "malformed", f"the body is not valid JSON: {found[0]['msg']}"
            ) from None
        errors = [
            {"field": ".".join(str(part) for part in error["loc"]), "message": error["msg"]}
            for error in found
        ]
        first = errors[0]
        where = first["field"] or "the body"
        raise ProblemError("invalid", f"{where}: {first['message']}", errors=errors) from None


@cache
def adapter_of(model: type) -> TypeAdapter[Any]:
    """The validator of a request model; the first one loads pydantic."""
    from pydantic import TypeAdapter

    return TypeAdapter(model)


def preferred_wait(headers: Mapping[str, str]) -> int:
    """The seconds that `Prefer: wait=N` asks for, at most 20; 0 where it is absent."""
    match = _WAIT.search(headers.get("prefer", ""))
    return min(int(match.group(1)), LONGEST_WAIT) if match else 0


def known_tags(headers: Mapping[str, str]) -> frozenset[str]:
    """The versions in `If-None-Match`; weak ones count as strong."""
    return frozenset(_TAG.findall(headers.get("if-none-match", "")))


def answer(
    status: int,
    content: Any = None,
    *,
    headers: Mapping[str, str] | None = None,
    content_type: str = "application/json",
) -> Response[str]:
    """A response; JSON by default."""
    is_text = isinstance(content, str)
    text = content if is_text else json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return Response(
        status_code=status,
        content_type=content_type if content is not None else None,
        body=text if content is not None else "",
        headers={"cache-control": "no-store", **(headers or {})},
    )


def problem(error: ProblemError) -> Response[str]:
    """A problem as a response."""
    return answer(error.status, error.body, headers=error.headers, content_type=MEDIA_TYPE)
