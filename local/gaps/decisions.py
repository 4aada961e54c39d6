"""ministack keeps no record of what it allowed and refused; on AWS that is CloudTrail's.

A line of JSON for each decision, in the file that `RECOURSE_DECISIONS` names: when, who asked for
which action on what, and where it was refused by which statement, or why. What the root
key asks for is nobody's to decide, and only kept where it is refused. The latest lines stay: those
of the file, and before them those of the one that it took the place of when that was full, `….1`.
"""

import atexit
import json
import os
import threading
import time
from collections import deque
from typing import Any

from ministack.core import iam_evaluator

from local import judging

LARGEST = 32 * 2**20
"""Bytes of each of the two files: some 100,000 decisions."""
EVERY = 0.2
"""Seconds after which a decision is in the file at the latest."""


class Log:
    """Lines in a file; where it is full, it takes the place of the one before.

    They are written by a thread, many at once: whoever writes a file lets other threads of the
    emulator go first, and each decision waited half a millisecond for them.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._said: deque[dict[str, Any]] = deque()
        self._lock = threading.Lock()
        threading.Thread(target=self._write_often, daemon=True, name="decisions").start()
        atexit.register(self.write)

    def keep(self, said: dict[str, Any]) -> None:
        """Take note of what is to be a line."""
        self._said.append(said)

    def write(self) -> None:
        """Write what was taken note of."""
        with self._lock:
            lines = []
            while self._said:
                lines.append(json.dumps(self._said.popleft()) + "\n")
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


def close() -> None:
    """Keep each decision."""
    log = Log(os.environ["RECOURSE_DECISIONS"])

    def keep(asked: judging.Question, judge: judging.Judge) -> Any:
        refused = judge(asked)
        if refused or not iam_evaluator.is_root_access_key(asked.key):
            told = {
                "at": time.time(),
                "who": _who(asked.key),
                "action": asked.action,
                "resource": asked.resource,
            }
            decided = _refusal(refused) if refused else {"decision": "Allow"}
            log.keep(told | decided)
        return refused

    judging.change(keep)
