"""A client of the HTTP API: its calls, its errors as readable messages, and waiting for a saga."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Self

import httpx

LONG_POLL = 15
"""Seconds that a poll asks the API to wait for something new."""
POLL_INTERVAL = 1.0
LONGEST_RETRY_AFTER = 3600
"""Average seconds between two polls at least, for an API that does not wait as asked."""
POLL_ATTEMPTS, LONGEST_BACKOFF = 10, 60.0
"""How often a poll is tried while its errors are transient, and the longest back-off in seconds."""


class ApiError(Exception):
    """The API refused a call or cannot be reached; the message is for people.

    Attributes:
        status: The HTTP status; None where there was no answer.
        kind: The last part of the problem's `type`; empty where it has none.
        retry_after: Seconds to wait before the next call; 0 where the API does not say.
    """

    def __init__(
        self, message: str, *, status: int | None = None, kind: str = "", retry_after: int = 0
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.retry_after = retry_after

    @property
    def is_transient(self) -> bool:
        """Whether the same call may succeed later: no answer, 429 or 5xx."""
        return self.status is None or self.status == 429 or self.status >= 500


class Api:
    """A client of the API.

    ::

        with Api("http://127.0.0.1:8000", token) as api:
            started = api.start("order", request, key="order-1")
            for saga in api.follow(started["saga_id"]):
                print(saga["status"])

    Args:
        url: The API's address.
        token: A bearer token; open paths need none.
        transport: Replaces the network in tests.
    """

    def __init__(
        self, url: str, token: str | None, *, transport: httpx.BaseTransport | None = None
    ) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._url = url
        self._http = httpx.Client(
            base_url=url,
            headers=headers,
            timeout=LONG_POLL + 15,
            transport=transport,
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Make one call; `options` are httpx's.

        Raises:
            ApiError: The API answered with an error, or not at all.
        """
        try:
            response = self._http.request(method, path, **options)
        except httpx.HTTPError as problem:
            raise ApiError(
                f"cannot reach the API at {self._url} ({problem}): start it with `make up`, or "
                "give another address with --api"
            ) from problem
        if response.status_code >= 400:
            raise ApiError(
                _explain(response),
                status=response.status_code,
                kind=_kind(response),
                retry_after=_seconds(response.headers.get("retry-after", "")),
            )
        return response

    def start(
        self,
        saga: str,
        request: Any,
        *,
        key: str,
        chaos: str | None = None,
        coordination: str | None = None,
    ) -> dict[str, Any]:
        """Start a saga; the same key and request return the same saga."""
        headers = {"Idempotency-Key": key} | ({"Recourse-Chaos": chaos} if chaos else {})
        query = {"coordination": coordination} if coordination else {}
        answer = self.call("POST", f"/sagas/{saga}", json=request, headers=headers, params=query)
        started: dict[str, Any] = answer.json()
        return started

    def get(self, path: str, **query: Any) -> Any:
        """The JSON at a path."""
        wanted = {name: value for name, value in query.items() if value is not None}
        return self.call("GET", path, params=wanted).json()

    def poll(self, path: str, headers: Mapping[str, str], **query: Any) -> httpx.Response:
        """The answer at a path, which may be a 304; transient errors are retried.

        Back-off is exponential with full jitter, so that clients that an outage stopped together
        do not return together; it is added to `Retry-After`.

        Raises:
            ApiError: The API refused, or its error outlasted every retry.
        """
        asked = {name: value for name, value in query.items() if value is not None}
        for attempt in range(POLL_ATTEMPTS):
            try:
                return self.call("GET", path, headers=headers, params=asked)
            except ApiError as problem:
                if not problem.is_transient or attempt == POLL_ATTEMPTS - 1:
                    raise
                pause = random.uniform(0, min(LONGEST_BACKOFF, 0.5 * 2**attempt))
                time.sleep(problem.retry_after + pause)
        raise AssertionError

    def follow(self, saga_id: str) -> Iterator[dict[str, Any]]:
        """A saga now and after each change, until it is at rest or needs an operator."""
        known: Mapping[str, str] = {}
        while True:
            response = self.poll(f"/sagas/{saga_id}", {"Prefer": f"wait={LONG_POLL}", **known})
            if response.status_code == 304:
                continue
            saga = response.json()
            yield saga
            if is_at_rest(saga):
                return
            known = {"If-None-Match": response.headers["etag"]}

    def events(
        self, after: str | None, *, wait: bool, saga_id: str | None = None
    ) -> Iterator[tuple[list[Any], str]]:
        """Pages of the caller's own events without end, each with the cursor to continue from.

        A page is empty when there are no new events.

        Args:
            after: The cursor to continue from; None for the oldest event that is kept.
            wait: Whether the API should wait for new events.
            saga_id: Only events of this saga.

        Raises:
            ApiError: The API refused, or its error outlasted every retry.
        """
        known: dict[str, str] = {}
        prefer = {"Prefer": f"wait={LONG_POLL}"} if wait else {}
        while True:
            asked = time.monotonic()
            wanted = {"after": after, "saga_id": saga_id}
            response = self.poll("/events", prefer | known, **wanted)
            items: list[Any] = []
            if response.status_code != 304:
                page = response.json()
                items, after = page["items"], page["cursor"]
            known = {} if items else {"If-None-Match": response.headers["etag"]}
            yield items, after or ""
            if not items and time.monotonic() - asked < POLL_INTERVAL:
                time.sleep(random.uniform(0.5, 1.5) * POLL_INTERVAL)


def is_at_rest(saga: Mapping[str, Any]) -> bool:
    """Whether a saga has ended or waits for an operator."""
    parked = any(step["status"] == "FAILED" for step in saga["steps"])
    return saga["status"] not in ("RUNNING", "COMPENSATING") or (
        saga["status"] == "RUNNING" and parked
    )


def _seconds(retry_after: str) -> int:
    """The seconds of a Retry-After, which is a number or a date; 0 if it is neither."""
    if retry_after.isascii() and retry_after.isdigit():
        return round(min(float(retry_after), LONGEST_RETRY_AFTER))
    try:
        when = parsedate_to_datetime(retry_after)
    except ValueError:
        return 0
    return max(0, round((when - datetime.now(UTC)).total_seconds()))


def _problem(response: httpx.Response) -> dict[str, Any]:
    """The problem in an answer's body; empty if that is not a JSON object."""
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _kind(response: httpx.Response) -> str:
    return str(_problem(response).get("type", "")).rpartition(":")[2]


def _explain(response: httpx.Response) -> str:
    """A problem as a message, with the invalid fields if there are several."""
    body = _problem(response)
    if response.status_code == 401 and _kind(response) in ("", "unauthorized"):
        return (
            "the API needs a bearer token (401): get one with `recourse token --subject asha "
            '--scope "sagas:write sagas:read valet:issue"` and pass it with --token or '
            "RECOURSE_TOKEN"
        )
    if "title" not in body:
        said = body.get("message") or response.text[:200]
        return f"the API answered {response.status_code}: {said}"
    lines = [f"{body['title']} ({response.status_code}): {body.get('detail', '')}"]
    errors = body.get("errors", [])
    lines += [f"  {error['field']}: {error['message']}" for error in errors if len(errors) > 1]
    return "\n".join(lines)
