from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from local.cloud import _free_port
from local.emulator import Emulator

Start = Callable[..., Emulator]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start an emulator with the gaps given closed; it stops after the test.

    One that takes anybody's calls would take a web page's too: only whoever asks for it gets it.
    """
    started: list[Emulator] = []

    def start(
        *gaps: str, folder: str = "emulator", anybody: bool = False, **options: Any
    ) -> Emulator:
        port = _free_port(0)
        closed = gaps if anybody else ("own_callers", *gaps)
        emulator = Emulator(port=port, folder=tmp_path / folder, gaps=closed, **options)
        emulator.start()
        started.append(emulator)
        return emulator

    yield start
    for emulator in started:
        emulator.stop()
