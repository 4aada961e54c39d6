"""What all the tests have in common."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

import tests.profile  # noqa: F401


@pytest.fixture(autouse=True)
def everything_can_be_logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What cannot be logged fails the test: else its trace only stands between the dots."""
    failed: list[str] = []

    def note(_: logging.Handler, record: logging.LogRecord) -> None:
        failed.append(record.getMessage())

    monkeypatch.setattr(logging.StreamHandler, "handleError", note)
    yield
    assert not failed
