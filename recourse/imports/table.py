"""The table of imports: which there are, how far each is, and what became of each batch.

| row | key |
|---|---|
| import, in the index by owner | `import#<import id>` |
| what became of a batch | `batch#<import id>#<number>` |

Both expire with the import's files. The counts of an import are the sums of its batches: each is
counted once, by the transaction that notes it as counted.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from recourse import events
from recourse.declare.declaration import Coordination
from recourse.errors import RecourseError
from recourse.imports.rows import BadRow, Format
from recourse.store import retention
from recourse.store.contention import ConditionFailedError
from recourse.store.expressions import ABSENT, PRESENT
from recourse.store.table import Table

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient
    from types_boto3_dynamodb.type_defs import TransactWriteItemTypeDef

Status = Literal["CHECKING", "STARTING", "COMPLETED", "STOPPED", "FAILED", "INTERRUPTED"]
AT_WORK: tuple[Status, ...] = ("CHECKING", "STARTING")
BY_OWNER = "by-owner"
"""The index by `owner`, ordered by `started`."""


class ImportReusedError(RecourseError):
    """The Idempotency-Key was used before, for another import."""


class NotResumableError(RecourseError):
    """There is nothing to resume: it is at work, or all that could be started is."""


class UnknownImportError(RecourseError, LookupError):
    """There is no such import: it has expired, or its owner's data are erased."""


class TooManyFailuresError(RecourseError):
    """More of an import's rows are bad or could not be started than its owner tolerates."""


@dataclass(frozen=True, kw_only=True)
class Import:
    """An import.

    Attributes:
        import_id: Its id: 32 hexadecimal digits, by its owner and Idempotency-Key.
        owner: Who began it; the owner of its sagas.
        saga: The saga that each row starts.
        object: The name of the file, in its owner's space.
        file: Where that is: its `key` in the bucket of valet keys, its `version`, its `sha256` in
            hex, its `format`, and its `length` in bytes.
        body: The digest of what was sent.
        created_at: When it began.
        updated_at: When anything of it was last written.
        expires_at: When it is deleted, in seconds since 1970.
        coordination: How its sagas are coordinated; None as they are declared.
        tolerated_failures: How many percent of the rows may be bad, or fail to start.
        concurrency: How many batches are recorded at the same time.
        status: How far it is; `Imports.seen` finds out whether it was interrupted.
        why: Why it failed or stopped.
        run: How often it was resumed.
        ended_at: When it came to rest.
        rows: How many rows the file has; None until it is checked.
        bad: How many of these are bad.
        problems: The first of the bad ones.
        batches: How many batches the others are in.
        sagas_started: How many sagas it has started.
        already_there: How many had been started before.
        not_started: How many could not be started.
        failing: How many of these failed since it was last resumed.
        result: The version of the file that says what became of each row.
    """

    import_id: str
    owner: str
    saga: str
    object: str
    file: Mapping[str, Any]
    body: str
    created_at: str
    updated_at: str
    expires_at: int
    coordination: Coordination | None = None
    tolerated_failures: int = 100
    concurrency: int = 4
    status: Status = "CHECKING"
    why: str | None = None
    run: int = 0
    ended_at: str | None = None
    rows: int | None = None
    bad: int = 0
    problems: Sequence[BadRow] = ()
    batches: int = 0
    sagas_started: int = 0
    already_there: int = 0
    not_started: int = 0
    failing: int = 0
    result: str | None = None

    @property
    def execution(self) -> str:
        """The name of the execution that it is at."""
        return f"{self.import_id}-r{self.run}" if self.run else self.import_id

    @property
    def format(self) -> Format:
        """What its file is."""
        found: Format = self.file["format"]
        return found

    @property
    def is_over(self) -> bool:
        """Whether more rows are bad or could not be started than are tolerated."""
        failed = self.bad + self.failing
        return failed * 100 > self.tolerated_failures * (self.rows or 0)

    @property
    def why_over(self) -> str:
        """How many that are, in words."""
        return (
            f"{self.bad + self.failing} of {self.rows} rows have failed, "
            f"more than the {self.tolerated_failures} % that are tolerated: the others are left"
        )

    @property
    def may_resume(self) -> bool:
        """Whether resuming it would do something."""
        return self.status in ("STOPPED", "INTERRUPTED") or (
            self.status == "COMPLETED" and self.not_started > 0
        )

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Import:
        """The import of a row."""
        known = {one.name for one in fields(cls)}
        found = {name: value for name, value in row.items() if name in known}
        found["problems"] = [BadRow(*one) for one in row.get("problems", ())]
        return cls(import_id=row["pk"].partition("#")[2], **found)

    @property
    def row(self) -> dict[str, Any]:
        """Its row."""
        row = {one.name: getattr(self, one.name) for one in fields(self)}
        del row["import_id"]
        place = f"{self.created_at}#{self.import_id}"
        problems = [list(one) for one in self.problems]
        return row | {"pk": import_pk(self.import_id), "started": place, "problems": problems}


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What became of a batch.

    Attributes:
        run: The run of the import that has written it last.
        sagas_started: How many of its sagas that import has started.
        already_there: The lines whose sagas had been started before.
        not_started: Why others could not be started, by line.
        is_counted: Whether the counts of the import include it.
    """

    run: int
    sagas_started: int = 0
    already_there: Sequence[int] = ()
    not_started: Mapping[str, str] = field(default_factory=dict)
    is_counted: bool = False

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Batch:
        """The batch of a row."""
        return cls(**{one.name: row[one.name] for one in fields(cls)})

    def row(self, pk: str, expires_at: int) -> dict[str, Any]:
        """Its row."""
        found = {one.name: getattr(self, one.name) for one in fields(self)}
        return found | {"pk": pk, "expires_at": expires_at}


class Imports:
    """The table of imports.

    ::

        imports = Imports(dynamodb, "Imports")
        begun = imports.begin(Import(import_id=import_id_of("asha", key), owner="asha", …))
        imports.get(begun.import_id).status    # "CHECKING"

    Args:
        dynamodb: A DynamoDB client.
        table: The table's name.
        clock: The time, in seconds since 1970.

    Attributes:
        table: The table.
    """

    def __init__(
        self, dynamodb: DynamoDBClient, table: str, clock: Callable[[], float] = time.time
    ) -> None:
        self.table = Table(dynamodb, table)
        self._clock = clock

    @property
    def now(self) -> str:
        """The time, as every surface shows it."""
        return events.moment(datetime.fromtimestamp(self._clock(), UTC))

    @property
    def expiry(self) -> int:
        """When what is written now is deleted, in seconds since 1970."""
        return int(self._clock()) + retention.for_a_time("imports")

    def begin(self, wanted: Import) -> Import:
        """Record an import once; the import as it is now.

        Raises:
            ImportReusedError: It was recorded before, with another body.
        """
        try:
            self.table.put(wanted.row, when=ABSENT)
            return wanted
        except ConditionFailedError as there:
            row = there.rows[0]
            assert row is not None, "a put without a row succeeds"
            found = Import.from_row(row)
        if found.body != wanted.body:
            raise ImportReusedError(found.import_id)
        return found

    def get(self, import_id: str) -> Import | None:
        """An import; None where there is none."""
        row = self.table.get(import_pk(import_id))
        return Import.from_row(row) if row else None

    def page(
        self, owner: str, *, cursor: str | None, limit: int
    ) -> tuple[list[Import], str | None]:
        """An owner's imports, the newest first, and the cursor of the next page.

        Raises:
            BadCursorError: The cursor was not issued by this API.
        """
        rows, following = self.table.page(BY_OWNER, {"owner": owner}, cursor=cursor, limit=limit)
        return [Import.from_row(row) for row in rows], following

    def resume(self, found: Import, tolerated_failures: int | None = None) -> Import:
        """Open another run of an import that came to rest before all of it was started.

        Args:
            found: The import, as it was seen.
            tolerated_failures: How many percent of the rows may fail from now on; as before if
                None.

        Raises:
            NotResumableError: There is nothing to resume, or somebody else has.
        """
        if not found.may_resume:
            raise NotResumableError(found.status)
        kept = found.tolerated_failures if tolerated_failures is None else tolerated_failures
        opened: dict[str, Any] = {
            "status": "CHECKING" if found.rows is None else "STARTING",
            "run": found.run + 1,
            "tolerated_failures": kept,
            "failing": 0,
            "why": None,
            "ended_at": None,
        }
        try:
            return self._update(found, opened)
        except ConditionFailedError:
            raise NotResumableError("it is resumed already") from None

    def note(self, found: Import, **changes: Any) -> Import:
        """Change an import that is at work still, as it was seen; the import as it is now.

        Nothing changes where it has come to rest meanwhile, or is at another run.
        """
        if "problems" in changes:
            changes["problems"] = [list(one) for one in changes["problems"]]
        if changes.get("status") not in (None, *AT_WORK):
            changes |= {"ended_at": self.now}
        try:
            return self._update(found, changes)
        except ConditionFailedError:
            return self.get(found.import_id) or found

    def _update(self, found: Import, changes: Mapping[str, Any]) -> Import:
        written = self.table.update(
            import_pk(found.import_id),
            set={**changes, "updated_at": self.now, "expires_at": self.expiry},
            when={"run": found.run, "status": found.status},
        )
        return Import.from_row(written)

    # Batches.

    def batch(self, import_id: str, number: int) -> Batch | None:
        """What became of a batch; None where it was not begun."""
        row = self.table.get(batch_pk(import_id, number))
        return Batch.from_row(row) if row else None

    def batches(self, found: Import) -> Iterator[Batch | None]:
        """What became of every batch, in order."""
        for first in range(0, found.batches, 100):
            numbers = range(first, min(first + 100, found.batches))
            rows = self.table.get_many([batch_pk(found.import_id, one) for one in numbers])
            yield from (Batch.from_row(row) if row else None for row in rows)

    def put_batch(self, import_id: str, number: int, batch: Batch) -> TransactWriteItemTypeDef:
        """The write that notes what became of a batch, unless that is noted already."""
        row = batch.row(batch_pk(import_id, number), self.expiry)
        return self.table.put_request(row, when=ABSENT)

    def count(self, import_id: str, number: int, batch: Batch, before: Batch | None) -> Import:
        """Count a batch once; the import as it is then.

        Args:
            import_id: The import.
            number: The batch's number.
            batch: What became of it.
            before: The same, as it was noted before; None where it was not.
        """
        counted = before if before and before.is_counted else Batch(run=batch.run)
        more = {
            "sagas_started": batch.sagas_started - counted.sagas_started,
            "already_there": len(batch.already_there) - len(counted.already_there),
            "not_started": len(batch.not_started) - len(counted.not_started),
            "failing": len(batch.not_started),
        }
        row = replace(batch, is_counted=True).row(batch_pk(import_id, number), self.expiry)
        seen = {"run": before.run, "is_counted": before.is_counted} if before else ABSENT
        writes = [
            self.table.put_request(row, when=seen),
            self.table.update_request(
                import_pk(import_id), add=more, set={"updated_at": self.now}, when=PRESENT
            ),
        ]
        # Else another try of the same batch has counted it, or the import has expired.
        with suppress(ConditionFailedError):
            self.table.transact(writes)
        found = self.get(import_id)
        if found is None:
            raise UnknownImportError(import_id)
        return found


def import_id_of(owner: str, key: str) -> str:
    """The id of an import, by its owner and Idempotency-Key."""
    return hashlib.sha256(json.dumps(["import", owner, key]).encode()).hexdigest()[:32]


def import_pk(import_id: str) -> str:
    """The key of an import's row."""
    return f"import#{import_id}"


def batch_pk(import_id: str, number: int) -> str:
    """The key of the row of one of its batches."""
    return f"batch#{import_id}#{number}"
