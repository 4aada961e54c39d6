"""One exchange with a provider over HTTP: a time-out by the call's deadline, and no redirect."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import SplitResult

from recourse import TransientError
from recourse.store.interim import FinalResponse

LONGEST = 10.0
"""The longest that one call of a provider may take, in seconds, if the attempt has that left."""
LARGEST = 8 << 20
"""Bytes of an answer; a page of a hundred payments of Stripe is some 300 KB."""


class Timed(Protocol):
    """What has a deadline, as a `Call` has."""

    def remaining(self) -> float:
        """Seconds until then."""


@dataclass(frozen=True)
class Answer:
    """What a provider answered.

    Attributes:
        status: The status of HTTP: a redirect is one like any other, and is not followed.
        body: The JSON object.
        headers: By lower-case names.
    """

    status: int
    body: dict[str, Any]
    headers: Mapping[str, str]


def exchange(
    call: Timed,
    provider: SplitResult,
    method: str,
    path: str,
    *,
    body: str | None,
    headers: Mapping[str, str],
) -> Answer:
    """Ask a provider, within the time that the call has.

    Raises:
        TransientError: It did not answer in time, or not with JSON.
    """
    seconds = min(LONGEST, call.remaining())
    if seconds <= 0:
        raise TransientError("there is no time left to call the provider")
    secure = provider.scheme == "https"
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = kind(provider.netloc, timeout=seconds)
    connection.response_class = FinalResponse
    try:
        connection.request(method, provider.path + path, body, dict(headers))
        # It is closed by itself only where it is read to its end.
        with connection.getresponse() as answer:
            text = answer.read(LARGEST + 1)
        if len(text) > LARGEST:
            raise TransientError(f"the provider answered with more than {LARGEST} bytes")
        said = json.loads(text)
    except (OSError, http.client.HTTPException, ValueError) as problem:
        raise TransientError(f"the provider did not answer: {problem!r}") from problem
    finally:
        connection.close()
    if not isinstance(said, dict):
        raise TransientError("the provider did not answer with an object")
    kept = {name.lower(): value for name, value in answer.getheaders()}
    return Answer(answer.status, said, kept)
