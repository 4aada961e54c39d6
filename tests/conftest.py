"""What all the tests have in common."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest

import tests.profile  # noqa: F401
from recourse.declare.saga import Saga

KNOWN = frozenset(os.environ.get("KNOWN_SAGAS", "").split())
"""Sagas that are tested elsewhere: where the pages are tested, only what they add is."""
STAGES = {"prod", "local"}
"""What follows from a declaration is the same in each: there one is enough, and these are not."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is tested elsewhere, if anything is."""
    if KNOWN:
        elsewhere = [item for item in items if _is_elsewhere(item)]
        config.hook.pytest_deselected(items=elsewhere)
        items[:] = [item for item in items if not _is_elsewhere(item)]


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
