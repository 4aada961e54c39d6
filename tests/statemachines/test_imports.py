"""The machine of imports: no batch fails an import, and what may pass is tried for minutes."""

from __future__ import annotations

from typing import Any

from recourse.imports import machine
from recourse.run.failures import THROTTLES, TRANSIENT

DEFINED: dict[str, Any] = machine.definition()["States"]
BATCH: dict[str, Any] = DEFINED[machine.MAP]["ItemProcessor"]["States"]
BEGINNING: dict[str, Any] = DEFINED[machine.BEGINNINGS]["ItemProcessor"]["States"]


def test_a_batch_fails_the_map_only_where_too_much_has_failed() -> None:
    failing = {name for name, state in BATCH.items() if state["Type"] == "Fail"}
    for name in ("Batch", "GiveUp"):
        stop, anything = BATCH[name]["Catch"]
        assert stop["ErrorEquals"] == machine.FINAL and {stop["Next"]} == failing
        assert anything["ErrorEquals"] == ["States.ALL"] and anything["Next"] not in failing
    assert BATCH["Leave"] == {"Type": "Succeed"}
    assert BATCH["Batch"]["Catch"][1]["Next"] == "GiveUp"
    assert BATCH["GiveUp"]["Catch"][1]["Next"] == "Leave"


def test_what_may_pass_is_retried_with_back_off_and_full_jitter() -> None:
    tasks = (BATCH["Batch"], BATCH["GiveUp"], BEGINNING["Room"])
    for task in (*tasks, DEFINED["Check"], DEFINED["Finish"]):
        final, passing, others = task["Retry"]
        assert (final["ErrorEquals"], final["MaxAttempts"]) == (machine.FINAL, 0)
        assert {*passing["ErrorEquals"]} == {*THROTTLES, *TRANSIENT}
        assert others["ErrorEquals"] == ["States.ALL"]
        assert passing["MaxAttempts"] > others["MaxAttempts"] > 0
        for one in (passing, others):
            assert (one["BackoffRate"], one["JitterStrategy"]) == (2, "FULL")
            assert one["MaxDelaySeconds"] > one["IntervalSeconds"]


def test_what_may_pass_has_minutes_whatever_the_timescale() -> None:
    _, passing, _ = machine.definition(timescale=0.01)["States"]["Check"]["Retry"]
    pauses = [
        min(passing["IntervalSeconds"] * 2**n, passing["MaxDelaySeconds"])
        for n in range(passing["MaxAttempts"])
    ]
    assert sum(pauses) / 2 > 180, "full jitter halves them in the mean"


def test_nothing_that_cannot_begin_fails_an_import() -> None:
    assert not [name for name, state in BEGINNING.items() if state["Type"] == "Fail"]
    assert BEGINNING["Room"]["Catch"] == [{"ErrorEquals": ["States.ALL"], "Next": "Leave"}]
    assert DEFINED[machine.BEGINNINGS]["MaxConcurrency"] == 1, "each looks how much room there is"


def test_every_state_of_a_batch_is_reached() -> None:
    reached = {"Batch"}
    for state in BATCH.values():
        reached |= {one["Next"] for one in state.get("Catch", ())}
    assert reached == {*BATCH}
