"""Remembers an upload in parts, so that the same command resumes it after any interruption.

One file for each upload, in `$XDG_STATE_HOME/recourse/uploads` (`~/.local/state` by default): never
beside the document, which may be in a folder that others read. It holds the key's token, because
the API shows it once and the missing parts cannot be sent without it; so the folder has mode 0700
and the file 0600. The token is valid for that one upload, of exactly those bytes, until the key
expires. The file is deleted when the upload has been accepted or refused.

The first line is the key, each further line the number of a part that S3 has stored. A line that a
crash cut off is ignored.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from recourse.cli.exits import FailedError

FORGOTTEN_AFTER = 8 * 24 * 3600
"""Seconds after which every key has expired: the longest is valid for seven days."""


def folder() -> Path:
    """The folder of the journals."""
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "recourse" / "uploads"


class Journal:
    """The journal of one upload, which one process at a time has open.

    Args:
        about: What identifies the upload: API, owner, object, type, content.

    Attributes:
        key: The key as the API issued it; None if there is no upload to resume.
        done: The numbers of the parts that S3 has stored.
    """

    def __init__(self, *about: str) -> None:
        place = folder()
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        _forget_old(place)
        name = hashlib.sha256("\0".join(about).encode()).hexdigest()[:32]
        self._path = place / f"{name}.jsonl"
        self.key: Mapping[str, Any] | None = None
        self.done: set[int] = set()

    def __enter__(self) -> Self:
        """Lock the file and read it.

        Raises:
            FailedError: Another process has it open.
        """
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        self._file = os.fdopen(descriptor, "r+b", buffering=0)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise FailedError("another process is sending the same upload") from None
        self._read()
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        if self.key is None:
            self._path.unlink(missing_ok=True)

    def begin(self, key: Mapping[str, Any]) -> None:
        """Begin an upload with a key and no parts."""
        self.key, self.done = key, set()
        self._file.seek(0)
        self._file.truncate()
        self._append(json.dumps(key))

    def add(self, number: int) -> None:
        """Record that S3 has stored a part."""
        self.done.add(number)
        self._append(str(number))

    def forget(self) -> None:
        """Forget the upload: there is nothing to resume."""
        self.key, self.done = None, set()

    def _append(self, line: str) -> None:
        self._file.write(f"{line}\n".encode())

    def _read(self) -> None:
        raw = self._file.read()
        whole = raw[: raw.rfind(b"\n") + 1]
        self._file.truncate(len(whole))
        self._file.seek(len(whole))
        if whole:
            first, *numbers = whole.decode().splitlines()
            self.key, self.done = json.loads(first), {int(number) for number in numbers}


def _forget_old(place: Path) -> None:
    for path in place.glob("*.jsonl"):
        try:
            if time.time() - path.stat().st_mtime > FORGOTTEN_AFTER:
                path.unlink()
        except FileNotFoundError:
            continue  # another process has deleted it
