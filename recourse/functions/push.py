"""The pusher's function: woken by the feed's events, it sends new ones to open WebSockets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aws_lambda_powertools import Logger

from recourse.declare.limits import words
from recourse.errors import TransientError
from recourse.feed.pusher import Pusher
from recourse.feed.wake_ups import WakeUpQueue
from recourse.functions import kit
from recourse.queues.sources import SourceQueue, log_fields
from recourse.store.contention import InvalidItemError
from recourse.text import whole

BATCH_SECONDS = 5
"""How long a batch is worked on before the rest is left to the next: a third of the timeout, for
what is being sent then may have to be retried."""
AT_ONCE = 10
"""Threads: as many as botocore has connections in its pool."""
LONGEST_PAUSE = 60
LAST_POSITION = 10**15
logger = Logger()

Record = dict[str, Any]
Wake = tuple[str, str]
"""An owner, and a connection; empty for all of the owner's."""
Work = tuple[Wake, str, int]
"""A wake-up, a connection that it is about, and the position to bring it to."""


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Send new events to every connection that a batch of wake-ups is about."""
    return handle_batch(kit.pusher(), kit.wake_ups(), event["Records"], kit.queue)


def handle_batch(
    pusher: Pusher,
    wakes: WakeUpQueue,
    records: list[Record],
    queue: Callable[[str], SourceQueue],
    seconds: float = BATCH_SECONDS,
) -> dict[str, Any]:
    """Send, and say which wake-ups are to be retried."""
    pusher = pusher.for_a_batch()
    until = pusher.connections.clock() + seconds
    failed: list[Record] = []
    woken: dict[Wake, list[Record]] = defaultdict(list)
    for record in records:
        owner = _attribute(record, "owner")
        if owner and _position(record) is not None:
            woken[owner, _attribute(record, "connection")].append(record)
        elif not _is_dead_lettered(record, queue):
            failed.append(record)
    work: list[Work] = []
    for wake, theirs in woken.items():
        try:
            work += _work(pusher, wake, theirs)
        except InvalidItemError:
            failed += [one for one in theirs if not _is_dead_lettered(one, queue)]
        except Exception:
            logger.exception("not sent", extra=_about(wake, theirs))
            failed += theirs

    def push(work: Work) -> Wake | None:
        """Send to one connection; the wake-up to retry, if it failed."""
        wake, name, wanted = work
        about = {"connection": name}
        try:
            is_late = pusher.connections.clock() > until
            if is_late or not pusher.push(wake[0], name, wanted, until=until):
                wakes.send(wake[0], name)
        except TransientError as problem:
            logger.info("later: %s", problem, extra=_about(wake, woken[wake]) | about)
            return wake
        except Exception:
            logger.exception("not sent", extra=_about(wake, woken[wake]) | about)
            return wake
        return None

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for wake in {one for one in pool.map(push, work) if one}:
            failed += woken[wake]
    for record in failed:
        _put_off(record, queue)
    return {"batchItemFailures": [{"itemIdentifier": one["messageId"]} for one in failed]}


def _work(pusher: Pusher, wake: Wake, records: list[Record]) -> list[Work]:
    """What a wake-up is about; what fails here is one owner's, and stops no other's."""
    owner, name = wake
    wanted = max(_position(record) or 0 for record in records)
    if name:
        return [(wake, name, wanted)]
    return [
        (wake, connection.name, wanted)
        for connection in pusher.connections.of(owner)
        if connection.position < wanted
    ]


def _about(wake: Wake, records: list[Record]) -> dict[str, Any]:
    """What the log has of a wake-up: the owner, and the newest of its messages with its event."""
    newest = max(records, key=lambda record: _position(record) or 0)
    return log_fields(newest) | {"owner": wake[0]}


def _position(record: Record) -> int | None:
    """The position that a wake-up names, 0 where it names none; None where that is no number."""
    try:
        return whole(_attribute(record, "position") or "0", 0, LAST_POSITION)
    except ValueError:
        return None


def _attribute(record: Record, name: str) -> str:
    found: str = record.get("messageAttributes", {}).get(name, {}).get("stringValue", "")
    return found


def _is_dead_lettered(record: Record, queue: Callable[[str], SourceQueue]) -> bool:
    why = "it does not name an owner and a position"
    try:
        queue(record["eventSourceARN"]).dead_letter(record, why)
    except TransientError as problem:
        logger.warning(words(problem), extra=log_fields(record))
        return False
    logger.error("dead-lettered: %s", why, extra=log_fields(record))
    return True


def _put_off(record: Record, queue: Callable[[str], SourceQueue]) -> None:
    times = int(record["attributes"]["ApproximateReceiveCount"])
    try:
        queue(record["eventSourceARN"]).delay(record, min(2 ** (times - 1), LONGEST_PAUSE))
    except TransientError as problem:
        logger.warning(words(problem), extra=log_fields(record))
