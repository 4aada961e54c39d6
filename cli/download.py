"""Receiving a document by a valet key: beside its place first, and there only when it is whole.

A connection that breaks is taken up where it broke, with a URL of its own and on the condition
that it is still the same document.
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

from cli.api import Api, ApiError
from cli.command import UsageError
from cli.upload import TRIES, Heard, pause, s3_refusal

_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")


@dataclass(frozen=True, slots=True)
class Received:
    """What was received: its bytes, and their SHA-256 in hex."""

    length: int
    sha256: str


class _Arriving:
    """A document of which some may be here already."""

    def __init__(self, path: Path, heard: Heard) -> None:
        self.path = path
        self.heard = heard
        self.file = path.open("xb")
        self.begin_again()

    def begin_again(self) -> None:
        self.file.seek(0)
        self.file.truncate()
        self.digest, self.length = hashlib.sha256(), 0
        self.wanted: int | None = None
        self.etag: str | None = None
        self.checksum: str | None = None

    def take(self, answer: httpx.Response) -> None:
        """Take what an answer has.

        Raises:
            ApiError: It breaks off, or goes on elsewhere than was asked.
        """
        if answer.status_code == 206:
            found = _RANGE.fullmatch(answer.headers.get("content-range", ""))
            if found is None or int(found[1]) != self.length:
                raise ApiError(f"S3 went on elsewhere: {answer.headers.get('content-range')}")
            self.wanted = int(found[2])
        else:
            if self.length:
                self.heard(-self.length)
                self.begin_again()
            length = answer.headers.get("content-length")
            self.wanted = int(length) if length else None
            self.checksum = answer.headers.get("x-amz-checksum-sha256")
        self.etag = answer.headers.get("etag")
        for chunk in answer.iter_raw():
            self.file.write(chunk)
            self.digest.update(chunk)
            self.length += len(chunk)
            self.heard(len(chunk))
        if self.wanted is not None and self.length != self.wanted:
            raise ApiError(f"{self.length} of {self.wanted} bytes came")

    def verify(self) -> None:
        """Hold it to what S3 said of it; a checksum of parts says nothing of the whole.

        Raises:
            ApiError: It is another.
        """
        known = self.checksum
        if known and "-" not in known and base64.b64decode(known) != self.digest.digest():
            raise ApiError("what came is not what was stored: its SHA-256 is another")


def receive(api: Api, s3: httpx.Client, token: str, target: Path, heard: Heard) -> Received:
    """Redeem a token and put what it opens into a file.

    Args:
        api: The API without a bearer.
        s3: Fetches presigned URLs; knows no bearer and follows no redirect.
        token: The key's token.
        target: Where it shall be; it is not touched before all of it is here.
        heard: Told of each piece's bytes.

    Raises:
        ApiError: The key does not open it, or it did not come whole.
        UsageError: It cannot be written.
    """
    beside = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        arriving = _Arriving(beside, heard)
    except OSError as problem:
        raise UsageError(f"cannot write {target}: {problem.strerror}") from problem
    try:
        with arriving.file:
            _receive(api, s3, token, arriving)
        arriving.verify()
        beside.replace(target)
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
            signed = api.call("POST", "/valet-keys/redeem", json={"token": token}).json()
            if signed["method"] != "GET":
                raise UsageError("the key is for an upload: `recourse valet put` sends one")
            _fetch(s3, signed, arriving)
            return
        except ApiError as problem:
            if before and problem.kind == "key-used-up":
                raise ApiError(f"{before}; to ask again, the key is used up") from problem
            if attempt + 1 == TRIES or not problem.may_pass:
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
                    # There is another version by now.
                    arriving.heard(-arriving.length)
                    arriving.begin_again()
                raise failure
            arriving.take(answer)
    except httpx.TransportError as problem:
        raise ApiError(f"S3 broke off: {problem!r}") from problem
