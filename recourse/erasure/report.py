"""What an erasure does: each change, and the report of them all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from recourse.errors import RecourseError
from recourse.ledger.record import ERASED

STAYS: Mapping[str, str] = {
    "ids of sagas": "the same Idempotency-Key must not start a saga again; they are digests",
    "amounts, currencies, counts and statuses": "accounts and stock add up by them",
    "histories of executions": "Step Functions deletes them 90 days after their end, and nobody "
    "can before",
    "messages in queues": "SQS deletes them after 14 days at the latest; of sagas at rest hardly "
    "any are left",
    "logs and traces": "they hold ids of sagas and no requests; where something failed the subject "
    "and what the error says; they expire by their retention",
    "backups": "point-in-time recovery goes back 35 days; erase again what was restored",
    "tables of other applications": "which steps write in their own transaction: erase there too",
    "providers and the issuer of tokens": "what they have been told is theirs to erase",
}
"""What is not erased, and why; what services keep is declared by them."""


class NotAtRestError(RecourseError):
    """Sagas of the person have not ended; `sagas` has the status of each."""

    def __init__(self, sagas: Mapping[str, str]) -> None:
        shown = ", ".join(f"{one} {status}" for one, status in list(sagas.items())[:5])
        more = f" and {len(sagas) - 5} more" if len(sagas) > 5 else ""
        super().__init__(
            f"{len(sagas)} sagas are not at rest: {shown}{more}; let them end, cancel or resolve "
            "them, and erase then"
        )
        self.sagas = sagas


class Change(NamedTuple):
    """One thing that is done to one row or object.

    Attributes:
        place: The service, or `ledger`, `feed`, `uploads`, …
        what: The kind of row or object.
        fate: `deleted`, `erased` (it stays, without the person's text) or `kept`.
        why: Of what is kept: why.
        apply: Does it.
    """

    place: str
    what: str
    fate: str
    why: str = ""
    apply: Callable[[], object] | None = None


@dataclass
class Report:
    """What an erasure does, or would do.

    Attributes:
        dry_run: Whether nothing was changed.
        pseudonym: What has replaced the subject; None in a dry run.
        sagas: How many sagas the person has.
        not_at_rest: Those that must end first, with their status.
        counts: How many rows and objects, by place, kind, fate and reason.
        fields: The names of the fields whose text goes, by place and kind.
        keeps: The text that services and consumers keep: the reason, by their name and field.
    """

    dry_run: bool
    pseudonym: str | None = None
    sagas: int = 0
    not_at_rest: dict[str, str] = field(default_factory=dict)
    counts: Counter[tuple[str, str, str, str]] = field(default_factory=Counter)
    fields: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    keeps: dict[str, dict[str, str]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The report as JSON; it does not have the subject."""
        return {
            "dry_run": self.dry_run,
            "pseudonym": self.pseudonym,
            "sagas": self.sagas,
            "not_at_rest": self.not_at_rest,
            "changes": [
                {
                    "place": place,
                    "what": what,
                    "fate": fate,
                    "count": count,
                    "fields": sorted(self.fields.get((place, what), ())) if fate == ERASED else [],
                    "why": why or None,
                }
                for (place, what, fate, why), count in sorted(self.counts.items())
            ],
            "keeps": self.keeps,
            "stays": dict(STAYS),
        }
