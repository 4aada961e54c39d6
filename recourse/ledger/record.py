"""`Record`: one saga as the ledger holds it, and its row."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from recourse.declare.declaration import Coordination
from recourse.declare.ids import SagaId, Traceparent
from recourse.declare.shape import Shape
from recourse.events import Event
from recourse.ledger.history import SagaHistory, Status, stuck_step
from recourse.ledger.listing import attributes, is_parked

SENT = "sent:"
"""How digests begin that are of what was sent; those before were of what it was filled to."""


ERASED = "erased"
"""What text is replaced by where its owner's data are erased; what digests of requests begin with
then, followed by when that was."""


LEFT_TO_IMPORT = timedelta(minutes=15)
"""How long a saga of an import is left to that before the sweeper begins it, and once more where
there is no room for it then."""


def digest(body: Any) -> str:
    """The digest of a request as it was sent: the same whatever the order of its fields.

    A null is as good as nothing. What a request leaves out is no part of it, so that a release
    whose class of requests has one more optional field knows what was started before.
    """
    return SENT + _sha256(_without_nulls(body))


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        found = ((name, _without_nulls(one)) for name, one in value.items() if one is not None)
        return dict(found)
    return [_without_nulls(one) for one in value] if isinstance(value, list) else value


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Record:
    """A saga as the ledger holds it.

    ::

        record = ledger.get(saga_id)
        record.view(shape)         # as GET /sagas/{id} shows it, without links
        record.history(shape)      # its status and steps, from its events

    Attributes:
        saga_id: Its id.
        saga: The name of its declaration.
        owner: The subject that started it.
        business_key: The caller's own reference.
        coordination: `orchestration` or `choreography`.
        request: The request, as its class wrote it.
        body: The digest of what was sent; in rows of earlier releases, of `request`; where its
            owner's data are erased, `ERASED` and when that was.
        started_at: When it was started, in RFC 3339.
        faults: Faults on demand, by target.
        status: Its status, by the events that have entered.
        ended_at: When its terminal event was recorded; None until then.
        version: Grows by one with every write.
        run: The current or last recovery; 0 is the first run.
        entered: The events that have entered, in order; see `recourse.ledger.history`.
        waiting: Events whose causes have not arrived yet.
        skips: The reasons of the steps that operators skipped, by target.
        resolutions: What operators have decided, in order.
        failure: What an interrupted run had caught and not published, by step or group.
        recoveries: How many recoveries in a row the sweeper has opened.
        not_before: Until when the sweeper leaves it alone.
        retold_at: When its events were last republished.
        resumes: Whether its run goes on after a decision; else a run after the first is a recovery.
        answered: The step whose question was decided last, `step`, and when that was, `at`.
        waits_for: What the question is called that it waits with, if it does.
        asks: To whom alone that is put, if it is somebody.
        due_at: When something is to be done with a saga that waits, as `due_place` writes it: it
            begins, somebody is reminded, or the time of a question is up.
        begins_at: Before when it must not begin, in RFC 3339, if that was asked; of one of an
            import, from when on the sweeper begins it, where the import has not.
        scheduled: Whether it has not begun for that reason: nothing has been published of it.
        imported_by: The import that has recorded it, and begins it when there is room.
        reverses: The saga that it reverses, why, and by whom: `saga_id`, `reason`, `by`.
        reversed_by: The saga that reverses it, or last tried to.
        reversals: How many sagas have tried to reverse it.
        parked: Whether it runs and waits for an operator; a row has it in what lists it by status.
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
    resumes: bool = False
    answered: Mapping[str, str] = field(default_factory=dict)
    waits_for: str | None = None
    asks: str | None = None
    due_at: str | None = None
    begins_at: str | None = None
    scheduled: bool = False
    imported_by: str | None = None
    reverses: Mapping[str, Any] | None = None
    reversed_by: str | None = None
    reversals: int = 0
    parked: bool = False

    @property
    def place(self) -> str:
        """Its position in every list: unique, and ordered by start."""
        return f"{self.started_at}#{self.saga_id}"

    @property
    def begun_at(self) -> str:
        """When it began: when it was started, unless it was to begin later."""
        return self.entered[0].time if self.begins_at and self.entered else self.started_at

    @property
    def asked_to_begin_at(self) -> str | None:
        """Before when it must not begin, if that was asked; of one of an import it was not."""
        return None if self.imported_by else self.begins_at

    def is_due(self, at: str) -> bool:
        """Whether it waits, and something is to be done with it by a time."""
        return self.due_at is not None and self.due_at < just_after(at)

    @property
    def trace(self) -> Traceparent | None:
        """The span that it was started in, the caller's or its own; earlier releases kept none."""
        return self.entered[0].traceparent if self.entered else None

    @property
    def shape(self) -> str | None:
        """The digest of the shape that it began with; releases before named none."""
        found: str | None = self.entered[0].data.get("shape") if self.entered else None
        return found

    @property
    def log_fields(self) -> dict[str, str]:
        """What the log has of it."""
        trace = {"trace_id": self.trace.trace_id} if self.trace else {}
        return {"saga_id": self.saga_id, "saga": self.saga} | trace

    @property
    def is_choreographed(self) -> bool:
        """Whether events alone drive it; a recovery is always a run of the state machine."""
        return self.coordination == "choreography" and self.run == 0

    @property
    def is_erased(self) -> bool:
        """Whether its owner's data are erased (`recourse.erasure`)."""
        return self.body.startswith(f"{ERASED}:")

    def was_sent(self, body: str, request: Mapping[str, Any] | None = None) -> bool:
        """Whether it was started by what is sent again.

        Args:
            body: The digest of what is sent.
            request: The same, as its class writes it; None where that refuses it by now.
        """
        if self.is_erased:
            return False
        if self.body.startswith(SENT) or not body.startswith(SENT):
            return self.body == body
        # An earlier release wrote it: its digest is of `request`, with a null for each optional
        # field of the class that it had, and by now the class may have others.
        ways = {body} if request is None else {body, digest(request)}
        return digest(self.request) in ways or self.body == _sha256(request)

    def input(self, shape: Shape[Any]) -> dict[str, Any]:
        """The input of its run: what the state machine is given, and what events carry.

        A field that a step takes only since a later release is None.
        """
        absent = dict.fromkeys(name for step in shape.all for name in step.takes)
        return {
            "saga": {
                "id": self.saga_id,
                "name": self.saga,
                "owner": self.owner,
                "business_key": self.business_key,
                "started_at": self.begun_at,
                "chaos": dict(self.faults),
                "recover": 0 if self.resumes else self.run,
                "skips": dict(self.skips),
                "attempts": self.attempts(shape) if self.run else {},
            }
            | ({"run": self.run} if self.resumes else {})
            | ({"shape": self.shape} if self.shape else {})
            | self._traced(),
            "request": absent | dict(self.request),
            "results": {},
            "failure": dict(self.failure),
        }

    def history(self, shape: Shape[Any]) -> SagaHistory:
        """Its history, by the events that have entered."""
        return SagaHistory(shape, self.request, self.entered)

    def view(self, shape: Shape[Any]) -> dict[str, Any]:
        """The saga as the API shows it, without its links."""
        history = self.history(shape)
        failure = history.failure
        reason = None
        if failure and self.status != "SUCCEEDED":
            error = failure.error
            reason = {"step": failure.step, "error": error["type"], "message": error["message"]}
        return self.view_of(reason, history.steps(self.run, has_begun=not self.scheduled))

    def view_of(
        self, reason: Mapping[str, Any] | None, steps: Sequence[Mapping[str, Any]]
    ) -> dict[str, Any]:
        """The saga as the API shows it, with such a reason and such steps."""
        seen = {
            "saga_id": self.saga_id,
            "saga": self.saga,
            "coordination": self.coordination,
            "status": self.status,
            "reason": reason,
            "owner": self.owner,
            "business_key": self.business_key,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "steps": steps,
            "stuck": [one["name"] for one in steps if stuck_step(one, self.status)],
        }
        if self.asked_to_begin_at is not None:
            seen["begins_at"] = self.asked_to_begin_at
        return seen | self._traced() | self._linked()

    def _traced(self) -> dict[str, str]:
        return {"traceparent": self.trace} if self.trace else {}

    def _linked(self) -> dict[str, Any]:
        found = {"reverses": self.reverses, "reversed_by": self.reversed_by}
        return {name: one for name, one in found.items() if one is not None}

    def question(self, shape: Shape[Any]) -> Event | None:
        """The question that it waits with; None where it waits with none, or that is decided."""
        asked = self.history(shape).question
        return asked if asked and asked.step != self.answered.get("step") else None

    def later(self, shape: Shape[Any]) -> Event | None:
        """What says until when it waits for a time; None where it does not."""
        return self.history(shape).later

    def results(self, shape: Shape[Any]) -> dict[str, Any]:
        """The results of the steps that are done, by name."""
        steps = self.history(shape).steps(self.run)
        return {step["name"]: step["result"] for step in steps if step["status"] == "DONE"}

    def attempts(self, shape: Shape[Any]) -> dict[str, int]:
        """Attempts so far, by target: faults on demand count them over all runs."""
        found: dict[str, int] = {}
        for step in self.history(shape).steps(self.run):
            found[step["name"]] = step["attempts"]
            found[f"{step['name']}.undo"] = step["undo_attempts"]
        return {target: tries for target, tries in found.items() if tries}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Record:
        """The record of a row of the ledger's table, of this release or one before."""
        # A later release may keep more: what this one does not know, it leaves out.
        fields = {name: value for name, value in row.items() if name in cls.__annotations__}
        fields |= {name: [Event.from_dict(said) for said in row[name]] for name in _OF_EVENTS}
        return cls(saga_id=SagaId(row["pk"]), parked=is_parked(row), **fields)

    def to_row(self) -> dict[str, Any]:
        """Its row; `started` is the sort key of the indexes, unique to the saga."""
        indexed = attributes(
            self.saga_id,
            self.owner,
            self.business_key,
            self.status,
            self.due_at,
            self.waits_for,
            self.asks,
            self.parked,
        )
        row = {"pk": self.saga_id, "started": self.place} | indexed | self.__dict__
        del row["saga_id"], row["parked"]
        for name in _SPARSE:
            if not row[name]:
                del row[name]
        return row | {name: [event.to_dict() for event in row[name]] for name in _OF_EVENTS}


def due_place(at: str, saga_id: str) -> str:
    """`Record.due_at` of a moment: unique to the saga, so that a list goes on after it."""
    return f"{at}#{saga_id}"


def just_after(at: str) -> str:
    """What is after the `due_place` of every saga at a moment, and before all later ones."""
    return f"{at}$"


_OF_EVENTS = ("entered", "waiting")
_SPARSE = (
    "resumes",
    "answered",
    "waits_for",
    "asks",
    "due_at",
    "begins_at",
    "scheduled",
    "imported_by",
    "reverses",
    "reversed_by",
    "reversals",
)
"""What a row has only where it says something, as a field that is new must: an earlier release then
reads the rows of all sagas that need nothing newer. A key of an index could hold no null anyway."""
