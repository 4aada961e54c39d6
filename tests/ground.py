"""The ground of this deployment: its services are stocked and looked at as by the API."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
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
    """

    books: Books = field(default_factory=Books)
    stock: dict[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)

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


@contextmanager
def ground(sagas: Mapping[str, Saga] = SAGAS) -> Iterator[Ground]:
    """A fresh ground, for the length of a block."""
    with (
        mock.patch.dict(os.environ, OWN),
        recourse.testing.ground.ground(sagas, Ground) as made,
        elsewhere.provider(made.books),
    ):
        yield made
