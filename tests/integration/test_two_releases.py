"""The release before and this one work on the same tables and queues, in turns.

The app is the one that `recourse new` of the release before has made. Each of the two processes
has one release of the library; after each start and each delivery all rows and messages go to
whichever comes next.
"""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests import ROOT

BEFORE = "366f42eb89f7"
"""What stands for the release before, until there is a tag."""
EMPTY: dict[str, Any] = {"rows": {}, "messages": {}}
State = dict[str, Any]


class Release:
    """A process of a release."""

    def __init__(self, name: str, process: subprocess.Popen[str]) -> None:
        self.name = name
        self._process = process

    def do(self, left: State, what: str, **arguments: Any) -> tuple[Any, State]:
        """Do a thing with what was left; the answer, and what is left then."""
        asks, says = self._process.stdin, self._process.stdout
        assert asks is not None and says is not None
        asks.write(json.dumps({"left": left, "do": what, "with": arguments}) + "\n")
        asks.flush()
        line = says.readline()
        assert line, f"{self.name} ended"
        said = json.loads(line)
        return said["answer"], said["left"]


@contextmanager
def at_work(name: str, library: Path, app: Path) -> Iterator[Release]:
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", ROOT / "tests" / "release.py"],
        cwd=app,
        env=os.environ | {"PYTHONPATH": str(library), "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Release(name, process)
        finally:
            process.kill()


def git(*command: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(("git", *command), cwd=ROOT, capture_output=True)


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Release, Release]]:
    """The release before, and this one."""
    tag = git("describe", "--tags", "--abbrev=0", "HEAD^").stdout.decode().strip() or BEFORE
    archive = git("archive", "--format=zip", tag, "recourse")
    if archive.returncode:
        pytest.skip(f"this clone has no {tag}: test_recorded.py reads what earlier commits wrote")
    folder = tmp_path_factory.mktemp("before")
    with zipfile.ZipFile(io.BytesIO(archive.stdout)) as file:
        file.extractall(folder)
    app = folder / "recourse" / "new" / "template"
    with ExitStack() as stack:
        before = stack.enter_context(at_work(tag, folder, app))
        now = stack.enter_context(at_work("this", ROOT, app))
        yield before, now


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("coordination", ["orchestration", "choreography"])
@pytest.mark.parametrize(
    ("faults", "status", "free", "hold"),
    [
        ({}, "SUCCEEDED", "10", "HELD"),
        ({"payment": "reject"}, "COMPENSATED", "12", "RELEASED"),
    ],
    ids=["done", "undone"],
)
def test_a_saga_goes_through_both(
    faults: dict[str, str],
    status: str,
    free: str,
    hold: str,
    coordination: str,
    seed: int,
    releases: tuple[Release, Release],
) -> None:
    turns = random.Random(seed)
    body = json.loads((ROOT / "recourse/new/template/samples/booking.json").read_text())
    start = {"saga": "booking", "body": body, "key": "k", "coordination": coordination}
    first, second = turns.sample(releases, 2)
    saga, left = first.do(EMPTY, "start", faults=faults, **start)
    again, left = second.do(left, "start", faults=faults, run=False, **start)
    assert again == saga
    seen: set[str] = set()
    for _ in range(200):
        waiting = [name for name, messages in left["messages"].items() if messages]
        if not waiting:
            break
        queue = turns.choice(waiting)
        messages = left["messages"][queue]
        dead, left = turns.choice(releases).do(left, "deliver", name=queue)
        assert not dead
        # Once more, so that the other release may meet what this one has done.
        repeated = [one for one in messages if (queue + one) not in seen]
        left["messages"][queue] += repeated
        seen |= {queue + one for one in repeated}
    assert not waiting
    before, now = (release.do(left, "view", saga=saga)[0] for release in releases)
    assert {name: now[name] for name in before} == before, "it may show more, and nothing else"
    assert now["status"] == status
    rows = {row["pk"]["S"]: row for row in left["rows"]["seats"]}
    assert rows["workshop#pottery"]["free"]["N"] == free
    assert rows[f"hold#{saga}"]["status"]["S"] == hold
