"""What every route needs: the caller, the validated body, and the response."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import re
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.event_handler import Response

from recourse.declare.validation import DEEPEST, LARGEST, InvalidRequestError, validated
from recourse.functions.caller import BadSubjectError, Caller, scopes_of
from recourse.problems import HEADERS, MEDIA_TYPE, ProblemError
from recourse.text import MalformedError, read_json, whole

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.data_classes import APIGatewayProxyEventV2

LONGEST_WAIT = 20
_WAIT = re.compile(r"(?:^|[,;\s])wait=(\d+)(?:$|[,;\s])", re.IGNORECASE | re.ASCII)
_GZIP = re.compile(r"(?:^|,)\s*gzip\s*(?:$|,|;\s*q=(?!0(?:\.0*)?\s*(?:$|,)))", re.IGNORECASE)
_TAG = re.compile(r'"[^"]*"')


def caller(event: APIGatewayProxyEventV2, scope: str, *, or_operator: bool = False) -> Caller:
    """The caller, who must have a scope, or be an operator where that is allowed.

    An operator may always read.

    Raises:
        ProblemError: There is no token, or its subject cannot be an owner (401), or it lacks the
            scope (403).
    """
    context = event.raw_event["requestContext"]
    verified = context.get("authorizer") or {}
    # An authorizer that is a function of the deployment's own answers with a context.
    claims = verified.get("jwt", {}).get("claims") or verified.get("lambda")
    if not claims or not isinstance(claims.get("sub"), str):
        raise ProblemError("unauthorized", "send a bearer token in the header Authorization")
    prefix = os.environ.get("SCOPE_PREFIX", "")
    try:
        found = Caller(claims["sub"], scopes_of(claims, prefix))
    except BadSubjectError as problem:
        raise ProblemError("unauthorized", str(problem)) from None
    operators_may = or_operator or scope == "sagas:read"
    if scope not in found.scopes and not (found.is_operator and operators_may):
        raise ProblemError("forbidden", f"this needs the scope {scope!r}")
    return found


def sent(event: APIGatewayProxyEventV2) -> Any:
    """The body as it was sent: plain JSON, not validated.

    Raises:
        ProblemError: It cannot be read (400, 413, 415).
    """
    return _read(_raw(event))


def body(event: APIGatewayProxyEventV2, model: type) -> Any:
    """The validated body, as plain JSON, with a null for each optional field that is absent.

    Raises:
        ProblemError: It cannot be read (400, 413, 415), or is not valid (422, naming the fields).
    """
    raw = _raw(event)
    _read(raw)
    try:
        return validated(model, raw)
    except InvalidRequestError as problem:
        raise ProblemError("invalid", str(problem), errors=problem.errors) from None


def _read(raw: bytes) -> Any:
    try:
        return read_json(raw, deepest=DEEPEST)
    except MalformedError as problem:
        raise ProblemError("malformed", f"the body is not valid JSON: {problem}") from None


def _raw(event: APIGatewayProxyEventV2) -> bytes:
    content_type = event.headers.get("content-type", "application/json")
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise ProblemError("not-json", f"Content-Type is {content_type!r}: send application/json")
    try:
        raw = (event.decoded_body or "").encode()
    except ValueError as problem:
        raise ProblemError("malformed", "the body is not UTF-8") from problem
    if len(raw) > LARGEST:
        raise ProblemError("too-large", f"a body must be at most {LARGEST} bytes, got {len(raw)}")
    return raw


def preferred_wait(headers: Mapping[str, str]) -> int:
    """The seconds that `Prefer: wait=N` asks for, at most 20; 0 where it is absent."""
    match = _WAIT.search(headers.get("prefer", ""))
    if match is None:
        return 0
    try:
        return whole(match[1], 0, LONGEST_WAIT)
    except ValueError:
        return LONGEST_WAIT


def known_tags(headers: Mapping[str, str]) -> frozenset[str]:
    """The versions in `If-None-Match`; weak ones count as strong."""
    return frozenset(_TAG.findall(headers.get("if-none-match", "")))


def seen_tags(headers: Mapping[str, str]) -> frozenset[str] | None:
    """The versions in `If-Match`; None where any will do."""
    text = headers.get("if-match", "*").strip()
    return None if text == "*" else frozenset(_TAG.findall(text))


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
        headers={**HEADERS, "cache-control": "no-store", **(headers or {})},
    )


def kept(
    event: APIGatewayProxyEventV2,
    content: bytes,
    *,
    content_type: str,
    cache_control: str,
    headers: Mapping[str, str] | None = None,
) -> Response[Any]:
    """What is the same for everybody until the next deploy: compressed, and spared where known.

    Args:
        event: The request.
        content: The body.
        content_type: Its type.
        cache_control: For how long caches may keep it.
        headers: Further headers.
    """
    tag, compressed = _compressed(content)
    found = {
        **HEADERS,
        "cache-control": cache_control,
        "etag": tag,
        "vary": "accept-encoding",
        **(headers or {}),
    }
    if tag in known_tags(event.headers):
        return Response(304, body="", headers=found)
    if _GZIP.search(event.headers.get("accept-encoding", "")):
        found["content-encoding"] = "gzip"
        # Encoded here, for Powertools writes a body of bytes as JSON where that is its type.
        answer = Response(200, content_type, body=compressed, headers=found)
        answer.base64_encoded = True
        return answer
    return Response(200, content_type, body=content.decode(), headers=found)


@cache
def _compressed(content: bytes) -> tuple[str, str]:
    """The ETag of a content, and it compressed, in base64."""
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    return tag, base64.b64encode(gzip.compress(content, mtime=0)).decode()


def problem(error: ProblemError, headers: Mapping[str, str] | None = None) -> Response[str]:
    """A problem as a response."""
    named = {**error.headers, **(headers or {})}
    return answer(error.status, error.body, headers=named, content_type=MEDIA_TYPE)
