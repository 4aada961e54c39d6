"""Which ports are free, and which process has one that is not."""

import errno
import os
import random
import socket
from pathlib import Path

from recourse.local import LocalCloudError

LOOPBACK = "127.0.0.1"
_LISTENING = "0A"
_OURS = range(20_000, 32_768)
"""Linux gives its own from 32768 on, macOS from 49152 on."""


def free_port(preferred: int) -> int:
    """A free port: the preferred one if it is free.

    Any other is below those that the system itself gives to outgoing connections, of which one
    could take it before whoever asked for it opens it.
    """
    if preferred and is_free(preferred):
        return preferred
    while not is_free(port := random.choice(_OURS)):
        continue
    return port


def is_free(port: int) -> bool:
    """Whether a port can be opened.

    Raises:
        OSError: This user may not open it.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as problem:
            if problem.errno == errno.EADDRINUSE:
                return False
            raise
    return True


def must_be_free(port: int, variable: str) -> None:
    """Check a port that was asked for.

    Args:
        port: The port; 0 stands for any.
        variable: The variable that it was given by, for the message.

    Raises:
        LocalCloudError: It cannot be opened; the message says why, and who has it if that is known.
    """
    remedy = f"choose another with {variable}=, or 0 for any"
    if not 0 <= port <= 65535:
        raise LocalCloudError(f"{variable} must be 0 to 65535, got {port}")
    try:
        if port == 0 or is_free(port):
            return
    except OSError as problem:
        raise LocalCloudError(f"port {port}: {problem.strerror}: {remedy}") from problem
    holder = holder_of(port)
    by = f" by {holder}" if holder else ""
    raise LocalCloudError(f"port {port} is in use{by}: stop that, or {remedy}")


def holder_of(port: int) -> str:
    """The process that listens on a port, as Linux tells its own user; else empty."""
    sockets = {
        f"socket:[{fields[9]}]"
        for table in ("tcp", "tcp6")
        for fields in _rows(Path("/proc/net") / table)
        if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port
    }
    for process in Path("/proc").glob("[0-9]*") if sockets else ():
        try:
            if any(os.readlink(one) in sockets for one in (process / "fd").iterdir()):
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
                return f"process {process.name} ({command[:80]})"
        except (OSError, UnicodeError):
            continue  # it is another user's, or has ended
    return ""


def _rows(table: Path) -> list[list[str]]:
    try:
        return [line.split() for line in table.read_text().splitlines()[1:]]
    except OSError:
        return []
