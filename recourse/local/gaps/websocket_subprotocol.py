"""ministack opens a WebSocket without the subprotocol that the answer to `$connect` selects.

A browser that has offered subprotocols closes a connection for which none was selected.
"""

from contextvars import ContextVar
from typing import Any

from ministack.services import apigateway

_selected: ContextVar[str | None] = ContextVar("selected", default=None)


def close() -> None:
    """Open it with the Sec-WebSocket-Protocol of the answer."""
    invoke, handle = apigateway._invoke_ws_lambda, apigateway.handle_websocket

    async def invoke_and_note(*args: Any, **named: Any) -> Any:
        answer = await invoke(*args, **named)
        headers = (answer or {}).get("headers") or {}
        if "CONNECT" in args:
            found = [v for name, v in headers.items() if name.lower() == "sec-websocket-protocol"]
            _selected.set(found[0] if found else None)
        return answer

    async def handle_and_select(
        scope: Any, receive: Any, send: Any, *args: Any, **named: Any
    ) -> None:
        async def select(message: Any) -> None:
            if message["type"] == "websocket.accept" and _selected.get():
                message = message | {"subprotocol": _selected.get()}
            await send(message)

        await handle(scope, receive, select, *args, **named)

    apigateway._invoke_ws_lambda = invoke_and_note
    apigateway.handle_websocket = handle_and_select
