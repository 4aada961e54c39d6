"""Serves the API at a plain address: a thin proxy to the emulator's API.

Method, path, headers, body and status pass unchanged, as do long polls and WebSockets. It also
serves the console, to which the API is behind `/api`, the issuer's documents and its sign-in, what
stands in for systems elsewhere, each under its name, and the stream of server-sent events, since
the emulator's functions cannot stream. Every answer has the security headers of the API's own
(`recourse.problems.HEADERS`), also those that its gateway and the server here give before anything
of ours is asked; the console's page has a policy of its own.

Web pages of other origins reach the API only as the stage's CORS allows, and the issuer and the
stand-ins never (`recourse.local.callers`); a link can be followed from anywhere.
"""

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import uvicorn
import websockets
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Response as HandshakeResponse
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from recourse.local import LocalCloudError
from recourse.local.callers import PROXY_HEADER, is_named, is_of_another_page, proxy_pass
from recourse.local.console import API, BUILT, Console
from recourse.local.issuer import Issuer
from recourse.local.sign_in import SignIn
from recourse.problems import HEADERS, MEDIA_TYPE, untyped

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
# RFC 9110, 7.6.1: headers of one connection, which a proxy does not pass on.
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
OURS = "/_"
"""What paths begin with that do not belong to the API."""
ISSUER_PATHS = {
    "/_issuer/.well-known/openid-configuration": "discovery",
    "/_issuer/jwks.json": "jwks",
}


def stand_in_path(name: str) -> str:
    """The path under which a stand-in is served."""
    return f"/_{name}"


class Proxy:
    """Serves on 127.0.0.1 in a thread.

    ``target`` is the API behind it, None until it has started. ``websocket`` is its WebSocket API,
    and ``stream`` the app that streams; they are None, and must be set before ``target``, unless
    the app has no live channels. Pages of ``origins`` may call them. ``secret`` is the emulator's
    root secret: the emulator accepts API calls from this proxy only. ``aws_endpoint`` is where the
    console reaches S3, and ``console`` the folder in which it is built.
    """

    def __init__(
        self,
        *,
        port: int,
        issuer: Issuer,
        secret: str,
        stand_ins: Mapping[str, ASGIApp] = MappingProxyType({}),
        aws_endpoint: str = "",
        console: Path = BUILT,
    ) -> None:
        """Configure it; ``start`` opens the port."""
        self.url = f"http://127.0.0.1:{port}"
        self.target: str | None = None
        self.websocket: str | None = None
        self.stream: ASGIApp | None = None
        self.origins: Collection[str] = ()
        self._issuer = issuer
        self._pass = PROXY_HEADER, proxy_pass(secret)
        page = Console(
            url=self.url,
            issuer=issuer,
            aws_endpoint=aws_endpoint,
            websocket=lambda: self.websocket is not None or self.target is None,
            folder=console,
        )
        routes = [
            *page.routes,
            *(Route(path, self._issue) for path in ISSUER_PATHS),
            *SignIn(issuer).routes,
            *(Mount(stand_in_path(name), app) for name, app in stand_ins.items()),
            *(Route(f"{prefix}/events/stream", _App(self._stream)) for prefix in ("", API)),
            *(WebSocketRoute(f"{prefix}/events/ws", self._bridge) for prefix in ("", API)),
            Route("/{path:path}", self._forward, methods=METHODS),
        ]
        self._app = Starlette(
            routes=routes,
            lifespan=self._connected,
            exception_handlers={HTTPException: _refused, Exception: _failed},
        )
        self._server = uvicorn.Server(
            uvicorn.Config(
                self._answer,
                interface="asgi3",
                host="127.0.0.1",
                port=port,
                log_level="warning",
                access_log=False,
                server_header=False,
                date_header=False,
                http=_HttpProtocol,
                ws=_WebSocketProtocol,
                ws_ping_interval=None,
                # Longer than clients' own: otherwise a connection may close as a call is sent.
                timeout_keep_alive=75,
                timeout_graceful_shutdown=1,
            )
        )
        self._thread = threading.Thread(target=self._server.run, daemon=True, name="proxy")

    def start(self) -> None:
        """Open the port, and return when it is open."""
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise LocalCloudError(f"port {self._server.config.port} cannot be opened")
            self._thread.join(0.02)

    def stop(self) -> None:
        """Close the port; running calls are cut off after a second."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(5)

    @contextlib.asynccontextmanager
    async def _connected(self, _app: Starlette) -> AsyncIterator[None]:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        async with httpx.AsyncClient(
            timeout=httpx.Timeout(None, connect=5),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=100),
            trust_env=False,
        ) as self._client:
            yield

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        app: ASGIApp = self._app
        if scope["type"] != "lifespan":
            headers, path = scope["headers"], scope["path"]
            if not is_named(headers):
                app = _problem(421, "Host must be 127.0.0.1 or localhost.")
            elif is_of_another_page(
                headers,
                origins=() if path.startswith(OURS) else self.origins,
                by_link=scope.get("method") == "GET",
            ):
                app = _problem(403, "Pages of this origin may not call the local cloud.")
        await app(scope, receive, _with_headers(send))

    async def _issue(self, request: Request) -> Response:
        return JSONResponse(getattr(self._issuer, ISSUER_PATHS[request.url.path]))

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.stream is None:  # without live channels the API's own stream, which ends
            app: ASGIApp = await self._forward(Request(scope, receive))
            return await app(scope, receive, send)

        async def left() -> Message:
            """The client's next message, or a disconnect when the proxy stops."""
            said = asyncio.ensure_future(receive())
            ending = asyncio.ensure_future(self._stopping.wait())
            try:
                await asyncio.wait({said, ending}, return_when=asyncio.FIRST_COMPLETED)
                return said.result() if said.done() else {"type": "http.disconnect"}
            finally:
                said.cancel()
                ending.cancel()

        await self.stream(scope, left, send)
        if self._stopping.is_set():
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _bridge(self, client: WebSocket) -> None:
        """Connect a client's WebSocket to the API; the handshake is the API's."""
        if self.websocket is None:
            problem = (
                _problem(404, "The app has no live channels.")
                if self.target
                else _problem(503, "The local cloud is still starting.")
            )
            return await client.send_denial_response(problem)
        query = client.scope["query_string"].decode("latin-1")
        headers = [
            (name, value)
            for name, value in client.headers.items()
            if name not in ("connection", "host", "upgrade")
            and not name.startswith("sec-websocket-")
        ]
        headers.append((self._pass[0].decode(), self._pass[1].decode()))
        offered: Sequence[str] = client.scope["subprotocols"]
        try:
            async with websockets.connect(
                self.websocket + (f"?{query}" if query else ""),
                additional_headers=headers,
                subprotocols=[Subprotocol(one) for one in offered] or None,
                user_agent_header=None,
                compression=None,
                ping_interval=None,
                proxy=None,
            ) as server:
                await client.accept(server.subprotocol)
                await _join(client, server)
        except websockets.InvalidStatus as refused:
            answer = refused.response
            headers_back = {"content-type": answer.headers.get("content-type", "text/plain")}
            await client.send_denial_response(
                Response(bytes(answer.body), status_code=answer.status_code, headers=headers_back)
            )
        except (websockets.InvalidHandshake, OSError) as error:
            problem = _problem(502, f"The local cloud does not answer: {error!r}")
            await client.send_denial_response(problem)

    async def _forward(self, request: Request) -> Response:
        if self.target is None:
            return _problem(503, "The local cloud is still starting.")
        target = httpx.URL(self.target)
        path, query = request.scope["raw_path"].split(b"?")[0], request.scope["query_string"]
        if path.startswith(API.encode() + b"/"):
            path = path.removeprefix(API.encode())
        headers = _through(request.headers.raw, but={b"host", b"content-length", PROXY_HEADER})
        call = httpx.Request(
            request.method,
            target,
            headers=[*headers, self._pass],
            content=await request.body() or None,
            # Unchanged: httpx would resolve dots in the path, which may lead out of the API.
            extensions={"target": target.raw_path + path + (b"?" + query if query else b"")},
        )
        try:
            answer = await self._client.send(call, stream=True)
        except httpx.TransportError as error:
            return _problem(502, f"The local cloud does not answer: {error!r}")
        response = StreamingResponse(_body(answer), status_code=answer.status_code)
        response.raw_headers = _through(answer.headers.raw)
        return response


class _HttpProtocol(HttpToolsProtocol):
    """Refuses what is no HTTP as a problem, too."""

    def send_400_response(self, msg: str) -> None:
        body = json.dumps(untyped("Local cloud", 400, msg)).encode()
        head = {**HEADERS, "content-type": MEDIA_TYPE, "content-length": len(body)}
        lines = [*(f"{name}: {value}" for name, value in head.items()), "connection: close"]
        text = "\r\n".join(["HTTP/1.1 400 Bad Request", *lines, "", ""])
        self.transport.write(text.encode() + body)
        self.transport.close()


class _Handshakes(ServerProtocol):
    """Gives the refusal of a handshake the headers of every answer, whoever has refused it."""

    def send_response(self, response: HandshakeResponse) -> None:
        if response.status_code != 101:
            for name, value in HEADERS.items():
                response.headers.setdefault(name, value)
        super().send_response(response)


class _WebSocketProtocol(WebSocketsSansIOProtocol):
    """Sends the refusal of a handshake that is too long (414, 431), which uvicorn does not.

    It also takes a refusal for an answer: uvicorn logs one as a handshake that nobody has answered.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.conn = _Handshakes(
            extensions=self.conn.available_extensions,
            max_size=self.config.ws_max_size,
            logger=self.logger,
        )

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.handshake_exc and not self.handshake_initiated:
            self.transport.writelines(self.conn.data_to_send())
            self.transport.close()

    async def send(self, message: Any) -> None:
        await super().send(message)
        if self.initial_response and self.close_sent:
            self.handshake_complete = True


def _with_headers(send: Send) -> Send:
    """Adds to an answer those of the headers of every answer that it has not."""

    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            there = {name.lower() for name, _ in message["headers"]}
            added = ((name.encode(), value.encode()) for name, value in HEADERS.items())
            message["headers"] = [
                *message["headers"],
                *((name, value) for name, value in added if name not in there),
            ]
        await send(message)

    return with_headers


class _App:
    """Wraps an ASGI app for a route, which would take a function for a request handler."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


async def _join(client: WebSocket, server: websockets.ClientConnection) -> None:
    """Forward messages both ways until one side closes, then close the other."""

    async def up() -> int:
        while True:
            said = await client.receive()
            if said["type"] == "websocket.disconnect":
                return int(said.get("code") or 1000)
            await server.send(said.get("text") or said.get("bytes") or "")

    async def down() -> None:
        async for said in server:
            await (client.send_text(said) if isinstance(said, str) else client.send_bytes(said))

    ways = asyncio.create_task(up()), asyncio.create_task(down())
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        gone = WebSocketDisconnect, websockets.ConnectionClosed, asyncio.CancelledError
        for way in ways:
            with contextlib.suppress(*gone):
                await way
        if client.client_state.name == "CONNECTED":
            await client.close(server.close_code or 1000, server.close_reason)


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


def _refused(_request: Request, refusal: Exception) -> Response:
    assert isinstance(refusal, HTTPException)
    return _problem(refusal.status_code, f"{refusal.detail}.", refusal.headers)


def _failed(_request: Request, _error: Exception) -> Response:
    return _problem(500, "The local cloud failed; its log says why.")


def _problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse(
        untyped("Local cloud", status, detail),
        status_code=status,
        headers={**HEADERS, **(headers or {})},
        media_type=MEDIA_TYPE,
    )
