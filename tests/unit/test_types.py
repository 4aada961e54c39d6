"""The type checker finds what is wrong in a step before anything runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
STEPS = """
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

from recourse.declare.declaration import Step
from recourse.declare.step import Call, Decision, action, undo


@dataclass(frozen=True, kw_only=True)
class Seats:
    id: str
    seats: int


@dataclass(frozen=True, kw_only=True)
class HoldAsk:
    flight: Seats
    tags: Sequence[str] = ()


@action(HoldAsk, reads=lambda call: [call.ask.flight.id])
def hold(call: Call[HoldAsk]) -> Decision:
    return Decision(result=call.ask.flight.seats + 1)


@undo(reads=lambda call: [call.saga_id])
def release(call: Call) -> Decision:
    return Decision()


Step("hold", hold, undo=release, takes=["flight"])


@action(HoldAsk, reads=lambda call: [call.ask.flight.idd])  # wrong: attr-defined
def misread(call: Call[HoldAsk]) -> Decision:
    return Decision(result=call.ask.flight.seat)  # wrong: attr-defined


@action(HoldAsk)  # wrong: arg-type
def mistaken(call: Call[Seats]) -> Decision:
    return Decision()


@action()  # wrong: arg-type
def unasked(call: Call[HoldAsk]) -> Decision:
    return Decision()


@undo()
def curious(call: Call) -> Decision:
    return Decision(result=call.ask.flight)  # wrong: attr-defined


@action(HoldAsk)
def meddling(call: Call[HoldAsk]) -> Decision:
    call.ask.flight.seats = 2  # wrong: misc
    call.ask.tags.append("a")  # wrong: attr-defined
    call.results["hotel"] = None  # wrong: index
    return Decision()


class Held(TypedDict):
    seats: int


class Charged(TypedDict):
    charge: str


@action(HoldAsk)
def hold_some(call: Call[HoldAsk]) -> Decision[Held]:
    return Decision(result={"seats": call.ask.flight.seats})


@undo(HoldAsk)
def release_some(call: Call[HoldAsk, Held]) -> Decision:
    return Decision(result=[call.ask.flight.id, call.result["seats"]])


@undo()
def forget(call: Call[object, Held]) -> Decision:
    return Decision(result=call.result["seat"])  # wrong: typeddict-item


@undo()
def give_back(call: Call[object, Charged]) -> Decision:
    return Decision(result=call.result["charge"])


@action(HoldAsk)
def mislead(call: Call[HoldAsk]) -> Decision[Held]:
    return Decision(result={"seats": "a"})  # wrong: typeddict-item


Step("hold", hold_some, undo=release_some)
Step("hold", hold_some, undo=release)
Step("hold", hold_some, undo=give_back)  # wrong: misc
Step("hold", release)  # wrong: arg-type
Step("hold", hold, undo=hold)  # wrong: arg-type
"""


def test_a_wrong_field_of_a_request_is_found_by_the_type_checker(tmp_path: Path) -> None:
    file = tmp_path / "steps.py"
    file.write_text(STEPS)
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--show-error-codes", "--no-error-summary", str(file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    lines = STEPS.splitlines()
    wrong = [(at, line.partition("# wrong: ")[2]) for at, line in enumerate(lines, 1)]
    found = re.findall(r"steps\.py:(\d+): error: .*\[([\w-]+)\]$", checked.stdout, re.MULTILINE)
    assert [(int(at), code) for at, code in found] == [one for one in wrong if one[1]], (
        checked.stdout + checked.stderr
    )
