"""ministack opens a WebSocket without the subprotocol that the answer to `$connect` agrees to.

A browser that has offered subprotocols closes a connection that agrees to none.
"""

from contextvars import ContextVar
from typing import Any

from ministack.services import apigateway

_agreed: ContextVar[str | None] = ContextVar("agreed", default=None)


def close() -> None:
    """Open it with what the answer's header Sec-WebSocket-Protocol says."""
    invoke, handle = apigateway._invoke_ws_lambda, apigateway.handle_websocket

    async def invoke_and_note(*args: Any, **named: Any) -> Any:
        answer = await invoke(*args, **named)
        headers = (answer or {}).get("headers") or {}
        if "CONNECT" in args:
            found = [v for name, v in headers.items() if name.lower() == "sec-websocket-protocol"]
            _agreed.set(found[0] if found else None)
        return answer

    async def handle_and_agree(
        scope: Any, receive: Any, send: Any, *args: Any, **named: Any
    ) -> None:
        async def agree(message: Any) -> None:
            if message["type"] == "websocket.accept" and _agreed.get():
                message = message | {"subprotocol": _agreed.get()}
            await send(message)

        await handle(scope, receive, agree, *args, **named)

    apigateway._invoke_ws_lambda = invoke_and_note
    apigateway.handle_websocket = handle_and_agree
