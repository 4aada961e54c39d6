"""Writes `happened.json.gz` again: `python -m tests.recorded`."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, get_args

from recourse.declare.declaration import Coordination
from recourse.declare.saga import Saga
from recourse.ledger.history import AT_REST
from recourse.orchestration import sweeper
from recourse.store.items import decode_item
from recourse.testing.ground import LEDGER, Mishap
from statemachines import SAGAS
from tests.feeding import TABLE, Feeding
from tests.ground import Ground, ground
from tests.integration.test_every_saga import (
    PAST_EVERY_DEADLINE,
    from_outside,
    sample,
    stuck,
    supply,
)
from tests.recorded import FILE, Recorded, save


class Recorder:
    """Runs sagas, and keeps what they leave behind."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._feeding = Feeding(ground)
        self._published: list[tuple[str, dict[str, str]]] = []
        self._taken: list[tuple[str, str]] = []
        self._take = ground._take
        ground._take = self._taking  # type: ignore[method-assign]
        ground.sns.meta.events.register("provide-client-params.sns.PublishBatch", self._publishing)
        supply(ground)

    def _publishing(self, params: dict[str, Any], **_: Any) -> None:
        if params["TopicArn"] != self._ground.topic:
            return
        for entry in params["PublishBatchRequestEntries"]:
            named = {n: one["StringValue"] for n, one in entry["MessageAttributes"].items()}
            self._published.append((entry["Message"], named))

    def _taking(self, name: str, records: list[dict[str, Any]]) -> dict[str, Any]:
        self._taken += [(name, record["body"]) for record in records]
        answer = self._take(name, records)
        if name == LEDGER:
            self._look(if_waiting=True)
        return answer

    def _look(self, *, if_waiting: bool = False) -> None:
        row = self._ground.row(LEDGER, self._saga_id)
        if row and (row["waiting"] or not if_waiting) and row not in self._rows:
            self._rows.append(row)
            self._views.append(self._ground.view(self._saga_id))

    def record(
        self,
        saga: Saga,
        coordination: Coordination,
        what: str,
        faults: dict[str, str],
        mishap: Mishap | None = None,
        loses: str | None = None,
    ) -> Recorded:
        """Run a saga until it is at rest; what it has left behind.

        Args:
            saga: The saga.
            coordination: Its coordination.
            what: What happens to it, in words.
            faults: What is asked for.
            mishap: What happens from outside.
            loses: A queue that loses its messages.
        """
        name = f"{saga.name}, {coordination}: {what}"
        started = {"key": name, "owner": name, "faults": faults, "coordination": coordination}
        body = sample(saga)
        self._rows: list[dict[str, Any]] = []
        self._views: list[dict[str, Any]] = []
        self._published.clear()
        self._taken.clear()
        self._saga_id = self._ground.start(saga.name, body, run=False, **started)  # type: ignore[arg-type]
        self._look()
        before = self._ground.mishap
        self._ground.mishap = mishap or before
        self._ground.start(saga.name, body, **started)  # type: ignore[arg-type]
        if loses:
            self._ground.settle(without=loses)
            self._ground.lose(loses)
        self._bring_to_rest(saga)
        self._ground.mishap = before
        self._feeding.settle()
        texts = [text for text, _ in self._published]
        tables = (LEDGER, *self._ground.services)
        rows = [
            row
            for table in tables
            for row in self._ground.rows(table, f"outbox#{self._saga_id}.")
            if row["event"] in texts
        ]
        return Recorded(
            name=name,
            saga_id=self._saga_id,
            saga=saga.name,
            owner=name,
            rows=self._rows,
            views=self._views,
            outbox=sorted(rows, key=lambda row: texts.index(row["event"])),
            published=list(self._published),
            taken=[(queue, texts.index(text)) for queue, text in self._taken],
            feed=self._fed(name),
        )

    def _fed(self, owner: str) -> list[dict[str, Any]]:
        got = self._ground.dynamodb.query(
            TableName=TABLE,
            KeyConditionExpression="pk = :key",
            ExpressionAttributeValues={":key": {"S": f"feed#{owner}"}},
        )
        return [decode_item(item) for item in got["Items"]]

    def _bring_to_rest(self, saga: Saga) -> None:
        for attempt in range(8):
            self._ground.settle(shuffle=random.Random(1))
            self._look()
            record = self._ground.ledger.get(self._saga_id)
            assert record is not None
            if record.status in AT_REST:
                return
            if waiting := stuck(self._ground, saga, self._saga_id):
                self._ground.resolve(self._saga_id, waiting[0], skip=attempt > 1)
            else:
                self._ground.sweep(PAST_EVERY_DEADLINE)
        raise AssertionError(f"not at rest: {self._saga_id}")


def everything() -> Iterator[Recorded]:
    """What happens to each saga, in both coordinations."""
    with ground() as made:
        recorder = Recorder(made)
        for saga in SAGAS.values():
            first, *_, last = (s.name for s in saga.all if saga.role(s.name) == "compensable")
            pivot = saga.pivot.name
            faults: dict[str, dict[str, str]] = {
                "done": {},
                "refused": {last: "reject"},
                "given up": {last: "error"},
                "answered too late": {last: "timeout"},
                "parked in its undo": {f"{first}.undo": "error", pivot: "reject"},
                "parked after its pivot": {saga.all[-1].name: "error"},
            }
            for coordination in get_args(Coordination):
                for what, asked in faults.items():
                    yield recorder.record(saga, coordination, what, asked)
                cancel = from_outside(made, "cancel", last, "action", after=True)
                yield recorder.record(saga, coordination, "cancelled", {}, cancel)
            abort = from_outside(made, "abort", last, "action", after=True)
            yield recorder.record(saga, "orchestration", "aborted", {}, abort)
            end = saga.all[-1].function
            yield recorder.record(saga, "choreography", "lost a message", {}, loses=end)


if __name__ == "__main__":
    sweeper.GRACE_PERIOD = timedelta(0)
    recorded = list(everything())
    save(recorded)
    kinds = {named["kind"] for one in recorded for _, named in one.published}
    print(f"{len(recorded)} sagas with {sorted(kinds)} in {FILE.stat().st_size} bytes")
