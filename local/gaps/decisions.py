"""ministack keeps no record of what it allowed and refused; on AWS that is CloudTrail's.

A line of JSON for each decision, in the file that `RECOURSE_DECISIONS` names: who, by what key,
asked for which action on what, and where it was refused by which statement, or why. What the root
key asks for is nobody's to decide, and only kept where it is refused. The latest lines stay: those
of the file, and before them those of the one that it took the place of when that was full, `….1`.
"""

import json
import os
import threading
import time
from typing import Any

from ministack.core import iam_evaluator

LARGEST = 32 * 2**20
"""Bytes of each of the two files: some 100,000 decisions."""


class Log:
    """Lines in a file; where it is full, it takes the place of the one before.

    The standard library's own takes longer than what is to be written down.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._file = self._open()

    def keep(self, said: dict[str, Any]) -> None:
        """Write a line."""
        line = json.dumps(said).encode() + b"\n"
        with self._lock:
            if self._file.tell() + len(line) > LARGEST:
                self._file.close()
                os.replace(self._path, f"{self._path}.1")
                self._file = self._open()
            self._file.write(line)

    def _open(self) -> Any:
        return open(self._path, "ab", buffering=0)


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
    enforce, log = iam_evaluator.enforce, Log(os.environ["RECOURSE_DECISIONS"])

    def enforce_and_keep(
        key: str,
        action: str,
        service: str,
        region: str,
        resource_arn: str = "*",
        service_context: dict[str, Any] | None = None,
    ) -> Any:
        refused = enforce(key, action, service, region, resource_arn, service_context)
        if refused or not iam_evaluator.is_root_access_key(key):
            told = {"at": time.time(), "who": _who(key), "action": action, "resource": resource_arn}
            decided = _refusal(refused) if refused else {"decision": "Allow"}
            log.keep(told | decided)
        return refused

    iam_evaluator.enforce = enforce_and_keep
