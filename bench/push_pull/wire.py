"""A way in between that counts: bytes both ways and HTTP requests, and that can be cut."""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Self

_METHODS = rb"GET|POST|PUT|DELETE|PATCH|HEAD|OPTIONS"
_REQUEST = re.compile(rb"(?:" + _METHODS + rb") [^\r\n]{1,4096} HTTP/1\.[01]\r\n")
_CHUNK = 64 * 1024


@dataclass(frozen=True)
class Traffic:
    """What went over the wire.

    Attributes:
        sent: Bytes from the client.
        received: Bytes to the client.
        requests: HTTP requests; the opening of a WebSocket is one.
        connections: TCP connections.
    """

    sent: int = 0
    received: int = 0
    requests: int = 0
    connections: int = 0

    @property
    def bytes(self) -> int:
        """Bytes both ways."""
        return self.sent + self.received

    def __sub__(self, before: Traffic) -> Traffic:
        return Traffic(
            self.sent - before.sent,
            self.received - before.received,
            self.requests - before.requests,
            self.connections - before.connections,
        )


class CountingProxy:
    """Passes TCP on from a port of its own on loopback, in a thread, while the block lasts.

    A request line that is split over two packets is not counted; clients write it at once.

    Args:
        host: Where it passes on to; only HTTP without TLS can be counted.
        port: The port there.

    Attributes:
        port: Where it listens.
        traffic: What went through so far.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="wire")
        self._cut = False
        self.traffic = Traffic()
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._listen())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Break every connection, and take none, until `mend`."""
        self._cut = True
        self._do(self._break())

    def mend(self) -> None:
        """Pass on again."""
        self._cut = False

    def _do(self, work: object) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)  # type: ignore[arg-type]

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        self._server.close()
        await self._break()
        # Broken at both ends, they come to their ends by themselves.
        others = [one for one in asyncio.all_tasks() if one is not asyncio.current_task()]
        await asyncio.gather(*others)

    async def _break(self) -> None:
        for writer in list(self._open):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._cut:
            writer.transport.abort()
            return
        try:
            there, back = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        self._count(connections=1)
        both = {writer, back}
        self._open |= both
        try:
            await asyncio.gather(
                self._pass(reader, back, is_request=True),
                self._pass(there, writer, is_request=False),
            )
        finally:
            self._open -= both
            for one in both:
                one.close()

    async def _pass(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, is_request: bool
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while chunk := await source.read(_CHUNK):
                if is_request:
                    self._count(sent=len(chunk), requests=len(_REQUEST.findall(chunk)))
                else:
                    self._count(received=len(chunk))
                target.write(chunk)
                await target.drain()
        with contextlib.suppress(OSError, RuntimeError):
            target.write_eof()

    def _count(
        self, *, sent: int = 0, received: int = 0, requests: int = 0, connections: int = 0
    ) -> None:
        # Only the loop's thread counts, so no count is lost.
        self.traffic -= Traffic(-sent, -received, -requests, -connections)
