"""A gap of the tests' own: run in ministack's process, it lets tests share an emulator.

Starting one takes seconds of a core. So it forgets everything when it is told to; `own_callers`
keeps ministack's own way to do that from everybody, and is named after this gap, so that this way
is open to whoever signs. And a decision is in the file when the call is answered: it is that of the
test that made the call.
"""

from typing import Any

from ministack import app

from recourse.local.gaps import decisions


def close() -> None:
    """Take a call of `/forget` for ministack's reset, and write each decision at once."""
    ministack, append = app.app, decisions.Log.append

    async def forget_or_answer(scope: Any, receive: Any, send: Any) -> None:
        if scope.get("path") == "/forget":
            scope = scope | {"path": "/_ministack/reset"}
        await ministack(scope, receive, send)

    def append_and_write(self: decisions.Log, line: dict[str, Any]) -> None:
        append(self, line)
        self.write()

    app.app = forget_or_answer
    decisions.Log.append = append_and_write  # type: ignore[method-assign]
