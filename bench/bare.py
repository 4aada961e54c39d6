"""The function of a bare machine's tasks: what any saga on the same emulator has to pay for."""

from __future__ import annotations

from typing import Any


def handler(event: Any, context: object) -> Any:
    """Pass on what comes in."""
    return event
