"""A gap of the tests' own, run in ministack's process: an emulator that forgets when it is told to.

Starting one takes seconds of a core, so tests share it. `own_callers` keeps ministack's own way to
do so from everybody; named before that gap, this one is open to whoever signs.
"""

from typing import Any

from ministack import app


def close() -> None:
    """Take a call of `/forget` for ministack's reset, which ends workers and mappings too."""
    ministack = app.app

    async def forget_or_answer(scope: Any, receive: Any, send: Any) -> None:
        if scope.get("path") == "/forget":
            scope = scope | {"path": "/_ministack/reset"}
        await ministack(scope, receive, send)

    app.app = forget_or_answer
