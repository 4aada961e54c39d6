"""What the services' own rows say of a saga: the events that its markers stand for.

A marker and the outbox row that tells of it are one transaction, so where a marker is, its event
has been told, even if it never came to where it was to go. The event is taken from the outbox as it
was told; where that row has expired, it is made from the marker.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from recourse.declare.declaration import Step
from recourse.declare.saga import Saga
from recourse.declare.step import Item
from recourse.errors import StepCancelledError
from recourse.events import Event
from recourse.events.event import StepKind
from recourse.ledger.record import Record
from recourse.run.barrier import marker_key
from recourse.store.table import Table

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

DONE = ("done", "skipped")


@dataclass(frozen=True)
class Markers:
    """The markers of every saga, and what was told of them.

    Attributes:
        dynamodb: A DynamoDB client.
        ledger: The ledger's table: where a start, and what a run of the machine parks, is told.
        tables: The table of each service, by its name.
        sagas: Every declaration, by name.
    """

    dynamodb: DynamoDBClient
    ledger: str
    tables: Mapping[str, str]
    sagas: Mapping[str, Saga]

    def read(self, record: Record) -> Found:
        """All that there is of a saga now, read consistently.

        Raises:
            ContentionError: A table was throttled for longer than this waits.
        """
        saga = self.sagas[record.saga]
        plays = [step for step in saga.all if not saga.left_out(step, record.request)]
        keys: dict[str, set[str]] = defaultdict(set)
        keys[self.ledger].add(f"outbox#{record.saga_id}.started")
        for step in plays:
            table = self.tables[step.service]
            keys[table] |= {marker_key(record.saga_id, step.name, s) for s in ("action", "undo")}
            for place in (table, self.ledger):
                keys[place] |= set(_outbox_keys(record, step))
        rows: dict[str, Item] = {}
        for name, wanted in keys.items():
            found = Table(self.dynamodb, name).get_many(sorted(wanted))
            rows |= {row["pk"]: row for row in found if row}
        return Found(saga, record, plays, rows)


@dataclass(frozen=True)
class Found:
    """What the services' rows say of a saga.

    Attributes:
        saga: The declaration.
        record: The saga.
        plays: The steps that its request does not leave out.
        rows: Its markers and outbox rows, by key.
    """

    saga: Saga
    record: Record
    plays: list[Step]
    rows: Mapping[str, Item]

    def outcome(self, step: Step, side: str) -> str | None:
        """What a marker says; None where there is none."""
        marker = self._marker(step, side)
        return marker["outcome"] if marker else None

    def events(self) -> list[Event]:
        """Every event that these rows stand for, as it was told where that is still there."""
        found = {
            event.id: event
            for key, row in self.rows.items()
            if key.startswith("outbox#") and (event := Event.parse(row["event"]))
        }
        for step in self.plays:
            for made in self._made(step, found):
                found.setdefault(made.id, made)
        return list(found.values())

    def _made(self, step: Step, known: Mapping[str, Event]) -> Iterator[Event]:
        """What a step's markers stand for, made from them."""
        action, undo = self._marker(step, "action"), self._marker(step, "undo")
        follows = []
        if action and action["outcome"] in DONE:
            skipped = "skipped" if action["outcome"] == "skipped" else None
            yield self._event(step, "done", action, result=action["result"], outcome=skipped)
            follows.append("done")
        elif action and "error" in action:
            # A claim on the pivot that nothing of its own had failed before.
            claimed = action["error"]["type"] == StepCancelledError.__name__
            yield self._event(step, "failed", action, error=action["error"], claimed=claimed)
        if f"{self.record.saga_id}.{step.name}.failed" in known or (action and "error" in action):
            follows.append("failed")
        if undo:
            outcome = None if undo["outcome"] == "done" else undo["outcome"]
            yield self._event(step, "undone", undo, follows=follows, outcome=outcome)

    def _event(self, step: Step, kind: StepKind, marker: Item, **data: Any) -> Event:
        return Event.of_step(
            self.record.saga_id,
            self.saga.name,
            step.name,
            kind,
            run=self.record.run,
            attempts=1,
            time=marker["at"],
            **data,
        )

    def _marker(self, step: Step, side: Any) -> Item | None:
        return self.rows.get(marker_key(self.record.saga_id, step.name, side))


def _outbox_keys(record: Record, step: Step) -> Iterator[str]:
    """Where it is told of a step."""
    run = f"r{record.run}"
    for what in ("done", "failed", "undone", f"failed.{run}", f"undo_failed.{run}"):
        yield f"outbox#{record.saga_id}.{step.name}.{what}"
