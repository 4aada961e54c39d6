"""Addresses: of an API, and of the console that belongs to it."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

import httpx

from recourse.cli.exits import UsageError
from recourse.cli.tokens import LOOPBACK
from recourse.cli.visible import visible

BELOW = "/api"
"""Where the API is under the origin of a console."""


def must_be_address(url: str, option: str = "--api") -> None:
    """Check the address of an API, or that of a console, by the option that names it.

    Raises:
        UsageError: It is none.
    """
    right = f"{option} must be an address like https://api.example.com"
    try:
        found, _ = urlsplit(url), httpx.URL(url)
        port = found.port
    except (httpx.InvalidURL, ValueError):
        raise UsageError(f"{right}, got {url!r}") from None
    if found.username is not None or found.password is not None:
        raise UsageError(f"{right}, without a user or password: a token goes with --token")
    if (
        found.scheme not in ("http", "https")
        or not found.hostname
        or port == 0
        or found.query
        or found.fragment
    ):
        raise UsageError(f"{right}, got {url!r}")


def shortened(location: str) -> str:
    """An address without what may be secret in it."""
    return visible(location.partition("?")[0].partition("#")[0][:200])


def console_of(api: str, said: object = None, named: str | None = None) -> str | None:
    """The address of the console of an API, without a slash at its end; None if none is known.

    Args:
        api: The API's address.
        said: What the API's health says of its console; None where it says nothing.
        named: What the caller has named.

    Raises:
        UsageError: What the caller has named is no address.
    """
    if named:
        must_be_address(named, "--console")
        return named.rstrip("/")
    if isinstance(said, str) and said.startswith(("https://", "http://")):
        return said.rstrip("/")
    base = api.rstrip("/")
    if base.endswith(BELOW):
        return base.removesuffix(BELOW)
    return base if urlsplit(api).hostname in LOOPBACK else None


def page_of(console: str, saga_id: str | None) -> str:
    """The page of a saga in a console; its first page without one."""
    return f"{console}/#/sagas/{quote(saga_id, safe='')}" if saga_id else f"{console}/"
