"""The emulator without its judging of rights: runs in its process, for one side of `rights`."""

from __future__ import annotations

from ministack import app


def close() -> None:
    """Let everybody do everything."""
    app.AUTH = False
