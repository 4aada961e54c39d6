"""Bearer tokens, verified where no JWT authorizer stands in front: SSE and WebSocket.

As strict as the authorizer of an HTTP API, and alike in what it takes: RS256 alone, by a key of the
issuer's JWKS; the issuer, the audience (`aud`, or `client_id` where a token has no `aud`, as
Cognito's access tokens have it), `exp`, `nbf` and `iat`.
"""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections.abc import Callable, Sequence
from typing import Any

import jwt

from recourse.errors import RecourseError
from recourse.functions.caller import Caller, scopes_of

LEEWAY = 5
"""Seconds by which the issuer's clock may differ from ours."""
KEPT = 3600
"""Seconds for which keys are kept."""
PATIENCE = 60
"""Seconds before the issuer is asked again for a key that it did not have: a token that names any
key may cost the issuer no request of its own."""
LARGEST = 64 * 1024
"""Bytes of the issuer's documents; more is none."""


class UnauthorizedError(RecourseError):
    """There is no bearer token, or it is none that counts; the message says why."""


class ForbiddenError(RecourseError):
    """The token lacks the scope."""


class IssuerError(RecourseError):
    """The issuer does not give its keys; it may in a moment."""


def fetched(issuer: str) -> Callable[[], dict[str, Any]]:
    """What fetches an issuer's JWKS, from where its discovery document says."""

    def fetch() -> dict[str, Any]:
        about = _get(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        return _get(about["jwks_uri"])

    return fetch


def _get(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url, timeout=5) as answer:
        found: dict[str, Any] = json.loads(answer.read(LARGEST))
        return found


class Bearers:
    """Verifies the bearer tokens of one issuer.

    Args:
        issuer: Who must have issued them.
        audiences: For whom, one of these.
        prefix: What the issuer puts before our scopes.
        keys: Gives the issuer's JWKS; asked when a key is needed that is not there.
        clock: Seconds that only grow.
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
            UnauthorizedError: There is no token, or it does not count.
            ForbiddenError: It lacks the scope.
            IssuerError: The issuer does not give its keys.
        """
        if not token:
            raise UnauthorizedError("send a bearer token in the header Authorization")
        claims = self._claims(token)
        found = Caller(
            claims["sub"], scopes_of(str(claims.get("scope", "")), self._prefix), int(claims["exp"])
        )
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
                leeway=LEEWAY,
                # The audience is looked at below: it may be in either of two claims.
                options={"require": ["exp", "iss", "sub"], "verify_aud": False},
            )
        except jwt.PyJWTError as problem:
            raise UnauthorizedError(f"the token does not count: {problem}") from problem
        meant = claims.get("aud", claims.get("client_id"))
        if not self._audiences & set(meant if isinstance(meant, list) else [meant]):
            raise UnauthorizedError("the token is for somebody else")
        return claims

    def _key(self, name: Any) -> jwt.PyJWK:
        with self._lock:
            age = self._clock() - self._asked
            if age > KEPT or (name not in self._keys and age > PATIENCE):
                self._ask()
            found = self._keys.get(name) if isinstance(name, str) else None
        if found is None:
            raise UnauthorizedError("the token is signed with a key that its issuer does not have")
        return found

    def _ask(self) -> None:
        if self._keys:
            self._asked = self._clock()  # whatever comes of it: these will do for a while
        try:
            known = jwt.PyJWKSet.from_dict(self._fetch())
        except (OSError, ValueError, LookupError, TypeError, jwt.PyJWTError) as problem:
            if not self._keys:
                raise IssuerError(f"the issuer does not give its keys: {problem!r}") from problem
            return
        # Only these: a symmetric key, were there one, would let its holders sign as the issuer.
        self._keys = {one.key_id: one for one in known.keys if one.key_type == "RSA" and one.key_id}
        self._asked = self._clock()


def in_header(value: str) -> str | None:
    """The token in a header Authorization; the scheme's name is in any case, as RFC 9110 has it."""
    scheme, _, token = value.strip().partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None
