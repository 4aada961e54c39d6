"""What a WebSocket's handshake has: its headers, and the subprotocols that the client offers."""

from __future__ import annotations

from typing import Any


def subprotocols(event: dict[str, Any]) -> list[str]:
    """The subprotocols that a handshake offers."""
    return [one.strip() for one in header(event, "sec-websocket-protocol").split(",")]


def header(event: dict[str, Any], name: str) -> str:
    """A header of a handshake, whose name is in the client's own case; empty where it is absent."""
    headers = event.get("headers") or {}
    return next((value for key, value in headers.items() if key.lower() == name), "")
