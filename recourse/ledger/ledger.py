"""The ledger: the read model of sagas, and the durable record of every accepted start.

One row a saga, under its id: the request, and the events that have entered, in order. Its status
and steps are computed from them (`history`), so a row is consistent after every write. Writes are
conditional on the row's version; a duplicate or a late event changes nothing.

It is longer than other modules: all that may change a saga's row is here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from recourse.declare.ids import Traceparent
from recourse.declare.saga import Saga
from recourse.declare.shape import Shape
from recourse.errors import RecourseError
from recourse.events import Event, now, outbox_row
from recourse.events.checks import unreadable
from recourse.ledger.history import StuckStep, enter, stuck_step
from recourse.ledger.queries import SagaQueries
from recourse.ledger.record import Record, due_place
from recourse.ledger.reversals import NoReverseError, Reversal
from recourse.ledger.shapes import Shapes, UnknownShapeError
from recourse.store.contention import Backoff, ConditionFailedError
from recourse.store.expressions import ABSENT
from recourse.store.table import Table

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient
    from types_boto3_dynamodb.type_defs import TransactWriteItemTypeDef as Request

LONGEST_PAUSE = 0.25
"""Seconds, at most, between two tries of a write that lost a race: a caller may be waiting."""


class KeyReusedError(RecourseError):
    """The Idempotency-Key was used before, for something else; the message says for what."""


class ErasedError(RecourseError):
    """The Idempotency-Key was used before, for a saga whose owner's data are erased."""


class NothingToResolveError(RecourseError):
    """The step is not stuck, so there is nothing for an operator to decide."""


class PivotSkippedError(RecourseError):
    """A stuck pivot cannot be skipped: its marker alone says whether it has acted."""


class SagaChangedError(RecourseError):
    """The saga is of another version than the one that was decided on."""


class UnknownSagaError(RecourseError, LookupError):
    """The ledger has no such saga."""


class Ledger:
    """The ledger's table.

    ::

        ledger = Ledger(dynamodb, "Ledger", SAGAS)
        record, is_new = ledger.start(Record(saga_id=…, saga="order", …))
        ledger.record_events(record.saga_id, events)
        ledger.get(record.saga_id)

    Args:
        dynamodb: A DynamoDB client.
        table: The table's name.
        sagas: Every declaration, by name.
        shapes: The shapes that sagas began with; by default it makes its own.

    Attributes:
        sagas: The declarations.
        shapes: The shapes that sagas began with.
        queries: Lists of sagas.
    """

    def __init__(
        self,
        dynamodb: DynamoDBClient,
        table: str,
        sagas: Mapping[str, Saga],
        shapes: Shapes | None = None,
    ) -> None:
        self._table = Table(dynamodb, table, backoff=Backoff(max_pause=LONGEST_PAUSE))
        self.sagas = sagas
        self.shapes = shapes or Shapes(dynamodb, table, sagas)
        self.queries = SagaQueries(self._table)

    def start(
        self,
        record: Record,
        *,
        any_coordination: bool = True,
        trace: Traceparent | None = None,
    ) -> tuple[Record, bool]:
        """Record a start once, and publish its event, with which a choreography begins.

        Args:
            record: The saga; its `entered` is filled here.
            any_coordination: Whether the caller left the coordination to the declaration: then a
                saga that was recorded with either is the same.
            trace: The caller's span; by default the saga has a trace of its own.

        Returns:
            The saga as it is now, and whether this call recorded it.

        Raises:
            KeyReusedError: It was recorded before with another body, coordination or time to begin.
            ErasedError: It was recorded before, and its owner's data are erased.
        """
        record, new = self._begun(record, trace)

        def attempt() -> tuple[Record, bool]:
            try:
                self._table.transact([self._table.put_request(one, when=ABSENT) for one in new])
                return record, True
            except ConditionFailedError:
                found = self.get(record.saga_id)
                if found is None:
                    raise
            if found.is_erased:
                raise ErasedError(record.saga_id)
            if not found.was_sent(record.body, record.request):
                raise KeyReusedError("another request")
            if not any_coordination and found.coordination != record.coordination:
                raise KeyReusedError(f"a saga by {found.coordination}")
            if found.asked_to_begin_at != record.asked_to_begin_at:
                raise KeyReusedError(f"a saga that begins {found.asked_to_begin_at or 'at once'}")
            return found, False

        return self._table.retry(attempt, what=f"saga {record.saga_id}")

    def start_all(self, records: Sequence[Record], *noting: Request) -> list[Record]:
        """Record many starts, none of which was recorded before, in one transaction.

        Args:
            records: The sagas; each makes two rows, or one if it is to begin later, and a
                transaction has 100 at the most.
            noting: What is written with them, or not at all: by it the caller knows later that all
                of them were recorded.

        Returns:
            The sagas as they are recorded.

        Raises:
            ConditionFailedError: One of them was recorded before, or a condition of `noting` does
                not hold: none is recorded.
            ContentionError: Other writes came first for as long as it was retried.
        """
        begun = [self._begun(record, None) for record in records]
        rows = [row for _, new in begun for row in new]
        puts = [self._table.put_request(row, when=ABSENT) for row in rows]
        self._table.transact([*puts, *noting])
        return [record for record, _ in begun]

    def reverse(self, saga_id: str, asked: Reversal, *, trace: Traceparent | None = None) -> Record:
        """Record the start of the saga that reverses another, once, and its id with that one.

        A saga that was COMPENSATED has reversed nothing, so another one may try.

        Args:
            saga_id: The saga to reverse.
            asked: How.
            trace: The caller's span; by default the reversing saga has a trace of its own.

        Returns:
            The reversing saga as it is now; one that began before, if it has not been COMPENSATED.

        Raises:
            UnknownSagaError: The ledger has no such saga.
            NoReverseError: Nothing is declared that reverses it.
            NotSucceededError: It has not SUCCEEDED.
            ErasedError: Its owner's data are erased.
            NotReversibleError: It began with a declaration that its reverse does not fit.
            UnknownShapeError: Nothing says what its steps are.
        """

        def attempt() -> Record:
            first = self.get(saga_id)
            if first is None:
                raise UnknownSagaError(saga_id)
            before = self.get(first.reversed_by) if first.reversed_by else None
            if before is not None and before.status != "COMPENSATED":
                return before
            declared = self.sagas.get(first.saga)
            if declared is None or declared.reverse is None:
                raise NoReverseError(first.saga)
            if first.is_erased:
                raise ErasedError(saga_id)
            saga = self.sagas[declared.reverse]
            record = asked.record(saga, declared, first, self.shape(first))
            record, new = self._begun(record, trace)
            linked = replace(
                first,
                reversed_by=record.saga_id,
                reversals=first.reversals + 1,
                version=first.version + 1,
            )
            writes = [self._table.put_request(one, when=ABSENT) for one in new]
            link = self._table.put_request(linked.to_row(), when={"version": first.version})
            self._table.transact([*writes, link])
            return record

        return self._table.retry(attempt, what=f"saga {saga_id}")

    def _begun(
        self, record: Record, trace: Traceparent | None
    ) -> tuple[Record, list[dict[str, Any]]]:
        """A saga whose first event has entered, and the rows to put: its own and the outbox's.

        One that is to begin later has no row in the outbox: `begin` puts that.
        """
        event = Event.started(
            record.saga_id,
            record.saga,
            business_key=record.business_key,
            coordination=record.coordination,
            shape=self.shapes.keep(record.saga),
            trace=trace or Traceparent.new(record.saga_id, record.started_at),
        )
        record = replace(record, entered=[replace(event, sequence=1)])
        if record.scheduled:
            record = replace(record, **self._waits(record))
            return record, [record.to_row()]
        return record, [record.to_row(), self._outbox_row(record, "started")]

    def _outbox_row(self, record: Record, kind: str) -> dict[str, Any]:
        """The row that publishes the last event of a kind, which moves a choreography on."""
        event = next(one for one in reversed(record.entered) if one.kind == kind)
        event = replace(event, sequence=None)
        if record.is_choreographed:
            shape = self.shape(record)
            given = {**record.input(shape), "results": record.results(shape)}
            event = replace(event, data={**event.data, "carried": given})
        return outbox_row(event, record.owner)

    def begin(self, saga_id: str, *, at: str) -> Record:
        """Begin a saga whose time has come: publish its first event. It is done once.

        Args:
            saga_id: The saga.
            at: The time at which it begins, by which its deadline is measured.

        Returns:
            The saga as it is now; one that has begun before, or never will, is as it was.

        Raises:
            UnknownSagaError: The ledger has no such saga.
        """
        return self._leave_schedule(saga_id, at, run=0)

    def begin_all(self, records: Sequence[Record], *, at: str) -> list[Record]:
        """Begin many sagas that have not begun, in one transaction; as `begin` does with one.

        Args:
            records: The sagas as they were read, each still `scheduled`; 50 at the most.
            at: The time at which they begin.

        Returns:
            The sagas as they are now.

        Raises:
            ConditionFailedError: One of them is not as it was read: none has begun by this.
            ContentionError: Other writes came first for as long as it was retried.
        """
        changed = [self._changed(one, _off_schedule(one, at, run=0)) for one in records]
        writes = [
            write
            for before, one in zip(records, changed, strict=True)
            for write in self._writes(before, one, "started")
        ]
        self._table.transact(writes)
        return changed

    def call_off(self, saga_id: str, *, at: str) -> Record:
        """Cancel a saga that has not begun, so that it never does.

        The run that it is at is a recovery then, by either coordination: it settles the pivot,
        which has not acted, and no step has an effect to undo.

        Args:
            saga_id: The saga.
            at: The time.

        Returns:
            The saga as it is now; one that has begun is as it was.

        Raises:
            UnknownSagaError: The ledger has no such saga.
        """
        return self._leave_schedule(saga_id, at, run=1)

    def _leave_schedule(self, saga_id: str, at: str, *, run: int) -> Record:
        def change(record: Record) -> dict[str, Any] | None:
            return _off_schedule(record, at, run=run) if record.scheduled else None

        return self._change(saga_id, change, publish="started")

    def put_off_beginning(self, saga_id: str, *, until: str) -> Record:
        """Have the sweeper leave a saga of an import to that until a time, if it has not begun."""
        return self._change(
            saga_id, lambda record: {"begins_at": until} if record.scheduled else None
        )

    def get(self, saga_id: str) -> Record | None:
        """The saga as it is now, read consistently."""
        row = self._table.get(saga_id)
        return Record.from_row(row) if row and "saga" in row else None

    def get_all(self, saga_ids: Sequence[str]) -> list[Record]:
        """The sagas of these ids that there are, in their order, read consistently."""
        rows = self._table.get_many(saga_ids)
        return [Record.from_row(row) for row in rows if row and "saga" in row]

    def shape(self, record: Record) -> Shape[Any]:
        """The shape that a saga began with.

        Raises:
            UnknownShapeError: Nothing says what its steps are.
        """
        return self.shapes.of(record.saga, record.shape)

    def view(self, record: Record) -> dict[str, Any]:
        """A saga as the API shows it, without links; without its steps, where none are known."""
        try:
            return record.view(self.shape(record))
        except UnknownShapeError:
            return record.view_of(None, [])

    def record_events(
        self, saga_id: str, events: Iterable[Event], *, retold_at: str | None = None
    ) -> Record:
        """Record events of one saga; each enters once its causes have.

        Args:
            saga_id: The saga.
            events: The events, in any order; duplicates change nothing.
            retold_at: When they were republished, if they were.

        Raises:
            UnknownSagaError: The ledger has no such saga.
            UnknownShapeError: Nothing says what its steps are.
            UnreadableError: One is of a step that the saga has not; none has been recorded.
        """
        arrived = [event.public() for event in events]

        def change(record: Record) -> dict[str, Any] | None:
            shape = self.shape(record)
            for event in arrived:
                if event.step is not None and event.step not in shape.by_name:
                    raise unreadable("step", f"one of {saga_id}", event.step)
            entered, waiting = enter(
                shape, saga_id, record.request, record.entered, [*record.waiting, *arrived]
            )
            changes = {
                "entered": entered,
                "waiting": waiting,
                "retold_at": retold_at or record.retold_at,
            }
            same = all(value == getattr(record, name) for name, value in changes.items())
            return None if same else changes

        return self._change(saga_id, change)

    def resolve(
        self,
        saga_id: str,
        step: str,
        *,
        skip: bool,
        reason: str,
        by: str,
        version: int | None = None,
    ) -> Record:
        """Record an operator's decision on a stuck step, and open the recovery that applies it.

        Args:
            saga_id: The saga.
            step: The stuck step.
            skip: Whether to skip the step; else it is retried.
            reason: Why; kept with the saga.
            by: Who decided.
            version: The saga's version that was decided on; None for whatever it is now.

        Raises:
            SagaChangedError: It is of another version.
            NothingToResolveError: The step is not stuck.
            PivotSkippedError: The step is the pivot, which cannot be skipped.
            UnknownSagaError: The ledger has no such saga.
        """

        def change(record: Record) -> dict[str, Any]:
            if version not in (None, record.version):
                raise SagaChangedError(saga_id)
            found = self.stuck_step(record, step)
            if found is None:
                raise NothingToResolveError(step)
            if skip and self.shape(record).role(step) == "pivot":
                raise PivotSkippedError(step)
            action = "skip" if skip else "retry"
            decided = {"step": step, "action": action, "reason": reason, "by": by}
            return {
                "run": record.run + 1,
                "resumes": False,
                "recoveries": 0,
                "not_before": None,
                "skips": {**record.skips, found.target: reason} if skip else record.skips,
                "resolutions": [*record.resolutions, decided | {"at": now()}],
            }

        return self._change(saga_id, change)

    def recover(
        self, saga_id: str, after: int, *, not_before: str, failure: Mapping[str, Any]
    ) -> Record:
        """Open a recovery of a saga whose run has ended before the saga has.

        If another recovery has been opened since, nothing changes.

        Args:
            saga_id: The saga.
            after: The run that has ended.
            not_before: When the next recovery may follow, if this one does not end the saga either.
            failure: What the run had caught, if anything.
        """

        def change(record: Record) -> dict[str, Any] | None:
            if record.run != after:
                return None
            return {
                "run": after + 1,
                "resumes": False,
                "recoveries": record.recoveries + 1,
                "not_before": not_before,
                "failure": failure or record.failure,
            }

        return self._change(saga_id, change)

    def answered(self, saga_id: str) -> Record:
        """Record that somebody has decided the question, before any event says so.

        From now on the sweeper looks after the saga again, should it not go on by itself.
        """
        return self._change(saga_id, self._answered)

    def resume(self, saga_id: str, after: int) -> Record:
        """Open the run that goes on after a decision.

        If another run has been opened since, nothing changes.

        Args:
            saga_id: The saga.
            after: The run that has ended.
        """

        def change(record: Record) -> dict[str, Any] | None:
            if record.run != after:
                return None
            return {"run": after + 1, "resumes": True, **self._answered(record)}

        return self._change(saga_id, change)

    def wake(self, saga_id: str, *, at: str) -> Record:
        """Have a saga go on whose step is due: publish that, and open the run that does it.

        It is done once; a choreography needs no run, for the event moves it on.

        Args:
            saga_id: The saga.
            at: The time.

        Returns:
            The saga as it is now; as it was, if none of its steps is due.

        Raises:
            UnknownSagaError: The ledger has no such saga.
        """

        def change(record: Record) -> dict[str, Any] | None:
            shape = self.shape(record)
            delayed = record.later(shape)
            if delayed is None or delayed.due_at > at:
                return None
            due = Event.of_step(
                saga_id,
                record.saga,
                str(delayed.step),
                "due",
                run=record.run,
                attempts=delayed.attempts,
                follows=["later"],
                time=at,
                trace=record.trace,
            )
            arrived = [*record.waiting, due]
            entered, waiting = enter(shape, saga_id, record.request, record.entered, arrived)
            run = {} if record.is_choreographed else {"resumes": True, "run": record.run + 1}
            return {"entered": entered, "waiting": waiting, **run}

        return self._change(saga_id, change, publish="due")

    def put_off(self, saga_id: str, *, not_before: str) -> Record:
        """Have the sweeper leave a saga alone until a time."""
        return self._change(saga_id, lambda record: {"not_before": not_before})

    def republish(self, saga_id: str, events: Sequence[Event], *, at: str) -> Record:
        """Publish events again that may have been lost, and record those that the ledger lacks.

        They go through the outbox, in rows of their own, to every subscriber, because the ledger
        need not be the only one that missed them; for the others they are duplicates.

        Args:
            saga_id: The saga.
            events: The events.
            at: The time, by which the next time is measured.
        """
        record = self.get(saga_id)
        if record is None:
            raise UnknownSagaError(saga_id)
        for event in events:
            row = outbox_row(event, record.owner)
            row["pk"] += f"#{at}"
            self._table.put(row)
        return self.record_events(saga_id, events, retold_at=at)

    def stuck_step(self, record: Record, step: str) -> StuckStep | None:
        """What an operator has to resolve of a step; None if it is not stuck."""
        views = record.history(self.shape(record)).steps(record.run)
        view = next((view for view in views if view["name"] == step), None)
        return stuck_step(view, record.status) if view else None

    def is_parked(self, record: Record) -> bool:
        """Whether a step of a saga waits for an operator."""
        views = record.history(self.shape(record)).steps(record.run)
        return any(stuck_step(view, record.status) for view in views)

    def _answered(self, record: Record) -> dict[str, Any]:
        asked = record.question(self.shape(record))
        return {"answered": {"step": str(asked.step), "at": now()}} if asked else {}

    def _waits(self, record: Record) -> dict[str, Any]:
        """What a record says of what its saga waits for: a time, or a question."""
        nothing = {"waits_for": None, "asks": None, "due_at": None}
        if record.scheduled and record.status == "RUNNING":
            return nothing | {"due_at": due_place(str(record.begins_at), record.saga_id)}
        shape = self.shape(record)
        if delayed := record.later(shape):
            return nothing | {"due_at": due_place(delayed.due_at, record.saga_id)}
        asked = record.question(shape)
        if asked is None:
            return nothing
        remind_at = None if record.history(shape).is_reminded else asked.question.get("remind_at")
        due = remind_at or asked.question["answer_by"]
        place = due_place(due, record.saga_id)
        name, to = asked.question["name"], asked.question.get("to")
        return {"waits_for": name, "asks": to, "due_at": place}

    def _change(
        self,
        saga_id: str,
        change: Callable[[Record], Mapping[str, Any] | None],
        *,
        publish: str | None = None,
    ) -> Record:
        """Change a row from what it is now; retry if another write came first.

        Args:
            saga_id: The saga.
            change: The attributes to change, by the record as it is; None changes nothing. It is
                called again with the new record at each retry.
            publish: The kind of an event that has entered by that, and is published with it.
        """

        def attempt() -> Record:
            record = self.get(saga_id)
            if record is None:
                raise UnknownSagaError(saga_id)
            changes = change(record)
            if changes is None:
                return record
            changed = self._changed(record, changes)
            if publish is None:
                self._table.put(changed.to_row(), when={"version": record.version})
            else:
                self._table.transact(self._writes(record, changed, publish))
            return changed

        return self._table.retry(attempt, what=f"saga {saga_id}")

    def _changed(self, record: Record, changes: Mapping[str, Any]) -> Record:
        """A record of the next version, with all that follows from what has changed."""
        changed = replace(record, **changes, version=record.version + 1)
        history = changed.history(self.shape(changed))
        status = history.status(changed.run)
        last = history.entered[-1].time if status in ("SUCCEEDED", "COMPENSATED") else None
        changed = replace(changed, status=status, ended_at=last)
        changed = replace(changed, **self._waits(changed))
        failed = status == "RUNNING" and any(one.kind == "failed" for one in history.entered)
        return replace(changed, parked=failed and self.is_parked(changed))

    def _writes(self, before: Record, changed: Record, publish: str) -> list[Request]:
        """The writes of a changed row, and of the event that is published with it."""
        row = self._table.put_request(changed.to_row(), when={"version": before.version})
        return [row, self._table.put_request(self._outbox_row(changed, publish))]


def _off_schedule(record: Record, at: str, *, run: int) -> dict[str, Any]:
    """What changes of a saga that has not begun when it begins, or never will."""
    entered = [replace(record.entered[0], time=at), *record.entered[1:]]
    return {"scheduled": False, "entered": entered, "run": run}
