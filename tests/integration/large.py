"""A saga whose steps return what they are asked for: a text of so many bytes each.

Two steps together, one alone, the pivot, and one after it, which is given all of their results.
"""

from __future__ import annotations

from typing import Any

from recourse.saga import Saga, Step, Together, request_model
from recourse.step import Call, Decision, Put, Refusal, action, undo

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


def _act(call: Call) -> Decision:
    asked_for = call.request[call.step]
    if "refusal" in asked_for:
        raise WordyError("x" * asked_for["refusal"])
    row = {"pk": f"effect#{call.saga_id}#{call.step}", "text": "x" * asked_for.get("row", 1)}
    return Decision(result="x" * asked_for.get("result", 1), writes=[Put(row)])


@action(refuses=[WordyError])
def left(call: Call) -> Decision:
    """Act."""
    return _act(call)


@action(refuses=[WordyError])
def right(call: Call) -> Decision:
    """Act."""
    return _act(call)


@action(refuses=[WordyError])
def middle(call: Call) -> Decision:
    """Act."""
    return _act(call)


@action(refuses=[WordyError])
def decide(call: Call) -> Decision:
    """Act."""
    return _act(call)


@action()
def after(call: Call) -> Decision:
    """Act; it was given what every step before it has returned."""
    assert all(call.results.values()), call.results
    return _act(call)


@undo()
def take_back(call: Call) -> Decision:
    """Take back."""
    row = {"pk": f"undone#{call.saga_id}#{call.step}"}
    return Decision(result="x" * call.request[call.step].get("undone", 1), writes=[Put(row)])


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
