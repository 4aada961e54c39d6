"""The feed's function: called with batches of the ledger's stream."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from aws_lambda_powertools import Logger

from recourse.declare.limits import words
from recourse.errors import UnreadableError
from recourse.events import Event
from recourse.feed.feed import Feed, InvalidEventError
from recourse.functions import kit, settings
from recourse.queues.sources import dead_letter_record
from recourse.store.aws import client
from recourse.store.items import decode_item

RETRY_FOR = 20
"""Seconds for which one call retries: a stream gives a batch up after a number of calls."""
logger = Logger()

Record = Mapping[str, Any]
DeadLetter = Callable[[Record, str], None]


def handler(event: dict[str, Any], context: object) -> None:
    """Append the ledger's new events to feeds; raise where that failed, for a retry."""
    lost = partial(dead_letter_record, partial(client, "sqs"), settings.required("LOST_URL"))
    logger.info("fed", extra={"events": handle_batch(kit.feed(), event["Records"], lost)})


def handle_batch(
    feed: Feed,
    records: Sequence[Record],
    dead_letter: DeadLetter,
    *,
    patience: float = RETRY_FOR,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Append the events of a batch to their owners' feeds; how many were new.

    Who is asked something by name has the events of the step that asks in a feed of their own too.
    A saga's row holds all of its events, so of several changes only the last one is needed. Events
    that only move the ledger are hidden from feeds, and so is a saga that has not begun. One
    owner's events never block another's: what can never be appended is dead-lettered, with its
    reason, and what cannot be appended now is retried after all others.

    Args:
        feed: The feed.
        records: Records of the ledger's stream.
        dead_letter: Dead-letters a record, with the reason; may raise.
        patience: Seconds for which failed appends are retried.
        sleep: Waits for some seconds.

    Raises:
        ExceptionGroup: Some could be neither appended nor dead-lettered; all others were.
    """
    sagas: dict[str, Record] = {}
    for record in records:
        row = record["dynamodb"].get("NewImage", {})
        if "entered" in row and "scheduled" not in row:
            sagas[row["pk"]["S"]] = record
    until, pause = time.monotonic() + patience, 0.2
    count, left = _append_all(feed, list(sagas.values()), dead_letter)
    while left:
        if time.monotonic() + pause > until:
            raise ExceptionGroup("events that were not appended", [problem for _, problem in left])
        sleep(pause)
        pause = min(pause * 2, 5)
        more, left = _append_all(feed, [record for record, _ in left], dead_letter)
        count += more
    return count


def _append_all(
    feed: Feed, records: Sequence[Record], dead_letter: DeadLetter
) -> tuple[int, list[tuple[Record, Exception]]]:
    """Append once; how many events were new, and what is left to retry."""
    whose: dict[str, list[Record]] = {}
    for record in records:
        for subject in _subjects(record):
            whose.setdefault(subject, []).append(record)
    count = 0
    left: list[tuple[Record, Exception]] = []
    for owner, theirs in whose.items():
        try:
            count += _append_to(feed, owner, theirs)
        except Exception:
            # One of the owner's sagas fails the append of all: append each by itself.
            for record in theirs:
                try:
                    count += _append(feed, owner, record, dead_letter)
                except Exception as problem:
                    left.append((record, problem))
    return count, left


def _append(feed: Feed, owner: str, record: Record, dead_letter: DeadLetter) -> int:
    try:
        return _append_to(feed, owner, [record])
    except (InvalidEventError, UnreadableError, LookupError, TypeError) as problem:
        saga_id = record["dynamodb"]["NewImage"]["pk"]["S"]
        logger.error("dead-lettered: %s", words(problem), extra={"saga_id": saga_id})
        dead_letter(record, words(problem))
        return 0


def _append_to(feed: Feed, subject: str, records: Sequence[Record]) -> int:
    """Append to somebody's feed what is in it of these sagas: their own, and others'."""
    count = 0
    for guest in (False, True):
        events = (_events(one, subject) for one in records if (_owner(one) != subject) == guest)
        count += feed.append(subject, [event for few in events for event in few], guest=guest)
    return count


def _subjects(record: Record) -> set[str]:
    """In whose feeds a saga's events are: its owner's, and those who are asked something."""
    return {_owner(record), *_asked(record)}


def _events(record: Record, subject: str) -> list[Event]:
    """Those of a saga's events that are in somebody's feed.

    Its owner has all of them. Who is asked has those of the step that asks.
    """
    events = [event for event in map(Event.from_dict, _entered(record)) if not event.is_hidden]
    if subject == _owner(record):
        return events
    steps = _asked(record)[subject]
    return [event for event in events if event.step in steps]


def _asked(record: Record) -> dict[str, set[str]]:
    """The steps that ask somebody in particular, by whom."""
    found: dict[str, set[str]] = {}
    for said in _entered(record):
        # What is no event at all is dead-lettered with the rest of its saga.
        with suppress(LookupError, TypeError):
            found.setdefault(said["data"]["question"]["to"], set()).add(said["data"]["step"])
    return found


def _entered(record: Record) -> Any:
    return decode_item({"entered": record["dynamodb"]["NewImage"]["entered"]})["entered"]


def _owner(record: Record) -> str:
    owner: str = record["dynamodb"]["NewImage"]["owner"]["S"]
    return owner
