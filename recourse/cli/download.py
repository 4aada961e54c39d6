"""Downloads a document by a valet key: into a temporary file, which replaces the target when whole.

A broken connection is resumed where it broke, with a new URL and on the condition that the document
is still the same version.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from recourse.cli.api import Api, ApiError, UnreachableError
from recourse.cli.exits import FailedError, UsageError
from recourse.cli.upload import TRIES, Advance, pause, s3_refusal

_RANGE = re.compile(r"bytes (\d{1,20})-\d{1,20}/(\d{1,20})")


@dataclass(frozen=True, slots=True)
class Received:
    """A finished download: its length in bytes, and its SHA-256 in hex."""

    length: int
    sha256: str


class _Arriving:
    """A download that may have begun already."""

    def __init__(self, path: Path, advance: Advance) -> None:
        self.path = path
        self.advance = advance
        self.file = path.open("xb")
        self.begin_again()

    def begin_again(self) -> None:
        self.file.seek(0)
        self.file.truncate()
        self.digest, self.length = hashlib.sha256(), 0
        self.wanted: int | None = None
        self.etag: str | None = None
        self.checksum: str | None = None

    def append(self, answer: httpx.Response) -> None:
        """Append the body of an answer; a 200 replaces what was here.

        Raises:
            ApiError: The answer broke off, or does not continue where it should.
        """
        if answer.status_code == 206:
            found = _RANGE.fullmatch(answer.headers.get("content-range", ""))
            if found is None or int(found[1]) != self.length:
                raise ApiError(
                    f"S3 must continue at byte {self.length}, got "
                    f"{answer.headers.get('content-range')}"
                )
            self.wanted = int(found[2])
        else:
            if self.length:
                self.advance(-self.length)
                self.begin_again()
            length = answer.headers.get("content-length")
            self.wanted = int(length) if length else None
            self.checksum = answer.headers.get("x-amz-checksum-sha256")
        self.etag = answer.headers.get("etag")
        for chunk in answer.iter_raw():
            self.file.write(chunk)
            self.digest.update(chunk)
            self.length += len(chunk)
            self.advance(len(chunk))
        if self.wanted is not None and self.length != self.wanted:
            raise ApiError(f"the download broke off after {self.length} of {self.wanted} bytes")

    def verify(self) -> None:
        """Compare with the checksum that S3 sent, unless that is one of parts only.

        Raises:
            ApiError: They differ.
        """
        known = self.checksum
        if known and "-" not in known and known != base64.b64encode(self.digest.digest()).decode():
            raise ApiError("the download differs from the stored document: SHA-256 mismatch")


def receive(
    api: Api,
    s3: httpx.Client,
    token: str,
    target: Path,
    advance: Advance,
    *,
    replaces: bool = False,
) -> Received:
    """Redeem a token and download its document into a file.

    Args:
        api: The API without a bearer token.
        s3: Fetches presigned URLs; sends no bearer token and follows no redirect.
        token: The key's token.
        target: The file; it is not touched before the download is complete.
        advance: Called with the bytes of each chunk.
        replaces: Whether it may replace a file that exists.

    Raises:
        ApiError: The key was refused, or the download is incomplete.
        UsageError: The file cannot be written, or must not be replaced.
    """
    beside = target.parent / f".{secrets.token_hex(8)}.part"
    try:
        arriving = _Arriving(beside, advance)
    except OSError as problem:
        raise UsageError(f"cannot write {target}: {problem.strerror}") from problem
    try:
        with arriving.file:
            _receive(api, s3, token, arriving)
        arriving.verify()
        if not replaces:
            target.open("xb").close()  # it may exist since the download began
        beside.replace(target)
    except FileExistsError:
        raise UsageError(f"{target} exists already: give another target with --output") from None
    except OSError as problem:
        raise UsageError(f"cannot write {target}: {problem.strerror}") from problem
    finally:
        beside.unlink(missing_ok=True)
    return Received(arriving.length, arriving.digest.hexdigest())


def _receive(api: Api, s3: httpx.Client, token: str, arriving: _Arriving) -> None:
    never = threading.Event()
    before: ApiError | None = None
    for attempt in range(TRIES):
        try:
            signed = api.ask("POST", "/valet-keys/redeem", json={"token": token})
            if signed["method"] != "GET":
                raise UsageError("the key is for an upload: use `recourse valet put`")
            _fetch(s3, signed, arriving)
            return
        except ApiError as problem:
            if before and problem.kind == "key-used-up":
                raise ApiError(f"{before}; it cannot be retried: the key is used up") from problem
            if attempt + 1 == TRIES or not problem.is_transient:
                raise
            before = problem
        pause(never, attempt, before)


def _fetch(s3: httpx.Client, signed: dict[str, Any], arriving: _Arriving) -> None:
    headers = {**signed["headers"], "accept-encoding": "identity"}
    if arriving.length and arriving.etag:
        headers |= {"range": f"bytes={arriving.length}-", "if-match": arriving.etag}
    try:
        with s3.stream("GET", signed["url"], headers=headers) as answer:
            if not answer.is_success:
                answer.read()
                _, failure = s3_refusal(answer)
                if answer.status_code == 412:
                    # Another version has replaced it: start from the beginning.
                    arriving.advance(-arriving.length)
                    arriving.begin_again()
                raise failure
            arriving.append(answer)
    except httpx.TransportError as problem:
        raise UnreachableError(f"the connection to S3 broke off: {problem!r}") from problem
    except httpx.InvalidURL as problem:
        raise FailedError(f"the API answered with a URL that is none: {problem}") from problem
