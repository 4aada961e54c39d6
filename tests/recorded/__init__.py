"""Rows, messages and events that a commit has written, for the commits after it to read.

`happened.json.gz` was written at 8a4751e: each saga in both coordinations, done, refused, given up,
cancelled, aborted, parked in its undo and after its pivot, and with lost messages.
`python -m tests.recorded` writes it again, from the code as it is.

`lookup_failed.json` was written at 66022dc: a trip of which nothing was captured, whose run was
aborted and whose recovery could not look up what the car had done.

`valet_keys.json` was written at bca10be: two keys for uploads, of a type that content can no longer
prove and of text in a charset that nobody knows.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "happened.json.gz"
LOOKUP_FAILED = json.loads((FILE.parent / "lookup_failed.json").read_text("utf-8"))
"""The recovery's `execution`, as DescribeExecution shows it, the saga's `row` in the ledger, and
the `rows` of the services' tables: its markers, outbox and bookings, and what they hold."""
VALET_KEYS = json.loads((FILE.parent / "valet_keys.json").read_text("utf-8"))
"""Each key's `row`, as DynamoDB has it, and the `body` that it is for, in hex."""


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What one saga has left behind.

    Attributes:
        name: The saga, its coordination and what happened to it.
        saga_id: Its id.
        saga: The name of its declaration.
        owner: Whose it is; nobody else's feed has it.
        rows: Its row in the ledger, as it was from time to time; the first is its start.
        views: What the API showed then.
        outbox: Its outbox rows, in the order in which they were relayed.
        published: The message and the attributes with which each was published.
        taken: What was taken off queues, in order: the queue, and which of `published`.
        feed: The rows of its owner's feed.
    """

    name: str
    saga_id: str
    saga: str
    owner: str
    rows: list[dict[str, Any]]
    views: list[dict[str, Any]]
    outbox: list[dict[str, Any]]
    published: list[tuple[str, dict[str, str]]]
    taken: list[tuple[str, int]]
    feed: list[dict[str, Any]]


def load() -> list[Recorded]:
    """What was recorded."""
    with gzip.open(FILE, "rt") as file:
        return [Recorded(**one) for one in json.load(file)]


def save(recorded: list[Recorded]) -> None:
    """Record something else."""
    text = json.dumps([asdict(one) for one in recorded], separators=(",", ":"), ensure_ascii=False)
    FILE.write_bytes(gzip.compress(text.encode(), mtime=0))
