"""A fresh bed for each test, and each channel in turn."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from recourse.functions import kit
from tests.push.bed import Bed, bed
from tests.push.channels import CHANNELS, Make


@pytest.fixture(params=CHANNELS.values(), ids=list(CHANNELS))
def make(request: pytest.FixtureRequest) -> Make:
    """Each channel in turn."""
    found: Make = request.param
    return found


@pytest.fixture
def ground(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bed]:
    with bed() as made:
        monkeypatch.setattr(kit, "feed", lambda: made.feed)
        yield made
