"""A client of the HTTP API: its calls, its errors as readable messages, and waiting for a saga."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Self
from urllib.parse import quote

import httpx

from recourse.cli.address import must_be_address, shortened
from recourse.cli.exits import UsageError
from recourse.cli.tokens import Bearer, must_be_sendable, redacted, scopes, why_refused
from recourse.cli.visible import visible
from recourse.errors import RecourseError

LONG_POLL = 15
"""Seconds that a poll asks the API to wait for something new."""
POLL_INTERVAL = 1.0
"""Average seconds between two polls at least, for an API that does not wait as asked."""
POLL_ATTEMPTS, LONGEST_BACKOFF = 10, 60.0
"""How often a poll is tried while its errors are transient, and the longest back-off in seconds."""
LONGEST_RETRY_AFTER = 3600
"""The most seconds that a Retry-After counts for."""
LARGEST_PAGE = 100
"""How many items a page of a list has at most."""
MOST_EMPTY_PAGES = 1000
"""After how many empty pages one after the other a list stops and says where to go on."""


class ApiError(RecourseError):
    """The API refused a call or cannot be reached; the message is for people.

    Attributes:
        status: The HTTP status; None where there was no answer.
        kind: The last part of the problem's `type`; empty where it has none.
        retry_after: Seconds to wait before the next call; 0 where the API does not say.
        problem: What the API answered, by RFC 9457; empty where it answered otherwise or not.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        kind: str = "",
        retry_after: int = 0,
        problem: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.retry_after = retry_after
        self.problem = problem or {}

    @property
    def is_transient(self) -> bool:
        """Whether the same call may succeed later: no answer, 429 or 5xx."""
        return self.status is None or self.status == 429 or self.status >= 500


class UnreachableError(ApiError):
    """Nobody has answered at the address."""


class Found(dict[str, Any]):
    """A JSON object of an answer.

    Raises:
        ApiError: It lacks a field that is asked for: the answer is not Recourse's.
    """

    def __missing__(self, name: str) -> Any:
        raise ApiError(
            f"the answer has no field {name!r}: is this the address of a Recourse API, "
            "and of this version?"
        )


Skipping = Callable[[int], None]


class Api:
    """A client of the API.

    ::

        with Api("http://127.0.0.1:8000", token) as api:
            started = api.start("order", request, key="order-1")
            for saga in api.follow(started["saga_id"]):
                print(saga["status"])

    Args:
        url: The API's address.
        token: A bearer token, or what gives one for each call; open paths need none.
        transport: Replaces the network in tests.

    The token goes to this address only: no redirect is followed.

    Attributes:
        say: Called with a line where a poll has no answer and goes on, and when it has one again.

    Raises:
        UsageError: The address cannot be used.
        TokenError: The token cannot be sent.
    """

    def __init__(
        self, url: str, token: Bearer, *, transport: httpx.BaseTransport | None = None
    ) -> None:
        must_be_address(url)
        if token and not callable(token):
            must_be_sendable(token, "the bearer token")
        self._url = url
        self._bearer = token
        self._has_answered = False
        self.say: Callable[[str], None] = lambda _: None
        self._http = httpx.Client(
            base_url=url,
            timeout=LONG_POLL + 15,
            transport=transport,
            trust_env=False,
            follow_redirects=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    @property
    def token(self) -> str | None:
        """The bearer token that a call now sends."""
        return self._bearer() if callable(self._bearer) else self._bearer

    def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Make one call; `options` are httpx's.

        Raises:
            ApiError: The API answered with an error, or not at all.
        """
        token = self.token
        try:
            request = self._http.build_request(method, path, **options)
            request.headers.update({"Authorization": f"Bearer {token}"} if token else {})
        except (httpx.InvalidURL, ValueError) as problem:
            reason = redacted(str(problem), token)
            raise UsageError(f"the request cannot be sent: {reason}") from None
        try:
            response = self._http.send(request)
        except (httpx.HTTPError, httpx.StreamError) as problem:
            said = redacted(visible(str(problem) or type(problem).__name__), token)
            raise UnreachableError(
                f"cannot reach the API at {self._url} ({said}): start it with `make up`, or "
                "give another address with --api"
            ) from None
        self._has_answered = True
        if response.is_success or response.status_code == 304:
            return response
        answer = _problem(response)
        raise ApiError(
            redacted(self._explained(response, token), token),
            status=response.status_code,
            kind=_kind(response),
            retry_after=_seconds(response.headers.get("retry-after", "")),
            problem=json.loads(redacted(json.dumps(answer), token)) if "title" in answer else {},
        )

    def ask(self, method: str, path: str, **options: Any) -> Found:
        """Make one call whose answer is a JSON object; `options` are httpx's.

        Raises:
            ApiError: The API answered with an error, with something else, or not at all.
        """
        return self.read(self.call(method, path, **options))

    def read(self, response: httpx.Response) -> Found:
        """The JSON object in an answer.

        Raises:
            ApiError: It is something else.
        """
        try:
            found = response.json(object_hook=Found)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, Found):
            kind = visible(response.headers.get("content-type", "no Content-Type"))
            raise ApiError(
                f"{self._url} answered {response.status_code} without a JSON object ({kind}): "
                "is it the address of a Recourse API?"
            )
        return found

    def start(
        self,
        saga: str,
        request: Any,
        *,
        key: str,
        chaos: str | None = None,
        coordination: str | None = None,
        not_before: str | None = None,
    ) -> dict[str, Any]:
        """Start a saga; the same key and request return the same saga."""
        headers = {"Idempotency-Key": key} | ({"Recourse-Chaos": chaos} if chaos else {})
        headers |= {"Not-Before": not_before} if not_before else {}
        query = {"coordination": coordination} if coordination else {}
        path = f"/sagas/{segment(saga)}"
        return self.ask("POST", path, json=request, headers=headers, params=query)

    def get(self, path: str, **query: Any) -> Found:
        """The JSON object at a path."""
        wanted = {name: value for name, value in query.items() if value is not None}
        return self.ask("GET", path, params=wanted)

    def collect(
        self, path: str, *, cursor: str | None, limit: int, skipping: Skipping, **query: Any
    ) -> dict[str, Any]:
        """As many items of a list as are asked for, and the cursor of those that follow.

        A page may be short or empty where few of the rows match: it goes on from its cursor.

        Args:
            path: The list's path.
            cursor: Where to begin; None for the beginning.
            limit: How many items at most.
            skipping: Called after each empty page with their number.
            query: The filters.
        """
        items: list[Any] = []
        empty = 0
        while len(items) < limit and empty < MOST_EMPTY_PAGES:
            asked = min(LARGEST_PAGE, limit - len(items))
            found = self.get(path, **query, cursor=cursor, limit=asked)
            items += found["items"]
            before, cursor = cursor, found["cursor"]
            if cursor is None or (cursor == before and not found["items"]):
                return {"items": items, "cursor": None}
            empty = 0 if found["items"] else empty + 1
            if empty:
                skipping(empty)
        return {"items": items, "cursor": cursor}

    def poll(self, path: str, headers: Mapping[str, str], **query: Any) -> httpx.Response:
        """The answer at a path, which may be a 304; transient errors are retried.

        Back-off is exponential with full jitter, so that clients that an outage stopped together
        do not return together; it is added to `Retry-After`. An address at which nobody has ever
        answered is not tried again.

        Raises:
            ApiError: The API refused, or its error outlasted every retry.
        """
        asked = {name: value for name, value in query.items() if value is not None}
        for attempt in range(POLL_ATTEMPTS):
            try:
                answer = self.call("GET", path, headers=headers, params=asked)
            except ApiError as problem:
                is_nowhere = isinstance(problem, UnreachableError) and not self._has_answered
                if not problem.is_transient or is_nowhere or attempt == POLL_ATTEMPTS - 1:
                    raise
                if attempt == 0:
                    self.say(f"{problem}; trying again")
                pause = random.uniform(0, min(LONGEST_BACKOFF, 0.5 * 2**attempt))
                time.sleep(problem.retry_after + pause)
            else:
                if attempt:
                    self.say("the API answers again")
                return answer
        raise AssertionError

    def follow(self, saga_id: str) -> Iterator[dict[str, Any]]:
        """A saga now and after each change, until it is at rest or needs an operator."""
        known: Mapping[str, str] = {}
        while True:
            path = f"/sagas/{segment(saga_id)}"
            # The first look waits for nothing: what is parked may stay as it is for long.
            wait = {"Prefer": f"wait={LONG_POLL}", **known} if known else {}
            response = self.poll(path, wait)
            if response.status_code == 304:
                continue
            saga = self.read(response)
            yield saga
            if is_at_rest(saga):
                return
            known = _known(response)

    def events(
        self, after: str | None, *, wait: bool, saga_id: str | None = None
    ) -> Iterator[tuple[list[Any], str]]:
        """Pages of the caller's own events, each with the cursor to continue from.

        A page may be empty: where there are no new events, and where none of those that were read
        is of the saga.

        Args:
            after: The cursor to continue from; None for the oldest event that is kept.
            wait: Whether to wait for new events, without end; else the last page is the end.
            saga_id: Only events of this saga.

        Raises:
            ApiError: The API refused, or its error outlasted every retry.
        """
        known: dict[str, str] = {}
        prefer = {"Prefer": f"wait={LONG_POLL}"} if wait else {}
        while True:
            asked, before = time.monotonic(), after
            wanted = {"after": after, "saga_id": saga_id}
            response = self.poll("/events", prefer | known, **wanted)
            items: list[Any] = []
            if response.status_code != 304:
                page = self.read(response)
                items, after = page["items"], page["cursor"]
            known = {} if items else _known(response)
            yield items, after or ""
            if after != before:
                continue
            if not wait:
                return
            if time.monotonic() - asked < POLL_INTERVAL:
                time.sleep(random.uniform(0.5, 1.5) * POLL_INTERVAL)

    def _explained(self, response: httpx.Response, token: str | None) -> str:
        """What an answer that is no success means, in a line, and one for each invalid field."""
        status, body = response.status_code, _problem(response)
        if status < 400:
            to = shortened(response.headers.get("location", ""))
            return (
                f"{self._url} redirects to {to or 'nowhere'} ({status}), which is not followed: "
                "give the API's own address with --api"
            )
        if status == 401 and _kind(response) in ("", "unauthorized"):
            said = str(body.get("detail", "")) or response.headers.get("www-authenticate", "")
            return why_refused(token, self._url, visible(said))
        if "title" not in body:
            said = visible(str(body.get("message") or response.text[:200]))
            message = f"the API answered {status}: {said}"
            if status == 403 and token:
                message += f" (the token has the scopes {visible(scopes(token))!r})"
            return message
        lines = [
            f"{visible(str(body['title']))} ({status}): {visible(str(body.get('detail', '')))}"
        ]
        errors = body.get("errors")
        if isinstance(errors, list) and len(errors) > 1:
            found = [one for one in errors if isinstance(one, dict)]
            lines += [visible(f"  {one.get('field')}: {one.get('message')}") for one in found]
        return "\n".join(lines)


def segment(text: str) -> str:
    """A text as one segment of a path.

    Raises:
        UsageError: It would be another path.
    """
    if text in ("", ".", ".."):
        raise UsageError(f"an id or a name must not be {text!r}")
    return quote(text, safe="")


def is_at_rest(saga: Mapping[str, Any]) -> bool:
    """Whether a saga has ended or waits for an operator."""
    return saga["status"] not in ("RUNNING", "COMPENSATING") or bool(saga["stuck"])


def _known(response: httpx.Response) -> dict[str, str]:
    """The header that asks for a change only; none if the answer has no tag."""
    tag = response.headers.get("etag")
    return {"If-None-Match": tag} if tag else {}


def _seconds(retry_after: str) -> int:
    """The seconds of a Retry-After, which is a number or a date; 0 if it is neither."""
    if retry_after.isascii() and retry_after.isdigit():
        return round(min(float(retry_after), LONGEST_RETRY_AFTER))
    try:
        when = parsedate_to_datetime(retry_after)
    except ValueError:
        return 0
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    left = round((when - datetime.now(UTC)).total_seconds())
    return min(max(0, left), LONGEST_RETRY_AFTER)


def _problem(response: httpx.Response) -> dict[str, Any]:
    """The problem in an answer's body; empty if that is not a JSON object."""
    try:
        body = response.json()
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _kind(response: httpx.Response) -> str:
    return str(_problem(response).get("type", "")).rpartition(":")[2]
