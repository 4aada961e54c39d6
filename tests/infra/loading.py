"""Imports handlers, each in a process of its own, and says what that loaded.

A program: it reads a list of handlers, `{"module", "attribute", "environment"}`, from stdin as
JSON, and writes for each the names of the modules loaded. Each is forked from here, where nothing
is but the standard library and botocore, which they all need.
"""

from __future__ import annotations

import json
import os
import sys
from functools import partial
from importlib import import_module

import botocore.session  # noqa: F401

from tests.infra.apart import apart


def loaded(module: str, attribute: str, environment: dict[str, str]) -> list[str]:
    """What a handler's start loads; a step's function also makes its runner."""
    os.environ.update(environment)
    assert callable(getattr(import_module(module), attribute))
    if module in ("recourse.functions.step", "recourse.functions.step_queue"):
        import_module("recourse.functions.step").runner()
    return sorted(sys.modules)


if __name__ == "__main__":
    json.dump([apart(partial(loaded, **one)) for one in json.load(sys.stdin)], sys.stdout)
