"""One attempt: a POST to a checked and pinned address, within a deadline that nothing extends.

The standard library does all of it: a name is resolved once, all its addresses are checked, and the
connection goes to one of them, while `Host`, SNI and the certificate are those of the name. No
redirect is followed and no proxy is used, for either would choose another address.
"""

from __future__ import annotations

import io
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from http.client import HTTPConnection, HTTPException, HTTPResponse, IncompleteRead
from typing import Any

from recourse.store.interim import FinalResponse
from recourse.webhooks.addresses import (
    Endpoint,
    ForbiddenAddressError,
    Resolver,
    UnresolvedError,
    checked,
    endpoint,
    resolve,
)

DEADLINE = 10.0
"""Seconds for the whole exchange, from resolving the name to the end of the answer."""
MAX_ANSWER_BYTES = 64 * 1024
"""Bytes of an answer that are read, its headers included; then the connection is closed."""
MAX_EXCERPT = 500
"""Characters of an answer that are logged."""


@dataclass(frozen=True)
class Answer:
    """The answer to an attempt, or why there was none.

    Attributes:
        status: The HTTP status; None where there was no answer.
        error: Why there was none.
        excerpt: The beginning of the answer's body, printable.
        retry_after: The header Retry-After, as it was sent.
        latency: The milliseconds that the attempt took.
    """

    status: int | None
    error: str | None = None
    excerpt: str = ""
    retry_after: str | None = None
    latency: int = 0

    @property
    def delivered(self) -> bool:
        """Whether the receiver has accepted the event."""
        return self.status is not None and 200 <= self.status < 300


@dataclass(frozen=True)
class Sender:
    """Calls endpoints.

    Usage::

        answer = Sender().post(webhook.url, headers(secrets, event.id, now, body), body)
        if not answer.delivered:
            print(answer.status, answer.error)

    Args:
        loopback: Whether plain HTTP and loopback addresses are allowed, as in a local run.
        resolver: Resolves names.
        context: Verifies certificates; by the system's authorities by default.
        deadline: Seconds for the whole exchange.
    """

    loopback: bool = False
    resolver: Resolver = resolve
    context: ssl.SSLContext | None = None
    deadline: float = DEADLINE

    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Make one attempt. Whatever the receiver does, this returns in time, and never raises.

        Args:
            url: The webhook's URL.
            headers: The headers of the signature.
            body: The event as JSON.
        """
        began = time.monotonic()
        try:
            found = self._exchange(url, headers, body, began + self.deadline)
        except TimeoutError:
            found = Answer(None, f"no answer within {self.deadline:g} s")
        except (ForbiddenAddressError, UnresolvedError) as problem:
            found = Answer(None, printable(str(problem)))
        except (OSError, HTTPException, ValueError) as problem:
            found = Answer(None, printable(f"{type(problem).__name__}: {problem}"))
        took = round((time.monotonic() - began) * 1000)
        return Answer(found.status, found.error, found.excerpt, found.retry_after, took)

    def _exchange(self, url: str, headers: Mapping[str, str], body: bytes, until: float) -> Answer:
        to = endpoint(url, loopback=self.loopback)
        addresses = checked(
            to,
            loopback=self.loopback,
            resolver=self.resolver,
            seconds=_left(until) / 2,
        )
        with _connected(to, addresses, until, self.context) as connected:
            connection = HTTPConnection(to.host, to.port)
            connection.response_class = FinalResponse
            connection.sock = bounded = _BoundedSocket(connected, until)
            sent = {"Host": to.authority, "User-Agent": "Recourse", "Connection": "close"}
            sent |= {"Content-Type": "application/cloudevents+json", **headers}
            connection.request("POST", to.target, body, sent)
            answer = connection.getresponse()
            if bounded.full:
                raise HTTPException(
                    f"the headers of the answer must have at most {MAX_ANSWER_BYTES} bytes"
                )
            return Answer(
                answer.status,
                excerpt=printable(_read_body(answer, bounded).decode(errors="replace")),
                retry_after=answer.headers.get("Retry-After"),
            )


def printable(text: str) -> str:
    """The beginning of a text, with spaces in place of what is not printable."""
    return "".join(one if one.isprintable() else " " for one in text[:MAX_EXCERPT])


def _connected(
    to: Endpoint, addresses: Sequence[str], until: float, context: ssl.SSLContext | None
) -> socket.socket:
    """A connection to the first of the checked addresses that accepts one."""
    for count, address in enumerate(addresses):
        # The addresses are numeric, so nothing is resolved again: it could resolve differently.
        try:
            made = socket.create_connection(
                (address, to.port), timeout=_left(until) / (len(addresses) - count)
            )
            break
        except OSError:
            if count == len(addresses) - 1:
                raise
    if not to.secure:
        return made
    try:
        made.settimeout(_left(until))
        return (context or _authorities()).wrap_socket(made, server_hostname=to.host)
    except BaseException:
        made.close()
        raise


@cache
def _authorities() -> ssl.SSLContext:
    """Verifies certificates by the system's authorities."""
    return ssl.create_default_context()


def _read_body(answer: HTTPResponse, bounded: _BoundedSocket) -> bytes:
    """The answer's body, up to the limit."""
    try:
        return answer.read(MAX_ANSWER_BYTES)
    except IncompleteRead as cut:
        if not bounded.full:
            raise
        return cut.partial


def _left(until: float) -> float:
    """The seconds that are left until the deadline.

    Raises:
        TimeoutError: There are none.
    """
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


class _BoundedSocket:
    """A socket whose reads and writes end by the deadline, and that reads only so many bytes.

    The time-out of a socket is for each read alone: a byte a second would extend it for ever.
    """

    def __init__(self, connected: socket.socket, until: float) -> None:
        self._socket = connected
        self._until = until
        self._read = 0

    @property
    def full(self) -> bool:
        """Whether the limit was reached."""
        return self._read >= MAX_ANSWER_BYTES

    def sendall(self, data: bytes) -> None:
        """Send all of it."""
        rest = memoryview(data)
        while rest:
            self._socket.settimeout(_left(self._until))
            rest = rest[self._socket.send(rest) :]

    def read_into(self, buffer: Any) -> int:
        """Read what there is; nothing once the limit was reached."""
        if self.full:
            return 0
        self._socket.settimeout(_left(self._until))
        count = self._socket.recv_into(buffer)
        self._read += count
        return count

    def makefile(self, mode: str) -> io.BufferedReader:
        """The file that `http.client` reads the answer from."""
        return io.BufferedReader(_Reader(self), 4096)

    def close(self) -> None:
        """Do nothing: `http.client` closes it before the body is read, `_exchange` afterwards."""


class _Reader(io.RawIOBase):
    def __init__(self, bounded: _BoundedSocket) -> None:
        self._bounded = bounded

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._bounded.read_into(buffer)
