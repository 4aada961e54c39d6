"""Fetching a small document by HTTP: an issuer's keys, a certificate of SNS."""

from __future__ import annotations

import http.client
import urllib.request
from typing import Any

from recourse.store.interim import FinalResponse

TIMEOUT = 5
"""Seconds for which each part of an answer is waited for."""


class _Plain(http.client.HTTPConnection):
    response_class = FinalResponse


class _Secure(http.client.HTTPSConnection):
    response_class = FinalResponse


class _Finally(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    """Opens connections whose answer is the final one, whatever 1xx come before it."""

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Plain, req)

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Secure, req)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def fetch(url: str, max_bytes: int, *, redirects: bool) -> bytes:
    """The document at an address, or its beginning.

    ::

        fetch("https://issuer.example/jwks.json", 64 * 1024, redirects=True)

    Args:
        url: Its address.
        max_bytes: How many bytes are read at the most.
        redirects: Whether redirects are followed; where not, one is an error.

    Raises:
        OSError: There is no answer in time, or it is not a 2xx, not HTTP or cut off.
    """
    handlers = [_Finally] if redirects else [_Finally, _NoRedirect]
    try:
        with urllib.request.build_opener(*handlers).open(url, timeout=TIMEOUT) as answer:
            found: bytes = answer.read(max_bytes)
            if answer.length and len(found) < max_bytes:
                raise http.client.IncompleteRead(found, answer.length)
    except http.client.HTTPException as problem:
        raise OSError(f"the answer is not whole HTTP: {problem!r}") from problem
    return found
