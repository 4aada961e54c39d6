"""The routes without authentication: health check, OpenAPI document and its page."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Collection, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, NotRequired

import aws_lambda_powertools
from aws_lambda_powertools.event_handler import Response
from typing_extensions import TypedDict

from recourse.functions import settings
from recourse.functions.api import http
from recourse.functions.api.offered import offered
from recourse.functions.api.routes import Answer, Operation, Routes
from recourse.problems import ProblemError

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Recourse: the API</title>
<link rel="stylesheet" href="docs/{version}/swagger-ui.min.css"></head>
<body><div id="swagger-ui"></div><script src="docs/{version}/swagger-ui-bundle.min.js"></script>
<script src="docs/{version}/start.js"></script>
</body></html>
"""
START = """SwaggerUIBundle({url: "openapi.json", dom_id: "#swagger-ui", deepLinking: true})
"""
PAGES_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""What the page may load: its own files and the description, and no script that is not a file."""
ASSETS = {"swagger-ui.min.css": "text/css", "swagger-ui-bundle.min.js": "text/javascript"}
REVALIDATED = "public, max-age=300"
FOR_EVER = "public, max-age=31536000, immutable"


class _Live(TypedDict):
    sse: NotRequired[str]
    ws: NotRequired[str]


class HealthView(TypedDict):
    """The version, whether faults on demand are on, and where live channels and console are."""

    status: str
    version: str
    chaos: bool
    events: _Live
    console: NotRequired[str]


def _live() -> _Live:
    """The live channels, where the deployment has them."""
    if not os.environ.get("SSE_URL"):
        return {}
    return {"sse": os.environ["SSE_URL"], "ws": settings.required("WEBSOCKET_URL")}


def routes(version: str, description: Path, lacks: Callable[[], Collection[str]]) -> Routes:
    """The routes about one API.

    Args:
        version: Its version.
        description: The file that `recourse compile` has written.
        lacks: The tags of the groups of routes that the deployment lacks.
    """
    group = Routes("This API", "Health check and documentation; no token needed")

    @group.get(
        "/health",
        Operation("health", "Health check", answers=[Answer(200, "healthy", HealthView)]),
    )
    def health() -> Response[str]:
        """Answer a health check."""
        answer: HealthView = {
            "status": "ok",
            "version": version,
            "chaos": settings.chaos(),
            "events": _live(),
        }
        if console := os.environ.get("CONSOLE_URL"):
            answer["console"] = console
        return http.answer(200, answer)

    @group.get(
        "/openapi.json",
        Operation(
            "openapi",
            "This document",
            answers=[
                Answer(200, "this document", dict[str, Any]),
                Answer(304, "it has not changed"),
            ],
            problems=["not-found"],
        ),
    )
    def openapi() -> Response[str]:
        """Answer the OpenAPI document."""
        return http.kept(
            group.current_event,
            _compact(description, frozenset(lacks()), settings.choreography()),
            content_type="application/json",
            cache_control=REVALIDATED,
        )

    @group.get(
        "/docs",
        Operation(
            "docs",
            "This document, as a page",
            answers=[
                Answer(200, "the page", str, content_type="text/html"),
                Answer(304, "it has not changed"),
            ],
            problems=["not-found"],
        ),
    )
    def docs() -> Response[str]:
        """Answer the documentation page."""
        _must_be_described(description)
        return http.kept(
            group.current_event,
            PAGE.format(version=assets()[0]).encode(),
            content_type="text/html; charset=utf-8",
            cache_control=REVALIDATED,
            headers={"content-security-policy": PAGES_POLICY},
        )

    @group.get(
        "/docs/<version>/<name>",
        Operation(
            "docs-file",
            "A file of that page, which never changes under its address",
            answers=[
                Answer(200, "the file", str, content_type="text/javascript"),
                Answer(304, "it has not changed"),
            ],
            problems=["not-found"],
        ),
    )
    def file(version: str, name: str) -> Response[str]:
        """Answer a file of the documentation page."""
        current, found = assets()
        if version != current or name not in found:
            raise ProblemError("not-found", "this file is not one of the page's")
        return http.kept(
            group.current_event,
            found[name],
            content_type=f"{ASSETS.get(name, 'text/javascript')}; charset=utf-8",
            cache_control=FOR_EVER,
        )

    return group


def _must_be_described(description: Path) -> None:
    """Check that there is a description.

    Raises:
        ProblemError: There is none.
    """
    if not description.is_file():
        raise ProblemError(
            "not-found",
            f"this API has no description: `recourse compile` writes {description.name}",
        )


@cache
def _compact(description: Path, without: frozenset[str], choreography: bool) -> bytes:
    _must_be_described(description)
    whole = json.loads(description.read_text("utf-8"))
    found = offered(whole, without=without, choreography=choreography)
    return json.dumps(found, ensure_ascii=False, separators=(",", ":")).encode()


@cache
def assets() -> tuple[str, Mapping[str, bytes]]:
    """The files of the documentation page, and the version that names them: their digest."""
    folder = files(aws_lambda_powertools) / "event_handler" / "openapi" / "swagger_ui"
    found = {name: (folder / name).read_bytes() for name in ASSETS} | {"start.js": START.encode()}
    return hashlib.sha256(b"".join(found.values())).hexdigest()[:16], found
