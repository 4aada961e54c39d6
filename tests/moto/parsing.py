"""Gap: moto parses a state machine anew for every execution, which is most of its time."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from moto.stepfunctions.parser.asl.parse.asl_parser import AmazonStateLanguageParser

from tests.moto.patching import replaced


@contextmanager
def once() -> Iterator[None]:
    """Parse each definition once.

    Only the program is copied: a run changes it, and the whole parse does not survive a copy.
    """
    parse = AmazonStateLanguageParser.parse

    @cache
    def parsed(definition: str) -> Any:
        return parse(definition)

    def copied(definition: str) -> Any:
        program, tree = parsed(definition)
        return copy.deepcopy(program), tree

    with replaced(AmazonStateLanguageParser, "parse", staticmethod(copied)):
        yield
