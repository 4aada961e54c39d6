"""The emulator without its judging of rights: runs in its process, for one side of `rights`."""

from __future__ import annotations

from ministack.core import iam_evaluator


def close() -> None:
    """Let everybody do everything; who calls is still asked, at the door."""
    iam_evaluator.enforce = lambda *_asked, **_named: None
