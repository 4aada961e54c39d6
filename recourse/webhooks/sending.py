"""One attempt: a POST to a checked and pinned address, within a deadline that nothing stretches.

The standard library does all of it: a name is looked up once, all its addresses are checked, and
the connection goes to one of them, while `Host`, SNI and the certificate are the name's. No
redirect is followed and no proxy is asked, for either would choose another address.
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
"""Seconds for the whole exchange, from the look-up of the name to the end of the answer."""
MOST_READ = 64 * 1024
"""Bytes of an answer that are read, its headers included; then the connection is closed."""
EXCERPT = 500


@dataclass(frozen=True)
class Answer:
    """What came of an attempt.

    Attributes:
        status: The HTTP status; None where there was no answer.
        error: Why there was none, in words.
        excerpt: The beginning of the answer's body, printable.
        retry_after: The header, as it was sent.
        latency: Milliseconds that it took.
    """

    status: int | None
    error: str | None = None
    excerpt: str = ""
    retry_after: str | None = None
    latency: int = 0

    @property
    def delivered(self) -> bool:
        """Whether the receiver has taken the event."""
        return self.status is not None and 200 <= self.status < 300


@dataclass(frozen=True)
class Sender:
    """How endpoints are called.

    Args:
        loopback: Whether plain HTTP and loopback addresses are allowed, as in a local run.
        resolver: Looks up names.
        context: What certificates are verified by; the system's authorities by default.
        deadline: Seconds for the whole exchange.
    """

    loopback: bool = False
    resolver: Resolver = resolve
    context: ssl.SSLContext | None = None
    deadline: float = DEADLINE

    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Make one attempt. Whatever the receiver does, it comes back in time, and with an answer.

        Args:
            url: The webhook's URL.
            headers: The signature's.
            body: The event.
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
        with _connected(to, addresses, until, self.context) as line:
            connection = HTTPConnection(to.host, to.port)
            connection.sock = bounded = _Bounded(line, until)
            told = {"Host": to.authority, "User-Agent": "Recourse", "Connection": "close"}
            told |= {"Content-Type": "application/cloudevents+json", **headers}
            connection.request("POST", to.target, body, told)
            answer = connection.getresponse()
            if bounded.full:
                raise HTTPException("the answer begins with too much")
            return Answer(
                answer.status,
                excerpt=printable(_beginning(answer, bounded).decode(errors="replace")),
                retry_after=answer.headers.get("Retry-After"),
            )


def printable(text: str) -> str:
    """The beginning of a text, without what does not show."""
    return "".join(one if one.isprintable() else " " for one in text[:EXCERPT])


def _connected(
    to: Endpoint, addresses: Sequence[str], until: float, context: ssl.SSLContext | None
) -> socket.socket:
    """A connection to the first of the checked addresses that takes one."""
    for count, address in enumerate(addresses):
        # Numbers only: nothing is looked up again.
        try:
            line = socket.create_connection(
                (address, to.port), timeout=_left(until) / (len(addresses) - count)
            )
            break
        except OSError:
            if count == len(addresses) - 1:
                raise
    if not to.secure:
        return line
    try:
        line.settimeout(_left(until))
        return (context or _authorities()).wrap_socket(line, server_hostname=to.host)
    except BaseException:
        line.close()
        raise


@cache
def _authorities() -> ssl.SSLContext:
    """Verifies certificates by the system's authorities."""
    return ssl.create_default_context()


def _beginning(answer: HTTPResponse, line: _Bounded) -> bytes:
    """The beginning of an answer's body, as far as it is read."""
    try:
        return answer.read(MOST_READ)
    except IncompleteRead as cut:
        if not line.full:
            raise
        return cut.partial


def _left(until: float) -> float:
    """The seconds that are left.

    Raises:
        TimeoutError: There are none.
    """
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


class _Bounded:
    """A connection whose every read and write ends by the deadline, and that reads only so much.

    A socket's own time-out is for each read alone: a byte a second would stretch it for ever.
    """

    def __init__(self, line: socket.socket, until: float) -> None:
        self._line = line
        self._until = until
        self._read = 0

    @property
    def full(self) -> bool:
        """Whether as much was read as is read at most."""
        return self._read >= MOST_READ

    def sendall(self, data: bytes) -> None:
        """Send all of it."""
        rest = memoryview(data)
        while rest:
            self._line.settimeout(_left(self._until))
            rest = rest[self._line.send(rest) :]

    def take(self, into: Any) -> int:
        """Read what there is; nothing once enough was read."""
        if self.full:
            return 0
        self._line.settimeout(_left(self._until))
        count = self._line.recv_into(into)
        self._read += count
        return count

    def makefile(self, mode: str) -> io.BufferedReader:
        """What the answer is read from."""
        return io.BufferedReader(_Reader(self), 4096)

    def close(self) -> None:
        """Stay open: whoever opened it closes it, when the body has been read."""


class _Reader(io.RawIOBase):
    def __init__(self, line: _Bounded) -> None:
        self._line = line

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        return self._line.take(into)
