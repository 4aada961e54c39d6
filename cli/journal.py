"""What is remembered of an upload in parts, so that the same command goes on after anything.

One file an upload, in `$XDG_STATE_HOME/recourse/uploads` (`~/.local/state` where that is not set):
never beside the document, which may lie in a folder that others read. It holds the key's token,
for the API tells it once and only who has it may send the parts that are missing; so the folder is
0700 and the file 0600. The token is good for that one upload, of exactly those bytes, and until
the key expires; the file goes when the upload is decided.

The first line is the key, each other line the number of a part that S3 has taken. A line that was
cut off by a crash counts as not written.
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

from cli.command import UsageError

FORGOTTEN_AFTER = 8 * 24 * 3600
"""Seconds after which no key is good any more: the longest lives seven days."""


def folder() -> Path:
    """Where uploads are remembered."""
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "recourse" / "uploads"


class Journal:
    """An upload's file, held by one process at a time.

    Args:
        about: What makes it this upload and no other: API, owner, object, type, content.

    Attributes:
        key: The key as the API has issued it; None where nothing is remembered.
        done: The parts that S3 has taken.
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
        """Take the file and read it.

        Raises:
            UsageError: Another process has it.
        """
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        self._file = os.fdopen(descriptor, "r+b", buffering=0)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise UsageError("the same upload is under way in another process") from None
        self._read()
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        if self.key is None:
            self._path.unlink(missing_ok=True)

    def begin(self, key: Mapping[str, Any]) -> None:
        """Remember a key, and no part yet."""
        self.key, self.done = key, set()
        self._file.seek(0)
        self._file.truncate()
        self._append(json.dumps(key))

    def add(self, number: int) -> None:
        """Remember that S3 has taken a part."""
        self.done.add(number)
        self._append(str(number))

    def forget(self) -> None:
        """Forget the upload: it is decided."""
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
            continue  # another process was quicker
