"""What is open to everybody: whether the API is well, and what it can do."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files

import aws_lambda_powertools
from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.router import APIGatewayHttpRouter

from lambdas import settings
from lambdas.api import http

VERSION = "0.1.0"
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Recourse: the API</title>
<style>{css}</style></head>
<body><div id="swagger-ui"></div><script>{script}</script>
<script>SwaggerUIBundle({{url: "openapi.json", dom_id: "#swagger-ui", deepLinking: true}})</script>
</body></html>
"""
routes = APIGatewayHttpRouter()  # type: ignore[no-untyped-call]


@routes.get("/health")
def health() -> Response[str]:
    """Say that it is there, and what it is."""
    live = {"sse": settings.required("SSE_URL"), "ws": settings.required("WEBSOCKET_URL")}
    told = {"status": "ok", "version": VERSION, "chaos": settings.chaos(), "events": live}
    return http.answer(200, told)


@routes.get("/openapi.json")
def openapi() -> Response[str]:
    """Describe the API: the file that `recourse compile` has written."""
    text = (files(__package__) / "openapi.json").read_text("utf-8")
    return http.answer(200, json.loads(text), headers={"cache-control": "max-age=300"})


@routes.get("/docs")
def docs() -> Response[str]:
    """Show the description to a person."""
    return http.answer(
        200, page(), content_type="text/html; charset=utf-8", headers={"cache-control": "no-cache"}
    )


@cache
def page() -> str:
    """The description as a page, with everything that it needs in it."""
    assets = files(aws_lambda_powertools) / "event_handler" / "openapi" / "swagger_ui"
    return PAGE.format(
        css=(assets / "swagger-ui.min.css").read_text(),
        script=(assets / "swagger-ui-bundle.min.js").read_text(),
    )
