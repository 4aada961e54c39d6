"""Resident memory of processes, as the operating system has it."""

from __future__ import annotations

import os
import subprocess
from collections import defaultdict
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")


def own() -> float:
    """MB that this process holds."""
    return sum(size for pid, _, size in _processes() if pid == os.getpid())


def below() -> tuple[float, int]:
    """MB that all processes below this one hold together, and how many they are."""
    children: dict[int, list[tuple[int, float]]] = defaultdict(list)
    for pid, parent, size in _processes():
        children[parent].append((pid, size))
    total, count, parents = 0.0, 0, [os.getpid()]
    while parents:
        for pid, size in children[parents.pop()]:
            total, count = total + size, count + 1
            parents.append(pid)
    return total, count


def _processes() -> list[tuple[int, int, float]]:
    """Every process: its id, its parent's, and its MB."""
    if not Path("/proc/self/stat").exists():
        said = subprocess.run(
            ["ps", "-A", "-o", "pid=,ppid=,rss="], check=True, capture_output=True, text=True
        ).stdout
        rows = (line.split() for line in said.splitlines())
        return [(int(pid), int(parent), int(size) / 1024) for pid, parent, size in rows]
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name, in brackets, may hold anything.
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended meanwhile
        found.append((int(path.parent.name), int(fields[1]), int(fields[21]) * _PAGE / 2**20))
    return found
