"""What all the tests have in common."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from typing import Any

import pytest

import tests.profile  # noqa: F401
from recourse.declare.saga import Saga
from tests import matrix

KNOWN = frozenset(os.environ.get("KNOWN_SAGAS", "").split())
"""Sagas that are tested elsewhere: where the pages are tested, only what they add is."""
STAGES = {"prod", "local"}
"""What follows from a declaration is the same in each: there one is enough, and these are not."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options."""
    parser.addoption(
        "--whole-matrix",
        action="store_true",
        help="run every cell of the tests that are a product of parameters, not a sample of them",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is tested elsewhere, if anything is, and the cells beyond a sample."""
    here = [item for item in items if not (KNOWN and _is_elsewhere(item))]
    kept = set(matrix.sampled(config, here))
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = [item for item in items if item in kept]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Let the process that sums up know of the sample, where it is another."""
    if hasattr(session.config, "workeroutput") and matrix.COUNTS in session.config.stash:
        session.config.workeroutput["matrix"] = session.config.stash[matrix.COUNTS]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Hear of the sample from a worker; each has the same."""
    if counts := getattr(node, "workeroutput", {}).get("matrix"):
        node.config.stash[matrix.COUNTS] = counts


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say what was only sampled."""
    counts = config.stash.get(matrix.COUNTS, {"there": 0, "run": 0})
    if counts["run"] < counts["there"]:
        terminalreporter.write_line(matrix.summary(counts))


def _is_elsewhere(item: pytest.Item) -> bool:
    params = item.callspec.params.values() if hasattr(item, "callspec") else ()
    sagas = {one.name for one in params if isinstance(one, Saga)}
    named = {one for one in params if isinstance(one, str)} | {*getattr(item, "fixturenames", ())}
    return bool(sagas & KNOWN or named & STAGES)


@pytest.fixture(autouse=True, scope="session")
def nobody_is_signed_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No command of a test sends the token of whoever runs it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(autouse=True)
def everything_can_be_logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What cannot be logged fails the test: else its trace only stands between the dots."""
    failed: list[str] = []

    def note(_: logging.Handler, record: logging.LogRecord) -> None:
        failed.append(record.getMessage())

    monkeypatch.setattr(logging.StreamHandler, "handleError", note)
    yield
    assert not failed
