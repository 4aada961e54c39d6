"""ministack answers 500 if a WebSocket's authorizer fails with the error `Unauthorized`.

AWS answers 401 then, and 500 for any other failure.
"""

from contextvars import ContextVar
from typing import Any

from ministack.services import apigateway

_failed_with: ContextVar[Any] = ContextVar("failed_with", default=None)


def close() -> None:
    """Answer 401 to a handshake whose authorizer fails with `Unauthorized`."""
    run, authorize = apigateway.run_reentrant, apigateway._authorize_ws_connect

    async def run_and_note(*args: Any, **named: Any) -> Any:
        result = await run(*args, **named)
        if named.get("thread_name") == "ministack-apigw-authorizer":
            body = result.get("body") if result and result.get("error") else None
            _failed_with.set(body.get("errorMessage") if isinstance(body, dict) else None)
        return result

    async def authorize_with_401(*args: Any, **named: Any) -> Any:
        _failed_with.set(None)
        refusal, context = await authorize(*args, **named)
        if refusal and refusal[0] == 500 and _failed_with.get() == "Unauthorized":
            return (401, "Unauthorized"), None
        return refusal, context

    apigateway.run_reentrant = run_and_note
    apigateway._authorize_ws_connect = authorize_with_401
