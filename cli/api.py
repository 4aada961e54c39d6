"""The API as the command line sees it: one client, its errors in words, and waiting for a saga."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Self

import httpx

WAIT = 15
"""Seconds that one poll asks the API to wait."""
SHORTEST = 1.0
"""Seconds between two polls at the least, on average, whatever the API makes of `wait`."""
TRIES, LONGEST = 10, 60.0
"""How often a poll is tried again that may pass, and how many seconds apart at the most."""


class ApiError(Exception):
    """The API refused, or is not there; the message is what a person should read.

    Attributes:
        status: What it answered; None where there was no answer.
        kind: The last part of the problem's `type`, where it says one.
        retry_after: Seconds after which it may be asked again, where it says so.
    """

    def __init__(
        self, message: str, *, status: int | None = None, kind: str = "", retry_after: int = 0
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.retry_after = retry_after

    @property
    def may_pass(self) -> bool:
        """Whether the same call may work a little later."""
        return self.status is None or self.status == 429 or self.status >= 500


class Api:
    """A client of the API.

    Args:
        url: Its address.
        token: A bearer token; the open paths need none.
        transport: For tests.
    """

    def __init__(
        self, url: str, token: str | None, *, transport: httpx.BaseTransport | None = None
    ) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._url = url
        self._http = httpx.Client(
            base_url=url, headers=headers, timeout=WAIT + 15, transport=transport, trust_env=False
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One call.

        Raises:
            ApiError: It was refused or there was no answer.
        """
        try:
            response = self._http.request(method, path, **options)
        except httpx.HTTPError as problem:
            raise ApiError(
                f"there is no API at {self._url} ({problem}): start one with `make up`, or name "
                "another with --api"
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
        """Start a saga; the same key and request give the same saga."""
        headers = {"Idempotency-Key": key} | ({"Recourse-Chaos": chaos} if chaos else {})
        query = {"coordination": coordination} if coordination else {}
        answer = self.call("POST", f"/sagas/{saga}", json=request, headers=headers, params=query)
        started: dict[str, Any] = answer.json()
        return started

    def get(self, path: str, **query: Any) -> Any:
        """What is at a path."""
        wanted = {name: value for name, value in query.items() if value is not None}
        return self.call("GET", path, params=wanted).json()

    def poll(self, path: str, headers: Mapping[str, str], **query: Any) -> httpx.Response:
        """What is at a path, or a 304; what may pass is tried again, and not before it may be.

        The pauses grow and are drawn at random (full jitter), so that those whom an outage has
        stopped together do not come back together; `Retry-After` adds to them.

        Raises:
            ApiError: It was refused, or did not pass.
        """
        asked = {name: value for name, value in query.items() if value is not None}
        for attempt in range(TRIES):
            try:
                return self.call("GET", path, headers=headers, params=asked)
            except ApiError as problem:
                if not problem.may_pass or attempt == TRIES - 1:
                    raise
                pause = random.uniform(0, min(LONGEST, 0.5 * 2**attempt))
                time.sleep(problem.retry_after + pause)
        raise AssertionError

    def follow(self, saga_id: str) -> Iterator[dict[str, Any]]:
        """A saga now and whenever it changes, until it is at rest or needs an operator."""
        known: Mapping[str, str] = {}
        while True:
            response = self.poll(f"/sagas/{saga_id}", {"Prefer": f"wait={WAIT}", **known})
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
        """Pages of the caller's own events, for ever: each with the cursor to go on from.

        A page may be empty: nothing more has come.

        Args:
            after: The cursor to go on from; None for the oldest event that is kept.
            wait: Whether the API is asked to wait for something to come.
            saga_id: Only this saga's.

        Raises:
            ApiError: It was refused, or did not pass.
        """
        known: dict[str, str] = {}
        prefer = {"Prefer": f"wait={WAIT}"} if wait else {}
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
            if not items and time.monotonic() - asked < SHORTEST:
                time.sleep(random.uniform(0.5, 1.5) * SHORTEST)


def is_at_rest(saga: Mapping[str, Any]) -> bool:
    """Whether nothing more happens to a saga by itself."""
    parked = any(step["status"] == "FAILED" for step in saga["steps"])
    return saga["status"] not in ("RUNNING", "COMPENSATING") or (
        saga["status"] == "RUNNING" and parked
    )


def _seconds(retry_after: str) -> int:
    """The seconds that a Retry-After says, as a number or as a date; 0 where it says neither."""
    if retry_after.isdigit():
        return int(retry_after)
    try:
        when = parsedate_to_datetime(retry_after)
    except ValueError:
        return 0
    return max(0, round((when - datetime.now(UTC)).total_seconds()))


def _problem(response: httpx.Response) -> dict[str, Any]:
    """What an answer says is wrong; nothing where it is no JSON."""
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _kind(response: httpx.Response) -> str:
    return str(_problem(response).get("type", "")).rpartition(":")[2]


def _explain(response: httpx.Response) -> str:
    """A problem in words, with the fields that are wrong."""
    body = _problem(response)
    if response.status_code == 401 and _kind(response) in ("", "unauthorized"):
        return (
            "the API wants a bearer token (401): get one with `recourse token --subject asha "
            '--scope "sagas:write sagas:read valet:issue"` and give it by --token or RECOURSE_TOKEN'
        )
    if "title" not in body:
        said = body.get("message") or response.text[:200]
        return f"the API answered {response.status_code}: {said}"
    lines = [f"{body['title']} ({response.status_code}): {body.get('detail', '')}"]
    errors = body.get("errors", [])
    lines += [f"  {error['field']}: {error['message']}" for error in errors if len(errors) > 1]
    return "\n".join(lines)
