"""What the local issuer has granted: codes and refresh tokens, kept in memory while it runs.

A code is good for one exchange, within a minute, by the client that it was made for, who has the
verifier of its challenge (RFC 7636), and for the address that it was sent to. A refresh token is
good once, for the same client; the answer has the next. A code or a refresh token that comes a
second time has leaked, and ends its grant (RFC 9700, 2.1.1 and 4.14.2).
"""

from __future__ import annotations

import hmac
import secrets
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from recourse.errors import RecourseError

CODE_LIFETIME = 60.0
"""Seconds within which a code must be exchanged."""
REFRESH_LIFETIME = 30 * 24 * 3600.0
"""Seconds for which a grant can be refreshed."""
ACCESS_LIFETIME = 3600
"""Seconds for which an access token is valid."""
MOST = 1000
"""Most grants that are kept; beyond that the oldest end."""


class GrantError(RecourseError):
    """A code or a refresh token is not valid; OAuth's `invalid_grant`."""


@dataclass(eq=False)
class Grant:
    """What somebody has granted by signing in."""

    client: str
    subject: str
    scope: str
    redirect_uri: str
    challenge: str
    until: float
    code: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    refresh: str = ""
    exchanged: bool = False
    spent: set[str] = field(default_factory=set)


class Grants:
    """The grants of one issuer.

    ::

        grants = Grants(issuer.token)
        code = grants.begin("recourse-cli", "asha", "sagas:read", redirect_uri, challenge)
        answer = grants.exchange("recourse-cli", code, redirect_uri, verifier)
        answer = grants.refresh("recourse-cli", answer["refresh_token"])

    Args:
        sign: Makes an access token for a subject and scopes, as `Issuer.token` does.
        clock: A monotonic clock, in seconds.
    """

    def __init__(
        self, sign: Callable[..., str], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._sign = sign
        self._clock = clock
        self._grants: list[Grant] = []

    def begin(
        self, client: str, subject: str, scope: str, redirect_uri: str, challenge: str
    ) -> str:
        """A code for a client by which somebody has just signed in."""
        until = self._clock() + CODE_LIFETIME
        grant = Grant(client, subject, scope, redirect_uri, challenge, until)
        self._grants = [*self._kept(), grant][-MOST:]
        return grant.code

    def exchange(self, client: str, code: str, redirect_uri: str, verifier: str) -> dict[str, Any]:
        """The token answer for a code, whatever comes of it the only one.

        Raises:
            GrantError: The code is unknown, spent or too old, or another's.
        """
        grant = next((one for one in self._kept() if _same(one.code, code)), None)
        if grant is None:
            raise GrantError("the code is unknown or too old")
        if grant.exchanged:
            self._grants.remove(grant)
            raise GrantError("the code was used before")
        grant.exchanged = True
        challenge = urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        asked = grant.client, grant.redirect_uri
        if asked != (client, redirect_uri) or not _same(grant.challenge, challenge):
            self._grants.remove(grant)
            raise GrantError(
                "the code was issued for another client, redirect_uri or code_challenge"
            )
        grant.until = self._clock() + REFRESH_LIFETIME
        return self._answer(grant)

    def refresh(self, client: str, token: str) -> dict[str, Any]:
        """The token answer for a refresh token of a client's, which it replaces.

        Raises:
            GrantError: The token is unknown, another client's, revoked, spent or too old.
        """
        for grant in (one for one in self._kept() if one.client == client):
            if grant.refresh and _same(grant.refresh, token):
                grant.spent.add(token)
                return self._answer(grant)
            if token in grant.spent:
                self._grants.remove(grant)
                raise GrantError("the refresh token was used before")
        raise GrantError("the refresh token is unknown, revoked or too old")

    def revoke(self, client: str, token: str) -> None:
        """End the grant of a refresh token of a client's; an unknown one is no error (RFC 7009)."""
        self._grants = [
            one for one in self._kept() if one.client != client or not _same(one.refresh, token)
        ]

    def _answer(self, grant: Grant) -> dict[str, Any]:
        grant.refresh = secrets.token_urlsafe(32)
        return {
            "access_token": self._sign(grant.subject, grant.scope, lifetime=ACCESS_LIFETIME),
            "token_type": "Bearer",
            "expires_in": ACCESS_LIFETIME,
            "refresh_token": grant.refresh,
            "scope": grant.scope,
        }

    def _kept(self) -> list[Grant]:
        now = self._clock()
        self._grants = [one for one in self._grants if now < one.until]
        return self._grants


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())
