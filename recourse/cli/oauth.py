"""A client of an OpenID Connect issuer: an authorization code with PKCE, refresh and revocation.

What an issuer says is text of others: it is made visible, shortened, and without any token. Nothing
is sent in the clear: an issuer and its endpoints are https, or on loopback.
"""

from __future__ import annotations

import re
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx

from recourse.cli.tokens import LOOPBACK, TokenError, must_be_sendable, redacted
from recourse.cli.visible import visible
from recourse.errors import RecourseError

TIMEOUT = 15
"""Seconds for which an issuer's answer is waited for."""
SHORT_LIFETIME = 300
"""Seconds for which a token counts as valid whose issuer does not say for how long it is."""
LONGEST_LIFETIME = 366 * 24 * 3600


class LoginError(RecourseError):
    """Signing in, or staying so, has failed; the message says why, and has no token in it."""


class InvalidGrantError(LoginError):
    """The issuer does not take a code or a refresh token any more (`invalid_grant`)."""


class IssuerUnreachableError(LoginError):
    """The issuer has not answered."""


@dataclass(frozen=True)
class Endpoints:
    """Where an issuer answers what.

    Attributes:
        issuer: The issuer's URL.
        authorization: Where people sign in.
        token: Where codes and refresh tokens are exchanged.
        revocation: Where refresh tokens are revoked; empty if the issuer does not do that.
        names_itself: Whether it says in an authorization response who it is (RFC 9207).
    """

    issuer: str
    authorization: str
    token: str
    revocation: str
    names_itself: bool = False


@dataclass(frozen=True)
class Tokens:
    """What an issuer has issued.

    Attributes:
        access: The bearer token.
        refresh: What the next one is had for; empty if there is nothing.
        expires_in: Seconds for which the bearer token is valid.
    """

    access: str = field(repr=False)
    refresh: str = field(repr=False)
    expires_in: int


@dataclass(frozen=True)
class Request:
    """One request to sign in, whose state and verifier nobody else knows.

    Attributes:
        client: The client's id.
        redirect_uri: Where the browser is sent back to.
        scope: The scopes, as the issuer names them; empty for all that the client may ask for.
    """

    client: str
    redirect_uri: str
    scope: str
    state: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(48), repr=False)

    def url(self, endpoints: Endpoints) -> str:
        """The page on which to sign in."""
        digest = sha256(self.verifier.encode()).digest()
        query = {
            "response_type": "code",
            "client_id": self.client,
            "redirect_uri": self.redirect_uri,
            "state": self.state,
            "code_challenge": urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        } | ({"scope": self.scope} if self.scope else {})
        separator = "&" if urlsplit(endpoints.authorization).query else "?"
        return f"{endpoints.authorization}{separator}{urlencode(query)}"


class Client:
    """Calls an issuer.

    ::

        with Client("recourse-cli") as client:
            endpoints = client.discover("https://issuer.example")
            tokens = client.exchange(endpoints.token, request, code)
            tokens = client.refresh(endpoints.token, tokens.refresh)

    Args:
        client: The client's id.
        secret: Its secret; public clients have none.
        transport: Replaces the network in tests.
    """

    def __init__(
        self, client: str, secret: str = "", *, transport: httpx.BaseTransport | None = None
    ) -> None:
        self._who = {"client_id": client} | ({"client_secret": secret} if secret else {})
        self._http = httpx.Client(
            timeout=TIMEOUT, transport=transport, trust_env=False, follow_redirects=False
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def discover(self, issuer: str) -> Endpoints:
        """The endpoints of an issuer, by its metadata (OpenID Connect Discovery 1.0).

        Raises:
            LoginError: It cannot be reached, or has none for this way to sign in.
        """
        must_be_safe(issuer, "--issuer")
        where = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
        found = self._call("GET", where)
        if str(found.get("issuer")).rstrip("/") != issuer.rstrip("/"):
            raise LoginError(
                f"the metadata at {where} are of another issuer: {_said(found.get('issuer'))}"
            )
        for name in ("authorization_endpoint", "token_endpoint"):
            must_be_safe(found.get(name), f"the issuer's {name}")
        if revocation := found.get("revocation_endpoint"):
            must_be_safe(revocation, "the issuer's revocation_endpoint")
        methods = found.get("code_challenge_methods_supported", ["S256"])
        if not isinstance(methods, list) or "S256" not in methods:
            raise LoginError(f"the issuer {issuer} does not support PKCE with S256")
        return Endpoints(
            issuer,
            found["authorization_endpoint"],
            found["token_endpoint"],
            revocation or "",
            found.get("authorization_response_iss_parameter_supported") is True,
        )

    def exchange(self, endpoint: str, request: Request, code: str) -> Tokens:
        """The tokens for a code.

        Raises:
            LoginError: The issuer refuses, or cannot be reached.
        """
        return self._tokens(
            endpoint,
            grant_type="authorization_code",
            code=code,
            redirect_uri=request.redirect_uri,
            code_verifier=request.verifier,
        )

    def refresh(self, endpoint: str, token: str) -> Tokens:
        """New tokens for a refresh token, which stays as it is where the issuer sends no other.

        Raises:
            InvalidGrantError: It is not valid any more.
            LoginError: The issuer refuses for another reason, or cannot be reached.
        """
        return self._tokens(endpoint, grant_type="refresh_token", refresh_token=token)

    def revoke(self, endpoint: str, token: str) -> None:
        """Revoke a refresh token.

        Raises:
            LoginError: The issuer refuses, or cannot be reached.
        """
        self._call("POST", endpoint, token=token, token_type_hint="refresh_token")

    def _tokens(self, endpoint: str, **form: str) -> Tokens:
        found = self._call("POST", endpoint, **form)
        access, refresh = found.get("access_token"), found.get("refresh_token")
        if not isinstance(access, str) or str(found.get("token_type")).lower() != "bearer":
            raise LoginError(f"{endpoint} answered without a bearer token")
        try:
            must_be_sendable(access, "the issuer's bearer token")
        except TokenError as problem:
            raise LoginError(str(problem)) from None
        seconds = found.get("expires_in")
        known = isinstance(seconds, int | float) and 0 < seconds <= LONGEST_LIFETIME
        return Tokens(
            access,
            refresh if isinstance(refresh, str) and refresh else form.get("refresh_token", ""),
            int(seconds) if known and seconds else SHORT_LIFETIME,
        )

    def _call(self, method: str, url: str, **form: str) -> Mapping[str, Any]:
        secret = [value for name, value in form.items() if name not in ("grant_type", "client_id")]
        data = {**self._who, **form} if method == "POST" else None
        try:
            answer = self._http.request(method, url, data=data)
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, ValueError) as problem:
            reason = redacted(visible(str(problem) or type(problem).__name__), *secret)
            raise IssuerUnreachableError(
                f"cannot reach the issuer at {visible(url)}: {reason}"
            ) from None
        try:
            found = answer.json() if answer.content else {}
        except (ValueError, RecursionError):
            found = None
        if answer.is_success and isinstance(found, dict):
            return found
        if answer.is_success:
            raise LoginError(f"{visible(url)} answered without a JSON object: is it an issuer?")
        said = found if isinstance(found, dict) else {}
        told = redacted(in_words(said.get("error"), said.get("error_description")), *secret)
        kind = InvalidGrantError if said.get("error") == "invalid_grant" else LoginError
        raise kind(f"the issuer at {visible(url)} answered {answer.status_code}: {told}")


def in_words(error: object, description: object) -> str:
    """An issuer's error as a line for people; both texts may be anything."""
    code = _said(error) if error else "no reason given"
    return f"{code}: {_said(description)}" if description else code


def must_be_safe(url: object, what: str) -> None:
    """Check the address of an issuer or of one of its endpoints.

    Raises:
        LoginError: It is no address, or would be called in the clear.
    """
    text = url if isinstance(url, str) else ""
    try:
        found = urlsplit(text)
        secure = found.scheme == "https" or (found.scheme == "http" and found.hostname in LOOPBACK)
        plain = found.username is None and not found.fragment and found.port != 0
        ok = secure and plain and bool(found.hostname) and re.fullmatch("[!-~]+", text)
    except ValueError:
        ok = False
    if not ok:
        raise LoginError(
            f"{what} must be an https address, or one on this machine, got {_said(url)}"
        )


def _said(text: object) -> str:
    return visible(str(text)[:300])
