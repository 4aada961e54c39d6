"""The saga that reverses another, as it is recorded: made of the one that it reverses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from recourse.declare import limits
from recourse.declare.asks import AskError
from recourse.declare.declaration import Coordination
from recourse.declare.reverse import request_of
from recourse.declare.saga import Saga
from recourse.declare.shape import Shape
from recourse.errors import RecourseError
from recourse.events import now
from recourse.ledger.record import Record, digest


class NoReverseError(RecourseError):
    """No saga is declared that reverses it."""


class NotSucceededError(RecourseError):
    """The saga has not SUCCEEDED, so there is nothing to reverse; the message is its status."""


class NotReversibleError(RecourseError):
    """It began with a declaration that its reverse does not fit; the message says in what."""


@dataclass(frozen=True, kw_only=True)
class Reversal:
    """What is asked of a reversal.

    Attributes:
        by: Who asks.
        reason: Why.
        coordination: That of the reversing saga; by default as it is declared.
        faults: Faults on demand, by target.
    """

    by: str
    reason: str | None = None
    coordination: Coordination | None = None
    faults: Mapping[str, str] = field(default_factory=dict)

    def record(self, saga: Saga, declared: Saga, first: Record, shape: Shape[Any]) -> Record:
        """The reversing saga.

        Args:
            saga: Its declaration.
            declared: That of the saga which is reversed,
            first: and its record,
            shape: and the shape that it began with.

        Raises:
            NotSucceededError: It has not.
            NotReversibleError: It has not what the request is made of.
        """
        if first.status != "SUCCEEDED":
            raise NotSucceededError(first.status)
        steps = first.history(shape).steps(first.run)
        try:
            request = request_of(
                saga,
                declared,
                saga_id=first.saga_id,
                reason=self.reason,
                request=first.request,
                results={one["name"]: one["result"] for one in steps if one["status"] == "DONE"},
            )
        except AskError as problem:
            raise NotReversibleError(str(problem)) from problem
        if (found := limits.size(request)) > limits.REQUEST:
            raise NotReversibleError(
                f"the request of {saga.name} must be at most {limits.REQUEST} bytes, got {found}"
            )
        return Record(
            saga_id=first.saga_id.reversal(first.reversals),
            saga=saga.name,
            owner=first.owner,
            business_key=request[saga.business_key],
            coordination=self.coordination or saga.coordination,
            request=request,
            body=digest(request),
            started_at=now(),
            faults=self.faults,
            reverses={"saga_id": first.saga_id, "reason": self.reason, "by": self.by},
        )
