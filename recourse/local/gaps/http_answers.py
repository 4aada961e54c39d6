"""ministack's HTTP server sends a response in pieces, and makes two tasks for each.

Head and body are sent separately, and each wakes the client. The task that closes an idle
connection is cancelled by each call and made again after it.
"""

import asyncio
from typing import Any

import h11
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.events import RawData, Updated
from hypercorn.protocol.h11 import H11Protocol


def _in_one_piece() -> None:
    """Hold back the head of a response of known length until its body is there."""

    async def send(protocol: Any, event: Any) -> None:
        try:
            data = protocol.connection.send(event)
        except h11.LocalProtocolError:
            if protocol.connection.their_state != h11.ERROR:
                raise
            return
        head = protocol.__dict__.pop("head", b"")
        if isinstance(event, h11.Response) and any(
            name == b"content-length" and value != b"0" for name, value in event.headers
        ):
            protocol.head = data
        elif head or data:
            await protocol.send(RawData(data=head + data))

    H11Protocol._send_h11_event = send


def _one_task() -> None:
    """Let one task per connection check whether it has been idle for too long."""
    send = TCPServer.protocol_send

    async def note_or_send(server: Any, event: Any) -> None:
        if isinstance(event, Updated):
            server.idle_since = asyncio.get_running_loop().time() if event.idle else None
        else:
            await send(server, event)

    async def close_when_idle(server: Any) -> None:
        loop, limit = asyncio.get_running_loop(), server.config.keep_alive_timeout
        server.idle_since, wait = loop.time(), limit
        terminated = False
        while not terminated and wait > 0:
            try:
                await asyncio.wait_for(server.context.terminated.wait(), wait)
                terminated = True
            except TimeoutError:
                idle = loop.time() - server.idle_since if server.idle_since is not None else 0
                wait = limit - idle
        if server.idle_since is not None:
            await asyncio.shield(server._initiate_server_close())

    TCPServer.protocol_send, TCPServer._idle_timeout = note_or_send, close_when_idle


def close() -> None:
    """Send responses in one piece, with one task per connection."""
    _in_one_piece()
    _one_task()
