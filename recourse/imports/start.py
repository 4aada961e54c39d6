"""Starts the sagas of a batch of an import: each once, whatever is tried how often.

It is done in two parts, so that the runs of the first do not slow down the recording of the last:

- All sagas of a batch are recorded in one transaction, and with them that they are. Where one was
  recorded before, by an earlier import of the same file, they are recorded one by one. What is
  recorded is counted, for nothing of it can be lost. None of it has begun: its deadline does not
  run yet, nothing of it is told, and it is not in flight.
- Once all batches are recorded, their sagas begin as there is room: as others of their owner end.
  What fails here fails nothing: the sweeper begins what the import has not within 15 minutes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from recourse.declare.ids import SagaId
from recourse.declare.limits import words
from recourse.errors import RecourseError, TransientError
from recourse.events import moment
from recourse.imports.rows import Row, saga_id_of
from recourse.imports.table import Batch, Import, Imports, TooManyFailuresError, UnknownImportError
from recourse.ledger.ledger import ErasedError, KeyReusedError, Ledger
from recourse.ledger.record import LEFT_TO_IMPORT, Record
from recourse.orchestration.executions import Runs
from recourse.run.failures import may_pass
from recourse.store.contention import Backoff, ConditionFailedError, InvalidItemError

LINES_A_SECOND = 20
"""How many sagas of a file fall to the sweeper within a second, so that it is never busy with one
owner's alone."""
AT_ONCE = 8
"""Runs that are started at the same time, of one batch; a client has ten connections."""
TRIES = 8
"""How often a row is recorded that is recorded by itself, where that may pass: within seconds."""


class Begun(NamedTuple):
    """How far the sagas of a batch have begun.

    Attributes:
        now: How many have begun just now.
        left: How many may in a while: there was no room for them, or what they need was busy.
    """

    now: int
    left: int


@dataclass(frozen=True)
class Starter:
    """Starts batches.

    ::

        batch = {"number": 0, "rows": [{"line": 2, "request": {…}, "body": "sent:…"}]}
        task = {"import_id": "5a…", "run": 0, "batch": batch}
        starter.start(task)
        starter.begin(task, lasts=100).left    # how many of them had no room

    Attributes:
        imports: The table of imports.
        ledger: The ledger.
        runs: The runs of every saga.
        room: How many more sagas of imports of an owner may begin now.
        log: Told of each saga that is left to the sweeper, and why.
    """

    imports: Imports
    ledger: Ledger
    runs: Runs
    room: Callable[[str], int]
    log: Callable[[Record, BaseException], None]

    def start(self, task: Mapping[str, Any]) -> Import:
        """Record and count a batch; the import as it is then.

        Args:
            task: The import's id, `import_id`, its `run`, and the `batch`: its `number` and `rows`.
                Where it has an `error`, the batch has failed as often as it is tried, and its rows
                are noted as failed for that reason.

        Raises:
            TooManyFailuresError: More rows have failed than are tolerated: the import stops.
            UnknownImportError: There is no such import.
            TransientError: Try again.
        """
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
        if before and not is_done:  # it was recorded, and this try is after its end
            batch = before
        elif "error" in task:
            batch = Batch(run=run, not_started={str(row.line): task["error"] for row in rows})
        else:
            batch = self._record(found, number, rows, run, again=is_done)
        if is_done and before:
            batch = replace(
                batch,
                sagas_started=before.sagas_started + batch.sagas_started,
                already_there=[*before.already_there, *batch.already_there],
            )
        noted = before or self.imports.batch(import_id, number)
        found = self.imports.count(import_id, number, batch, noted)
        _must_go_on(found)
        return found

    def begin(self, task: Mapping[str, Any], lasts: float, *, at_least: int = 0) -> Begun:
        """Begin the sagas of a batch that have not begun, as far as there is room.

        Args:
            task: As for `start`.
            lasts: Seconds that it may take; what runs are not started by then are left to the
                sweeper.
            at_least: So many begin though there is no room.

        Raises:
            UnknownImportError: There is no such import.
            TransientError: Try again.
        """
        until = time.monotonic() + lasts
        found = self.imports.get(task["import_id"])
        if found is None:
            raise UnknownImportError(task["import_id"])
        ids = [self._saga_id(found, row["line"]) for row in task["batch"]["rows"]]
        records = self.ledger.get_all(ids)
        waiting = [one for one in records if one.scheduled and one.status == "RUNNING"]
        room = max(at_least, self.room(found.owner)) if waiting else 0
        begun, busy = self._begun(waiting[:room])
        # Some may have begun by a try that died before it had started their runs.
        before = [one for one in records if not one.scheduled]
        self._run(before + begun, until - time.monotonic())
        return Begun(len(begun), busy + len(waiting[room:]))

    def _begun(self, records: list[Record]) -> tuple[list[Record], int]:
        """Begin sagas: what one fails for, others do not; those, and how many may begin later."""
        if not records:
            return [], 0
        at = self.imports.now
        # Where one was cancelled meanwhile, say, each begins by itself.
        with suppress(RecourseError, BotoCoreError, ClientError):
            return self.ledger.begin_all(records, at=at), 0
        begun, busy = [], 0
        for one in records:
            try:
                begun.append(self.ledger.begin(one.saga_id, at=at))
            except (RecourseError, BotoCoreError, ClientError) as problem:
                if may_pass(problem):
                    busy += 1
                else:
                    self.log(one, problem)
        return begun, busy

    def _record(
        self, found: Import, number: int, rows: list[Row], run: int, *, again: bool
    ) -> Batch:
        """Record the sagas of rows; what became of them."""
        records = {row.line: self._wanted(found, row) for row in rows}
        batch = Batch(run=run, sagas_started=len(records))
        if not again:
            try:
                note = self.imports.put_batch(found.import_id, number, batch)
                self.ledger.start_all(list(records.values()), note)
                return batch
            except (ConditionFailedError, InvalidItemError):
                if noted := self.imports.batch(found.import_id, number):
                    return noted
        return self._record_each(records, run, any_coordination=not found.coordination)

    def _record_each(
        self, left: Mapping[int, Record], run: int, *, any_coordination: bool
    ) -> Batch:
        """Record sagas one by one: what one fails for, others do not.

        One that is there was recorded by this import all the same, where an earlier try of this
        batch has died before it could be noted.
        """
        started = 0
        there: list[int] = []
        failed: dict[str, str] = {}
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
                    is_ours = is_new or record.imported_by == wanted.imported_by
                    started += is_ours
                    there += [] if is_ours else [line]
            left = busy
            if not left:
                break
        return Batch(run=run, sagas_started=started, already_there=there, not_started=failed)

    def _wanted(self, found: Import, row: Row) -> Record:
        saga, now = self.ledger.sagas[found.saga], self.imports.now
        swept = LEFT_TO_IMPORT + timedelta(seconds=row.line / LINES_A_SECOND)
        return Record(
            saga_id=self._saga_id(found, row.line),
            saga=found.saga,
            owner=found.owner,
            business_key=row.request[saga.business_key],
            coordination=found.coordination or saga.coordination,
            request=row.request,
            body=row.body,
            started_at=now,
            begins_at=moment(datetime.fromisoformat(now) + swept),
            scheduled=True,
            imported_by=found.import_id,
        )

    def _saga_id(self, found: Import, line: int) -> SagaId:
        return saga_id_of(found.saga, found.owner, found.file["sha256"], line)

    def _run(self, records: Iterable[Record], lasts: float) -> None:
        """Start the runs of sagas that have only begun; the sweeper starts what fails here.

        Nothing is raised, whatever it is: these sagas are recorded and counted.
        """
        new = [one for one in records if _has_only_begun(one) and not one.is_choreographed]
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


def _has_only_begun(record: Record) -> bool:
    return len(record.entered) == 1 and record.status == "RUNNING" and not record.scheduled


def _must_go_on(found: Import) -> None:
    if found.is_over:
        raise TooManyFailuresError(found.why_over)


def _reason(problem: Exception) -> str:
    """Why a saga is not started that was recorded before, in words."""
    if isinstance(problem, ErasedError):
        return "its owner's data have been erased since it was started"
    return f"it was started before, as {problem}"
