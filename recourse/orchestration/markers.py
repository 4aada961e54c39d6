"""The events of a saga by the services' own rows: its markers and outbox.

A marker and the outbox row of its event are written in one transaction, so for every marker there
was an event, even if it was lost on its way. The event is read from the outbox as it was published;
if that row has expired, it is made again from the marker.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from recourse.declare.shape import AnyStep, Shape
from recourse.declare.step import Item
from recourse.errors import StepCancelledError
from recourse.events import Event
from recourse.events.event import StepKind
from recourse.ledger.record import Record
from recourse.ledger.shapes import Shapes
from recourse.run.barrier import marker_key
from recourse.store.parameters import Named
from recourse.store.table import Table

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

DONE = ("done", "skipped")


@dataclass(frozen=True)
class Markers:
    """The markers of all sagas, and their outbox rows.

    Attributes:
        dynamodb: A DynamoDB client.
        ledger: The ledger's table, whose outbox has starts and what a run of the machine parks.
        tables: The table of each service, by name.
        shapes: The shapes that sagas began with.
    """

    dynamodb: DynamoDBClient
    ledger: str
    tables: Named
    shapes: Shapes

    def read(self, record: Record) -> Found:
        """The markers and outbox rows of a saga, read consistently.

        Raises:
            ContentionError: A table was throttled for too long.
        """
        shape = self.shapes.of(record.saga, record.shape)
        plays = [step for step in shape.all if not shape.left_out(step, record.request)]
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
        return Found(shape, record, plays, rows)


@dataclass(frozen=True)
class Found:
    """The markers and outbox rows of a saga.

    Attributes:
        shape: The shape that it began with.
        record: The saga.
        plays: The steps that its request does not leave out.
        rows: Its markers and outbox rows, by key.
    """

    shape: Shape[Any]
    record: Record
    plays: list[AnyStep]
    rows: Mapping[str, Item]

    @property
    def asks(self) -> bool:
        """Whether somebody is asked and has not decided."""
        return any(self.outcome(step, "action") == "asked" for step in self.plays)

    @property
    def delayed(self) -> str | None:
        """Until when a step is not due that the saga has come to; None where there is none."""
        every = (self._marker(step, "action") for step in self.plays)
        return next((one["due_at"] for one in every if one and one["outcome"] == "later"), None)

    @property
    def turned(self) -> bool:
        """Whether a step before the pivot, or the pivot, has failed or was claimed."""
        failed = ("refused", "cancelled")
        return any(self.outcome(step, "action") in failed for step in self.plays)

    def outcome(self, step: AnyStep, side: str) -> str | None:
        """The outcome of a step's action or undo by its marker; None if there is no marker."""
        marker = self._marker(step, side)
        return marker["outcome"] if marker else None

    def events(self) -> list[Event]:
        """Every event of these rows: as it was published, or else made from its marker."""
        found = {
            event.id: event
            for key, row in self.rows.items()
            if key.startswith("outbox#") and (event := Event.parse(row["event"]))
        }
        for step in self.plays:
            for made in self._made(step, found):
                found.setdefault(made.id, made)
        return list(found.values())

    def _made(self, step: AnyStep, known: Mapping[str, Event]) -> Iterator[Event]:
        """The events of a step, made from its markers."""
        action, undo = self._marker(step, "action"), self._marker(step, "undo")
        follows: list[str] = []
        answered: dict[str, Any] = {}
        if action and action["outcome"] == "later":
            yield self._event(step, "later", action, due_at=action["due_at"])
        if action and "question" in action:
            question = action["question"]
            asked_at = {"at": question["asked_at"]}
            yield self._event(step, "asked", asked_at, question=question)
            follows.append("asked")
            answered = {"follows": ["asked"], "answer": action.get("answer")}
        if action and action["outcome"] in DONE:
            skipped = "skipped" if action["outcome"] == "skipped" else None
            data = {"result": action["result"], "outcome": skipped, **answered}
            yield self._event(step, "done", action, **data)
            follows = [*follows, "done"]
        elif action and "error" in action:
            # A claim on the pivot by a cancellation or a recovery, before it had failed by itself.
            claimed = action["error"]["type"] == StepCancelledError.__name__
            data = {"error": action["error"], "claimed": claimed, **answered}
            yield self._event(step, "failed", action, **data)
        if f"{self.record.saga_id}.{step.name}.failed" in known or (action and "error" in action):
            follows = [*follows, "failed"]
        if undo:
            outcome = None if undo["outcome"] == "done" else undo["outcome"]
            yield self._event(step, "undone", undo, follows=follows, outcome=outcome)

    def _event(self, step: AnyStep, kind: StepKind, marker: Item, **data: Any) -> Event:
        return Event.of_step(
            self.record.saga_id,
            self.shape.name,
            step.name,
            kind,
            run=self.record.run,
            attempts=1,
            shape=self.record.shape,
            time=marker["at"],
            trace=self.record.trace,
            **data,
        )

    def _marker(self, step: AnyStep, side: Any) -> Item | None:
        return self.rows.get(marker_key(self.record.saga_id, step.name, side))


def _outbox_keys(record: Record, step: AnyStep) -> Iterator[str]:
    """The keys of all outbox rows that a step may have."""
    run = f"r{record.run}"
    both = f"failed.{run}", f"undo_failed.{run}"
    for what in ("asked", "later", "due", "done", "failed", "undone", *both):
        yield f"outbox#{record.saga_id}.{step.name}.{what}"
