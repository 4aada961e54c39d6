"""What a saga looks like follows from its events, in whatever order and however often they come."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recourse.events import Event, error
from recourse.ledger.history import SagaHistory, enter, stuck_step
from statemachines import SAGAS
from tests.events import event

SAGA = SAGAS["travel-booking"]
TRIP: dict[str, Any] = {"trip_id": "t", "flight": {}, "hotel": {}, "car": {}, "payment": {}} | {
    "flight": {"id": "f"},
    "hotel": {"id": "h"},
    "car": {"id": "c"},
    "payment": {"account_id": "a"},
}
NO_CAR = TRIP | {"car": None}
OOPS = error("OopsError", "it went wrong")


def told(kind: str, step: str | None = None, **data: Any) -> Event:
    defaults = {"run": 0, "attempts": 1, "entered_at": None} if step else {}
    occasion = f"r{data.get('run', 0)}" if data.get("outcome") == "parked" else ""
    return event("s1", SAGA.name, kind, step=step, occasion=occasion, **{**defaults, **data})


STARTED = told("started")
DONE = {step.name: told("done", step.name, result={"of": step.name}) for step in SAGA.all}
HOLDS = ["flight", "hotel", "car"]


def failed(step: str, **data: Any) -> Event:
    return told("failed", step, error=OOPS, **data)


def undone(step: str, *follows: str) -> Event:
    return told("undone", step, follows=follows or ["done"])


def empty(step: str, *follows: str) -> Event:
    return told("undone", step, outcome="empty", follows=follows)


def undo_failed(step: str, run: int = 0) -> Event:
    return told("undo_failed", step, error=OOPS, outcome="parked", run=run, attempts=4)


BOOKED = [STARTED, *DONE.values()]
DECLINED = [
    STARTED,
    *(DONE[name] for name in HOLDS),
    failed("payment"),
    empty("payment", "failed"),
    *(undone(name) for name in reversed(HOLDS)),
]
CUT_OFF = [
    STARTED,
    DONE["flight"],
    failed("hotel"),
    empty("car"),
    empty("hotel", "failed"),
    undone("flight"),
]
CRASHED = [
    STARTED,
    DONE["flight"],
    DONE["hotel"],
    DONE["car"],
    failed("hotel"),
    undone("car"),
    undone("hotel", "done", "failed"),
    undone("flight"),
]
CANCELLED = [
    STARTED,
    failed("capture", early=True, attempts=0),
    *(DONE[n] for n in HOLDS),
    DONE["payment"],
    undone("payment"),
    *(undone(name) for name in reversed(HOLDS)),
]
BOTH_FAILED = [
    STARTED,
    failed("hotel"),
    failed("car"),
    empty("car", "failed"),
    empty("hotel", "failed"),
    empty("flight"),
]
STUCK = [*DECLINED[:-2], undo_failed("hotel"), undone("flight")]
STORIES = {
    "booked": (BOOKED, "SUCCEEDED"),
    "declined": (DECLINED, "COMPENSATED"),
    "cut off": (CUT_OFF, "COMPENSATED"),
    "crashed": (CRASHED, "COMPENSATED"),
    "cancelled": (CANCELLED, "COMPENSATED"),
    "both failed": (BOTH_FAILED, "COMPENSATED"),
    "stuck": (STUCK, "COMPENSATION_FAILED"),
}


def play(batches: Sequence[Sequence[Any]], request: dict[str, Any] = TRIP) -> SagaHistory:
    entered: list[Any] = []
    waiting: list[Any] = []
    for batch in batches:
        entered, waiting = enter(SAGA, "s1", request, entered, [*waiting, *batch])
    return SagaHistory(SAGA, request, entered)


def statuses(story: SagaHistory, run: int = 0) -> dict[str, str]:
    return {step["name"]: step["status"] for step in story.steps(run)}


def is_end(one: Event) -> bool:
    """Whether an event is the end of an undo."""
    return one.kind in ("undone", "undo_failed")


@given(st.data())
@pytest.mark.parametrize("name", STORIES)
def test_any_order_and_any_duplicates_tell_the_same_story(name: str, data: Any) -> None:
    happened, status = STORIES[name]
    shuffled = data.draw(
        st.permutations([*happened, *data.draw(st.lists(st.sampled_from(happened)))])
    )
    # The API itself enters `started`, before anything else can happen.
    story = play([[STARTED], *([one] for one in shuffled)])
    assert story.status(0) == status
    assert statuses(story) == statuses(play([happened]))
    visible = [told for told in story.entered if told.outcome != "empty"]
    assert all(told.sequence is None for told in story.entered if told not in visible)
    assert [told.sequence for told in visible] == list(range(1, len(visible) + 1))
    assert visible[0].kind == "started"
    ending = {"SUCCEEDED": "succeeded", "COMPENSATED": "compensated"}.get(status)
    if ending:
        assert [t.type for t in visible if t.kind == ending] == [visible[-1].type]
    at = {told.id: index for index, told in enumerate(story.entered)}
    for one in story.entered:
        for kind in one.follows:
            assert at[f"s1.{one.step}.{kind}"] < at[one.id]
    ends = [(SAGA.rank(one.step), at[one.id]) for one in happened if one.step and is_end(one)]
    for rank, place in ends:
        assert all(place > earlier for later, earlier in ends if later > rank), "the last first"
    if name in ("booked", "declined", "crashed"):
        assert all(at[f"s1.{n}.done"] < at.get("s1.payment.done", 99) for n in HOLDS[:1])


def test_each_step_shows_where_it_is() -> None:
    assert statuses(play([[STARTED]])) == dict.fromkeys(HOLDS, "RUNNING") | dict.fromkeys(
        ["payment", "capture", "invoice"], "PENDING"
    )
    assert statuses(play([BOOKED])) == dict.fromkeys(DONE, "DONE")
    assert statuses(play([DECLINED[:5]]))["car"] == "DONE", "the failing step's own undo is first"
    assert statuses(play([DECLINED[:6]]))["car"] == "UNDOING"
    assert statuses(play([DECLINED])) == dict.fromkeys(HOLDS, "UNDONE") | {
        "payment": "FAILED",
        "capture": "PENDING",
        "invoice": "PENDING",
    }
    assert statuses(play([CUT_OFF]))["car"] == "SKIPPED"
    assert statuses(play([CRASHED]))["hotel"] == "UNDONE"
    assert statuses(play([CANCELLED]))["capture"] == "FAILED"


def test_a_step_that_the_request_leaves_out_is_skipped_and_waited_for_by_nobody() -> None:
    story = play([[one for one in BOOKED if one.step != "car"]], NO_CAR)
    assert story.status(0) == "SUCCEEDED"
    assert statuses(story)["car"] == "SKIPPED"
    gone = [one for one in DECLINED if one.step != "car"]
    assert play([gone], NO_CAR).status(0) == "COMPENSATED"


def test_an_event_waits_for_its_causes() -> None:
    entered, waiting = enter(SAGA, "s1", TRIP, [STARTED], [DONE["payment"], DONE["flight"]])
    assert [one.id for one in entered] == ["s1.started", "s1.flight.done"]
    assert [one.id for one in waiting] == ["s1.payment.done"]


def test_a_retried_undo_is_under_way_until_it_fails_again() -> None:
    stuck = play([STUCK])
    assert (stuck.status(0), statuses(stuck)["hotel"]) == ("COMPENSATION_FAILED", "UNDO_FAILED")
    assert (stuck.status(1), statuses(stuck, 1)["hotel"]) == ("COMPENSATING", "UNDOING")
    again = play([STUCK, [undo_failed("hotel", run=1)]])
    assert again.status(1) == "COMPENSATION_FAILED"
    told_twice = [one for one in again.entered if one.kind == "compensation_failed"]
    assert len(told_twice) == 2
    resolved = play([STUCK, [undone("hotel")]])
    assert (resolved.status(1), statuses(resolved, 1)["hotel"]) == ("COMPENSATED", "UNDONE")


def test_a_parked_step_after_the_pivot_leaves_the_saga_running() -> None:
    parked = failed("invoice", outcome="parked", attempts=8)
    story = play([[*BOOKED[:-1], parked]])
    assert (story.status(0), statuses(story)["invoice"]) == ("RUNNING", "FAILED")
    assert story.failure is not None
    view = next(step for step in story.steps(0) if step["name"] == "invoice")
    found = stuck_step(view, story.status(0))
    assert found is not None and found.target == "invoice"
    assert statuses(story, 1)["invoice"] == "RUNNING", "a retry is under way"
    done = play([[*BOOKED[:-1], parked, DONE["invoice"]]])
    assert done.status(1) == "SUCCEEDED"
    assert done.failure is None


def test_only_what_is_stuck_can_be_resolved() -> None:
    for name, (happened, _) in STORIES.items():
        story = play([happened])
        stuck = [s["name"] for s in story.steps(0) if stuck_step(s, story.status(0))]
        assert stuck == (["hotel"] if name == "stuck" else [])


def test_a_steps_error_is_the_class_name_and_its_message_stands_beside_it() -> None:
    shown = {step["name"]: (step["error"], step["message"]) for step in play([STUCK]).steps(0)}
    assert shown == dict.fromkeys(DONE, (None, None)) | {
        "payment": ("OopsError", "it went wrong"),
        "hotel": ("OopsError", "it went wrong"),
    }


def test_the_first_failure_is_the_reason() -> None:
    random_order = random.Random(7).sample(BOTH_FAILED, len(BOTH_FAILED))
    story = play([[STARTED], *([one] for one in random_order)])
    assert story.failure is not None
    first = next(t for t in story.entered if t.kind == "failed")
    assert story.failure.id == first.id


LATE = [
    *DONE.values(),
    failed("invoice", outcome="parked"),
    failed("capture", early=True),
    failed("hotel"),
    undo_failed("payment"),
    undo_failed("flight", run=1),
    undone("car"),
    told("undone", "payment", outcome="skipped", follows=[]),
]


@pytest.mark.parametrize("name", ["booked", "declined", "cut off", "crashed", "cancelled"])
@given(st.data())
def test_nothing_enters_after_the_terminal_event_and_nothing_waits(name: str, data: Any) -> None:
    happened, status = STORIES[name]
    late = data.draw(st.lists(st.sampled_from([*LATE, *happened])))
    ended = play([happened]).entered
    assert enter(SAGA, "s1", TRIP, ended, late) == (list(ended), [])
    assert play([happened, late]).status(0) == status


def test_what_comes_in_one_batch_with_the_end_is_too_late_as_well() -> None:
    story = play([[*BOOKED, failed("capture", early=True), undo_failed("flight")]])
    assert story.entered[-1].kind == "succeeded"
    assert len(story.entered) == len(BOOKED) + 1


@given(st.data())
@pytest.mark.parametrize("name", STORIES)
def test_what_comes_too_late_is_dropped_in_any_order(name: str, data: Any) -> None:
    happened, _ = STORIES[name]
    stale = [undo_failed("flight"), undo_failed("hotel"), failed("invoice", outcome="parked")]
    batches = [[one] for one in data.draw(st.permutations([*happened[1:], *stale]))]
    story = play([[STARTED], *batches])
    kinds = [one.kind for one in story.entered if not one.is_hidden]
    for ending in ("succeeded", "compensated"):
        assert ending not in kinds[:-1]


def test_a_step_that_was_done_or_undone_after_all_is_not_stuck_any_more() -> None:
    parked = failed("invoice", outcome="parked")
    running = [one for one in BOOKED if one.step != "capture"]
    entered, waiting = enter(SAGA, "s1", TRIP, BOOKED[:-1], [])
    after, waiting = enter(SAGA, "s1", TRIP, entered, [parked, DONE["invoice"]])
    kinds = [one.kind for one in after[len(entered) :]]
    assert (kinds, waiting) == (["done", "succeeded"], [])
    undone_hotel = [*DECLINED[:-2], undone("hotel")]
    story, waiting = enter(SAGA, "s1", TRIP, play([undone_hotel]).entered, [undo_failed("hotel")])
    assert (len(story), waiting) == (len(undone_hotel), [])
    assert play([running]).status(0) == "RUNNING"


def test_an_older_run_that_is_told_late_does_not_hide_the_newer_one() -> None:
    newer = play([STUCK, [undo_failed("hotel", run=1)]])
    again = play([[*newer.entered], [replace(undo_failed("hotel", run=0), id="late")]])
    assert again.status(1) == "COMPENSATION_FAILED"
    assert statuses(again, 1)["hotel"] == "UNDO_FAILED"
    settled = play(
        [[STARTED, failed("capture", early=True)], [failed("capture", outcome="parked")]]
    )
    assert settled.status(0) == "COMPENSATING"


def test_while_undos_run_there_is_nothing_to_resolve() -> None:
    running = play([STUCK[:-1]])
    assert statuses(running)["hotel"] == "UNDO_FAILED"
    assert running.status(0) == "COMPENSATING", "the flight is still to be undone"
    two = [*DECLINED[:-2], undo_failed("hotel"), undo_failed("flight")]
    one_again = play([two, [undo_failed("hotel", run=1)]])
    assert one_again.status(1) == "COMPENSATING", "the recovery has still to come to the flight"
    both = play([two, [undo_failed("hotel", run=1)], [undo_failed("flight", run=1)]])
    assert both.status(1) == "COMPENSATION_FAILED"
    ends = [t.id for t in both.entered if t.kind == "compensation_failed"]
    assert ends == ["s1.compensation_failed.0", "s1.compensation_failed.1"]
    for story, run, stuck in ((running, 0, []), (one_again, 1, []), (both, 1, ["flight", "hotel"])):
        views = story.steps(run)
        assert [v["name"] for v in views if stuck_step(v, story.status(run))] == stuck


def test_that_a_recovery_claimed_the_pivot_is_no_reason_where_a_step_had_failed() -> None:
    claimed = failed("capture", early=True, run=1)
    story = play([[STARTED, *(DONE[n] for n in HOLDS)], [claimed], [failed("payment", run=1)]])
    assert story.failure is not None and story.failure.step == "payment"
    alone = play([[STARTED], [claimed]])
    assert alone.failure is not None and alone.failure.step == "capture"
    cancelled = play([[STARTED, *(DONE[n] for n in HOLDS)], [CANCELLED[1]], [failed("payment")]])
    assert cancelled.failure is not None and cancelled.failure.step == "capture"
