"""The API as the command line sees it: one client, its errors in words, and waiting for a saga."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Self

import httpx

WAIT = 15
"""Seconds that one poll asks the API to wait."""


class ApiError(Exception):
    """The API refused, or is not there; the message is what a person should read."""


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
            raise ApiError(_explain(response))
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

    def follow(self, saga_id: str) -> Iterator[dict[str, Any]]:
        """A saga now and whenever it changes, until it is at rest or needs an operator."""
        known: Mapping[str, str] = {}
        while True:
            response = self.call(
                "GET", f"/sagas/{saga_id}", headers={"Prefer": f"wait={WAIT}", **known}
            )
            if response.status_code == 304:
                continue
            saga = response.json()
            yield saga
            if is_at_rest(saga):
                return
            known = {"If-None-Match": response.headers["etag"]}


def is_at_rest(saga: Mapping[str, Any]) -> bool:
    """Whether nothing more happens to a saga by itself."""
    parked = any(step["status"] == "FAILED" for step in saga["steps"])
    return saga["status"] not in ("RUNNING", "COMPENSATING") or (
        saga["status"] == "RUNNING" and parked
    )


def _explain(response: httpx.Response) -> str:
    """A problem in words, with the fields that are wrong."""
    if response.status_code == 401:
        return (
            "the API wants a bearer token (401): get one with `recourse token --subject asha "
            '--scope "sagas:write sagas:read"` and give it by --token or RECOURSE_TOKEN'
        )
    try:
        body = response.json()
    except ValueError:
        return f"the API answered {response.status_code}: {response.text[:200]}"
    if "title" not in body:
        return f"the API answered {response.status_code}: {body.get('message', body)}"
    lines = [f"{body['title']} ({response.status_code}): {body.get('detail', '')}"]
    errors = body.get("errors", [])
    lines += [f"  {error['field']}: {error['message']}" for error in errors if len(errors) > 1]
    return "\n".join(lines)
