"""A saga whose steps return what they are asked for: a text of so many bytes each.

Two steps together, one alone, the pivot, and one after it, which is given all of their results.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from recourse.declare.declaration import Step, Together
from recourse.declare.request import request_model
from recourse.declare.saga import Saga
from recourse.declare.step import Call, Decision, Put, action, undo
from recourse.errors import Refusal

STEPS = ("left", "right", "middle", "decide", "after")
BEFORE = STEPS[:3]


class WordyError(Refusal):
    """Says no, at any length."""


@request_model
class LargeRequest:
    """How many bytes the result of each step has, or the text of its refusal."""

    large_id: str
    left: dict[str, Any]
    right: dict[str, Any]
    middle: dict[str, Any]
    decide: dict[str, Any]
    after: dict[str, Any]


def asked(**steps: dict[str, Any]) -> dict[str, Any]:
    """A request; a step that is not named returns a text of one byte."""
    return {"large_id": "large", **{name: {"result": 1} for name in STEPS}, **steps}


Wanted = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What a step is asked for, under its own name in one saga or another."""

    left: Wanted | None = None
    right: Wanted | None = None
    middle: Wanted | None = None
    decide: Wanted | None = None
    after: Wanted | None = None
    hold: Wanted | None = None
    cake: Wanted | None = None
    music: Wanted | None = None

    def of(self, step: str) -> Wanted:
        """What this one is asked for."""
        found: Wanted = getattr(self, step)
        return found


def _act(call: Call[Ask]) -> Decision:
    asked_for = call.ask.of(call.step)
    if "refusal" in asked_for:
        raise WordyError("x" * asked_for["refusal"])
    row = {"pk": f"effect#{call.saga_id}#{call.step}", "text": "x" * asked_for.get("row", 1)}
    return Decision(result="x" * asked_for.get("result", 1), writes=[Put(row)])


@action(Ask, refuses=[WordyError])
def left(call: Call[Ask]) -> Decision:
    """Act."""
    return _act(call)


@action(Ask, refuses=[WordyError])
def right(call: Call[Ask]) -> Decision:
    """Act."""
    return _act(call)


@action(Ask, refuses=[WordyError])
def middle(call: Call[Ask]) -> Decision:
    """Act."""
    return _act(call)


@action(Ask, refuses=[WordyError])
def decide(call: Call[Ask]) -> Decision:
    """Act."""
    return _act(call)


@action(Ask)
def after(call: Call[Ask]) -> Decision:
    """Act; it was given what every step before it has returned."""
    assert all(call.results.values()), call.results
    return _act(call)


@undo(Ask)
def take_back(call: Call[Ask]) -> Decision:
    """Take back."""
    row = {"pk": f"undone#{call.saga_id}#{call.step}"}
    return Decision(result="x" * call.ask.of(call.step).get("undone", 1), writes=[Put(row)])


def saga(**shares: int) -> Saga:
    """The saga, with the shares that steps declare."""
    return Saga(
        "large",
        request=LargeRequest,
        business_key="large_id",
        steps=[
            Together(
                *(
                    Step(
                        name,
                        deed,
                        undo=take_back,
                        takes=[name],
                        result_bytes=shares.get(name),
                    )
                    for name, deed in (("left", left), ("right", right))
                )
            ),
            Step(
                "middle",
                middle,
                undo=take_back,
                takes=["middle"],
                after=["left", "right"],
                result_bytes=shares.get("middle"),
            ),
            Step(
                "decide",
                decide,
                pivot=True,
                takes=["decide"],
                after=["left", "right", "middle"],
                result_bytes=shares.get("decide"),
            ),
            Step(
                "after",
                after,
                takes=["after"],
                after=["left", "right", "middle", "decide"],
                result_bytes=shares.get("after"),
            ),
        ],
    )


LARGE = saga()
