"""Reads a file that is imported: its good rows become batches to start, its bad ones are named.

Both lie in the bucket of valet keys under `imports/<import id>/`: `batches.jsonl`, of which a line
is a batch, and `bad.jsonl`, of which a line is a row. They are written in ASCII, for a reader that
takes U+2028 for the end of a line is not rare. The file is read as it comes and what is made of it
goes to a temporary file, so that memory does not grow with it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from recourse.declare.saga import Saga
from recourse.imports.lines import BadFileError
from recourse.imports.rows import BadRow, Reader, Row
from recourse.imports.table import Import, Imports, UnknownImportError

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

BATCH = 45
"""Sagas in a batch at most: each is two writes of a transaction, which has a hundred."""
BATCH_BYTES = 192 * 1024
"""Bytes in a batch, above which nothing is added: with one row more, and what else a task of Step
Functions is given, it has at most 256 KiB, unless a row alone has more."""
MOST_ROWS = 100_000
MOST_BYTES = 100 * 1024 * 1024
MOST_MADE = 400 * 1024 * 1024
"""Bytes of all batches: a function has 512 MB for temporary files."""
SHOWN = 100
"""How many bad rows an import shows itself; its result has all of them."""
_CHUNK = 256 * 1024
_GONE = {"NoSuchKey", "NoSuchVersion", "AccessDenied", "404", "403"}


def batches_key(import_id: str) -> str:
    """The S3 key of an import's batches."""
    return f"imports/{import_id}/batches.jsonl"


def bad_key(import_id: str) -> str:
    """The S3 key of an import's bad rows."""
    return f"imports/{import_id}/bad.jsonl"


@dataclass(frozen=True)
class Checker:
    """Reads the file of an import.

    Attributes:
        imports: The table of imports.
        s3: An S3 client.
        bucket: The bucket of valet keys.
        sagas: Every declaration, by name.
        missing: Those of some documents that an owner does not have.
    """

    imports: Imports
    s3: S3Client
    bucket: str
    sagas: Mapping[str, Saga]
    missing: Callable[[str, Sequence[str]], Sequence[str]]

    def check(self, import_id: str) -> Import:
        """Read the file once; the import as it is then.

        It is at STARTING where there is something to start. Else it has FAILED, for nothing of the
        file can be imported, or is STOPPED, for more of it is bad than is tolerated.

        Raises:
            UnknownImportError: There is no such import.
        """
        found = self.imports.get(import_id)
        if found is None:
            raise UnknownImportError(import_id)
        if found.rows is None and found.status == "CHECKING":
            found = self._read(found)
        if found.status == "STARTING" and found.is_over:
            found = self.imports.note(found, status="STOPPED", why=found.why_over)
        return found

    def _read(self, found: Import) -> Import:
        try:
            with ExitStack() as stack:
                good, bad = (stack.enter_context(TemporaryFile()) for _ in range(2))
                changes = self._written(found, good, bad)
                for key, file in ((batches_key, good), (bad_key, bad)):
                    file.seek(0)
                    self.s3.put_object(Bucket=self.bucket, Key=key(found.import_id), Body=file)
        except BadFileError as problem:
            return self.imports.note(found, status="FAILED", why=str(problem))
        return self.imports.note(found, status="STARTING", **changes)

    def _written(self, found: Import, good: IO[bytes], bad: IO[bytes]) -> dict[str, Any]:
        saga = self.sagas.get(found.saga)
        if saga is None:
            raise BadFileError(f"{found.saga} is not declared any more: nothing can start it")
        rows = Reader(saga, found.format, partial(self.missing, found.owner)).read(
            self._chunks(found)
        )
        problems: list[BadRow] = []
        batch: list[str] = []
        count = wrong = batches = size = 0

        def close() -> None:
            nonlocal batches, size
            good.write(f'{{"number":{batches},"rows":[{",".join(batch)}]}}\n'.encode())
            batches, size = batches + 1, 0
            batch.clear()

        for count, row in enumerate(rows, 1):
            if count > MOST_ROWS:
                raise BadFileError(f"the file must have at most {MOST_ROWS} rows: divide it")
            if isinstance(row, BadRow):
                wrong += 1
                bad.write(json.dumps(row._asdict()).encode() + b"\n")
                if len(problems) < SHOWN:
                    problems.append(row)
                continue
            text = _compact(row)
            if batch and size + len(text) > BATCH_BYTES:
                close()
            batch.append(text)
            size += len(text)
            if len(batch) == BATCH:
                close()
            if good.tell() > MOST_MADE:
                raise BadFileError(f"the file makes more than {MOST_MADE} bytes: divide it")
        if batch:
            close()
        return {"rows": count, "bad": wrong, "problems": problems, "batches": batches}

    def _chunks(self, found: Import) -> Iterator[bytes]:
        about = found.file
        try:
            got = self.s3.get_object(
                Bucket=self.bucket, Key=about["key"], VersionId=about["version"]
            )
        except ClientError as problem:
            if problem.response["Error"]["Code"] not in _GONE:
                raise
            raise BadFileError(f"{found.object!r} is not there any more: upload it again") from None
        yield from got["Body"].iter_chunks(_CHUNK)


def _compact(row: Row) -> str:
    return json.dumps(row._asdict(), separators=(",", ":"))
