"""What a step is asked, from the task that its function is given to what its author sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from recourse.declare.asks import AskError
from recourse.declare.step import Call, Decision, Put, action, undo
from recourse.errors import Refusal, TransientError
from recourse.run.runner import StepRunner
from tests.integration.bench import S1, S2, TABLE, Bench


@dataclass(frozen=True, kw_only=True)
class Line:
    sku: str
    quantity: int = 1


@dataclass(frozen=True, kw_only=True)
class Ask:
    lines: Sequence[Line]
    names: Mapping[str, str] | None = None
    floor: int = 3


@action(Ask, reads=lambda call: [f"item#{line.sku}" for line in call.ask.lines])
def order(call: Call[Ask]) -> Decision:
    row = {"pk": f"order#{call.saga_id}", "items": len(call.items)}
    total = sum(line.quantity for line in call.ask.lines)
    return Decision(result={"total": total, "floor": call.ask.floor}, writes=[Put(row)])


@undo(Ask, reads=lambda call: [f"order#{call.saga_id}"])
def annul(call: Call[Ask]) -> Decision:
    return Decision(result={"lines": len(call.ask.lines), "was": call.result["total"]})


ORDERED = {"lines": [{"sku": "mug", "quantity": 2}, {"sku": "pan"}]}
WRONG = {"lines": [{"sku": "mug"}, {"quantity": 2}]}


@pytest.fixture
def orders(bench: Bench) -> Bench:
    """The bench, with a step that orders."""
    bench.runner = StepRunner(bench.dynamodb, TABLE, order, annul, **bench.time)
    return bench


def test_an_author_is_given_the_class_that_the_step_asks_for(orders: Bench) -> None:
    assert orders.ask(request=ORDERED) == {"total": 3, "floor": 3}
    row = orders.row(f"order#{S1}")
    assert row is not None and row["items"] == 2
    assert orders.ask("undo", request=ORDERED) == {"outcome": "done"}


@pytest.mark.parametrize(
    "more",
    [
        {"floor": None, "names": None},
        {"floor": None, "new": {"of": ["a", "later", "release"]}},
    ],
)
def test_requests_outlive_releases(orders: Bench, more: dict[str, Any]) -> None:
    """Of a later one what is new is ignored; what an earlier one lacks is defaulted."""
    lines = [{"sku": "mug", "quantity": 3, "colour": "red"}]
    assert orders.ask(request={"lines": lines} | more) == {"total": 3, "floor": 3}


@pytest.mark.parametrize("phase", ["action", "undo"])
def test_what_cannot_be_made_is_an_error_that_does_not_pass_and_names_the_field(
    orders: Bench, phase: str
) -> None:
    with pytest.raises(AskError, match=r"^lines\.1\.sku of the request must be there") as raised:
        orders.ask(phase, request=WRONG)
    assert not isinstance(raised.value, TransientError | Refusal)
    assert not orders.naps and orders.row(f"order#{S1}") is None


def test_an_operator_can_skip_what_cannot_be_made(orders: Bench) -> None:
    assert orders.ask(request=WRONG, role="retriable", skips={"hold": "by post"}) is None
    skipped = orders.ask("undo", S2, request=WRONG, skips={"hold.undo": "by hand"})
    assert skipped == {"outcome": "skipped"}


def test_what_is_done_is_answered_though_it_could_not_be_made_any_more(orders: Bench) -> None:
    assert orders.ask(request=ORDERED) == orders.ask(request=WRONG) == {"total": 3, "floor": 3}
    assert orders.ask("undo", request=ORDERED) == orders.ask("undo", request=WRONG)


def test_a_step_that_changes_what_it_was_given_fails_and_nothing_is_written(bench: Bench) -> None:
    @action(Ask)
    def greedy(call: Call[Ask]) -> Decision:
        spoilt: Any = call.results
        spoilt["earlier"]["price"] = 0
        return Decision(writes=[Put({"pk": "greedy"})])

    runner = StepRunner(bench.dynamodb, TABLE, greedy, **bench.time)
    results = {"earlier": {"price": 9}}
    with pytest.raises(TypeError, match="does not support item assignment"):
        bench.ask(runner=runner, request=ORDERED, results=results)
    assert results == {"earlier": {"price": 9}} and bench.row("greedy") is None
