"""SigV4 for presigned S3 URLs: fast, and by the standard library alone.

The signature covers the method, the path, every query parameter and every header given, so a URL is
valid for exactly one request. A differential test compares it with botocore's. The signing key of a
day is derived once, and what is the same from one URL to the next is encoded once.

Source: AWS, "Authenticating Requests: Using Query Parameters (AWS Signature Version 4)".
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256
from urllib.parse import quote

from recourse.store.credentials import Credentials

MAX_EXPIRES = 7 * 24 * 3600
"""Seconds for which S3 accepts a presigned URL at the most: seven days."""


@lru_cache(maxsize=8)
def _day_key(secret: str, day: str, region: str) -> bytes:
    key = b"AWS4" + secret.encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


@lru_cache(maxsize=256)
def _moment(at: int) -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at))


@lru_cache(maxsize=4096)
def _quoted(text: str) -> str:
    return quote(text, safe="-_.~")


@lru_cache(maxsize=4096)
def _quoted_path(path: str) -> str:
    return quote(path, safe="/-_.~")


@lru_cache(maxsize=256)
def _authorised(
    access_key: str, session_token: str | None, region: str, moment: str, expires: int, signed: str
) -> tuple[tuple[tuple[str, str], ...], str]:
    """The query parameters of a signature, encoded, and the first lines of the string to sign."""
    scope = f"{moment[:8]}/{region}/s3/aws4_request"
    pairs = {
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": f"{access_key}/{scope}",
        "X-Amz-Date": moment,
        "X-Amz-Expires": str(expires),
        "X-Amz-SignedHeaders": signed,
    }
    if session_token:
        pairs["X-Amz-Security-Token"] = session_token
    encoded = tuple(sorted((name, _quoted(value)) for name, value in pairs.items()))
    return encoded, f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n"


def presign(
    method: str,
    host: str,
    path: str,
    *,
    query: Mapping[str, str],
    headers: Mapping[str, str],
    credentials: Credentials,
    region: str,
    at: int,
    expires: int,
    scheme: str = "https",
) -> str:
    """A URL for one request.

    Args:
        method: The request's method.
        host: The host, with its port if that is not the scheme's default.
        path: The path, not yet encoded, from its first slash.
        query: Parameters; S3 ignores and logs those that begin with `x-`.
        headers: What the request must send besides `Host`, names in lower case.
        credentials: What signs it.
        region: The bucket's; the URL is valid in no other.
        at: When it becomes valid, in seconds since 1970.
        expires: For how many seconds it is valid.
        scheme: `https`, unless an endpoint says otherwise.

    Raises:
        ValueError: `expires` is less than a second or more than S3 accepts.
    """
    if not 1 <= expires <= MAX_EXPIRES:
        raise ValueError(f"expires must be 1 to {MAX_EXPIRES} seconds, got {expires}")
    moment = _moment(at)
    if headers:
        sent = sorted([*headers.items(), ("host", host)])
        signed = ";".join([name for name, _ in sent])
        lines = "\n".join([f"{name}:{' '.join(value.split())}" for name, value in sent])
    else:
        signed, lines = "host", f"host:{host}"
    own, first = _authorised(
        credentials.access_key, credentials.session_token, region, moment, expires, signed
    )
    pairs = sorted([*own, *[(_quoted(name), _quoted(value)) for name, value in query.items()]])
    asked = "&".join([f"{name}={value}" for name, value in pairs])
    where = _quoted_path(path)
    request = f"{method}\n{where}\n{asked}\n{lines}\n\n{signed}\nUNSIGNED-PAYLOAD"
    signature = hmac.digest(
        _day_key(credentials.secret_key, moment[:8], region),
        (first + sha256(request.encode()).hexdigest()).encode(),
        "sha256",
    ).hex()
    return f"{scheme}://{host}{where}?{asked}&X-Amz-Signature={signature}"
