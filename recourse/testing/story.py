"""What happened on a ground, told in numbered lines that a person can follow."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from recourse.testing.ground import Ground

LONGEST = 160
"""Characters of a value that a line shows."""


class WrongWorldError(AssertionError):
    """The world is not as it must be; the message is the story of how it came to that."""


class Story:
    """The lines of one course of events.

    Args:
        ground: Where it happens.
    """

    def __init__(self, ground: Ground) -> None:
        self.lines: list[str] = []
        self.wrongs: list[str] = []
        self._ground = ground
        self._began = self._now()
        self._depth = 0
        self._names: dict[str, str] = {}
        self._rows = ground.business_rows()

    def name(self, saga_id: str, saga: str) -> str:
        """A short name of a saga, in place of its id."""
        return self._names.setdefault(saga_id, f"{saga} {chr(ord('A') + len(self._names))}")

    def of(self, saga_id: str) -> str:
        """The short name of a saga that has one."""
        return self._names.get(saga_id, saga_id)

    def tell(self, line: str) -> None:
        """Add a line, after what has changed since the last one."""
        self._tell_changes("")
        self._add(line)

    def wrong(self, what: str) -> None:
        """Say what is wrong with the world."""
        if what not in self.wrongs:
            self.wrongs.append(what)

    def around(self, function: str, task: dict[str, Any], run: Callable[[], Any]) -> Any:
        """Tell of one call of a step's function; a mishap of a ground."""
        if "step" not in task:
            self.tell("the saga is parked: an operator is asked")
            return run()
        phase = task["phase"]
        side = "" if phase == "action" else f".{phase}"
        number = int(task.get("attempt", 0)) + 1
        again = f", try {number}" if number > 1 else ""
        begins = len(self.lines)
        self.tell(f"{self.of(task['saga']['id'])}: {task['step']}{side} is called{again}")
        self._depth += 1
        try:
            answer = run()
        except BaseException as problem:
            said = str(problem) or "the process died"
            self._tell_changes("it writes")
            self._add(f"it fails with {type(problem).__name__}: {said:.{LONGEST}}")
            self._shorten(begins, number)
            raise
        else:
            self._tell_changes("it writes")
            self._add(f"it answers {_short(answer)}")
            return answer
        finally:
            self._depth -= 1

    def text(self, title: str) -> str:
        """The whole story, and what is wrong at its end."""
        self._tell_changes("")
        width = len(str(len(self.lines)))
        told = [f"{n:{width}}. {line}" for n, line in enumerate(self.lines, 1)]
        wrong = [f"  - {self._renamed(one)}" for one in self.wrongs]
        return "\n".join([title, "", *told, "", "What is wrong:", *wrong])

    def _shorten(self, begins: int, number: int) -> None:
        """Leave out a try that failed as the one before it."""
        if number < 3 or len(self.lines) != begins + 2 or begins < 2:
            return
        last, now = ([one[9:] for one in self.lines[at : at + 2]] for at in (begins - 2, begins))
        if last[1] == now[1] and last[0].rpartition(", ")[0] == now[0].rpartition(", ")[0]:
            del self.lines[begins - 2 : begins]

    def _renamed(self, text: str) -> str:
        for saga_id, name in self._names.items():
            text = text.replace(saga_id, f"<{name}>")
        return text

    def _now(self) -> float:
        return self._ground.clock.seconds() + sum(self._ground.naps)

    def _add(self, line: str) -> None:
        minutes, seconds = divmod(self._now() - self._began, 60)
        self.lines.append(
            f"{int(minutes):02}:{seconds:04.1f}  {'  ' * self._depth}{self._renamed(line)}"
        )

    def _tell_changes(self, who: str) -> None:
        with self._ground.alone:
            rows = self._ground.business_rows()
        before, self._rows = self._rows, rows
        for (table, key), row in rows.items():
            was = before.get((table, key))
            if was is None:
                self._add(f"{who or 'there is now'} a new row {key} in {table}: {_short(row)}")
            elif was != row:
                changed = ", ".join(
                    f"{name} {_short(was.get(name))} → {_short(row.get(name))}"
                    for name in sorted(was.keys() | row.keys())
                    if was.get(name) != row.get(name)
                )
                self._add(f"{who or 'there is now'} {key} in {table}: {changed}")


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
