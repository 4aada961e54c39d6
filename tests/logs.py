"""The lines of functions' logs, as what they say beside their text, and where they are written."""

from __future__ import annotations

import ast
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aws_lambda_powertools import Logger

from recourse.declare.ids import Traceparent

ROOT = Path(__file__).parents[1]
SENT = Traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
STANDARD = {*logging.makeLogRecord({}).__dict__, "message", "asctime", "taskName"}
LEVELS = ("debug", "info", "warning", "error", "exception", "critical")
PACKAGES = ("recourse.functions", "lambdas")
"""Where functions are; what is below them logs nothing of a saga by itself."""


@dataclass(frozen=True)
class Site:
    """A call that writes a line."""

    path: Path
    first: int
    last: int
    text: str

    def wrote(self, record: logging.LogRecord) -> bool:
        return Path(record.pathname) == self.path and self.first <= record.lineno <= self.last


class Lines(logging.Handler):
    """The lines of a log, as what they say beside their text."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[dict[str, Any]] = []
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        extra = {name: one for name, one in record.__dict__.items() if name not in STANDARD}
        self.said.append(extra | {"text": record.getMessage()})
        self.records.append(record)


def sites() -> list[Site]:
    """Every call there that writes a line of a log."""
    found = []
    for package in PACKAGES:
        for path in (ROOT / package.replace(".", "/")).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                match node:
                    case ast.Call(func=ast.Attribute(value=by, attr=level)) if (
                        level in LEVELS and ast.unparse(by).removesuffix("()").endswith("logger")
                    ):
                        last = node.end_lineno or node.lineno
                        found.append(Site(path, node.lineno, last, ast.unparse(node)))
    return found


def loggers() -> list[logging.Logger]:
    """The logs of all functions: a module's has the service's name that its first import found."""
    names = {name for name in sys.modules if name.startswith(PACKAGES)}
    made = [getattr(sys.modules[name], "logger", None) for name in names]
    made = [one() if callable(one) and not isinstance(one, Logger) else one for one in made]
    return [
        logging.getLogger(name)
        for name in {one.name for one in made if isinstance(one, Logger | logging.Logger)}
    ]


@contextmanager
def lines() -> Iterator[Lines]:
    """What is logged, at every level, for the length of a block."""
    found, levels = Lines(), {log: log.level for log in loggers()}
    for log in levels:
        log.addHandler(found)
        log.setLevel("DEBUG")
    try:
        yield found
    finally:
        for log, level in levels.items():
            log.setLevel(level)
            log.removeHandler(found)
