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
        try:
            into.record_events(saga_id, [event for _, event in messages])
        except UnreadableError:
            _record_each(into, messages, batch)
        except (UnknownSagaError, UnknownShapeError) as problem:
            for record, _ in messages:
                batch.dead_letter(record, problem)
        except Exception as problem:
            for record, _ in messages:
                logger.exception("event not recorded", extra=log_fields(record))
                batch.failed(record, problem)
    return batch.answer()


def _record_each(into: Ledger, messages: list[tuple[Record, Event]], batch: Batch) -> None:
    """Record what can be recorded: one of the messages is of a step that the saga has not."""
    for record, event in messages:
        try:
            into.record_events(event.saga_id, [event])
        except UnreadableError as problem:
            batch.dead_letter(record, problem)
        except Exception as problem:
            logger.exception("event not recorded", extra=log_fields(record))
            batch.failed(record, problem)
