"""What nobody else on this machine may read: folders and files for their owner alone."""

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def make_folder(folder: Path) -> None:
    """Make a folder that only its owner enters, or make it so: then so is all that is in it."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)


def write(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all."""
    _draft(path, content).replace(path)


def made_once(path: Path, make: Callable[[], bytes]) -> bytes:
    """What a file says, which is made where there is none: once, however many processes begin."""
    make_folder(path.parent)
    if not path.exists():
        draft = _draft(path, make())
        with suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
    return path.read_bytes()


def _draft(path: Path, content: bytes) -> Path:
    draft = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}")
    draft.unlink(missing_ok=True)  # of a process of this id that was killed
    draft.touch(mode=0o600, exist_ok=False)
    draft.write_bytes(content)
    return draft
