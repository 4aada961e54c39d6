"""Sending a document by a valet key: redeem, send what was signed, and again where that fails.

A document is streamed from its file, so its size does not matter to memory. Each request goes to
S3 with the headers that redeeming answered and no others of ours: above all no Authorization,
which S3 takes for a second signature and refuses.
"""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import httpx

from cli.api import Api, ApiError
from cli.command import UsageError

AT_ONCE = 4
"""Parts under way at a time."""
TRIES = 6
"""How often one request is tried, each time with a URL of its own."""
PATIENCE = 600
"""Seconds that a large document may take to be checked."""
CHUNK = 256 * 1024
_CODE = re.compile(r"<Code>([^<]+)</Code>.*?<Message>([^<]*)</Message>", re.DOTALL)
_NOT_AS_SAID = {"BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch"}

Heard = Callable[[int], None]


class StoppedError(Exception):
    """The work was called off."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file, as it was when it was read.

    Attributes:
        path: Where it is.
        length: Its bytes.
        sha256: Their SHA-256 in hex.
    """

    path: Path
    length: int
    sha256: str

    @classmethod
    def read(cls, path: Path, heard: Heard) -> Source:
        """Read a file through once.

        Args:
            path: Where it is.
            heard: Told of each piece's bytes.

        Raises:
            UsageError: It cannot be read, or there is nothing in it.
        """
        digest, length = hashlib.sha256(), 0
        try:
            with path.open("rb") as file:
                while chunk := file.read(CHUNK):
                    digest.update(chunk)
                    length += len(chunk)
                    heard(len(chunk))
        except OSError as problem:
            raise UsageError(f"cannot read {path}: {problem.strerror}") from problem
        if not length:
            raise UsageError(f"{path} is empty")
        return cls(path, length, digest.hexdigest())

    def piece(self, start: int, length: int) -> Iterator[bytes]:
        """Some of its bytes, a chunk at a time.

        Raises:
            UsageError: They are not there any more.
        """
        with self.path.open("rb") as file:
            file.seek(start)
            while length:
                chunk = file.read(min(CHUNK, length))
                if not chunk:
                    raise UsageError(f"{self.path} was changed while it was sent")
                length -= len(chunk)
                yield chunk


@dataclass(frozen=True)
class Upload:
    """One document on its way.

    Args:
        api: The API without a bearer: to redeem needs none.
        s3: Sends to presigned URLs; knows no bearer and follows no redirect.
        source: The document.
        token: The key's token.
        heard: Told of each piece's bytes, and of as many less where they have to be sent again.
    """

    api: Api
    s3: httpx.Client
    source: Source
    token: str
    heard: Heard
    stop: threading.Event = field(default_factory=threading.Event, init=False)

    def whole(self) -> None:
        """Send it in one request."""
        self._send(0, self.source.length, None)

    def parts(self, numbers: Iterable[int], size: int, done: Callable[[int], None]) -> None:
        """Send parts, several at once, and say which S3 has taken.

        Raises:
            ApiError: The key is not good any more, or the API or S3 is not there.
            UsageError: The file was changed meanwhile.
        """
        wanted: SimpleQueue[int] = SimpleQueue()
        over: SimpleQueue[int | BaseException] = SimpleQueue()
        left = 0
        for number in numbers:
            wanted.put(number)
            left += 1

        def work() -> None:
            with suppress(Empty):
                while not self.stop.is_set():
                    number = wanted.get_nowait()
                    try:
                        self.part(number, size)
                    except BaseException as problem:
                        over.put(problem)
                        return
                    over.put(number)

        # Daemons, so that nothing keeps a process alive that somebody ends while S3 is silent.
        workers = [threading.Thread(target=work, daemon=True) for _ in range(min(AT_ONCE, left))]
        for worker in workers:
            worker.start()
        try:
            for _ in range(left):
                ended = over.get()
                if isinstance(ended, BaseException):
                    raise ended
                done(ended)
        finally:
            self.stop.set()
            until = time.monotonic() + 2
            for worker in workers:
                worker.join(max(0.0, until - time.monotonic()))
            with suppress(Empty):
                while True:
                    ended = over.get_nowait()
                    if isinstance(ended, int):
                        done(ended)

    def part(self, number: int, size: int) -> None:
        """Send one part."""
        start = (number - 1) * size
        length = min(size, self.source.length - start)
        digest = hashlib.sha256()
        for chunk in self.source.piece(start, length):
            digest.update(chunk)
        said = {"number": number, "sha256": digest.hexdigest(), "content_length": length}
        self._send(start, length, said)

    def _send(self, start: int, length: int, part: dict[str, Any] | None) -> None:
        asked: dict[str, Any] = {"token": self.token} | ({"part": part} if part else {})
        for attempt in range(TRIES):
            failure: ApiError | None
            try:
                signed = self.api.call("POST", "/valet-keys/redeem", json=asked).json()
                failure = self._put(signed, start, length, whole=part is None)
            except ApiError as problem:
                if not problem.may_pass:
                    raise
                failure = problem
            if failure is None:
                return
            if attempt + 1 == TRIES:
                raise failure
            pause(self.stop, attempt, failure)

    def _put(
        self, signed: dict[str, Any], start: int, length: int, *, whole: bool
    ) -> ApiError | None:
        """Send some bytes as was signed; why that failed, if it did."""
        sent = 0

        def body() -> Iterator[bytes]:
            nonlocal sent
            for chunk in self.source.piece(start, length):
                if self.stop.is_set():
                    raise StoppedError
                yield chunk
                sent += len(chunk)
                self.heard(len(chunk))

        try:
            answer = self.s3.request(
                signed["method"], signed["url"], headers=signed["headers"], content=body()
            )
        except httpx.TransportError as problem:
            failure = ApiError(f"S3 cannot be reached: {problem!r}")
        else:
            # What lies there already is an earlier try of ours, whose answer was lost.
            if answer.is_success or (whole and answer.status_code == 412):
                return None
            code, failure = s3_refusal(answer)
            if code in _NOT_AS_SAID:
                raise UsageError(f"{self.source.path} was changed while it was sent")
        self.heard(-sent)
        return failure


def pause(stop: threading.Event, attempt: int, failure: ApiError) -> None:
    """Wait before the next try, as long as the API says or a little longer each time.

    Raises:
        StoppedError: The work was called off meanwhile.
    """
    if stop.wait(failure.retry_after or min(0.2 * 2**attempt, 5)):
        raise StoppedError


def s3_refusal(answer: httpx.Response) -> tuple[str, ApiError]:
    """What S3 says against a request: its code, and in words.

    To it a URL that has expired on the way is as forbidden as one that it never took, so it is
    for the key to say, when it is redeemed again, whether there is any use in trying.
    """
    found = _CODE.search(answer.text)
    code, message = found.groups() if found else ("", answer.text[:200])
    told = f"S3 refused ({answer.status_code}): {code} {message}".rstrip()
    return code, ApiError(told)


def complete(api: Api, key_id: str) -> dict[str, Any]:
    """Commit an upload; a large one takes longer than one call, which is then made again.

    Raises:
        ApiError: It was refused; of what was refused as not as said, a copy is in quarantine.
    """
    until = time.monotonic() + PATIENCE
    never, attempt = threading.Event(), 0
    while True:
        try:
            done: dict[str, Any] = api.call("POST", f"/valet-keys/{key_id}/complete").json()
            return done
        except ApiError as problem:
            if not problem.may_pass or time.monotonic() > until:
                raise
            pause(never, attempt, problem)
            attempt += 1


def client() -> httpx.Client:
    """What talks to S3: no bearer, no redirect, nothing from a `.netrc`."""
    return httpx.Client(
        timeout=httpx.Timeout(60, connect=10), follow_redirects=False, trust_env=False
    )
