"""Mutants: small mistakes in the code that the tests have to find.

Each `.toml` here lists those of one part of the code. See CONTRIBUTING.md, "Mutants".
"""

from __future__ import annotations

import ast
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


class StaleError(Exception):
    """An entry does not fit the code, or the tests, as they are now."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Mutant:
    """One mistake.

    Attributes:
        file: The file that it is made in.
        what: The mistake in words; for one that is alive, what it costs too.
        old: The text that is changed; the file has it once.
        new: What it is changed to.
        tests: The tests that kill it, as pytest names them; of one that is not killed, the nearest.
        alive: Why no test finds it, where none does.
        equivalent: Why no test can find it, where none can.
        tiers: The tests that touch this part of the code at all.
    """

    file: str
    what: str
    old: str
    new: str
    tests: tuple[str, ...]
    tiers: tuple[str, ...]
    alive: str | None = None
    equivalent: str | None = None

    @property
    def is_argued(self) -> bool:
        """Whether the list says why it survives."""
        return bool(self.alive or self.equivalent)

    def applied(self, root: Path) -> str:
        """The text of its file with the mistake in it.

        Raises:
            StaleError: The text to change is not there once, or what comes out is no Python.
        """
        path = root / self.file
        text = path.read_text() if path.is_file() else ""
        if (times := text.count(self.old)) != 1:
            raise StaleError(f"the text to change is there {times} times, not once")
        if self.old == self.new:
            raise StaleError("it changes nothing")
        changed = text.replace(self.old, self.new)
        try:
            ast.parse(changed)
        except SyntaxError as problem:
            raise StaleError(f"what comes out is no Python: {problem}") from problem
        return changed

    def check_tests(self, root: Path) -> None:
        """Look for its tests without running them.

        Raises:
            StaleError: One of them is not there.
        """
        for test in self.tests:
            file, _, name = test.partition("::")
            name = name.partition("[")[0]
            path = root / file
            if not path.exists() or (name and f"def {name}(" not in path.read_text()):
                raise StaleError(f"there is no test {test}")
        if not self.tests:
            raise StaleError("it names no test")


def mutants(folder: Path = Path(__file__).parent) -> list[Mutant]:
    """Every mutant of the lists in a folder."""
    found = []
    for path in sorted(folder.glob("*.toml")):
        listed = tomllib.loads(path.read_text())
        tiers = tuple(listed.pop("tiers"))
        for file, entries in listed.items():
            for entry in entries:
                tests = tuple(entry.pop("tests"))
                found.append(Mutant(file=file, tests=tests, tiers=tiers, **entry))
    return found
