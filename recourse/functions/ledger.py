"""The ledger's function: records events off its queue, in batches with partial failure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from aws_lambda_powertools import Logger

from recourse.errors import UnreadableError
from recourse.events import Event
from recourse.functions import kit
from recourse.functions.batch import Batch, Record
from recourse.ledger.ledger import Ledger, UnknownSagaError
from recourse.ledger.shapes import UnknownShapeError
from recourse.queues.sources import SourceQueue, log_fields

logger = Logger()


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Record a batch of events, with one read and one write for each saga."""
    return handle_batch(kit.ledger(), event["Records"], kit.queue)


def handle_batch(
    into: Ledger, records: list[dict[str, Any]], queue: Callable[[str], SourceQueue]
) -> dict[str, Any]:
    """Record a batch of events, and say which messages are to be retried."""
    batch = Batch(records, queue)
    sagas: dict[str, list[tuple[Record, Event]]] = defaultdict(list)
    for record, event in batch.events():
        sagas[event.saga_id].append((record, event))
    for saga_id, messages in sagas.items():
        _record(into, saga_id, messages, batch)
    return batch.answer()


def _record(into: Ledger, saga_id: str, messages: list[tuple[Record, Event]], batch: Batch) -> None:
    """Record the events of a saga; one that is of no step of it holds up none of the others."""
    try:
        into.record_events(saga_id, [event for _, event in messages])
    except (UnknownSagaError, UnknownShapeError, UnreadableError) as problem:
        if isinstance(problem, UnreadableError) and len(messages) > 1:
            for one in messages:
                _record(into, saga_id, [one], batch)
            return
        for record, _ in messages:
            batch.dead_letter(record, problem)
    except Exception as problem:
        for record, _ in messages:
            logger.exception("event not recorded", extra=log_fields(record))
            batch.failed(record, problem)
