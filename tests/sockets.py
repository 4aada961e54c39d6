"""Which ports processes listen on, as Linux says it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import pytest

LISTENS = "0A"


def listening(processes: Iterable[int]) -> set[tuple[str, int]]:
    """The addresses that some processes listen on, where they use TCP."""
    if not Path("/proc/net/tcp").exists():
        pytest.skip("only Linux says so")
    theirs = {link for process in processes for link in _links(process)}
    found = set()
    for name, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path("/proc/net", name).read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == LISTENS and f"socket:[{inode}]" in theirs:
                address, _, port = local.partition(":")
                words = [bytes.fromhex(address[n : n + 8])[::-1] for n in range(0, len(address), 8)]
                found.add((socket.inet_ntop(family, b"".join(words)), int(port, 16)))
    return found


def family(process: int) -> list[int]:
    """A process and all that it has started, directly or not."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):
            parents[int(folder.name)] = int(
                (folder / "stat").read_text().rpartition(")")[2].split()[1]
            )
    found = [process]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def _links(process: int) -> list[str]:
    links = []
    with suppress(FileNotFoundError, ProcessLookupError):
        for name in os.listdir(f"/proc/{process}/fd"):
            with suppress(FileNotFoundError):
                links.append(os.readlink(f"/proc/{process}/fd/{name}"))
    return links
