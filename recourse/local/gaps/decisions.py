"""ministack keeps no record of its authorization decisions; on AWS CloudTrail does.

Each decision is a line of JSON in the file that `RECOURSE_DECISIONS` names: when, who asked for
which action on which resource; for what is allowed, by which action and resource of a policy, as
the policy spells them; for a refusal the statement and the reason. Calls by the root key are not
subject to policies, and only recorded if they are refused. A full file is renamed to `….1`, which
it replaces, so that the latest lines are kept.
"""

import atexit
import json
import os
import threading
import time
from collections import deque
from contextvars import ContextVar
from typing import Any

from ministack.core import iam_evaluator

from recourse.local import judging

LARGEST = 32 * 2**20
"""Bytes of each of the two files: some 100,000 decisions."""
EVERY = 0.2
"""Most seconds until a decision is in the file."""


_by: ContextVar[list[str] | None] = ContextVar("by", default=None)


class Log:
    """Appends lines to a file, which is rotated when it is full.

    A thread writes many lines at once: writing yields to other threads of the emulator, and cost
    each decision half a millisecond.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._lines: deque[dict[str, Any]] = deque()
        self._lock = threading.Lock()
        threading.Thread(target=self._write_often, daemon=True, name="decisions").start()
        atexit.register(self.write)

    def append(self, line: dict[str, Any]) -> None:
        """Add a line, to be written soon."""
        self._lines.append(line)

    def write(self) -> None:
        """Write the lines that were added."""
        with self._lock:
            lines = []
            while self._lines:
                lines.append(json.dumps(self._lines.popleft()) + "\n")
            if lines:
                with open(self._path, "a") as file:
                    file.writelines(lines)
                if os.path.getsize(self._path) > LARGEST:
                    os.replace(self._path, f"{self._path}.1")

    def _write_often(self) -> None:
        while True:
            time.sleep(EVERY)
            self.write()


def _who(key: str) -> str:
    identity = iam_evaluator.resolve_caller_identity(key)
    return identity["userArn"] if identity else key


def _refusal(refused: Any) -> dict[str, str]:
    if isinstance(refused, iam_evaluator.AuthError):
        return {"decision": "Unauthenticated", "reason": f"{refused.code}: {refused.message}"}
    return {
        "decision": refused.decision,
        "statement": refused.matched_sid,
        "reason": refused.reason,
        "policy_of": refused.resource_policy_arn,
    }


def _spelt(asked: Any, statement: Any) -> list[str]:
    """The first action and the first resource of a statement that are what is asked for."""
    action = (a for a in statement.actions if iam_evaluator._action_matches(asked.action, [a], []))
    arn = asked.resource_arn
    resource = (r for r in statement.resources if iam_evaluator._resource_matches(arn, [r], []))
    return [next(action, ""), next(resource, "")]


def close() -> None:
    """Record each decision."""
    log = Log(os.environ["RECOURSE_DECISIONS"])
    first_match = iam_evaluator._first_match

    def note(asked: Any, statements: Any, effect: str) -> Any:
        found = first_match(asked, statements, effect)
        if found and effect == "Allow" and not _by.get():
            _by.set(_spelt(asked, found))
        return found

    def record(asked: judging.Question, judge: judging.Judge) -> Any:
        _by.set(None)  # and none stays where the policy of a resource allows
        refused = judge(asked)
        if refused or not iam_evaluator.is_root_access_key(asked.key):
            asked_for = {
                "at": time.time(),
                "who": _who(asked.key),
                "action": asked.action,
                "resource": asked.resource,
            }
            decided = _refusal(refused) if refused else {"decision": "Allow", "by": _by.get()}
            log.append(asked_for | decided)
        return refused

    iam_evaluator._first_match = note
    judging.change(record)
