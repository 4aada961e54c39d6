"""The API on a plain address: a thin proxy to the emulator's, with the issuer's two documents.

Method, path, headers, body and status go through as they are, and so does a long poll.
"""

import contextlib
import threading
from collections.abc import AsyncIterator

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from local.issuer import Issuer

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
# RFC 9110, 7.6.1: these belong to one connection.
HOP_BY_HOP = {
    b"connection",
    b"keep-alive",
    b"proxy-authenticate",
    b"proxy-authorization",
    b"proxy-connection",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
}
ISSUER_PATHS = {
    "/_issuer/.well-known/openid-configuration": "discovery",
    "/_issuer/jwks.json": "jwks",
}


class Proxy:
    """Serves on 127.0.0.1 in a thread; ``target`` is the API behind it, None as long as none is."""

    def __init__(self, *, port: int, issuer: Issuer) -> None:
        """Make the server; ``start`` opens the port."""
        self.url = f"http://127.0.0.1:{port}"
        self.target: str | None = None
        self._issuer = issuer
        routes = [
            *(Route(path, self._issue) for path in ISSUER_PATHS),
            Route("/{path:path}", self._forward, methods=METHODS),
        ]
        self._server = uvicorn.Server(
            uvicorn.Config(
                Starlette(routes=routes, lifespan=self._connected),
                host="127.0.0.1",
                port=port,
                log_level="warning",
                access_log=False,
                server_header=False,
                date_header=False,
                timeout_graceful_shutdown=1,
            )
        )
        self._thread = threading.Thread(target=self._server.run, daemon=True, name="proxy")

    def start(self) -> None:
        """Open the port and return when it is open."""
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise OSError(f"port {self._server.config.port} cannot be opened")
            self._thread.join(0.02)

    def stop(self) -> None:
        """Close the port; calls that wait are cut off after a second."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(5)

    @contextlib.asynccontextmanager
    async def _connected(self, _app: Starlette) -> AsyncIterator[None]:
        async with httpx.AsyncClient(
            timeout=httpx.Timeout(None, connect=5),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=100),
            trust_env=False,
        ) as self._client:
            yield

    async def _issue(self, request: Request) -> Response:
        return JSONResponse(getattr(self._issuer, ISSUER_PATHS[request.url.path]))

    async def _forward(self, request: Request) -> Response:
        if self.target is None:
            return _problem(503, "The local cloud is still starting.")
        target = httpx.URL(self.target)
        # As it came: decoding and encoding again would change a path with escapes in it.
        path = target.raw_path + request.scope["raw_path"].split(b"?")[0]
        query = request.scope["query_string"]
        call = httpx.Request(
            request.method,
            target.copy_with(raw_path=path + (b"?" + query if query else b"")),
            headers=_through(request.headers.raw, but={b"host", b"content-length"}),
            content=await request.body() or None,
        )
        try:
            answer = await self._client.send(call, stream=True)
        except httpx.TransportError as error:
            return _problem(502, f"The local cloud does not answer: {error!r}")
        response = StreamingResponse(_body(answer), status_code=answer.status_code)
        response.raw_headers = _through(answer.headers.raw)
        return response


async def _body(answer: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for chunk in answer.aiter_raw():
            yield chunk
    finally:
        await answer.aclose()


def _through(
    headers: list[tuple[bytes, bytes]], but: set[bytes] | None = None
) -> list[tuple[bytes, bytes]]:
    left_out = HOP_BY_HOP | (but or set())
    return [(name, value) for name, value in headers if name.lower() not in left_out]


def _problem(status: int, detail: str) -> Response:
    return JSONResponse(
        {"type": "about:blank", "title": "Local cloud", "status": status, "detail": detail},
        status_code=status,
        media_type="application/problem+json",
    )
