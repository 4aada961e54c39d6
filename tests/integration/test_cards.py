"""Card payments by a provider elsewhere: its books and our rows agree, whatever goes wrong."""

from __future__ import annotations

import itertools
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any, get_args

import pytest

from recourse.declare.declaration import Coordination
from recourse.testing.handlers import Killed
from services import cards
from services.gateways import exchange
from statemachines import SAGAS
from tests.ground import Ground, ground
from tests.integration.test_every_saga import bring_to_rest, must_be_as_told

SAGA = SAGAS["card-order"]
SAMPLES = Path(__file__).parents[2] / "samples"
ORDER: dict[str, Any] = json.loads((SAMPLES / "card-order.json").read_text())
PRICE = 189900 + 4 * 34900
ALWAYS = 99
COORDINATIONS: tuple[Coordination, ...] = get_args(Coordination)
each_coordination = pytest.mark.parametrize("coordination", COORDINATIONS)


keys = itertools.count()


@pytest.fixture(scope="module")
def cards_only() -> Iterator[Ground]:
    """A ground with a thousand times what the sample needs."""
    with ground({SAGA.name: SAGA}) as made:
        for sku, body in json.loads((SAMPLES / "seed.json").read_text())["stock"].items():
            made.put("stock", sku, body | {"total": 1000 * body["total"]})
        yield made


@pytest.fixture
def stocked(cards_only: Ground, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ground]:
    """That ground, with a provider that works, and a client that soon stops waiting."""
    monkeypatch.setattr(exchange, "LONGEST", 0.15)
    monkeypatch.setattr(cards_only, "mishap", cards_only.mishap)
    yield cards_only
    be_quiet(cards_only)
    cards_only.books.recover()
    cards_only.books.journal.clear()


def start(
    ground: Ground,
    coordination: Coordination,
    body: dict[str, Any] = ORDER,
    faults: dict[str, str] | None = None,
) -> str:
    key = f"card-{next(keys)}"
    return ground.start(SAGA.name, body, key=key, faults=faults, coordination=coordination)


def be_quiet(ground: Ground) -> None:
    """Wait until the provider has done what was asked of it, whoever has gone meanwhile."""
    while ground.books.busy:
        time.sleep(0.01)


def must_have_one_effect(ground: Ground) -> None:
    """Of one payment, each turn at most once."""
    turns = Counter((entry["reference"], entry["operation"]) for entry in ground.books.journal)
    assert all(times == 1 for times in turns.values()), turns


@each_coordination
def test_a_card_is_authorised_and_captured_once(
    stocked: Ground, coordination: Coordination
) -> None:
    saga = start(stocked, coordination)
    stocked.settle()
    assert must_be_as_told(stocked, SAGA, saga) == "SUCCEEDED"
    assert [(e["operation"], e["amount"]) for e in stocked.books.journal] == [
        ("authorise", PRICE),
        ("capture", PRICE),
    ]


@each_coordination
def test_a_declined_card_compensates_and_the_provider_is_asked_nothing_more(
    stocked: Ground, coordination: Coordination
) -> None:
    body = ORDER | {"card": {"token": "tok_declined"}}
    saga = start(stocked, coordination, body)
    stocked.settle()
    assert must_be_as_told(stocked, SAGA, saga) == "COMPENSATED"
    reason = stocked.view(saga)["reason"]
    assert (reason["step"], reason["error"]) == ("card", "CardDeclinedError")
    assert saga not in stocked.books.payments


@pytest.mark.matrix
@each_coordination
@pytest.mark.parametrize("times", [1, ALWAYS])
@pytest.mark.parametrize("fault", ["before", "after", "slow", "late"])
@pytest.mark.parametrize("operation", ["authorise", "capture", "cancel"])
def test_the_books_agree_whatever_the_provider_does(
    stocked: Ground, operation: str, fault: str, times: int, coordination: Coordination
) -> None:
    stocked.books.ask_for(operation, fault, times=times, seconds=0.3)
    faults = {"capture": "reject"} if operation == "cancel" else {}
    saga = start(stocked, coordination, faults=faults)
    stocked.settle()
    if times == ALWAYS and fault == "before":
        stocked.books.recover()
    status = bring_to_rest(stocked, SAGA, saga)
    be_quiet(stocked)
    assert must_be_as_told(stocked, SAGA, saga) == status
    must_have_one_effect(stocked)
    if operation == "cancel":
        assert status == "COMPENSATED"
    elif times == 1:
        assert status == "SUCCEEDED", "one that goes wrong is tried again"


@each_coordination
def test_a_process_that_dies_after_each_charge_leaves_nobody_charged(
    stocked: Ground, coordination: Coordination
) -> None:
    authorise, dead = cards.authorise.decide, []

    def dies(call: Any) -> Any:
        authorise(call)
        dead.append(call)
        raise Killed

    stocked.mishap = _with(stocked, "card", "action", dies)
    saga = start(stocked, coordination)
    stocked.settle()
    assert bring_to_rest(stocked, SAGA, saga) == "COMPENSATED"
    assert len(dead) >= 4
    assert stocked.books.payments[saga]["status"] == "CANCELLED"
    must_have_one_effect(stocked)


@each_coordination
def test_a_process_that_dies_after_each_capture_goes_forward(
    stocked: Ground, coordination: Coordination
) -> None:
    capture, dead = cards.capture.decide, []

    def dies(call: Any) -> Any:
        capture(call)
        dead.append(call)
        raise Killed

    stocked.mishap = _with(stocked, "capture", "action", dies)
    saga = start(stocked, coordination)
    stocked.settle()
    assert bring_to_rest(stocked, SAGA, saga) == "SUCCEEDED"
    assert len(dead) >= 4
    assert stocked.books.payments[saga]["status"] == "CAPTURED"


@each_coordination
def test_a_deadline_that_meets_a_capture_under_way_cancels_nothing(
    stocked: Ground, coordination: Coordination
) -> None:
    swept: list[bool] = []

    def sweep(function: str, task: dict[str, Any], run: Callable[[], Any]) -> Any:
        if (task.get("step"), task.get("phase")) == ("capture", "action") and not swept:
            record = stocked.ledger.get(task["saga"]["id"])
            assert record is not None
            before = cards.capture.decide

            @wraps(before)
            def meanwhile(call: Any) -> Any:
                swept.append(stocked.runs.cancel(record))
                return before(call)

            with pytest.MonkeyPatch.context() as patch:
                patch.setitem(cards.capture.__dict__, "decide", meanwhile)
                return run()
        return run()

    stocked.mishap = sweep
    saga = start(stocked, coordination)
    stocked.settle()
    stocked.sweep(1e-9)
    stocked.settle()
    assert swept == [False]
    assert must_be_as_told(stocked, SAGA, saga) == "SUCCEEDED"


def _with(
    ground: Ground, step: str, phase: str, decide: Callable[[Any], Any]
) -> Callable[[str, dict[str, Any], Callable[[], Any]], Any]:
    """A mishap by which a step's action is decided otherwise."""
    action = SAGA.by_name[step].action

    def mishap(function: str, task: dict[str, Any], run: Callable[[], Any]) -> Any:
        if (task.get("step"), task.get("phase")) != (step, phase):
            return run()
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(action.__dict__, "decide", decide)
            return run()

    return mishap
