"""What the CDK context says of the console: where it is, and how people sign in to it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import recourse

BUILT = Path(recourse.__file__).with_name("console")
"""Where the page is once it is built: `index.html`, and its files in `assets`."""
ORIGIN = (
    r"https://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:\d{1,5})?"
    r"|http://(127\.0\.0\.1|localhost|\[::1\])(:\d{1,5})?"
)
"""An origin as browsers name it (RFC 6454, 6.2); in plain text only on this machine."""
DOMAIN = r"([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z0-9-]{2,}"
CERTIFICATE = r"arn:[a-z-]+:acm:us-east-1:\d{12}:certificate/[\w-]+"
ENDPOINTS = ("authorize", "token", "revoke")


@dataclass(frozen=True, kw_only=True)
class SignIn:
    """How a page signs people in: the authorization code flow with PKCE, without a secret.

    ::

        login = "https://login.example.com"
        sign_in = SignIn(
            client="console",
            authorize=f"{login}/authorize",
            token=f"{login}/token",
            revoke=f"{login}/revoke",
        )
        issuer = Issuer(login, ("https://shop.example.com",), sign_in=sign_in)

    Attributes:
        client: The id of the public client, whose redirect URI is the page's origin and a slash.
        authorize: The issuer's authorization endpoint.
        token: Its token endpoint, which must answer pages of other origins (CORS).
        revoke: Its revocation endpoint (RFC 7009), which must too.
    """

    client: str
    authorize: str
    token: str
    revoke: str


def parse(text: Callable[[str], str]) -> dict[str, Any]:
    """The fields of a `Stage` about the console, of the context's values by their names.

    Raises:
        ValueError: A value is not valid; the message begins with its key.
    """
    if text("console") not in ("", "on", "off"):
        raise ValueError(f"console={text('console')!r} must be on or off")
    url, domain, certificate = (text(f"console_{one}") for one in ("url", "domain", "certificate"))
    if url and not re.fullmatch(ORIGIN, url):
        raise ValueError(
            f"console_url={url!r} must be an origin in lower case, without a path or a '/' at its "
            "end: https://console.example"
        )
    if bool(domain) != bool(certificate):
        raise ValueError("console_domain and console_certificate must be given together")
    if domain and not re.fullmatch(DOMAIN, domain):
        raise ValueError(f"console_domain={domain!r} must be a host in lower case: console.example")
    if certificate and not re.fullmatch(CERTIFICATE, certificate):
        raise ValueError(
            f"console_certificate={certificate!r} must be the ARN of a certificate in us-east-1, "
            "where CloudFront reads them"
        )
    if domain and url not in ("", f"https://{domain}"):
        raise ValueError(f"console_url={url!r} must be https://{domain} or absent")
    return {
        "console": text("console") != "off",
        "console_url": f"https://{domain}" if domain else url,
        "console_domain": domain,
        "console_certificate": certificate,
        "sign_in": _sign_in(text),
    }


def _sign_in(text: Callable[[str], str]) -> SignIn | None:
    client, said = text("console_client"), text("console_endpoints")
    if bool(client) != bool(said):
        raise ValueError("console_client and console_endpoints must be given together")
    if not client:
        return None
    if not text("issuer"):
        raise ValueError("console_client must be with issuer: a user pool has a client of its own")
    pairs = [one.partition("=") for one in said.replace(",", " ").split()]
    found = {name: url for name, _, url in pairs}
    if sorted(found) != sorted(ENDPOINTS) or len(pairs) != len(ENDPOINTS):
        raise ValueError(
            f"console_endpoints={said!r} must be the issuer's three, as its metadata has them: "
            "authorize=https://… token=https://… revoke=https://…"
        )
    for name, url in found.items():
        if not re.fullmatch(r"https://[^/?#\s;'\"]+(/[^?#\s]*)?", url):
            raise ValueError(
                f"console_endpoints: {name}={url!r} must be an https address without '?' and '#'"
            )
    return SignIn(client=client, **found)
