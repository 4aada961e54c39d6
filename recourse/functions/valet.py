"""Redeems valet keys, by a call or by a link, without a bearer: the token is the credential.

It is a function of its own because clients wait for it: it loads botocore's DynamoDB client and
nothing else that is large, no web framework, no validator, no S3 client.
"""

from __future__ import annotations

import base64
import json
import logging
import re
from functools import cache
from typing import Any
from urllib.parse import unquote

from botocore.exceptions import BotoCoreError, ClientError

from recourse.errors import TransientError
from recourse.functions import settings
from recourse.problems import HEADERS, MEDIA_TYPE, ProblemError
from recourse.store.aws import client, credentials, is_transient, region, s3_endpoint
from recourse.text import read_json
from recourse.valet.errors import BadTokenError
from recourse.valet.keys import Actor, Keys, moment
from recourse.valet.objects import Bucket, Signed
from recourse.valet.redeem import Part, Redeemer

LARGEST_BODY = 16 * 1024
_SHA256 = re.compile(r"[0-9a-f]{64}")
logger = logging.getLogger(__name__)


@cache
def redeemer() -> Redeemer:
    """The redeemer that the environment describes."""
    return Redeemer(
        Keys(client("dynamodb"), settings.required("VALET_TABLE")),
        Bucket(settings.required("VALET_BUCKET"), region(), s3_endpoint()),
        settings.required("VALET_ISSUER"),
        credentials,
    )


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Answer one request."""
    try:
        return _answer(event)
    except ProblemError as error:
        if isinstance(error, BadTokenError):
            # It names no key, so there is no audit trail to write it to.
            logger.warning("a token that is not valid, from %s: %s", _address(event), error)
        return _problem(error)
    except (TransientError, BotoCoreError) as error:
        return _try_again(error)
    except ClientError as error:
        if is_transient(error):
            return _try_again(error)
        return _internal()
    except Exception:
        return _internal()


def _answer(event: dict[str, Any]) -> dict[str, Any]:
    path: str = event["rawPath"]
    by = Actor("token", _address(event))
    if path.startswith("/v/"):
        bearer = "authorization" in event.get("headers", {})
        signed = redeemer().follow(unquote(path.removeprefix("/v/")), by, bearer=bearer)
        # The token is in the URL: browsers must not send it on as the referrer.
        headers = {"location": signed.url, "referrer-policy": "no-referrer"}
        return _response(307, "", headers)
    token, part = _asked(event)
    return _response(200, json.dumps(_view(redeemer().redeem(token, by, part))))


def _view(signed: Signed) -> dict[str, Any]:
    """The request to send to S3; clients set Content-Length themselves, from the body."""
    return {
        "method": signed.method,
        "url": signed.url,
        "headers": dict(signed.headers),
        "expires_at": moment(signed.expires),
    }


def _asked(event: dict[str, Any]) -> tuple[str, Part | None]:
    """The body: a token, and a part in a multipart upload."""
    body = _body(event)
    _only(body, "", {"token", "part"})
    token = body.get("token")
    if not isinstance(token, str):
        raise _wrong("token", "must be a string")
    part = body.get("part")
    if part is None:
        return token, None
    if not isinstance(part, dict):
        raise _wrong("part", "must be an object")
    _only(part, "part.", {"number", "sha256", "content_length"})
    for name in ("number", "content_length"):
        if type(part.get(name)) is not int or not 1 <= part[name] <= 2**40:
            raise _wrong(f"part.{name}", "must be a whole number from 1 to 2^40")
    if not isinstance(part.get("sha256"), str) or not _SHA256.fullmatch(part["sha256"]):
        raise _wrong("part.sha256", "must be a SHA-256 in lower-case hex")
    return token, Part(part["number"], part["sha256"], part["content_length"])


def _body(event: dict[str, Any]) -> dict[str, Any]:
    headers = event.get("headers", {})
    content_type = headers.get("content-type", "application/json")
    if content_type.partition(";")[0].strip().lower() != "application/json":
        detail = f"Content-Type is {content_type!r}: send application/json"
        raise ProblemError("not-json", detail)
    text = event.get("body") or ""
    if len(text) > LARGEST_BODY:
        detail = f"a body must be at most {LARGEST_BODY} bytes, got {len(text)}"
        raise ProblemError("too-large", detail)
    try:
        raw = base64.b64decode(text) if event.get("isBase64Encoded") else text
        body = read_json(raw)
    except ValueError as problem:
        raise ProblemError("malformed", f"the body is not valid JSON: {problem}") from None
    if not isinstance(body, dict):
        raise _wrong("", "the body must be an object")
    return body


def _only(content: dict[str, Any], prefix: str, known: set[str]) -> None:
    for name in content:
        if name not in known:
            raise _wrong(prefix + name, "is not a known field")


def _wrong(field: str, message: str) -> ProblemError:
    detail = f"{field}: {message}" if field else message
    errors = [{"field": field, "message": detail}] if field else []
    return ProblemError("invalid", detail, errors=errors)


def _address(event: dict[str, Any]) -> str:
    address: str = event["requestContext"]["http"].get("sourceIp", "unknown")
    return address


def _try_again(error: Exception) -> dict[str, Any]:
    logger.warning("%s: %s", type(error).__name__, error)
    return _problem(ProblemError("try-again", "temporarily unavailable: retry in a moment"))


def _internal() -> dict[str, Any]:
    logger.exception("unexpected error")
    return _problem(ProblemError("internal", "the log has the details"))


def _problem(error: ProblemError) -> dict[str, Any]:
    headers = {"content-type": MEDIA_TYPE}
    if error.status in (429, 503):
        headers["retry-after"] = "60" if error.status == 429 else "1"
    return _response(error.status, json.dumps(error.body, ensure_ascii=False), headers)


def _response(status: int, body: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
    return {
        "statusCode": status,
        "headers": {
            **HEADERS,
            "cache-control": "no-store",
            "content-type": "application/json",
            **(headers or {}),
        },
        "body": body,
    }
