"""Imports handlers, each in a process of its own, and says what that loaded.

A program: it reads a list of handlers, `{"module", "attribute", "environment"}`, from stdin as
JSON, and writes for each the names of the modules loaded. Each is forked from here, where nothing
is but the standard library and botocore, which they all need.
"""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module

import botocore.session  # noqa: F401


def loaded(module: str, attribute: str, environment: dict[str, str]) -> list[str]:
    """What a handler's start loads; a step's function also makes its runner."""
    os.environ.update(environment)
    assert callable(getattr(import_module(module), attribute))
    if module in ("recourse.functions.step", "recourse.functions.step_queue"):
        import_module("recourse.functions.step").runner()
    return sorted(sys.modules)


def apart(handler: dict[str, object]) -> list[str]:
    """What `loaded` says in a process of its own."""
    reads, writes = os.pipe()
    if child := os.fork():
        os.close(writes)
        with os.fdopen(reads) as answer:
            text = answer.read()
        assert os.waitpid(child, 0)[1] == 0, handler
        found: list[str] = json.loads(text)
        return found
    with os.fdopen(writes, "w") as answer:
        json.dump(loaded(**handler), answer)  # type: ignore[arg-type]
    os._exit(0)


if __name__ == "__main__":
    json.dump([apart(one) for one in json.load(sys.stdin)], sys.stdout)
