"""A saga as the ledger keeps it, and the row that it is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from recourse.declare.declaration import Coordination
from recourse.declare.ids import SagaId
from recourse.declare.saga import Saga
from recourse.events import Event
from recourse.ledger.history import SagaHistory, Status
from recourse.ledger.listing import attributes


def digest(body: Mapping[str, Any]) -> str:
    """What tells one request body from another, whatever the order of its fields."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Record:
    """A saga as the ledger keeps it.

    Attributes:
        version: Grows with every change.
        run: The recovery that is under way, or was last; 0 is the first run.
        body: The digest of what was asked.
        entered: The events that have entered, in order; see `recourse.ledger.history`.
        waiting: Those whose causes have not arrived yet.
        skips: What operators have skipped: reasons by target.
        resolutions: What operators have decided, in order.
        failure: What a run that was cut off had caught and not told of, by step or group.
        recoveries: How many the sweeper has opened in a row.
        not_before: Until when the sweeper leaves it alone.
        retold_at: When its events were last told again.
    """

    saga_id: SagaId
    saga: str
    owner: str
    business_key: str
    coordination: Coordination
    request: Mapping[str, Any]
    body: str
    started_at: str
    faults: Mapping[str, str] = field(default_factory=dict)
    status: Status = "RUNNING"
    ended_at: str | None = None
    version: int = 1
    run: int = 0
    entered: Sequence[Event] = ()
    waiting: Sequence[Event] = ()
    skips: Mapping[str, str] = field(default_factory=dict)
    resolutions: Sequence[Mapping[str, str]] = ()
    failure: Mapping[str, Any] = field(default_factory=dict)
    recoveries: int = 0
    not_before: str | None = None
    retold_at: str | None = None

    @property
    def place(self) -> str:
        """Where it stands in every list."""
        return f"{self.started_at}#{self.saga_id}"

    @property
    def is_choreographed(self) -> bool:
        """Whether it goes on by events alone; a recovery is always a run of the state machine."""
        return self.coordination == "choreography" and self.run == 0

    def input(self, saga: Saga) -> dict[str, Any]:
        """What its run begins with: the state machine's input, and what events carry.

        A field that the saga's steps take only since this one was recorded is absent.
        """
        absent = dict.fromkeys(name for step in saga.all for name in step.takes)
        return {
            "saga": {
                "id": self.saga_id,
                "name": self.saga,
                "owner": self.owner,
                "business_key": self.business_key,
                "started_at": self.started_at,
                "chaos": dict(self.faults),
                "recover": self.run,
                "skips": dict(self.skips),
                "attempts": self.attempts(saga) if self.run else {},
            },
            "request": absent | dict(self.request),
            "results": {},
            "failure": dict(self.failure),
        }

    def history(self, saga: Saga) -> SagaHistory:
        """What the events say."""
        return SagaHistory(saga, self.request, self.entered)

    def view(self, saga: Saga) -> dict[str, Any]:
        """The saga as the API shows it, but for its links."""
        history = self.history(saga)
        failure = history.failure
        reason = None
        if failure and self.status != "SUCCEEDED":
            error = failure.error
            reason = {"step": failure.step, "error": error["type"], "message": error["message"]}
        return {
            "saga_id": self.saga_id,
            "saga": self.saga,
            "coordination": self.coordination,
            "status": self.status,
            "reason": reason,
            "owner": self.owner,
            "business_key": self.business_key,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "steps": history.steps(self.run),
        }

    def attempts(self, saga: Saga) -> dict[str, int]:
        """Tries so far, by target: a fault on demand counts them over all runs."""
        found: dict[str, int] = {}
        for step in self.history(saga).steps(self.run):
            found[step["name"]] = step["attempts"]
            found[f"{step['name']}.undo"] = step["undo_attempts"]
        return {target: tries for target, tries in found.items() if tries}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Record:
        """The record that a row of the ledger's table holds."""
        fields = {name: value for name, value in row.items() if name not in _NOT_OF_THE_RECORD}
        fields |= {name: [Event.of(said) for said in row[name]] for name in _OF_EVENTS}
        return cls(saga_id=SagaId(row["pk"]), **fields)

    def to_row(self) -> dict[str, Any]:
        """Its row; `started` orders the indexes, and no two sagas share it."""
        indexed = attributes(self.saga_id, self.owner, self.business_key, self.status)
        row = {"pk": self.saga_id, "started": self.place} | indexed | self.__dict__
        del row["saga_id"]
        return row | {name: [event.to_dict() for event in row[name]] for name in _OF_EVENTS}


_OF_EVENTS = ("entered", "waiting")
_NOT_OF_THE_RECORD = {"pk", "started", *attributes("", "", "", "")}
