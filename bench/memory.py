"""Memory of processes, as the operating system has it."""

from __future__ import annotations

import os
import subprocess
from collections import defaultdict
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")


def own() -> float:
    """MB that this process holds."""
    return sum(size for pid, _, size in _processes() if pid == os.getpid())


def below(root: int) -> tuple[float, int]:
    """MB that all processes below one hold together, and how many they are.

    What they share is divided among those that share it (PSS), where the operating system is
    Linux; elsewhere it counts for each of them.
    """
    children: dict[int, list[tuple[int, float]]] = defaultdict(list)
    for pid, parent, size in _processes():
        children[parent].append((pid, size))
    total, count, parents = 0.0, 0, [root]
    while parents:
        for pid, size in children[parents.pop()]:
            total, count = total + (_proportional(pid) or size), count + 1
            parents.append(pid)
    return total, count


def _proportional(pid: int) -> float | None:
    """A process's share of memory in MB, where the operating system says so."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("Pss:")]
    return int(found[0]) / 1024 if found else None


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
