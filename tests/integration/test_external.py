"""Effects elsewhere: an action that calls a provider is settled, whatever becomes of its tries."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

from recourse.declare.step import Call, Decision
from recourse.errors import Refusal, StepCancelledError, TransientError
from recourse.run.barrier import marker_key, millis
from recourse.run.fault_injector import FaultInjector
from recourse.run.runner import StepRunner
from recourse.testing.calls import before
from tests.integration.bench import S1, TABLE, Bench
from tests.integration.charging import DeclinedError, Provider, decline, no_answer

LOST = {"Error": "States.Timeout", "Cause": ""}
TIMEOUT = 30.0


@pytest.fixture
def provider(bench: Bench) -> Provider:
    """A provider, and a step of the bench that charges there."""
    made = Provider()
    bench.runner = FaultInjector(
        StepRunner(bench.dynamodb, TABLE, made.action, made.undo, **bench.time)
    )
    return made


def marker(bench: Bench, side: Any = "action", saga_id: str = S1) -> dict[str, Any] | None:
    return bench.row(marker_key(saga_id, "hold", side))


def test_an_external_action_begins_then_calls_then_commits(
    bench: Bench, provider: Provider
) -> None:
    calls: list[str] = []
    seen: list[Any] = []
    bench.dynamodb.meta.events.register(
        "before-call.dynamodb", lambda model, **_: calls.append(model.name)
    )
    provider.charging = lambda: seen.append((list(calls), marker(bench)))
    assert bench.ask() == bench.ask() == {"charge": S1}
    before, begun = seen[0]
    assert before == ["GetItem", "PutItem"] and begun["outcome"] == "begun"
    (deadline,) = provider.deadlines
    assert deadline is not None and millis(deadline.timestamp()) == begun["until"]
    assert calls[2:] == ["GetItem", "TransactWriteItems", "GetItem"], "one of them is this test's"
    done = marker(bench)
    assert done is not None and done["outcome"] == "done" and "until" not in done
    assert provider.calls == {"charge": 1}


def test_an_undo_where_nothing_had_begun_calls_nobody(bench: Bench, provider: Provider) -> None:
    assert bench.ask("undo") == {"outcome": "empty"}
    assert not provider.calls and not bench.naps


def test_an_action_that_arrives_after_its_undo_calls_nobody(
    bench: Bench, provider: Provider
) -> None:
    bench.ask("undo")
    with pytest.raises(StepCancelledError):
        bench.ask()
    assert not provider.calls


def test_an_undo_after_a_commit_is_given_the_result_at_once(
    bench: Bench, provider: Provider
) -> None:
    bench.ask()
    assert bench.ask("undo") == bench.ask("undo") == {"outcome": "done"}
    assert (provider.books, provider.calls["cancel"]) == ({S1: "CANCELLED"}, 1)
    assert not bench.naps


@pytest.mark.parametrize("phase", ["undo", "give_up"])
def test_a_charge_whose_answer_was_lost_is_given_back_once_no_try_can_call(
    bench: Bench, provider: Provider, phase: str
) -> None:
    provider.charged = no_answer
    for attempt in range(4):
        with pytest.raises(TransientError):
            bench.ask(attempt=attempt)
    begun = marker(bench)
    assert begun is not None and begun["outcome"] == "begun"
    with pytest.raises(TransientError, match="may still call"):
        bench.ask(phase, failure={"hold": LOST}, tries=4)
    assert provider.calls["cancel"] == 0, "it waits"
    assert bench.ask(phase, failure={"hold": LOST}, tries=4) == {"outcome": "done"}
    assert provider.books == {S1: "CANCELLED"}
    assert bench.time["clock"]() * 1000 >= begun["until"]
    told = bench.told()
    assert told["hold.failed"]["attempts"] == 4
    assert told["hold.undone"]["follows"] == ["failed"] and "outcome" not in told["hold.undone"]
    with pytest.raises(StepCancelledError):
        bench.ask()
    assert provider.books == {S1: "CANCELLED"}
    assert bench.ask(phase) == {"outcome": "done"}
    assert provider.calls["cancel"] == 1


def test_a_try_whose_process_outlives_its_task_is_waited_for_until_that_ends(
    bench: Bench, provider: Provider
) -> None:
    """A release has made the step's time-out longer; this saga began before."""
    provider.charged = no_answer
    with pytest.raises(TransientError):
        bench.ask(lasts=4 * TIMEOUT)
    (deadline,) = provider.deadlines
    assert deadline is not None
    assert deadline.timestamp() == pytest.approx(bench.begun + TIMEOUT, abs=0.001)
    begun = marker(bench)
    assert begun is not None
    assert begun["until"] == millis(bench.begun + 4 * TIMEOUT)
    while millis(bench.time["clock"]()) < begun["until"]:
        assert provider.calls["cancel"] == 0, "it waits"
        with suppress(TransientError):
            bench.ask("undo", failure={"hold": LOST})
    assert bench.ask("undo", failure={"hold": LOST}) == {"outcome": "done"}
    assert provider.books == {S1: "CANCELLED"}


def test_an_action_that_meets_the_tombstone_takes_its_own_effect_back(
    bench: Bench, provider: Provider
) -> None:
    def meanwhile() -> None:
        provider.charged = lambda: None
        with pytest.raises(TransientError, match="may still call"):
            bench.ask("undo")

    provider.charged = meanwhile
    with pytest.raises(StepCancelledError):
        bench.ask()
    assert provider.books == {S1: "CANCELLED"}
    assert bench.row(f"charge#{S1}") is None and marker(bench, "undo") is None
    bench.naps.append(TIMEOUT)
    assert bench.ask("undo") == {"outcome": "done"}


def test_a_refusal_of_the_only_try_is_recorded_and_nothing_is_undone(
    bench: Bench, provider: Provider
) -> None:
    provider.charging = decline
    for _ in range(2):
        with pytest.raises(Refusal) as no:
            bench.ask()
        assert type(no.value).__name__ == "DeclinedError"
    assert provider.calls == {"charge": 1}, "the second is answered from the marker"
    assert bench.ask("undo") == {"outcome": "empty"}
    assert provider.calls["cancel"] == 0


def test_a_refusal_after_a_try_that_may_have_charged_is_undone(
    bench: Bench, provider: Provider
) -> None:
    provider.charged = no_answer
    with pytest.raises(TransientError):
        bench.ask()
    provider.charging = decline
    with pytest.raises(DeclinedError):
        bench.ask(attempt=1)
    begun = marker(bench)
    assert begun is not None and begun["outcome"] == "begun"
    bench.naps.append(TIMEOUT)
    caught = {"Error": "DeclinedError", "Cause": '{"errorMessage": "no money"}'}
    assert bench.ask("undo", failure={"hold": caught}) == {"outcome": "done"}
    assert provider.books == {S1: "CANCELLED"}
    assert bench.told()["hold.failed"]["error"]["type"] == "DeclinedError"


def test_a_refusal_beside_another_try_that_has_begun_is_not_recorded(
    bench: Bench, provider: Provider
) -> None:
    def both() -> None:
        bench.naps.append(0.5)
        provider.charging, provider.charged = lambda: None, no_answer
        with pytest.raises(TransientError):
            bench.ask()
        decline()

    provider.charging = both
    with pytest.raises(DeclinedError):
        bench.ask()
    begun = marker(bench)
    assert begun is not None and begun["outcome"] == "begun"
    bench.naps.append(TIMEOUT)
    assert bench.ask("undo") == {"outcome": "done"}
    assert provider.books == {S1: "CANCELLED"}


def test_a_refusal_beside_another_try_that_has_committed_answers_its_result(
    bench: Bench, provider: Provider
) -> None:
    def both() -> None:
        provider.charging = lambda: None
        bench.ask()
        decline()

    provider.charging = both
    assert bench.ask() == {"charge": S1}
    assert bench.ask("undo") == {"outcome": "done"}


def test_two_tries_at_once_have_one_effect(bench: Bench, provider: Provider) -> None:
    def both() -> None:
        provider.charging = lambda: None
        assert bench.ask() == {"charge": S1}

    provider.charging = both
    assert bench.ask() == {"charge": S1}
    assert provider.books == {S1: "CHARGED"}


def test_the_marker_holds_the_latest_moment_of_all_tries_and_changes_with_each(
    bench: Bench, provider: Provider
) -> None:
    provider.charged = no_answer
    moments = []
    for timeout in (30, 10, 40):
        with pytest.raises(TransientError):
            bench.ask(timeout=timeout)
        begun = marker(bench)
        assert begun is not None
        moments.append(begun["until"])
    assert moments[0] < moments[1] < moments[0] + 10 < moments[2]


def test_an_undo_reads_again_where_another_try_begins_meanwhile(
    bench: Bench, provider: Provider
) -> None:
    provider.charged = no_answer
    with pytest.raises(TransientError):
        bench.ask()

    def begin() -> None:
        with pytest.raises(TransientError):
            bench.ask(timeout=TIMEOUT + 5)

    bench.naps.append(TIMEOUT)
    with before(begin, "PutItem"), pytest.raises(TransientError, match="may still call"):
        bench.ask("undo")
    tombstone = marker(bench)
    assert tombstone is not None and tombstone["outcome"] == "cancelled"
    (_, latest) = provider.deadlines
    assert latest is not None and tombstone["until"] == millis(latest.timestamp())


def test_an_operator_may_skip_what_has_begun(bench: Bench, provider: Provider) -> None:
    provider.charged = no_answer
    with pytest.raises(TransientError):
        bench.ask(role="retriable")
    assert bench.ask(role="retriable", skips={"hold": "sent by hand"}) is None
    assert bench.ask(role="retriable") is None
    assert provider.calls == {"charge": 1}


# The pivot, which has no undo.


@pytest.fixture
def pivot(bench: Bench, provider: Provider) -> Provider:
    """The same step as a pivot."""
    bench.runner = FaultInjector(StepRunner(bench.dynamodb, TABLE, provider.action, **bench.time))
    return provider


def settle(bench: Bench) -> Any:
    return bench.ask("settle", role="pivot", failure={"hold": LOST}, tries=4)


def test_a_pivot_whose_answer_was_lost_is_found_and_goes_forward(
    bench: Bench, pivot: Provider
) -> None:
    pivot.charged = no_answer
    with pytest.raises(TransientError):
        bench.ask(role="pivot")
    with pytest.raises(TransientError, match="may still call"):
        settle(bench)
    assert pivot.calls["find"] == 0
    assert settle(bench) == settle(bench) == {"charge": S1}
    assert bench.row(f"charge#{S1}") == {"pk": f"charge#{S1}", "status": "CHARGED"}
    told = bench.told()
    assert told["hold.done"]["attempts"] == 4 and "hold.failed" not in told
    assert pivot.calls["find"] == 1
    assert bench.ask("cancel", role="pivot") == {"cancelled": False}


def test_a_pivot_that_never_reached_the_provider_never_acts(bench: Bench, pivot: Provider) -> None:
    pivot.charging = no_answer
    with pytest.raises(TransientError):
        bench.ask(role="pivot")
    bench.naps.append(TIMEOUT)
    for _ in range(2):
        with pytest.raises(StepCancelledError):
            settle(bench)
    assert pivot.calls["find"] == 1
    assert bench.told()["hold.failed"]["error"]["type"] == "StepTimedOutError"
    assert bench.ask("cancel", role="pivot") == {"cancelled": True}
    pivot.charging = lambda: None
    with pytest.raises(StepCancelledError):
        bench.ask(role="pivot")
    assert pivot.books == {}


def test_a_cancel_that_meets_a_pivot_that_has_begun_is_refused(
    bench: Bench, pivot: Provider
) -> None:
    pivot.charged = lambda: cancelled.append(bench.ask("cancel", role="pivot"))
    cancelled: list[Any] = []
    assert bench.ask(role="pivot") == {"charge": S1}
    assert cancelled == [{"cancelled": False}]
    assert "hold.failed" not in bench.told()


def test_a_cancel_while_a_pivot_is_found_out_is_refused(bench: Bench, pivot: Provider) -> None:
    pivot.charged = no_answer
    with pytest.raises(TransientError):
        bench.ask(role="pivot")
    with pytest.raises(TransientError, match="may still call"):
        settle(bench)
    assert bench.ask("cancel", role="pivot") == {"cancelled": False}


def test_a_pivot_that_meets_its_tombstone_is_found(bench: Bench, pivot: Provider) -> None:
    def meanwhile() -> None:
        with pytest.raises(TransientError, match="may still call"):
            settle(bench)

    pivot.charged = meanwhile
    with pytest.raises(StepCancelledError):
        bench.ask(role="pivot")
    bench.naps.append(TIMEOUT)
    assert settle(bench) == {"charge": S1}


def test_two_that_settle_at_once_agree(bench: Bench, pivot: Provider) -> None:
    pivot.charged = no_answer
    with pytest.raises(TransientError):
        bench.ask(role="pivot")
    bench.naps.append(TIMEOUT)
    find, answers = pivot.find, []

    def both(call: Call) -> Decision | None:
        pivot.find = find  # type: ignore[method-assign]
        answers.append(settle(bench))
        return None

    pivot.find = both  # type: ignore[method-assign]
    assert settle(bench) == answers[0] == {"charge": S1}
    assert "hold.failed" not in bench.told()


def test_a_recovery_finds_out_a_pivot_that_had_begun(bench: Bench, pivot: Provider) -> None:
    pivot.charged = no_answer
    with pytest.raises(TransientError):
        bench.ask(role="pivot")
    bench.naps.append(TIMEOUT)
    assert bench.ask(role="pivot", recover=1) == {"charge": S1}
