"""The emulator without its judging of rights: runs in its process, for one side of `rights`."""

from __future__ import annotations

from recourse.local import judging


def close() -> None:
    """Let everybody do everything; who calls is still asked, at the door."""
    judging.change(lambda _asked, _judge: None)
