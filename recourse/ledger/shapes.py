"""The shapes of sagas: each is seen through the one that it began with.

A start names its shape by digest in the saga's first event, and every task and message of the saga
carries that on. The shape itself is one row of the ledger's table that all sagas of it share, so it
outlives the release that declared it. What the code declares is known without a look at the table.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from recourse.declare import shape
from recourse.declare.saga import Saga
from recourse.declare.shape import Shape, ShapeError
from recourse.errors import RecourseError, UnreadableError
from recourse.events import Event
from recourse.events.checks import unreadable
from recourse.store.table import Table

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

PREFIX = "shape#"
"""How the keys of shapes begin in the ledger's table."""


class UnknownShapeError(RecourseError, LookupError):
    """Nothing says what the steps of a saga are: its shape is neither declared nor recorded."""


class Shapes:
    """The shapes of all sagas, whatever release began them.

    ::

        shapes = Shapes(dynamodb, "Ledger", SAGAS)
        shapes.of("order", "788c1122744ce51e").role("payment")   # "compensable"

    Args:
        dynamodb: A DynamoDB client.
        ledger: The ledger's table.
        sagas: Every declaration, by name.
    """

    def __init__(self, dynamodb: DynamoDBClient, ledger: str, sagas: Mapping[str, Saga]) -> None:
        self._table = Table(dynamodb, ledger)
        self._sagas = sagas
        self._read: dict[str, Shape[Any]] = {}
        self._kept: set[str] = set()

    def of(self, saga: str, digest: str | None) -> Shape[Any]:
        """The shape that a saga began with.

        Args:
            saga: The name of its declaration.
            digest: The digest of its shape; None where a release began it that named none: then
                it is seen as its declaration is now.

        Raises:
            UnknownShapeError: It is neither declared nor recorded, or what is recorded is no shape.
        """
        declared = self._sagas.get(saga)
        if declared is not None and digest in (None, self._digests[saga]):
            return declared
        if digest is None:
            raise UnknownShapeError(f"no saga {saga!r} is declared, and it names no shape")
        if digest not in self._read:
            self._read[digest] = self._recorded(saga, digest)
        return self._read[digest]

    def of_event(self, event: Event) -> Shape[Any]:
        """The shape of the saga of an event, which a step of it must be about.

        Raises:
            UnreadableError: Nothing says what the steps of such a saga are, or it is of none.
        """
        digest = event.shape or event.carried.get("saga", {}).get("shape")
        try:
            found = self.of(event.saga, digest)
        except UnknownShapeError as problem:
            raise UnreadableError(f"this is not an event of a saga: {problem}") from problem
        if event.step is not None and event.step not in found.by_name:
            raise unreadable("step", f"one of {event.saga}", event.step)
        return found

    def keep(self, saga: str) -> str:
        """Have the shape of a declaration recorded, before a saga begins by it; its digest."""
        digest = self._digests[saga]
        if digest not in self._kept:
            recorded = json.dumps(shape.record(self._sagas[saga]), sort_keys=True)
            self._table.put({"pk": PREFIX + digest, "shape": recorded})
            self._kept.add(digest)
        return digest

    def forget(self) -> None:
        """Forget what was read and recorded: the table was emptied, as tests do."""
        self._read.clear()
        self._kept.clear()

    @cached_property
    def _digests(self) -> dict[str, str]:
        found = self._sagas.items()
        return {name: shape.digest(shape.record(declared)) for name, declared in found}

    def _recorded(self, saga: str, digest: str) -> Shape[Any]:
        row = self._table.get(PREFIX + digest)
        if row is None:
            raise UnknownShapeError(f"saga {saga!r} began with the shape {digest}, not recorded")
        try:
            recorded = json.loads(row["shape"])
            found = shape.read(recorded)
        except (ShapeError, ValueError, LookupError) as problem:
            raise UnknownShapeError(f"shape {digest} of saga {saga!r}: {problem}") from problem
        # Of what is recorded, not of what is read: a later release may have recorded more.
        if found.name != saga or shape.digest(recorded) != digest:
            raise UnknownShapeError(f"shape {digest} of saga {saga!r} was changed by hand")
        return found
