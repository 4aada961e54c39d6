"""Bearer tokens, verified where there is no JWT authorizer in front: SSE and WebSocket.

As strict as the authorizer of an HTTP API, with the same checks: RS256 only, by a key of the
issuer's JWKS; the issuer, the audience (`aud`, or `client_id` where a token has no `aud`, as
Cognito's access tokens have it), `exp`, `nbf` and `iat`.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import jwt

from recourse.errors import RecourseError
from recourse.functions.caller import BadSubjectError, Caller, scopes_of
from recourse.store.fetching import fetch

CLOCK_SKEW = 5
"""Seconds by which the issuer's clock may differ."""
CACHED_FOR = 3600
"""Seconds for which keys are cached."""
UNKNOWN_KEY_INTERVAL = 60
"""Seconds between two requests to the issuer for unknown keys: tokens that name made-up keys must
not cost it one request each."""
LARGEST_DOCUMENT = 64 * 1024
"""Bytes that are read of an issuer's document; what is larger is not valid."""


class UnauthorizedError(RecourseError):
    """There is no bearer token, or it is not valid; the message says why."""


class ForbiddenError(RecourseError):
    """The token lacks the scope."""


class IssuerError(RecourseError):
    """The issuer's keys could not be fetched; a retry may succeed."""


def fetched(issuer: str) -> Callable[[], dict[str, Any]]:
    """A function that fetches an issuer's JWKS, by its discovery document."""

    def get() -> dict[str, Any]:
        about = _document(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        return _document(about["jwks_uri"])

    return get


def _document(url: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(fetch(url, LARGEST_DOCUMENT, redirects=True))
    return found


class Bearers:
    """Verifies the bearer tokens of one issuer.

    Args:
        issuer: The issuer that `iss` must name.
        audiences: The accepted audiences.
        prefix: The prefix of scopes in tokens.
        keys: Fetches the issuer's JWKS; called when an unknown key is needed.
        clock: A monotonic clock, in seconds.
    """

    def __init__(
        self,
        issuer: str,
        audiences: Sequence[str],
        *,
        prefix: str = "",
        keys: Callable[[], dict[str, Any]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._issuer = issuer
        self._audiences = frozenset(audiences)
        self._prefix = prefix
        self._fetch = keys
        self._clock = clock
        self._keys: dict[str, jwt.PyJWK] = {}
        self._asked = float("-inf")
        self._lock = threading.Lock()

    def verify(self, token: str | None, scope: str) -> Caller:
        """The caller that a token is for, who must have a scope or be an operator.

        Raises:
            UnauthorizedError: There is no token, or it is not valid.
            ForbiddenError: It lacks the scope.
            IssuerError: The issuer's keys could not be fetched.
        """
        if not token:
            raise UnauthorizedError("send a bearer token in the header Authorization")
        claims = self._claims(token)
        try:
            found = Caller(claims["sub"], scopes_of(claims, self._prefix), int(claims["exp"]))
        except BadSubjectError as problem:
            raise UnauthorizedError(str(problem)) from None
        if scope not in found.scopes and not found.is_operator:
            raise ForbiddenError(f"this needs the scope {scope!r}")
        return found

    def _claims(self, token: str) -> dict[str, Any]:
        try:
            header = jwt.get_unverified_header(token)
            if header.get("alg") != "RS256":
                raise UnauthorizedError("the token is not signed by RS256")
            claims: dict[str, Any] = jwt.decode(
                token,
                self._key(header.get("kid")),
                algorithms=["RS256"],
                issuer=self._issuer,
                leeway=CLOCK_SKEW,
                # The audience is verified below: it may be in either of two claims.
                options={"require": ["exp", "iss", "sub"], "verify_aud": False},
            )
        except (jwt.PyJWTError, ValueError, RecursionError) as problem:
            raise UnauthorizedError(f"the token is not valid: {problem}") from problem
        meant = claims.get("aud", claims.get("client_id"))
        if not self._audiences & set(meant if isinstance(meant, list) else [meant]):
            raise UnauthorizedError("the token is for another audience")
        return claims

    def _key(self, name: Any) -> jwt.PyJWK:
        with self._lock:
            age = self._clock() - self._asked
            if age > CACHED_FOR or (name not in self._keys and age > UNKNOWN_KEY_INTERVAL):
                self._ask()
            found = self._keys.get(name) if isinstance(name, str) else None
        if found is None:
            raise UnauthorizedError("the token is signed with a key that its issuer does not have")
        return found

    def _ask(self) -> None:
        if self._keys:
            self._asked = self._clock()  # also where the fetch fails: the cached keys still serve
        try:
            known = jwt.PyJWKSet.from_dict(self._fetch())
        except (OSError, ValueError, LookupError, TypeError, jwt.PyJWTError) as problem:
            if not self._keys:
                raise IssuerError(
                    f"the issuer's keys could not be fetched: {problem!r}"
                ) from problem
            return
        # Only RSA keys: a holder of a symmetric key, who can verify a token, could also sign one.
        self._keys = {one.key_id: one for one in known.keys if one.key_type == "RSA" and one.key_id}
        self._asked = self._clock()


def in_header(value: str) -> str | None:
    """The token in a header Authorization; the scheme is case-insensitive (RFC 9110)."""
    scheme, _, token = value.strip().partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None
