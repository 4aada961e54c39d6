"""What somebody has decided: given to the step that asks, and the saga is moved on by it.

    decisions.decide(record, step, approved=True, reason="", by="insurer-1")

The decision is the step's own marker, committed by its function in one transaction. All that comes
after it only moves the saga on: what is lost of that is made up for by the sweeper.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from recourse.declare.shape import AnyStep
from recourse.errors import TransientError
from recourse.events import moment, now
from recourse.ledger.ledger import Ledger
from recourse.ledger.record import Record
from recourse.orchestration.executions import Runs
from recourse.orchestration.sweeper import GRACE_PERIOD


@dataclass(frozen=True)
class Outcome:
    """What has become of a question.

    Attributes:
        taken: Whether this very answer was taken.
        answer: The answer that was taken, this one or an earlier one: the fields of an `Answer`;
            None where the question was withdrawn, or its time is up.
        late: Whether its time is up.
    """

    taken: bool
    answer: Mapping[str, Any] | None
    late: bool


@dataclass(frozen=True)
class Decisions:
    """Takes decisions.

    Attributes:
        ledger: The ledger.
        runs: Runs of all sagas.
        log: Told what is left to the sweeper, and why.
        timescale: Multiplies the grace period of a recovery.
    """

    ledger: Ledger
    runs: Runs
    log: Callable[[Record, Exception], None]
    timescale: float = 1

    def decide(
        self, record: Record, step: AnyStep, *, approved: bool, reason: str, by: str
    ) -> Outcome:
        """Answer the question of a step, unless it was answered, withdrawn, or its time is up.

        Raises:
            TransientError: The step's function could not be called, or failed. Whether it has taken
                the answer is unknown, and another try finds out.
        """
        answer = {"approved": approved, "reason": reason, "by": by, "at": now()}
        answer["id"] = uuid.uuid4().hex
        found = self.runs.decide(record, step, answer)
        first = found["answer"]
        taken = first is not None and first["id"] == answer["id"]
        if taken:
            self._move_on(self.ledger.answered(record.saga_id), back=found["outcome"] != "done")
        return Outcome(taken, first, found["late"])

    def withdraw(self, record: Record) -> None:
        """Have a cancelled saga undone that waits; its question, if it has one, is withdrawn."""
        asked = record.question(shape := self.ledger.shape(record))
        if asked is not None:
            self.runs.withdraw(record, shape.by_name[str(asked.step)])
            self._move_on(self.ledger.answered(record.saga_id), back=True)
        elif record.later(shape) is not None:
            self._move_on(record, back=True)

    def _move_on(self, record: Record, *, back: bool) -> None:
        """Start the run that comes next; a choreography is moved on by the step's event."""
        if record.is_choreographed:
            return
        try:
            if self.runs.describe(record).state == "RUNNING":
                return  # it ends in a moment, and the sweeper hears of that
            opened = (
                self._recovery(record) if back else self.ledger.resume(record.saga_id, record.run)
            )
            self.runs.start(opened)
        except (TransientError, BotoCoreError, ClientError) as problem:
            self.log(record, problem)

    def _recovery(self, record: Record) -> Record:
        next_at = datetime.now(UTC) + GRACE_PERIOD * self.timescale
        return self.ledger.recover(
            record.saga_id, record.run, not_before=moment(next_at), failure={}
        )
