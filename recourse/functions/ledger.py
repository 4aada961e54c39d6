"""The ledger's function: records events off its queue, in batches with partial failure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from aws_lambda_powertools import Logger

from recourse.events import Event
from recourse.functions import kit
from recourse.functions.batch import Batch, Record
from recourse.ledger.ledger import Ledger, UnknownSagaError
from recourse.queues.sources import SourceQueue, log_fields

logger = Logger()


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Record a batch of events, with one read and one write for each saga."""
    return handle_batch(kit.ledger(), event["Records"], kit.queue)


def handle_batch(
    into: Ledger, records: list[dict[str, Any]], queue: Callable[[str], SourceQueue]
) -> dict[str, Any]:
    """Record a batch of events, and say which messages are to be retried."""
    batch = Batch(records, into.sagas, queue)
    sagas: dict[str, list[tuple[Record, Event]]] = defaultdict(list)
    for record, event in batch.events():
        sagas[event.saga_id].append((record, event))
    for saga_id, messages in sagas.items():
        try:
            into.record_events(saga_id, [event for _, event in messages])
        except UnknownSagaError as problem:
            for record, _ in messages:
                batch.dead_letter(record, problem)
        except Exception as problem:
            for record, _ in messages:
                logger.exception("event not recorded", extra=log_fields(record))
                batch.failed(record, problem)
    return batch.answer()
