"""The barrier, through the step runtime, on moto's DynamoDB: each effect at most once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from recourse.declare.step import Call, Decision, Update, action
from recourse.errors import (
    Refusal,
    StepCancelledError,
    StepCrashedError,
    StepTimedOutError,
    TransientError,
)
from recourse.run.barrier import marker_key
from recourse.run.fault_injector import RejectedError
from recourse.run.runner import StepRunner
from recourse.store.items import encode_item
from recourse.testing.calls import THROTTLES, answered, before, recorded, unread
from tests.integration.bench import S1, S2, TABLE, Bench, SoldOutError, book, hold, release

TIMED_OUT = {"Error": "States.Timeout", "Cause": ""}


def test_a_duplicate_action_answers_the_same_and_does_nothing(bench: Bench) -> None:
    assert bench.ask() == bench.ask() == {"wanted": 2}
    assert bench.free == 3


def test_a_duplicate_answers_the_same_though_nothing_is_left(bench: Bench) -> None:
    bench.ask(request={"wanted": 5})
    assert bench.ask(request={"wanted": 5}) == {"wanted": 5}
    assert bench.free == 0


def test_a_duplicate_undo_answers_the_same_and_does_nothing(bench: Bench) -> None:
    bench.ask()
    assert bench.ask("undo") == bench.ask("undo") == {"outcome": "done"}
    assert bench.free == 5
    assert bench.told()["hold.undone"]["follows"] == ["done"]


def test_an_undo_whose_action_never_ran_is_a_recorded_no_op(bench: Bench) -> None:
    assert bench.ask("undo") == {"outcome": "empty"}
    assert bench.free == 5
    assert bench.told()["hold.undone"] | {"entered_at": None} == {
        "step": "hold",
        "attempts": 1,
        "entered_at": None,
        "run": 0,
        "outcome": "empty",
        "follows": [],
    }


def test_an_action_that_arrives_after_its_undo_is_refused(bench: Bench) -> None:
    bench.ask("undo")
    with pytest.raises(StepCancelledError):
        bench.ask()
    assert bench.free == 5


def test_a_duplicate_action_after_its_undo_has_no_second_effect(bench: Bench) -> None:
    bench.ask()
    bench.ask("undo")
    assert bench.ask() == {"wanted": 2}, "it answers what it answered"
    assert bench.free == 5


def test_a_refusal_is_recorded_and_stays(bench: Bench) -> None:
    for _ in range(2):
        with pytest.raises(Refusal) as no:
            bench.ask(request={"wanted": 9})
        assert type(no.value).__name__ == "SoldOutError"
        bench.dynamodb.put_item(TableName=TABLE, Item=encode_item({"pk": "thing#1", "free": 99}))
    assert bench.told()["hold.failed"]["error"]["type"] == "SoldOutError"
    assert bench.ask("undo") == {"outcome": "empty"}
    assert bench.told()["hold.undone"]["follows"] == ["failed"]


def test_the_undo_of_a_step_that_timed_out_tells_of_the_failure(bench: Bench) -> None:
    bench.ask()
    bench.ask("undo", failure={"hold": TIMED_OUT}, tries=4)
    told = bench.told()
    assert told["hold.failed"]["error"]["type"] == "StepTimedOutError"
    assert told["hold.failed"]["attempts"] == 4
    assert told["hold.undone"]["follows"] == ["done", "failed"]
    assert bench.free == 5


def test_giving_up_a_step_that_has_acted_leaves_its_effect(bench: Bench) -> None:
    bench.ask()
    assert bench.ask("give_up", failure={"hold": TIMED_OUT}) == {"outcome": "done"}
    with before(lambda: bench.ask(saga_id=S2)):
        assert bench.ask("give_up", S2, failure={"hold": TIMED_OUT}) == {"outcome": "done"}
    assert bench.free == 1
    assert bench.told().keys() == {"hold.done"}


def test_a_failure_in_a_group_is_the_step_s_that_failed(bench: Bench) -> None:
    inner = {"Error": "TransientError", "Cause": json.dumps({"errorMessage": "throttled"})}
    caught = {"Together0": {"Error": "hold", "Cause": json.dumps(inner)}}
    bench.ask("undo", failure=caught)
    assert bench.told()["hold.failed"]["error"] == {
        "type": "TransientError",
        "message": "throttled",
    }
    bench.ask("undo", saga_id=S2, failure={"Together0": {"Error": "other", "Cause": "{}"}})
    assert bench.row(f"outbox#{S1}.hold.failed") and not bench.row(f"outbox#{S2}.hold.failed")


def test_a_claimed_pivot_never_acts(bench: Bench) -> None:
    assert bench.ask("cancel", role="pivot") == {"cancelled": True}
    with pytest.raises(StepCancelledError):
        bench.ask(role="pivot")
    with pytest.raises(StepCancelledError):
        bench.ask("settle", role="pivot", failure={"hold": TIMED_OUT})
    assert bench.free == 5
    assert bench.told()["hold.failed"]["error"]["type"] == "StepCancelledError"


def test_a_pivot_that_has_acted_cannot_be_claimed(bench: Bench) -> None:
    bench.ask(role="pivot")
    assert bench.ask("cancel", role="pivot") == {"cancelled": False}
    assert bench.ask("settle", role="pivot", failure={"hold": TIMED_OUT}) == {"wanted": 2}
    assert "hold.failed" not in bench.told()


def test_a_pivot_that_has_refused_can_be_cancelled(bench: Bench) -> None:
    with pytest.raises(Refusal):
        bench.ask(role="pivot", request={"wanted": 9})
    assert bench.ask("cancel", role="pivot") == {"cancelled": True}
    assert bench.free == 5


def test_settling_a_pivot_that_never_acted_tells_of_its_failure(bench: Bench) -> None:
    with pytest.raises(StepCancelledError):
        bench.ask("settle", role="pivot", failure={"hold": TIMED_OUT}, tries=4)
    failed = bench.told()["hold.failed"]
    assert (failed["error"]["type"], failed["attempts"]) == ("StepTimedOutError", 4)
    assert "early" not in failed


def test_a_refusal_after_the_pivot_is_not_recorded_for_it_is_tried_again(bench: Bench) -> None:
    with pytest.raises(SoldOutError):
        bench.ask(role="retriable", request={"wanted": 9})
    bench.dynamodb.put_item(TableName=TABLE, Item=encode_item({"pk": "thing#1", "free": 99}))
    assert bench.ask(role="retriable", request={"wanted": 9}) == {"wanted": 9}


def test_a_hold_is_confirmed_once_and_only_where_there_is_one(bench: Bench) -> None:
    assert bench.ask("confirm", request={}) == {"outcome": "empty"}
    bench.ask()
    assert bench.ask("confirm", request={}) == {"outcome": "done"}
    assert bench.ask("confirm", request={}) == {"outcome": "done"}
    assert bench.row(f"hold#{S1}") == {"pk": f"hold#{S1}", "wanted": 2, "status": "BOOKED"}


def test_a_step_that_is_left_out_does_and_writes_nothing(bench: Bench) -> None:
    assert bench.ask(request={"wanted": None}) is None
    assert bench.ask("undo", request={"wanted": None}) is None
    assert bench.row(marker_key(S1, "hold", "action")) is None


def test_a_step_that_is_asked_for_something_is_not_left_out(bench: Bench) -> None:
    assert bench.ask(request={"wanted": 2, "note": None}) == {"wanted": 2}
    assert bench.free == 3


def test_a_recovery_only_looks_up_what_a_step_before_the_pivot_had_done(bench: Bench) -> None:
    assert bench.ask(recover=1) is None
    assert bench.free == 5
    bench.ask()
    assert bench.ask(recover=1) == {"wanted": 2}
    assert bench.ask("undo", recover=1) == {"outcome": "done"}


def test_a_recovery_that_is_throttled_looks_up_again(bench: Bench) -> None:
    bench.ask()
    with answered(THROTTLES["ThrottlingException"], "GetItem", times=2) as hit:
        assert bench.ask(recover=1) == {"wanted": 2}
    assert len(hit) == 2 and bench.naps


def test_rows_that_were_left_unread_are_asked_for_again(bench: Bench) -> None:
    with unread(times=2) as hit:
        assert bench.ask() == {"wanted": 2}
    assert len(hit) == 2 and bench.naps
    with unread():
        assert bench.ask("undo") == {"outcome": "done"}
    assert bench.free == 5


def test_a_recovery_settles_the_pivot(bench: Bench) -> None:
    with pytest.raises(StepCancelledError):
        bench.ask(role="pivot", recover=1)
    assert bench.told()["hold.failed"]["early"] is True
    bench.ask(role="pivot", saga_id=S2)
    assert bench.ask(role="pivot", saga_id=S2, recover=1) == {"wanted": 2}


def test_an_operator_skips_an_undo_and_what_was_held_stays(bench: Bench) -> None:
    bench.ask()
    assert bench.ask("undo", skips={"hold.undo": "by hand"}) == {"outcome": "skipped"}
    assert bench.free == 3
    assert bench.ask("undo") == {"outcome": "skipped"}


def test_an_operator_skips_a_step_after_the_pivot(bench: Bench) -> None:
    assert bench.ask(role="retriable", skips={"hold": "sent by post"}) is None
    assert bench.told()["hold.done"]["outcome"] == "skipped"
    assert bench.free == 5


def test_a_row_that_changes_under_the_step_is_read_and_decided_again(bench: Bench) -> None:
    decided = []

    @action(reads=lambda call: ["thing#1"])
    def greedy(call: Call) -> Decision:
        assert call.item is not None
        decided.append(call.item["free"])
        if len(decided) == 1:
            bench.dynamodb.put_item(TableName=TABLE, Item=encode_item({"pk": "thing#1", "free": 1}))
        seen = call.item["free"]
        return Decision(
            result=seen, writes=[Update("thing#1", add={"free": -seen}, when={"free": seen})]
        )

    bench.runner = StepRunner(bench.dynamodb, TABLE, greedy, release, **bench.time)
    assert bench.ask() == 1
    assert decided == [5, 1]
    assert bench.free == 0


def test_a_row_that_is_asked_for_twice_is_given_twice(bench: Bench) -> None:
    @action(reads=lambda call: ["thing#1", "nothing", "thing#1"])
    def twice(call: Call) -> Decision:
        thing = {"pk": "thing#1", "free": 5}
        assert call.items == [thing, None, thing]
        return Decision(result="read")

    bench.runner = StepRunner(bench.dynamodb, TABLE, twice, **bench.time)
    assert bench.ask() == "read"


def test_a_row_that_is_not_there_is_not_changed(bench: Bench) -> None:
    @action()
    def change(call: Call) -> Decision:
        return Decision(writes=[Update("nothing", add={"free": 1})])

    bench.runner = StepRunner(bench.dynamodb, TABLE, change, **bench.time)
    with pytest.raises(TransientError, match="changed since it was read"):
        bench.ask()
    assert bench.row("nothing") is None
    assert bench.row(marker_key(S1, "hold", "action")) is None


def test_a_conflict_that_lasts_is_a_transient_error(bench: Bench) -> None:
    @action()
    def never(call: Call) -> Decision:
        return Decision(writes=[Update("thing#1", put={"free": 0}, when={"free": 77})])

    bench.runner = StepRunner(bench.dynamodb, TABLE, never, **bench.time)
    with pytest.raises(TransientError, match="changed since it was read"):
        bench.ask(timeout=30)
    assert bench.free == 5
    assert 15 < sum(bench.naps) <= 18, "of 30 seconds some are left to say so"


@pytest.mark.parametrize("fault", ["crash", "timeout", "duplicate"])
def test_a_fault_after_the_effect_leaves_one_effect(bench: Bench, fault: str) -> None:
    raised = None
    try:
        bench.ask(chaos={"hold": f"{fault}:1"})
    except StepCrashedError as problem:
        raised = problem
    assert (raised is not None) == (fault == "crash")
    assert bool([nap for nap in bench.naps if nap > 30]) == (fault == "timeout")
    assert bench.ask(chaos={"hold": f"{fault}:1"}, attempt=1) == {"wanted": 2}
    assert bench.free == 3


@pytest.mark.parametrize(
    ("fault", "raised"),
    [("error", TransientError), ("late", StepTimedOutError), ("reject", Refusal)],
)
def test_a_fault_before_the_effect_leaves_none(
    bench: Bench, fault: str, raised: type[Exception]
) -> None:
    with pytest.raises(raised):
        bench.ask(chaos={"hold": fault})
    assert bench.free == 5


def test_a_late_action_is_tried_after_its_undo_and_refused(bench: Bench) -> None:
    with recorded() as calls:
        assert bench.ask("undo", chaos={"hold": "late"}) == {"outcome": "empty"}
    asked = [call for call in calls if call.operation == "BatchGetItem"]
    assert len(asked) == 2, "it reads what it decides on, as the undo before it"
    assert bench.free == 5
    assert bench.row(f"hold#{S1}") is None


def test_what_refuses_a_late_action_is_its_tombstone(bench: Bench) -> None:
    def rob() -> None:
        key = {"pk": {"S": marker_key(S1, "hold", "action")}}
        bench.dynamodb.delete_item(TableName=TABLE, Key=key)

    with before(rob, "BatchGetItem", number=1):
        bench.ask("undo", chaos={"hold": "late"})
    assert bench.free == 3, "without it the action acts, for it really comes"


def test_a_fault_counts_attempts_over_all_runs(bench: Bench) -> None:
    bench.ask()
    asked: dict[str, Any] = {
        "chaos": {"hold.undo": "error:5"},
        "attempts": {"hold.undo": 4},
        "recover": 1,
    }
    with pytest.raises(TransientError):
        bench.ask("undo", **asked)
    assert bench.ask("undo", attempt=1, **asked) == {"outcome": "done"}
    assert bench.told()["hold.undone"]["attempts"] == 6


def test_an_undo_that_is_rejected_has_no_effect_and_is_not_recorded(bench: Bench) -> None:
    bench.ask()
    with pytest.raises(RejectedError):
        bench.ask("undo", chaos={"hold.undo": "reject:1"})
    assert bench.ask("undo", attempt=1, chaos={"hold.undo": "reject:1"}) == {"outcome": "done"}


def test_without_chaos_a_fault_means_nothing(bench: Bench) -> None:
    bench.runner = StepRunner(bench.dynamodb, TABLE, hold, release, book)
    assert bench.ask(chaos={"hold": "error"}) == {"wanted": 2}


def test_one_read_and_one_write_an_action_and_an_undo(bench: Bench) -> None:
    for phase in ("action", "undo"):
        with recorded() as calls:
            bench.ask(phase)
        assert [call.operation for call in calls] == ["BatchGetItem", "TransactWriteItems"]
