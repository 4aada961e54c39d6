"""Starts the sagas of a batch of an import: each once, whatever is tried how often.

All sagas of a batch are recorded in one transaction, and with them that they are. Where one was
recorded before, by an earlier import of the same file, they are recorded one by one.

What is recorded is counted, for nothing of it can be lost: only then are its runs started. Those
that do not start, or not in time, are left to the sweeper: they fail nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from recourse.declare.limits import words
from recourse.errors import TransientError
from recourse.imports.rows import Row, saga_id_of
from recourse.imports.table import Batch, Import, Imports, TooManyFailuresError, UnknownImportError
from recourse.ledger.ledger import ErasedError, KeyReusedError, Ledger
from recourse.ledger.record import Record
from recourse.orchestration.executions import Runs
from recourse.run.failures import may_pass
from recourse.store.contention import Backoff, ConditionFailedError, InvalidItemError

AT_ONCE = 8
"""Runs that are started at the same time, of one batch; a client has ten connections."""
TRIES = 8
"""How often a row is recorded that is recorded by itself, where that may pass: within seconds."""


@dataclass(frozen=True)
class Starter:
    """Starts batches.

    ::

        batch = {"number": 0, "rows": [{"line": 2, "request": {…}, "body": "sent:…"}]}
        starter.start({"import_id": "5a…", "run": 0, "batch": batch}, lasts=100)

    Attributes:
        imports: The table of imports.
        ledger: The ledger.
        runs: The runs of every saga.
        log: Told of each run that is left to the sweeper, and why.
    """

    imports: Imports
    ledger: Ledger
    runs: Runs
    log: Callable[[Record, BaseException], None]

    def start(self, task: Mapping[str, Any], lasts: float) -> Import:
        """Record and count a batch, and start its runs; the import as it is then.

        Args:
            task: The import's id, `import_id`, its `run`, and the `batch`: its `number` and `rows`.
                Where it has an `error`, the batch has failed as often as it is tried, and its rows
                are noted as failed for that reason.
            lasts: Seconds that it may take; what runs are not started by then are left to the
                sweeper.

        Raises:
            TooManyFailuresError: More rows have failed than are tolerated: the import stops.
            UnknownImportError: There is no such import.
            TransientError: Try again.
        """
        until = time.monotonic() + lasts
        import_id, run, number = task["import_id"], task["run"], task["batch"]["number"]
        found = self.imports.get(import_id)
        if found is None:
            raise UnknownImportError(import_id)
        before = self.imports.batch(import_id, number)
        is_done = before is not None and before.is_counted
        if is_done and before and (before.run == run or not before.not_started):
            return found
        _must_go_on(found)
        rows = [Row(**one) for one in task["batch"]["rows"]]
        if is_done and before:
            rows = [row for row in rows if str(row.line) in before.not_started]
        records: list[Record] = []
        if "error" in task:
            batch = Batch(run=run, not_started={str(row.line): task["error"] for row in rows})
            batch = before if before and not is_done else batch
        elif before and not is_done:  # it was recorded, and this try is after its end
            batch, records = before, self._recorded(found, rows, before)
        else:
            batch, records = self._record(found, number, rows, run, again=is_done)
        if is_done and before:
            batch = replace(
                batch,
                sagas_started=before.sagas_started + batch.sagas_started,
                already_there=[*before.already_there, *batch.already_there],
            )
        noted = before or self.imports.batch(import_id, number)
        found = self.imports.count(import_id, number, batch, noted)
        self._run(records, until - time.monotonic())
        _must_go_on(found)
        return found

    def _record(
        self, found: Import, number: int, rows: list[Row], run: int, *, again: bool
    ) -> tuple[Batch, list[Record]]:
        """Record the sagas of rows; what became of them, and those that are to run."""
        records = {row.line: self._wanted(found, row) for row in rows}
        batch = Batch(run=run, sagas_started=len(records))
        if not again:
            try:
                note = self.imports.put_batch(found.import_id, number, batch)
                return batch, self.ledger.start_all(list(records.values()), note)
            except (ConditionFailedError, InvalidItemError):
                if noted := self.imports.batch(found.import_id, number):
                    return noted, self._recorded(found, rows, noted)
        return self._record_each(records, run, any_coordination=not found.coordination)

    def _record_each(
        self, left: Mapping[int, Record], run: int, *, any_coordination: bool
    ) -> tuple[Batch, list[Record]]:
        """Record sagas one by one: what one fails for, others do not.

        What may pass is tried again here and not by the state machine, which would find those that
        it has recorded already, and not know by whom they are.
        """
        started = 0
        there: list[int] = []
        failed: dict[str, str] = {}
        begun: list[Record] = []
        for _ in Backoff(TRIES):
            busy: dict[int, Record] = {}
            for line, wanted in left.items():
                failed.pop(str(line), None)
                try:
                    record, is_new = self.ledger.start(wanted, any_coordination=any_coordination)
                except (KeyReusedError, ErasedError) as problem:
                    failed[str(line)] = _reason(problem)
                except (TransientError, InvalidItemError, BotoCoreError, ClientError) as problem:
                    failed[str(line)] = words(problem)
                    if may_pass(problem):
                        busy[line] = wanted
                else:
                    begun.append(record)
                    started += is_new
                    there += [] if is_new else [line]
            left = busy
            if not left:
                break
        batch = Batch(run=run, sagas_started=started, already_there=there, not_started=failed)
        return batch, begun

    def _wanted(self, found: Import, row: Row) -> Record:
        saga = self.ledger.sagas[found.saga]
        return Record(
            saga_id=saga_id_of(found.saga, found.owner, found.file["sha256"], row.line),
            saga=found.saga,
            owner=found.owner,
            business_key=row.request[saga.business_key],
            coordination=found.coordination or saga.coordination,
            request=row.request,
            body=row.body,
            started_at=self.imports.now,
        )

    def _recorded(self, found: Import, rows: Iterable[Row], batch: Batch) -> list[Record]:
        """The sagas of rows as the ledger has them, but for those that were not started."""
        ids = [
            saga_id_of(found.saga, found.owner, found.file["sha256"], row.line)
            for row in rows
            if str(row.line) not in batch.not_started
        ]
        return [record for record in map(self.ledger.get, ids) if record]

    def _run(self, records: Iterable[Record], lasts: float) -> None:
        """Start the runs of sagas that have only begun; the sweeper starts what fails here.

        Nothing is raised, whatever it is: these sagas are recorded and counted.
        """
        new = [one for one in records if len(one.entered) == 1 and not one.is_choreographed]
        pool = ThreadPoolExecutor(AT_ONCE)
        starting = {pool.submit(self.runs.start, one): one for one in new}
        done, late = wait(starting, timeout=max(0, lasts))
        # One that hangs is not waited for. Should it start its run all the same, no harm is done.
        pool.shutdown(wait=False, cancel_futures=True)
        for one in done:
            if problem := one.exception():
                self.log(starting[one], problem)
        for one in late:
            self.log(starting[one], TimeoutError("there was no time left"))


def _must_go_on(found: Import) -> None:
    if found.is_over:
        raise TooManyFailuresError(found.why_over)


def _reason(problem: Exception) -> str:
    """Why a saga is not started that was recorded before, in words."""
    if isinstance(problem, ErasedError):
        return "its owner's data have been erased since it was started"
    return f"it was started before, as {problem}"
