"""The ledger: the read model of sagas, and the record of every start that was answered.

One row a saga, under its id: what was asked, and the events that have entered, in order. What a
saga looks like is computed from them (`history`), so a row is right after every write. Writes are
conditional on the row's version; a duplicate or a late event changes nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from recourse.declare.declaration import Coordination
from recourse.declare.ids import SagaId
from recourse.declare.saga import Saga
from recourse.errors import RecourseError
from recourse.events import Event, now, outbox_row
from recourse.ledger.history import STATUSES, SagaHistory, Status, StuckStep, enter, stuck_step
from recourse.ledger.listing import (
    BY_KEY,
    BY_OWNER,
    BY_OWNER_KEY,
    BY_STATUS,
    attributes,
    entries,
    in_statuses,
    with_key,
    with_owner_key,
)
from recourse.store.contention import Backoff, ConditionFailedError
from recourse.store.cursors import cursor_after, started_of
from recourse.store.expressions import ABSENT, PRESENT
from recourse.store.table import Table

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

UNDER_WAY: tuple[Status, ...] = ("RUNNING", "COMPENSATING")
"""The statuses of sagas that go on by themselves, so long as somebody looks after them."""
LONGEST_PAUSE = 0.25
"""Seconds between two tries of a write that others are ahead of: somebody waits for its answer."""
MOST_EXAMINED = 1000
"""How many sagas one page looks at: where few match, it is short, and its cursor goes on."""
UNFINISHED_AT_ONCE = 25
"""How many unfinished sagas are read at once; whoever looks after them takes a while for each."""


class KeyReusedError(RecourseError):
    """The Idempotency-Key was used before, for something else: the message says what differs."""


class NothingToResolveError(RecourseError):
    """The step is not stuck, so there is nothing for an operator to decide."""


class PivotSkippedError(RecourseError):
    """A stuck pivot cannot be skipped: only its marker says whether it has acted."""


class UnknownSagaError(RecourseError, LookupError):
    """The ledger has no such saga."""


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


class Ledger:
    """The ledger's table.

    Args:
        dynamodb: A DynamoDB client.
        table: The table's name.
        sagas: Every declaration, by name.

    Attributes:
        sagas: The same.
    """

    def __init__(self, dynamodb: DynamoDBClient, table: str, sagas: Mapping[str, Saga]) -> None:
        self._table = Table(dynamodb, table, backoff=Backoff(max_pause=LONGEST_PAUSE))
        self.sagas = sagas

    def start(self, record: Record, *, any_coordination: bool = True) -> tuple[Record, bool]:
        """Record a start, once, and tell of it; in a choreography that is what begins it.

        Args:
            record: The saga; its `entered` is filled here.
            any_coordination: Whether the caller left the coordination to the declaration, so that
                the saga is the same in either.

        Returns:
            The saga as it is now, and whether this call recorded it.

        Raises:
            KeyReusedError: It was recorded before with another body or coordination.
        """
        event = Event.started(
            record.saga_id,
            record.saga,
            business_key=record.business_key,
            coordination=record.coordination,
            carried=record.input(self.sagas[record.saga]) if record.is_choreographed else None,
        )
        record = replace(record, entered=[replace(event.public(), sequence=1)])
        new = [_row(record), outbox_row(event)]

        def attempt() -> tuple[Record, bool]:
            try:
                self._table.transact([self._table.put_request(one, when=ABSENT) for one in new])
                return record, True
            except ConditionFailedError:
                found = self.get(record.saga_id)
                if found is None:
                    raise
            if found.body != record.body:
                raise KeyReusedError("another request")
            if not any_coordination and found.coordination != record.coordination:
                raise KeyReusedError(f"a saga by {found.coordination}")
            return found, False

        return self._table.retry(attempt, what=f"saga {record.saga_id}")

    def get(self, saga_id: str) -> Record | None:
        """The saga as it is now, read consistently."""
        row = self._table.get(saga_id)
        return _record(row) if row and "saga" in row else None

    def take(
        self, saga_id: str, events: Iterable[Event], *, retold_at: str | None = None
    ) -> Record:
        """Take events of one saga in, as far as their causes allow.

        Args:
            saga_id: The saga.
            events: The events.
            retold_at: When they were told again, where they were.

        Raises:
            UnknownSagaError: The ledger has no such saga.
        """
        arrived = [event.public() for event in events]

        def change(record: Record) -> dict[str, Any] | None:
            saga = self.sagas[record.saga]
            entered, waiting = enter(
                saga, saga_id, record.request, record.entered, [*record.waiting, *arrived]
            )
            changes = {
                "entered": entered,
                "waiting": waiting,
                "retold_at": retold_at or record.retold_at,
            }
            same = all(value == getattr(record, name) for name, value in changes.items())
            return None if same else changes

        return self._change(saga_id, change)

    def resolve(self, saga_id: str, step: str, *, skip: bool, reason: str, by: str) -> Record:
        """Record an operator's decision on a stuck step, and open the recovery that obeys it.

        Args:
            saga_id: The saga.
            step: The stuck step.
            skip: Whether to leave the step as it is; else it is tried again.
            reason: Why; kept with the saga.
            by: Who decided.

        Raises:
            NothingToResolveError: The step is not stuck.
            PivotSkippedError: The step is the pivot, and was to be left as it is.
            UnknownSagaError: The ledger has no such saga.
        """

        def change(record: Record) -> dict[str, Any]:
            found = self.stuck_step(record, step)
            if found is None:
                raise NothingToResolveError(step)
            if skip and self.sagas[record.saga].role(step) == "pivot":
                raise PivotSkippedError(step)
            action = "skip" if skip else "retry"
            decided = {"step": step, "action": action, "reason": reason, "by": by}
            return {
                "run": record.run + 1,
                "recoveries": 0,
                "not_before": None,
                "skips": {**record.skips, found.target: reason} if skip else record.skips,
                "resolutions": [*record.resolutions, decided | {"at": now()}],
            }

        return self._change(saga_id, change)

    def recover(
        self, saga_id: str, after: int, *, not_before: str, failure: Mapping[str, Any]
    ) -> Record:
        """Open a recovery of a saga whose run `after` has ended without coming to an end of its.

        A recovery that somebody has opened since then is left as it is.

        Args:
            saga_id: The saga.
            after: The run that has ended.
            not_before: When the next recovery may follow, if this one comes to no end either.
            failure: What the run had caught, if anything.
        """

        def change(record: Record) -> dict[str, Any] | None:
            if record.run != after:
                return None
            return {
                "run": after + 1,
                "recoveries": record.recoveries + 1,
                "not_before": not_before,
                "failure": failure or record.failure,
            }

        return self._change(saga_id, change)

    def put_off(self, saga_id: str, *, not_before: str) -> Record:
        """Have the sweeper leave a saga alone for some time."""
        return self._change(saga_id, lambda record: {"not_before": not_before})

    def tell_again(self, saga_id: str, events: Sequence[Event]) -> Record:
        """Tell events again that somebody has missed, and take those in that the ledger has.

        They go through the outbox, in rows of their own, to whoever listens, for the ledger is not
        the only one who may have missed them; to all others they are duplicates.
        """
        retold_at = now()
        for event in events:
            row = outbox_row(event)
            row["pk"] += f"#{retold_at}"
            self._table.put(row)
        return self.take(saga_id, events, retold_at=retold_at)

    def stuck_step(self, record: Record, step: str) -> StuckStep | None:
        """What there is to resolve of a step."""
        views = record.history(self.sagas[record.saga]).steps(record.run)
        view = next((view for view in views if view["name"] == step), None)
        return stuck_step(view, record.status) if view else None

    def is_parked(self, record: Record) -> bool:
        """Whether a saga waits for an operator."""
        views = record.history(self.sagas[record.saga]).steps(record.run)
        return any(stuck_step(view, record.status) for view in views)

    def page(
        self,
        *,
        owner: str | None = None,
        saga: str | None = None,
        status: Status | None = None,
        business_key: str | None = None,
        cursor: str | None = None,
        limit: int = 20,
    ) -> tuple[list[Record], str | None]:
        """A page of sagas, the newest first, and the cursor of the next one.

        Args:
            owner: Only this owner's; None for everybody's.
            saga: Only those of this declaration.
            status: Only those in this status.
            business_key: Only those with this business key.
            cursor: Where the page before ended.
            limit: How many at most, 100 or fewer.

        Returns:
            The sagas, and the cursor where there may be more. One page looks at `MOST_EXAMINED`
            sagas; where few of them match it is short, or empty, and has a cursor all the same.

        Raises:
            BadCursorError: The cursor is none of ours.
            ContentionError: The table is throttled.
        """
        before = started_of(cursor)
        index, partitions = BY_STATUS, in_statuses([status] if status else STATUSES)
        if business_key is not None:
            index, partitions = BY_KEY, with_key(business_key)
        if owner is not None:
            index, partitions = BY_OWNER, [owner]
        if owner is not None and business_key is not None:
            index, partitions = BY_OWNER_KEY, with_owner_key(owner, business_key)

        def wanted(one: Mapping[str, Any]) -> bool:
            """Whether an entry or a row is asked for; in an index by status, all entries are."""
            return saga in (None, one["saga"]) and status in (None, one.get("status", status))

        few = saga is None and status is None
        walk = entries(
            self._table,
            index,
            partitions,
            before=before,
            newest_first=True,
            size=limit + 1 if few else max(limit + 1, MOST_EXAMINED // len(partitions)),
        )
        found: list[Record] = []
        unread: list[str] = []
        place = ""
        examined = 0
        for entry in islice(walk, MOST_EXAMINED):
            if wanted(entry):
                if len(found) == limit:
                    return found, cursor_after(place)
                unread.append(entry["pk"])
            examined, place = examined + 1, entry["started"]
            if len(found) + len(unread) == limit:
                # The row decides: an index may be a moment behind.
                found += [one for one in self._rows(unread) if wanted(one.__dict__)]
                unread = []
        found += [one for one in self._rows(unread) if wanted(one.__dict__)]
        return found, cursor_after(place) if examined == MOST_EXAMINED else None

    def unfinished(self, started_before: str, after: str | None = None) -> Iterator[Record]:
        """The sagas that started before a moment and are under way, the oldest first.

        Args:
            started_before: The moment.
            after: Only those after this one's `place`, to go on where another round stopped.
        """
        walk = entries(
            self._table,
            BY_STATUS,
            in_statuses(UNDER_WAY),
            after=after,
            before=started_before,
            newest_first=False,
            size=UNFINISHED_AT_ONCE,
        )
        while ids := [entry["pk"] for entry in islice(walk, UNFINISHED_AT_ONCE)]:
            yield from (one for one in self._rows(ids) if one.status in UNDER_WAY)

    def reindex(self) -> Iterator[str]:
        """Put into the indexes what was written before there were these; the id of each.

        It reads the whole table. It changes nothing else of a row, and may run again at any time.
        """
        rows = self._table.scan({"saga": PRESENT, BY_STATUS.attribute: ABSENT})
        for record in map(_record, rows):
            added = attributes(record.saga_id, record.owner, record.business_key, record.status)
            # Where the row is another by now, that write has put it into the indexes.
            with suppress(ConditionFailedError):
                self._table.update(record.saga_id, set=added, when={"version": record.version})
            yield record.saga_id

    def _rows(self, ids: Sequence[str]) -> list[Record]:
        """The rows of these ids that are there, consistently and in order."""
        return [_record(row) for row in self._table.get_many(ids) if row]

    def _change(self, saga_id: str, change: Callable[[Record], Mapping[str, Any] | None]) -> Record:
        """Change a row from what it is now; try again where another change came first."""

        def attempt() -> Record:
            record = self.get(saga_id)
            if record is None:
                raise UnknownSagaError(saga_id)
            changes = change(record)
            if changes is None:
                return record
            changed = Record(**{**record.__dict__, **changes, "version": record.version + 1})
            history = changed.history(self.sagas[changed.saga])
            status = history.status(changed.run)
            last = history.entered[-1].time if status in ("SUCCEEDED", "COMPENSATED") else None
            changed = Record(**{**changed.__dict__, "status": status, "ended_at": last})
            self._table.put(_row(changed), when={"version": record.version})
            return changed

        return self._table.retry(attempt, what=f"saga {saga_id}")


def _row(record: Record) -> dict[str, Any]:
    """A record as its row; `started` orders the indexes, and no two sagas share it."""
    indexed = attributes(record.saga_id, record.owner, record.business_key, record.status)
    row = {"pk": record.saga_id, "started": record.place} | indexed | record.__dict__
    del row["saga_id"]
    return row | {name: [event.to_dict() for event in row[name]] for name in _OF_EVENTS}


def _record(row: Mapping[str, Any]) -> Record:
    fields = {name: value for name, value in row.items() if name not in _NOT_OF_THE_RECORD}
    fields |= {name: [Event.of(said) for said in row[name]] for name in _OF_EVENTS}
    return Record(saga_id=SagaId(row["pk"]), **fields)


_OF_EVENTS = ("entered", "waiting")
_NOT_OF_THE_RECORD = {"pk", "started", *attributes("", "", "", "")}
