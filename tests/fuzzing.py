"""The API fuzzed by its description: the application that is called, and what every answer is."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, Protocol
from unittest import mock

from schemathesis import Case
from schemathesis.checks import CheckContext, not_a_server_error
from schemathesis.core.transport import Response
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from recourse.functions.api import events
from recourse.problems import MEDIA_TYPE, TYPES, urn


class Answered(Protocol):
    """An answer of the API, as every ground has it."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    @property
    def text(self) -> str: ...


Application = Callable[[dict[str, Any], Callable[..., Any]], list[bytes]]


def application(call: Callable[..., Answered]) -> Application:
    """The API as a WSGI application.

    Args:
        call: Takes method, target and body, and the headers by name, with `_` for `-`.
    """

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        names = {"CONTENT_TYPE": "Content_Type"} | {
            name: name.removeprefix("HTTP_") for name in environ if name.startswith("HTTP_")
        }
        length = int(environ.get("CONTENT_LENGTH") or 0)
        path = environ["PATH_INFO"].encode("latin-1").decode(errors="replace")
        found = call(
            environ["REQUEST_METHOD"],
            f"{path}?{environ['QUERY_STRING']}".rstrip("?"),
            environ["wsgi.input"].read(length) if length else None,
            **{to: environ[name] for name, to in names.items() if environ.get(name)},
        )
        start_response(f"{found.status} -", list(found.headers.items()))
        # The gateway decodes base64, and a client what is compressed; this transport does neither.
        if "content-encoding" in found.headers:
            return [gzip.decompress(base64.b64decode(found.text))]
        return [found.text.encode()]

    return answer


def refusal_is_a_problem(ctx: CheckContext, response: Response, case: Case[Any]) -> None:
    """Whatever is refused is a problem of the catalogue, with the status that it has there."""
    if response.status_code < 400 or response.request.method == "HEAD":
        return
    assert response.headers["content-type"] == [MEDIA_TYPE], response.headers
    found = json.loads(response.content)
    assert (response.status_code, found["title"]) == TYPES[found["type"].removeprefix(urn(""))]
    assert found["status"] == response.status_code and found["detail"]


CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    unsupported_method,
    refusal_is_a_problem,
]


@contextmanager
def leaping() -> Iterator[None]:
    """Let whoever waits for events wait no time at all: the clock leaps instead."""
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    clock = SimpleNamespace(monotonic=lambda: now, sleep=sleep)
    with mock.patch.object(events, "time", clock):
        yield
