"""Joins what became of all rows of an import into one file, in the order of the lines.

A line of it is a row, in JSON: its `line`, its `outcome` (started, already_there, not_started, bad,
not_reached), the `saga_id` where it has one, and `field` and `why` where something is wrong.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from heapq import merge
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

from recourse.imports.check import bad_key, batches_key
from recourse.imports.rows import saga_id_of
from recourse.imports.table import Batch, Import, Imports, UnknownImportError

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

UNNOTED = "its batch failed as often as it was tried, and why could not be noted: resume the import"
_CHUNK = 64 * 1024


def result_key(import_id: str) -> str:
    """The S3 key of an import's result."""
    return f"results/{import_id}.jsonl"


@dataclass(frozen=True)
class Finisher:
    """Finishes imports.

    Attributes:
        imports: The table of imports.
        s3: An S3 client.
        bucket: The bucket of valet keys.
    """

    imports: Imports
    s3: S3Client
    bucket: str

    def finish(self, import_id: str, error: str | None = None) -> Import:
        """Write the result of an import, and note how it ended; the import as it is then.

        Args:
            import_id: The import.
            error: Why it stopped, if it did.

        Raises:
            UnknownImportError: There is no such import.
        """
        found = self.imports.get(import_id)
        if found is None:
            raise UnknownImportError(import_id)
        if found.rows is None:
            return found  # nothing could be read of its file, which it says itself
        with TemporaryFile() as file:
            for line in self._lines(found, is_whole=not error):
                file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
            file.seek(0)
            put = self.s3.put_object(
                Bucket=self.bucket,
                Key=result_key(import_id),
                Body=file,
                ContentType="application/x-ndjson",
            )
        version = put["VersionId"]
        if found.status != "STARTING":
            return self.imports.note(found, result=version)
        found = self.imports.get(import_id) or found  # with what was counted by this
        if error or found.is_over:
            why = found.why_over if found.is_over else error
            return self.imports.note(found, status="STOPPED", why=why, result=version)
        return self.imports.note(found, status="COMPLETED", result=version)

    def _lines(self, found: Import, *, is_whole: bool) -> Iterator[dict[str, Any]]:
        bad = (line | {"outcome": "bad"} for line in self._read(bad_key(found.import_id)))
        return merge(self._of_batches(found, is_whole), bad, key=lambda line: line["line"])

    def _of_batches(self, found: Import, is_whole: bool) -> Iterator[dict[str, Any]]:
        read = self._read(batches_key(found.import_id))
        for told, batch in zip(read, self.imports.batches(found), strict=True):
            if found.status == "STARTING":
                batch = self._counted(found, told, batch, is_whole)
            for row in told["rows"]:
                yield _line(found, row["line"], batch)

    def _counted(
        self, found: Import, told: Mapping[str, Any], batch: Batch | None, is_whole: bool
    ) -> Batch | None:
        """A batch, counted here where what should have done it failed; None: it was not reached."""
        if (batch and batch.is_counted) or not (batch or is_whole):
            return batch
        failed = {str(row["line"]): UNNOTED for row in told["rows"]}
        settled = batch or Batch(run=found.run, not_started=failed)
        self.imports.count(found.import_id, told["number"], settled, batch)
        return self.imports.batch(found.import_id, told["number"])

    def _read(self, key: str) -> Iterator[dict[str, Any]]:
        got = self.s3.get_object(Bucket=self.bucket, Key=key)
        yield from map(json.loads, got["Body"].iter_lines(_CHUNK))


def _line(found: Import, line: int, batch: Batch | None) -> dict[str, Any]:
    if batch is None:
        return {"line": line, "outcome": "not_reached"}
    if why := batch.not_started.get(str(line)):
        return {"line": line, "outcome": "not_started", "why": why}
    outcome = "already_there" if line in batch.already_there else "started"
    saga_id = saga_id_of(found.saga, found.owner, found.file["sha256"], line)
    return {"line": line, "outcome": outcome, "saga_id": saga_id}
