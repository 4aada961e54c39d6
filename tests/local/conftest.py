from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from local.cloud import _free_port
from local.emulator import Emulator

Start = Callable[..., Emulator]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start an emulator with the gaps given closed; it stops after the test."""
    started: list[Emulator] = []

    def start(*gaps: str, timescale: float = 1, folder: str = "emulator") -> Emulator:
        port = _free_port(0)
        emulator = Emulator(port=port, folder=tmp_path / folder, timescale=timescale, gaps=gaps)
        emulator.start()
        started.append(emulator)
        return emulator

    yield start
    for emulator in started:
        emulator.stop()
