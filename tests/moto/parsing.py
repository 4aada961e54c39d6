"""Gap: moto parses a state machine anew for every execution, and a path at every use.

That is most of its time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from typing import Any

from moto.stepfunctions.parser.asl.component.common.path import result_path
from moto.stepfunctions.parser.asl.component.eval_component import EvalComponent
from moto.stepfunctions.parser.asl.parse.asl_parser import AmazonStateLanguageParser
from moto.stepfunctions.parser.asl.utils import json_path

from tests.moto.patching import replaced


def _key(component: Any) -> str:
    return str(id(component))


@contextmanager
def once() -> Iterator[None]:
    """Parse each definition and each path once; every execution runs the same program.

    All that a run would change in a program are the keys under which it counts its retries, which
    moto makes up at their first use. Two runs at once would not agree on them, so here they stand.
    """
    parse = AmazonStateLanguageParser.parse

    @cache
    def parsed(definition: str) -> Any:
        return parse(definition)

    with (
        replaced(AmazonStateLanguageParser, "parse", staticmethod(parsed)),
        replaced(EvalComponent, "heap_key", property(_key)),
        _cached(json_path),
        _cached(result_path),
    ):
        yield


def _cached(module: Any) -> AbstractContextManager[Any]:
    return replaced(module, "parse", cache(module.parse))
