"""Gap: moto parses a state machine anew for every execution, and a path at every use.

That is most of its time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from jsonpath_ng.ext.parser import parse
from moto.stepfunctions.parser.asl.component.common.path import result_path
from moto.stepfunctions.parser.asl.component.eval_component import EvalComponent
from moto.stepfunctions.parser.asl.parse.asl_parser import AmazonStateLanguageParser
from moto.stepfunctions.parser.asl.utils import json_path

from recourse.testing.patching import replaced


def _key(component: Any) -> str:
    return str(id(component))


_parse = AmazonStateLanguageParser.parse


@lru_cache(maxsize=64)
def _parsed(definition: str) -> Any:
    """For the process: one takes a second or two, and many grounds have the same."""
    return _parse(definition)


_parsed_path = lru_cache(maxsize=4096)(parse)


@contextmanager
def once() -> Iterator[None]:
    """Parse each definition and each path once; every execution runs the same program.

    All that a run would change in a program are the keys under which it counts its retries, which
    moto makes up at their first use. Two runs at once would not agree on them, so here they stand.
    """
    with (
        replaced(AmazonStateLanguageParser, "parse", staticmethod(_parsed)),
        replaced(EvalComponent, "heap_key", property(_key)),
        replaced(json_path, "parse", _parsed_path),
        replaced(result_path, "parse", _parsed_path),
    ):
        yield
