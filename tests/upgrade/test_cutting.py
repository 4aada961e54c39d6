"""What the explorer calls safe is safe on the ground; what it refuses is seen to strand there.

`HYPOTHESIS_TIMES=50 pytest tests/upgrade/test_cutting.py --junitxml FILE` takes 500 pairs, and
leaves the figures in the file.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from threading import Event
from typing import Any

import pytest

from recourse.upgrade.takeover import answer
from tests.ground import Ground, ground
from tests.profile import TIMES
from tests.upgrade import cutting, generic
from tests.upgrade.cutting import QUIET, Cut, Cutting, scene
from tests.upgrade.generic import SERVICES, Deed, Undoing
from tests.upgrade.pairs import Pair, Plan, Planned, draw

BATCH = 5
BATCHES = 2 * TIMES


@pytest.fixture(scope="module")
def cut_over() -> Iterator[Ground]:
    with ground({}) as made:
        for service in SERVICES:
            made._table(service)
            made.services.append(service)
        yield made


@pytest.mark.parametrize("batch", range(BATCHES))
def test_no_pair_that_is_called_safe_strands_on_the_ground(
    cut_over: Ground, batch: int, record_property: Callable[[str, object], None]
) -> None:
    figures: Counter[str] = Counter()
    for seed in range(batch * BATCH, (batch + 1) * BATCH):
        pair = draw(seed)
        findings = pair.findings()
        quiet = Cutting(cut_over, pair, scene(pair, random.Random(seed)))
        wrong = [(quiet.cut, quiet.wrong())]
        for cut in [replace(quiet.cut, at=at) for at in quiet.states()]:
            wrong.append((cut, Cutting(cut_over, pair, cut).wrong()))
        figures["sagas"] += len(wrong)
        wrong = [(cut, why) for cut, why in wrong if why]
        assert not wrong or findings, (seed, wrong[:3])
        figures[f"{answer(findings)}, {'stranded' if wrong else 'ended'}"] += 1
    for name, number in figures.items():
        record_property(name, number)


HOLD = Planned(
    "hold",
    "alpha:do1",
    Deed(asks={"color": True}, undoing=Undoing("undo1"), confirms=True),
    ("color",),
)
CHARGE = Planned("charge", "beta:do1", Deed(external=True, undoing=Undoing("undo1")))
DECIDE = Planned("decide", "alpha:do2", Deed(external=True, finds=True, refuses=True))
TELL = Planned("tell", "beta:do2", Deed(asks={"size": True}), ("size",))
OLD = Plan(((HOLD,), (CHARGE,), (DECIDE,), (TELL,)), "decide")


def made_of(*steps: Planned, pivot: str = "decide", others: tuple[Any, ...] = ()) -> Plan:
    return Plan(tuple((step,) for step in steps), pivot, others=others)


def but(step: Planned, takes: tuple[str, ...] | None = None, **deed: Any) -> Planned:
    made = replace(step, deed=replace(step.deed, **deed))
    return made if takes is None else replace(made, takes=takes)


COLOR_AND_SIZE = {"color": True, "size": True}
MAY_TELL = but(TELL, ("place", "size"), asks={"place": False, "size": True})
STRANDS: dict[str, tuple[Pair, Cut, str]] = {
    "an action is gone": (
        Pair(OLD, made_of(HOLD, CHARGE, DECIDE)),
        Cut("orchestration", 2),
        "its action beta:do2 is gone",
    ),
    "an undo is gone": (
        Pair(
            OLD, made_of(CHARGE, DECIDE, TELL, others=((HOLD.ref, but(HOLD, undoing=None).deed),))
        ),
        Cut("orchestration", 1, (("decide", "error"),)),
        "its undo alpha:undo1 is gone",
    ),
    "a confirmation is gone": (
        Pair(OLD, made_of(but(HOLD, confirms=False), CHARGE, DECIDE, TELL)),
        Cut("orchestration", 2),
        "its confirm alpha:book_do1 is gone",
    ),
    "the shape is taken out": (
        Pair(OLD, made_of(HOLD, DECIDE), is_kept=False),
        Cut("orchestration", 0),
        "its shape is not among those",
    ),
    "an action before the pivot asks for more": (
        Pair(OLD, made_of(HOLD, but(CHARGE, ("size",), asks={"size": True}), DECIDE, TELL)),
        Cut("orchestration", 0),
        "asks for 'size' by now",
    ),
    "an action after the pivot asks for more": (
        Pair(OLD, made_of(HOLD, CHARGE, DECIDE, but(TELL, ("color", "size"), asks=COLOR_AND_SIZE))),
        Cut("choreography", 2),
        "asks for 'color' by now",
    ),
    "an undo asks for more": (
        Pair(
            OLD,
            made_of(
                but(
                    HOLD,
                    ("color", "size"),
                    asks={"color": True, "size": False},
                    undoing=Undoing("undo1", {"size": True}),
                ),
                CHARGE,
                DECIDE,
                TELL,
            ),
        ),
        Cut("orchestration", 1, (("decide", "error"),)),
        "alpha:undo1 asks for 'size' by now",
    ),
    "the pivot is elsewhere, and an undo is not served": (
        Pair(
            OLD,
            Plan(
                ((HOLD,), (but(CHARGE, finds=True),), (TELL,)),
                "charge",
                others=((DECIDE.ref, DECIDE.deed),),
            ),
        ),
        Cut("orchestration", 1, (("decide", "error"),)),
        "BetaDo1 has no undo any more",
    ),
    "it acted outside, and is undone inside": (
        Pair(OLD, made_of(HOLD, but(CHARGE, external=False), DECIDE, TELL)),
        Cut("orchestration", QUIET, (("decide", "error"), ("charge.undo", "error:16"))),
        "it acted outside DynamoDB",
    ),
    "it acted inside, and is undone outside": (
        Pair(OLD, made_of(but(HOLD, external=True), CHARGE, DECIDE, TELL)),
        Cut("choreography", 1, (("decide", "error"),)),
        "it acted in DynamoDB",
    ),
    "what a pivot did elsewhere cannot be found": (
        Pair(OLD, made_of(HOLD, CHARGE, but(DECIDE, external=False, finds=False), TELL)),
        Cut("orchestration", 5, (), "decide"),
        "has no find",
    ),
    "what is asked for is of another type": (
        Pair(
            OLD,
            replace(
                made_of(HOLD, CHARGE, DECIDE, but(TELL, numbers=frozenset({"size"}))),
                numbers=frozenset({"size"}),
            ),
        ),
        Cut("choreography", 2),
        "size must be int, got str",
    ),
    "what a request may leave out is needed": (
        Pair(
            replace(made_of(HOLD, CHARGE, DECIDE, MAY_TELL), nullable=frozenset({"place"})),
            made_of(HOLD, CHARGE, DECIDE, but(MAY_TELL, asks={"place": True, "size": True})),
        ),
        Cut("choreography", 2, left_out=("place",)),
        "place must be str, got None",
    ),
    "a result is needed that old sagas do not have": (
        Pair(
            OLD,
            made_of(HOLD, CHARGE, DECIDE, replace(but(TELL, reads=("hold",)), after=("hold",))),
        ),
        Cut("orchestration", 2),
        "is given the results of hold by now",
    ),
    "a step after the pivot may refuse": (
        Pair(
            OLD,
            made_of(HOLD, CHARGE, but(TELL, refuses=True, undoing=Undoing("undo2")), DECIDE),
        ),
        Cut("orchestration", 2, sold_out="tell"),
        "may refuse by now",
    ),
}


def test_no_time_passes_while_a_charge_is_under_way_that_an_undo_waits_for(
    cut_over: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step beside it fails meanwhile; on AWS its process ends before the undo goes on."""
    cancelled = Event()

    class Slow(dict[str, str]):
        def __setitem__(self, key: str, done: str) -> None:
            if done == "CHARGED":
                cancelled.wait(0.5)
            super().__setitem__(key, done)
            if done == "CANCELLED":
                cancelled.set()

    slow = Slow()
    for module in (generic, cutting):
        monkeypatch.setattr(module, "BOOKS", slow)
    old = Plan(((CHARGE, HOLD), (DECIDE,)), "decide")
    cut = Cut("orchestration", QUIET, (("hold", "error"),), "charge")
    assert Cutting(cut_over, Pair(old, old), cut).wrong() is None
    assert list(slow.values()) == ["CANCELLED"]


@pytest.mark.parametrize("pair, cut, why", STRANDS.values(), ids=STRANDS)
def test_what_is_refused_is_seen_to_strand(
    cut_over: Ground, pair: Pair, cut: Cut, why: str
) -> None:
    findings = pair.findings()
    assert any(why in one.why for one in findings), findings
    assert Cutting(cut_over, pair, cut).wrong()


@pytest.mark.parametrize("pair, cut, why", STRANDS.values(), ids=STRANDS)
def test_the_same_sagas_end_where_the_release_changes_nothing(
    cut_over: Ground, pair: Pair, cut: Cut, why: str
) -> None:
    assert Pair(pair.old, pair.old).findings() == []
    assert Cutting(cut_over, Pair(pair.old, pair.old), cut).wrong() is None
