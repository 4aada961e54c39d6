"""The release before and this one work on the same tables and queues, in turns.

The app is the one that `recourse new` of the release before has made. Each of the two processes
has one release of the library; after each start, delivery, round of the sweeper and task of a state
machine all rows and messages go to whichever comes next. `HYPOTHESIS_TIMES=3 pytest …` lets each
fault meet each way in which they follow each other.
"""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any, get_args

import pytest

from recourse.declare.declaration import Coordination
from recourse.ledger.history import AT_REST
from tests import ROOT
from tests.integration.test_every_saga import PAST_EVERY_DEADLINE
from tests.profile import TIMES

BEFORE = "366f42eb89f7"
"""What stands for the release before, until there is a tag."""
EMPTY: dict[str, Any] = {"rows": {}, "messages": {}}
State = dict[str, Any]
ROUNDS = 5
"""How often the sweeper looks at a saga that has not ended."""


Turns = Callable[[], "Release"]


class Release:
    """A process of a release."""

    def __init__(self, name: str, process: subprocess.Popen[str]) -> None:
        self.name = name
        self._process = process

    def do(self, left: State, what: str, turns: Turns, **arguments: Any) -> tuple[Any, State]:
        """Do a thing with what was left; the answer, and what is left then.

        Args:
            left: What was left.
            what: What to do.
            turns: Who does the tasks of a state machine that it runs meanwhile.
            arguments: Of what to do.
        """
        said = self._ask({"left": left, "do": what, "with": arguments})
        while "task" in said:
            other = turns()
            if other is self:
                said = self._ask(None)
                continue
            call = {"function": said["function"], "task": said["task"]}
            answer, left = other.do(said["left"], "perform", turns, **call)
            said = self._ask({"answer": answer, "left": left})
        return said["answer"], said["left"]

    def _ask(self, asked: Any) -> dict[str, Any]:
        asks, says = self._process.stdin, self._process.stdout
        assert asks is not None and says is not None
        asks.write(json.dumps(asked) + "\n")
        asks.flush()
        line = says.readline()
        assert line, f"{self.name} ended"
        said: dict[str, Any] = json.loads(line)
        return said


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


FAULTS: list[tuple[dict[str, str], str]] = [
    ({}, "SUCCEEDED"),
    ({"payment": "reject"}, "COMPENSATED"),
    ({"seats": "crash:1"}, "SUCCEEDED"),
    ({"payment": "crash"}, "SUCCEEDED"),
    ({"seats": "late"}, "COMPENSATED"),
    ({"payment": "late"}, "COMPENSATED"),
    ({"payment": "reject", "seats.undo": "crash:1"}, "COMPENSATED"),
    ({"payment": "timeout:1"}, "SUCCEEDED"),
]
WAYS = ["begun before, ended now", "begun now, ended before", "in turns"]


def in_turn(way: str, releases: tuple[Release, Release], dice: random.Random) -> Iterator[Release]:
    """Who does the next thing."""
    first, second = releases if way == WAYS[0] else reversed(releases)
    if way != "in turns":
        yield first
        yield from repeat(second)
    while True:
        yield dice.choice(releases)


@pytest.mark.parametrize("seed", range(TIMES))
@pytest.mark.parametrize("coordination", get_args(Coordination))
@pytest.mark.parametrize("number", range(len(FAULTS)))
def test_a_saga_goes_through_both(
    number: int, coordination: Coordination, seed: int, releases: tuple[Release, Release]
) -> None:
    faults, status = FAULTS[number]
    way = WAYS[(number + (coordination == "choreography") + seed) % len(WAYS)]
    dice = random.Random(seed)
    order = in_turn(way, releases, dice)
    turns = partial(next, order)
    body = json.loads((ROOT / "recourse/new/template/samples/booking.json").read_text())
    start = {"saga": "booking", "body": body, "key": "k", "coordination": coordination}
    saga, left = turns().do(EMPTY, "start", turns, faults=faults, **start)
    again, left = turns().do(left, "start", turns, faults=faults, run=False, **start)
    assert again == saga
    seen: set[str] = set()
    for _ in range(ROUNDS):
        left = deliver_all(left, turns, dice, seen)
        shown, left = turns().do(left, "view", turns, saga=saga)
        if shown["status"] in AT_REST:
            break
        _, left = turns().do(left, "sweep", turns, timescale=PAST_EVERY_DEADLINE)
    before, now = (release.do(left, "view", turns, saga=saga)[0] for release in releases)
    assert {name: now[name] for name in before} == before, "it may show more, and nothing else"
    assert now["status"] == status, (way, now)
    undone = status == "COMPENSATED"
    untouched = {"free": {"N": "12"}, "status": {"S": "RELEASED"}}
    rows = {row["pk"]["S"]: row for row in left["rows"]["seats"]}
    workshop, hold = (rows.get(pk, untouched) for pk in ("workshop#pottery", f"hold#{saga}"))
    assert workshop["free"]["N"] == ("12" if undone else "10")
    assert hold["status"]["S"] == ("RELEASED" if undone else "HELD")


def deliver_all(left: State, turns: Turns, dice: random.Random, seen: set[str]) -> State:
    """Deliver what waits, each message twice, so that both releases may meet it."""
    for _ in range(300):
        waiting = [name for name, messages in left["messages"].items() if messages]
        if not waiting:
            return left
        queue = dice.choice(waiting)
        messages = left["messages"][queue]
        dead, left = turns().do(left, "deliver", turns, name=queue)
        assert not dead
        repeated = [one for one in messages if (queue + one[0]) not in seen]
        left["messages"][queue] += repeated
        seen |= {queue + one[0] for one in repeated}
    raise AssertionError(f"still told of after 300 deliveries: {left['messages']}")
