"""The sweeper: finds every saga that nobody is looking after, and sees it to its end.

- a start that was recorded and never run is run;
- a run that ended in no end of its own (aborted, timed out, States.Runtime, its data too large) is
  followed by a recovery, which settles the pivot and goes forward or undoes;
- a saga past its deadline is cancelled, if its pivot has not acted;
- a choreography that has been silent for as long as its deadline (a message was lost, or rests in a
  dead-letter queue) is followed by a recovery: a run of the state machine, which needs no message.

It only looks at what Step Functions, the ledger and the barrier say, and everything it does is
harmless when it is done twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from recourse.asl import BLIND, ENDS
from recourse.ledger import Ledger, Record
from recourse.projection import AT_REST
from recourse.runs import Runs, parse_name
from recourse.saga import Saga

GRACE = timedelta(seconds=60)
"""How old a start is before the sweeper looks at it; times the timescale."""


class Sweeper:
    """The sweeper.

    Args:
        ledger: The ledger.
        runs: Runs of every saga.
        sagas: Every declaration, by name.
        timescale: What multiplies the grace and the deadlines.
    """

    def __init__(
        self, ledger: Ledger, runs: Runs, sagas: Mapping[str, Saga], *, timescale: float = 1
    ) -> None:
        self._ledger = ledger
        self._runs = runs
        self._sagas = sagas
        self._timescale = timescale

    def after(self, execution: str) -> dict[str, str]:
        """Look after the saga of a run that has ended.

        What a blind recovery could not look up may take a while to come back, so it is left to the
        next round.

        Args:
            execution: The execution's name.

        Returns:
            What was done, by saga id; empty where nothing was.
        """
        saga_id, run = parse_name(execution)
        record = self._ledger.get(saga_id)
        if record is None or record.run != run or self._runs.state(record)[1] == BLIND:
            return {}
        return self._look_after(record)

    def sweep(self) -> dict[str, str]:
        """Look after every unfinished saga.

        Returns:
            What was done, by saga id.

        Raises:
            ExceptionGroup: Some could not be looked after; all the others were.
        """
        before = datetime.now(UTC) - GRACE * self._timescale
        done: dict[str, str] = {}
        problems: list[Exception] = []
        for record in self._ledger.unfinished(before.isoformat(timespec="milliseconds")):
            try:
                done |= self._look_after(record)
            except Exception as problem:
                problem.add_note(f"saga {record.saga_id}")
                problems.append(problem)
        if problems:
            raise ExceptionGroup("sagas that could not be looked after", problems)
        return done

    def _look_after(self, record: Record) -> dict[str, str]:
        if record.status in AT_REST:
            return {}
        if record.is_choreographed:
            return self._past_deadline(record) or self._silent(record)
        state, error = self._runs.state(record)
        if state == "ABSENT":
            self._runs.start(record)
            return {record.saga_id: f"started run {record.run}, which was recorded and not run"}
        if state == "RUNNING":
            return self._past_deadline(record)
        if state == "SUCCEEDED" or error in ENDS:
            return {}
        opened = self._ledger.recover(record.saga_id, record.run)
        self._runs.start(opened)
        return {record.saga_id: f"run {record.run} ended {state} ({error}): recovery {opened.run}"}

    def _past_deadline(self, record: Record) -> dict[str, str]:
        saga = self._sagas[record.saga]
        age = datetime.now(UTC) - datetime.fromisoformat(record.started_at)
        pivot = next(step for step in record.view(saga)["steps"] if step["name"] == saga.pivot.name)
        settled = pivot["status"] in ("DONE", "FAILED")
        if settled or age < timedelta(seconds=saga.deadline * self._timescale):
            return {}
        cancelled = self._runs.cancel(record)
        return {record.saga_id: "cancelled, past its deadline"} if cancelled else {}

    def _silent(self, record: Record) -> dict[str, str]:
        """Recover a choreography that nothing has been heard of, and no operator is asked about."""
        saga = self._sagas[record.saga]
        heard = max(told["time"] for told in [*record.entered, *record.waiting])
        silence = datetime.now(UTC) - datetime.fromisoformat(heard)
        stuck = any(self._ledger.trouble(record, step.name) for step in saga.all)
        if stuck or silence < timedelta(seconds=saga.deadline * self._timescale):
            return {}
        opened = self._ledger.recover(record.saga_id, record.run)
        self._runs.start(opened)
        return {record.saga_id: f"silent since {heard}: recovery {opened.run}"}
