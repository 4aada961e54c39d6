"""The ground of this deployment: its services are stocked and looked at as by the API."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from unittest import mock

import recourse.testing.ground
from recourse.declare.saga import Saga
from recourse.store.table import Table
from samples.provider import Books
from services.holdings import HOLDINGS
from statemachines import SAGAS
from tests import elsewhere

OWN = {"RECOURSE_SAGAS": "statemachines:SAGAS"}


@dataclass(repr=False)
class Ground(recourse.testing.ground.Ground):
    """Every saga on moto, and what its services hold.

    Attributes:
        books: Those of the payment provider.
        stock: What was put last, by kind and id.
        keys: Numbers for keys of callers, the same on each ground that is as new.
    """

    books: Books = field(default_factory=Books)
    stock: dict[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)
    keys: Iterator[int] = field(default_factory=itertools.count)

    def wipe(self) -> None:
        """Be as new, with the payment provider's books."""
        super().wipe()
        self.books.clear()
        self.stock.clear()
        self.keys = itertools.count()

    def put(self, kind: str, thing: str, body: Mapping[str, Any]) -> None:
        """Make a thing that a service holds."""
        holding = HOLDINGS[kind]
        row = self.row(holding.service, holding.key(thing))
        writes = holding.change(thing, row, body)
        assert writes is not None
        table = Table(self.dynamodb, holding.service)
        table.transact([table.write_request(write) for write in writes])
        self.stock[kind, thing] = body

    def held(self, kind: str, thing: str) -> dict[str, Any]:
        """A thing as the API shows it."""
        holding = HOLDINGS[kind]
        row = self.row(holding.service, holding.key(thing))
        assert row is not None
        return holding.show(row)

    def must_know_who_holds(self) -> None:
        """What each thing shows of its holds is what the rows of the holds say."""
        for kind, thing in self.stock:
            shown = self.held(kind, thing)
            if "held" not in shown:
                continue
            moments = self._holds(kind, thing) if shown["held"] else []
            assert shown["held_by"] == len(moments), (kind, thing, shown)
            since = shown["held_since"] and datetime.fromisoformat(shown["held_since"])
            oldest = min((datetime.fromtimestamp(one / 1000, UTC) for one in moments), default=None)
            assert since == oldest, (kind, thing, shown)

    def _holds(self, kind: str, thing: str) -> list[int]:
        """When the holds of a thing began that have not ended."""
        holding = HOLDINGS[kind]
        found: list[int] = []
        for row in self.rows(holding.service, ""):
            if row.get("status") not in ("HELD", "AUTHORISED"):
                continue
            match row.get("since"):
                case dict() as parts if holding.key(thing) in parts:
                    found.append(parts[holding.key(thing)])
                case int() as since if row["account_id"] == thing:
                    found.append(since)
        return found


@contextmanager
def ground(sagas: Mapping[str, Saga] = SAGAS) -> Iterator[Ground]:
    """A fresh ground, for the length of a block."""
    with (
        mock.patch.dict(os.environ, OWN),
        recourse.testing.ground.ground(sagas, Ground) as made,
        elsewhere.provider(made.books),
    ):
        yield made
