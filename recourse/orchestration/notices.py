"""What operators' queues hold of sagas: gone with a saga's rest, and kept until then."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from recourse.errors import UnreadableError
from recourse.events import Event
from recourse.ledger.history import AT_REST
from recourse.ledger.ledger import Ledger
from recourse.orchestration.executions import parse_name
from recourse.queues.deadletters import OperatorQueue
from recourse.queues.reach import Reach
from recourse.text import read_json


def clear(
    queues: Sequence[OperatorQueue], ledger: Ledger, reach: Reach, now: float
) -> list[Exception]:
    """Remove messages about sagas at rest, and keep those about others for longer than SQS would.

    Args:
        queues: The operators' queues.
        ledger: The ledger.
        reach: Passes over queues that are out of reach.
        now: Seconds of the epoch.

    Returns:
        Why queues could not be gone through; all the others were, but for those that are out of
        reach while a deploy is under way.
    """

    @cache
    def is_at_rest(saga_id: str) -> bool | None:
        record = ledger.get(saga_id)
        return None if record is None else record.status in AT_REST

    def is_over(message: str) -> bool | None:
        saga_id = _about(message)
        return None if saga_id is None else is_at_rest(saga_id)

    def cleared(queue: OperatorQueue) -> int | None:
        return reach.within(queue.own, lambda: queue.clear(is_over, now), now)

    with ThreadPoolExecutor(max(1, len(queues))) as pool:
        clearing = [pool.submit(cleared, queue) for queue in queues]
    return [why for one in clearing if isinstance(why := one.exception(), Exception)]


def _about(message: str) -> str | None:
    """The saga of a message that is an event, or reports the end of a run; else None."""
    try:
        return Event.parse(message, checked=True).saga_id
    except UnreadableError:
        pass
    try:
        return parse_name(read_json(message)["detail"]["name"])[0]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
