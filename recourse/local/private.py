"""Folders and files that only their owner may read."""

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def make_folder(folder: Path) -> None:
    """Make a folder with mode 0700, or give it that mode: it protects all that is in it."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)


def write(path: Path, content: bytes) -> None:
    """Write a file atomically, with mode 0600."""
    _draft(path, content).replace(path)


def made_once(path: Path, make: Callable[[], bytes]) -> bytes:
    """The content of a file, which is made once, however many processes ask at the same time."""
    make_folder(path.parent)
    if not path.exists():
        draft = _draft(path, make())
        with suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
    return path.read_bytes()


def _draft(path: Path, content: bytes) -> Path:
    draft = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}")
    draft.unlink(missing_ok=True)  # left by a killed process with the same id
    draft.touch(mode=0o600, exist_ok=False)
    draft.write_bytes(content)
    return draft
