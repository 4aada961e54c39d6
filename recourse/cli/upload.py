"""Uploads a document by a valet key: redeem it, send to the signed URL, retry where that fails.

A document is streamed from its file, so memory does not grow with it. Each request to S3 has the
headers that redeeming returned and no others: above all no Authorization, which S3 would treat as a
second signature and refuse.
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

from recourse.cli.api import Api, ApiError, UnreachableError, segment
from recourse.cli.exits import FailedError, UsageError
from recourse.cli.visible import visible
from recourse.errors import RecourseError

PARALLEL_PARTS = 4
"""Parts that are sent in parallel."""
TRIES = 6
"""How often a request is tried, each time with a new URL."""
CHECK_TIMEOUT = 600
"""Seconds that the check of a large document may take."""
CHUNK = 256 * 1024
_CODE = re.compile(r"<Code>([^<]+)</Code>.*?<Message>([^<]*)</Message>", re.DOTALL)
_CHECKSUM_ERRORS = {"BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch"}

Advance = Callable[[int], None]


class StoppedError(RecourseError):
    """The upload was stopped."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file as it was when it was read.

    Attributes:
        path: The file.
        length: Its length in bytes.
        sha256: Its SHA-256 in hex.
    """

    path: Path
    length: int
    sha256: str

    @classmethod
    def read(cls, path: Path, advance: Advance) -> Source:
        """Read a file once, for its length and SHA-256.

        Args:
            path: The file.
            advance: Called with the bytes of each chunk.

        Raises:
            UsageError: The file cannot be read, or is empty.
        """
        digest, length = hashlib.sha256(), 0
        try:
            with path.open("rb") as file:
                while chunk := file.read(CHUNK):
                    digest.update(chunk)
                    length += len(chunk)
                    advance(len(chunk))
        except OSError as problem:
            raise UsageError(f"cannot read {path}: {problem.strerror}") from problem
        if not length:
            raise UsageError(f"{path} is empty")
        return cls(path, length, digest.hexdigest())

    def piece(self, start: int, length: int) -> Iterator[bytes]:
        """A range of its bytes, a chunk at a time.

        Raises:
            FailedError: The file has become shorter.
        """
        with self.path.open("rb") as file:
            file.seek(start)
            while length:
                chunk = file.read(min(CHUNK, length))
                if not chunk:
                    raise FailedError(f"{self.path} changed while it was being sent")
                length -= len(chunk)
                yield chunk


@dataclass(frozen=True)
class Upload:
    """The upload of one document.

    Args:
        api: The API without a bearer token, which redeeming does not need.
        s3: Sends to presigned URLs; sends no bearer token and follows no redirect.
        source: The document.
        token: The key's token.
        advance: Called with the bytes of each chunk; negative for those that are sent again.
    """

    api: Api
    s3: httpx.Client
    source: Source
    token: str
    advance: Advance
    stop: threading.Event = field(default_factory=threading.Event, init=False)

    def whole(self) -> None:
        """Send it in one request."""
        self._send(0, self.source.length, None)

    def parts(self, numbers: Iterable[int], size: int, done: Callable[[int], None]) -> None:
        """Send parts in parallel, and call `done` with each that S3 has stored.

        Raises:
            ApiError: The key is no longer valid, or the API or S3 cannot be reached.
            FailedError: The file changed during the upload.
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

        # Daemons: a process that is interrupted while S3 is silent must not wait for them.
        workers = [
            threading.Thread(target=work, daemon=True) for _ in range(min(PARALLEL_PARTS, left))
        ]
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
                signed = self.api.ask("POST", "/valet-keys/redeem", json=asked)
                failure = self._put(signed, start, length, whole=part is None)
            except ApiError as problem:
                if not problem.is_transient:
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
        """Send a range to its signed URL; the failure, if there was one."""
        sent = 0

        def body() -> Iterator[bytes]:
            nonlocal sent
            for chunk in self.source.piece(start, length):
                if self.stop.is_set():
                    raise StoppedError
                yield chunk
                sent += len(chunk)
                self.advance(len(chunk))

        try:
            answer = self.s3.request(
                signed["method"], signed["url"], headers=signed["headers"], content=body()
            )
        except httpx.TransportError as problem:
            failure: ApiError = UnreachableError(f"S3 cannot be reached: {problem!r}")
        except httpx.InvalidURL as problem:
            raise FailedError(f"the API answered with a URL that is none: {problem}") from problem
        else:
            # 412: an earlier attempt has stored it, and its answer was lost.
            if answer.is_success or (whole and answer.status_code == 412):
                return None
            code, failure = s3_refusal(answer)
            if code in _CHECKSUM_ERRORS:
                raise FailedError(f"{self.source.path} changed while it was being sent")
        self.advance(-sent)
        return failure


def pause(stop: threading.Event, attempt: int, failure: ApiError) -> None:
    """Wait before the next attempt: as long as the API says, or a growing back-off.

    Raises:
        StoppedError: The upload was stopped meanwhile.
    """
    if stop.wait(failure.retry_after or min(0.2 * 2**attempt, 5)):
        raise StoppedError


def s3_refusal(answer: httpx.Response) -> tuple[str, ApiError]:
    """Why S3 refused a request: its error code, and an error with its message.

    S3 answers 403 to an expired URL as to one that was never valid. So a refusal is transient here:
    redeeming the key again says whether another attempt can succeed.
    """
    found = _CODE.search(answer.text)
    code, message = found.groups() if found else ("", answer.text[:200])
    said = visible(f"S3 refused ({answer.status_code}): {code} {message}".rstrip())
    return code, ApiError(said)


def complete(api: Api, key_id: str) -> dict[str, Any]:
    """Commit an upload; a large one needs several calls.

    Raises:
        ApiError: The upload was refused. What differs from its description is in quarantine.
    """
    until = time.monotonic() + CHECK_TIMEOUT
    never, attempt = threading.Event(), 0
    while True:
        try:
            done: dict[str, Any] = api.ask("POST", f"/valet-keys/{segment(key_id)}/complete")
            return done
        except ApiError as problem:
            if not problem.is_transient or time.monotonic() > until:
                raise
            pause(never, attempt, problem)
            attempt += 1


def client() -> httpx.Client:
    """A client for S3: no bearer token, no redirect, nothing from a `.netrc`."""
    return httpx.Client(
        timeout=httpx.Timeout(60, connect=10), follow_redirects=False, trust_env=False
    )
