"""Bearer tokens and keys as the command line sees them: unverified, and never printed."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from recourse.errors import RecourseError
from recourse.functions.caller import scopes_of
from recourse.functions.users import GROUPS

Bearer = str | Callable[[], str] | None
"""A bearer token, what gives one for each call, or none."""
ISSUER_PATH = "/_issuer"
"""Where the local cloud's issuer is, under the address of its API."""
EVERYDAY_SCOPE = " ".join(GROUPS["customer"])
HIDDEN = "<token>"
LOOPBACK = ("127.0.0.1", "localhost")
_SHORTEST = 8
"""Characters below which a token is no secret, but may well be a part of words."""
_ONE_LINE = re.compile(r"[!-~]+")
_JWT = re.compile(r"eyJ[\w-]{8,}\.eyJ[\w-]*(\.[\w-]*)?")


class TokenError(RecourseError):
    """A token cannot be sent; the message does not contain it."""


def must_be_sendable(token: str, what: str) -> None:
    """Check that a token can be sent.

    Args:
        token: The token.
        what: What it is, for the message.

    Raises:
        TokenError: It has another character than the visible ones of ASCII.
    """
    if _ONE_LINE.fullmatch(token):
        return
    bad = next((at for at, one in enumerate(token) if not _ONE_LINE.fullmatch(one)), None)
    where = "is empty" if bad is None else f"has U+{ord(token[bad]):04X} at character {bad + 1}"
    raise TokenError(f"{what} must be one line of visible ASCII without spaces; it {where}")


def redacted(text: str, *tokens: str | None) -> str:
    """A text without these tokens, and without whatever looks like a JWT."""
    for token in tokens:
        if token and len(token) >= _SHORTEST:
            text = text.replace(token, HIDDEN)
    return _JWT.sub(HIDDEN, text)


def looks_like_a_token(text: str) -> bool:
    """Whether a text was meant as a JWT, whether or not it is one."""
    return _JWT.match(text.strip()) is not None


def claims(token: str) -> dict[str, Any]:
    """The claims of a JWT, which nobody has verified; empty if it is not a JWT."""
    parts = token.split(".")
    if len(parts) != 3:
        return {}
    try:
        header, found = (
            json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
            for part in parts[:2]
        )
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) and isinstance(header, dict) and "alg" in header else {}


def why_refused(token: str | None, api: str, said: str = "") -> str:
    """Why an API answered 401, as far as the token's own claims tell.

    Args:
        token: The bearer token; None if there was none.
        api: The API's address.
        said: What the API said about it.
    """
    is_local = urlsplit(api).hostname in LOOPBACK
    remedy = "get one" + (
        f' with `recourse token --api {api} --subject asha --scope "{EVERYDAY_SCOPE}"`'
        if is_local
        else " of its issuer"
    )
    remedy += f" and pass it with --token or RECOURSE_TOKEN, or run `recourse login --api {api}`"
    if not token:
        return f"the API needs a bearer token (401): {remedy}"
    found = claims(token)
    if not found:
        return f"the API refused the bearer token (401), which is not a JWT: {remedy}"
    issuer, audience = str(found.get("iss")), found.get("aud", found.get("client_id"))
    if is_of_a_local_cloud := issuer.endswith(ISSUER_PATH):
        meant = issuer.removesuffix(ISSUER_PATH)
        if _place(meant) != _place(api):
            return f"the token is for the API at {meant}, this is {api} (401): {remedy}"
    expiry = found.get("exp")
    if isinstance(expiry, int | float) and expiry <= time.time():
        return f"the token expired {_moment(expiry)} (401): {remedy}"
    if is_of_a_local_cloud:
        return (
            "the API refused the bearer token (401): it is for this address, but perhaps of another"
            f" checkout, whose key differs: {remedy}"
        )
    about = f"its issuer is {issuer}, its audience {audience}"
    if said:
        about += f"; the API says: {said}"
    return f"the API at {api} refused the bearer token (401): {about}: {remedy}"


def _place(address: str) -> tuple[str, str | None, int | None, str]:
    """An address to compare; loopback has several names."""
    try:
        found = urlsplit(address)
        port = found.port
    except ValueError:  # in a token's claims there may be anything
        return "", None, None, address
    host = "loopback" if found.hostname in LOOPBACK else found.hostname
    return found.scheme, host, port, found.path.rstrip("/")


def scopes(token: str) -> str:
    """The scopes that a token claims, as the API reads them; empty if it claims none."""
    return " ".join(sorted(scopes_of(claims(token), "")))


def _moment(seconds: float) -> str:
    try:
        return f"at {datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
    except (OverflowError, ValueError, OSError):
        return "long ago"
