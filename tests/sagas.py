"""What `pytest --sagas` should know of this deployment: its stock, its provider, what must hold."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from recourse.store.table import Table
from recourse.testing.ground import Ground
from samples.provider import Books
from services.holdings import HOLDINGS
from tests import elsewhere, printing

SEED = Path(__file__).parents[1] / "samples" / "seed.json"
BOOKS = Books()


def stock(ground: Ground) -> Iterator[None]:
    """The samples' things, and the payment provider."""
    global BOOKS
    BOOKS = Books()  # it keeps answers by key, and sagas have the same keys on each ground
    for kind, things in json.loads(SEED.read_text()).items():
        holding = HOLDINGS[kind]
        table = Table(ground.dynamodb, holding.service)
        for thing, body in things.items():
            writes = holding.change(thing, None, body)
            assert writes is not None
            table.transact([table.write_request(write) for write in writes])
    with elsewhere.provider(BOOKS), printing.once():
        yield


def invariant_counts_are_never_negative(ground: Ground) -> None:
    for service, key in (("flights", "flight#"), ("hotels", "hotel#"), ("inventory", "item#")):
        for row in ground.rows(service, key):
            assert row["available"] >= 0, row


def invariant_money_is_conserved(ground: Ground) -> None:
    posted: Counter[str] = Counter()
    for movement in ground.rows("payments", "movement#"):
        assert sum(movement["postings"].values()) == 0, movement
        posted.update(movement["postings"])
    for row in ground.rows("payments", "account#"):
        for part in ("available", "held"):
            assert row[part] == posted[f"{row['id']}:{part}"] >= 0, row
        assert row["balance"] == row["available"] + row["held"], row


def at_rest_the_provider_has_taken_what_our_rows_say(ground: Ground) -> None:
    booked = Counter(one["status"] for one in BOOKS.payments.values())
    rows = Counter(row["status"] for row in ground.rows("cards", "payment#"))
    assert booked["CAPTURED"] == rows["CAPTURED"], (booked, rows)
    assert booked["AUTHORISED"] == 0, booked
