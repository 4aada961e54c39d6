"""The routes without authentication: health check, OpenAPI document and its page."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import aws_lambda_powertools
from aws_lambda_powertools.event_handler import Response
from typing_extensions import TypedDict

from recourse.functions import settings
from recourse.functions.api import http
from recourse.functions.api.routes import Answer, Operation, Routes

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Recourse: the API</title>
<style>{css}</style></head>
<body><div id="swagger-ui"></div><script>{script}</script>
<script>SwaggerUIBundle({{url: "openapi.json", dom_id: "#swagger-ui", deepLinking: true}})</script>
</body></html>
"""


class _Live(TypedDict):
    sse: str
    ws: str


class HealthView(TypedDict):
    """The version, whether faults on demand are on, and where the live channels are."""

    status: str
    version: str
    chaos: bool
    events: _Live


def routes(version: str, description: Path) -> Routes:
    """The routes about one API.

    Args:
        version: Its version.
        description: The file that `recourse compile` has written.
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
            "events": {
                "sse": settings.required("SSE_URL"),
                "ws": settings.required("WEBSOCKET_URL"),
            },
        }
        return http.answer(200, answer)

    @group.get(
        "/openapi.json",
        Operation(
            "openapi", "This document", answers=[Answer(200, "this document", dict[str, Any])]
        ),
    )
    def openapi() -> Response[str]:
        """Answer the OpenAPI document."""
        found = json.loads(description.read_text("utf-8"))
        return http.answer(200, found, headers={"cache-control": "max-age=300"})

    @group.get(
        "/docs",
        Operation(
            "docs",
            "This document, as a page",
            answers=[Answer(200, "the page", str, content_type="text/html")],
        ),
    )
    def docs() -> Response[str]:
        """Answer the documentation page."""
        return http.answer(
            200,
            page(),
            content_type="text/html; charset=utf-8",
            headers={"cache-control": "no-cache"},
        )

    return group


@cache
def page() -> str:
    """The documentation page, with its styles and script inline."""
    assets = files(aws_lambda_powertools) / "event_handler" / "openapi" / "swagger_ui"
    return PAGE.format(
        css=(assets / "swagger-ui.min.css").read_text(),
        script=(assets / "swagger-ui-bundle.min.js").read_text(),
    )
