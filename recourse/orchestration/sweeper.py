"""The sweeper: finds every saga that nobody is looking after, and sees it to its end.

- a start that was recorded and never run is run; what Step Functions never takes ends at its
  deadline, its pivot claimed and its steps told so by events;
- a run that ended in no end of its own (aborted, timed out, States.Runtime, its data too large) is
  followed by a recovery, which settles the pivot and goes forward or undoes; further ones follow
  with growing delays, and in the end the saga is parked, with the reason;
- a saga past its deadline is cancelled, if its pivot has not acted;
- where a run has ended and the ledger has not heard of it, an event was lost: it is told again,
  from the services' own markers; what that does not mend raises an alarm that names the saga;
- a choreography that is silent has its events told again, which moves it on where one was lost;
  one that has been silent for as long as its deadline is followed by a recovery: a run of the state
  machine, which needs no message;
- what operators' queues hold of sagas at rest is taken out.

One sweeper goes round at a time, by a lease. It begins with the oldest saga, passes over what waits
for an operator, and where its time ends before its round it goes on from there the next time. It
only looks at what Step Functions, the ledger and the barrier say, and everything it does is
harmless when it is done twice.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from recourse.declare.saga import Saga
from recourse.errors import RecourseError, TransientError, UnreadableError
from recourse.events import Event, error, moment
from recourse.events.event import StuckKind
from recourse.ledger.history import AT_REST
from recourse.ledger.ledger import Ledger, Record
from recourse.orchestration.compiler import BLIND, PARKED
from recourse.orchestration.executions import Run, Runs, parse_name
from recourse.orchestration.markers import DONE, Markers
from recourse.queues.deadletters import OperatorQueue
from recourse.store.lease import Lease

GRACE = timedelta(seconds=60)
"""How old a start is before the sweeper looks at it, and how long a recovery has before the next
one follows, which doubles from one to the next; times the timescale."""
LONGEST_DELAY = timedelta(hours=1)
"""How long it is at the most until the next recovery follows; times the timescale."""
RECOVERIES = 8
"""How many recoveries follow each other before the saga is parked: more than two hours."""
HEALING = timedelta(minutes=3)
"""How long the ledger may take to hear of what has happened; times the timescale."""
ALARMING = timedelta(days=1)
"""How long it is from one alarm about a saga to the next."""
ROUND = 45.0
"""Seconds for which a round goes on; the next one is due within a minute."""
LEASE = 180.0
"""Seconds for which the lease lasts: longer than anything that is done for one saga."""
PACE = 0.1
"""Seconds between two DescribeExecutions: Step Functions gives an account some ten a second."""


Stuck = tuple[str, StuckKind]
"""A step, and what has failed of it."""


class RecoveryFailedError(RecourseError):
    """Recoveries of a saga came to no end, as often as the sweeper tries."""


@dataclass(kw_only=True)
class Sweeper:
    """The sweeper.

    Attributes:
        ledger: The ledger.
        runs: Runs of every saga.
        markers: The markers of every saga.
        lease: Held by whoever goes round.
        alarm: Tells whoever is on call of a saga, by its id, and what is wrong with it.
        queues: The operators' queues.
        timescale: What multiplies the grace, the deadlines and the delays.
        clock: Seconds of the epoch.
        sleep: How to wait.
    """

    ledger: Ledger
    runs: Runs
    markers: Markers
    lease: Lease
    alarm: Callable[[str, str], None]
    queues: Sequence[OperatorQueue] = ()
    timescale: float = 1
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    _next_look: float = field(default=0, init=False)

    def after(self, execution: str, state: Any, error: str | None) -> dict[str, str]:
        """Look after the saga of a run that has ended.

        Step Functions is not asked, for a thousand may end at once. What was not told of the run is
        left to the next round, and so is what a blind recovery could not look up: it may take a
        while to come back.

        Args:
            execution: The execution's name.
            state: How it ended.
            error: The error with which it failed.

        Returns:
            What was done, by saga id; empty where nothing was.
        """
        run = Run(state, error)
        if run.ended_well or error == BLIND or (state == "FAILED" and not error):
            return {}
        saga_id, number = parse_name(execution)
        record = self.ledger.get(saga_id)
        if record is None or record.run != number or not self._is_due(record):
            return {}
        return self._recover(record, run)

    def sweep(self) -> dict[str, str]:
        """Look after every unfinished saga, the oldest first, for as long as a round goes on.

        Returns:
            What was done, by saga id; empty where another sweeper is at it.

        Raises:
            ExceptionGroup: Some could not be looked after; all the others were.
        """
        if not self.lease.acquire():
            return {}
        done: dict[str, str] = {}
        problems: list[Exception] = []
        try:
            until = self.clock() + ROUND
            self._clear(problems)
            before = self._from_now(-GRACE * self.timescale)
            for found in self.ledger.unfinished(before, self.lease.position):
                if self.clock() > until or not self.lease.renew():
                    break
                try:
                    done |= self._look_at(found.saga_id)
                except Exception as problem:
                    problem.add_note(f"saga {found.saga_id}")
                    problems.append(problem)
                self.lease.position = found.place
            else:
                self.lease.position = None
        finally:
            self.lease.release()
        if problems:
            raise ExceptionGroup("sagas that could not be looked after", problems)
        return done

    def _look_at(self, saga_id: str) -> dict[str, str]:
        record = self.ledger.get(saga_id)
        if record is None or not self._is_due(record):
            return {}
        return self._look_after(record)

    def _is_due(self, record: Record) -> bool:
        """Whether a saga is the sweeper's now: not at rest, not an operator's, and not put off."""
        put_off = record.not_before is not None and self._now < _moment(record.not_before)
        return record.status not in AT_REST and not put_off and not self.ledger.is_parked(record)

    def _look_after(self, record: Record) -> dict[str, str]:
        if record.is_choreographed:
            return self._past_deadline(record) or self._silent(record)
        try:
            run = self._describe(record)
        except (ClientError, BotoCoreError) as problem:
            return self._end_without_run(record, problem)
        if run.state == "ABSENT":
            return self._start(record)
        if run.state == "RUNNING":
            return self._past_deadline(record)
        if run.ended_well:
            return self._heard(record, run)
        return self._recover(record, run)

    def _describe(self, record: Record) -> Run:
        """The run that a record is at, no more of them in a second than Step Functions gives."""
        wait = self._next_look - self.clock()
        if wait > 0:
            self.sleep(wait)
        self._next_look = self.clock() + PACE
        return self.runs.describe(record)

    # Starts and deadlines.

    def _start(self, record: Record) -> dict[str, str]:
        try:
            self.runs.start(record)
        except TransientError as problem:
            if not record.run:
                return self._end_without_run(record, problem)
            # Of a recovery that does not even begin others follow, and they have an end.
            with suppress(TransientError):
                if ended := self._past_deadline(record, undo_by_events=True):
                    return ended
            return self._recover(record, f"before it began: {problem}")
        return {record.saga_id: f"started run {record.run}, which was recorded and not run"}

    def _end_without_run(self, record: Record, problem: Exception) -> dict[str, str]:
        """End a saga past its deadline whose run Step Functions does not take, or does not show.

        Its steps hear of the claim on the pivot as in a choreography, and undo what they did, if
        they did anything: none of that needs Step Functions.

        Raises:
            Exception: The problem, where the deadline has not come or the pivot has acted.
        """
        ended = self._past_deadline(record, undo_by_events=True)
        if not ended:
            raise problem
        return ended

    def _past_deadline(self, record: Record, *, undo_by_events: bool = False) -> dict[str, str]:
        saga = self._saga(record)
        age = self._now - _moment(record.started_at)
        pivot = next(step for step in record.view(saga)["steps"] if step["name"] == saga.pivot.name)
        settled = pivot["status"] in ("DONE", "FAILED")
        if settled or age < timedelta(seconds=saga.deadline * self.timescale):
            return {}
        if not self.runs.cancel(record, undo_by_events=undo_by_events):
            return {}
        if record.is_choreographed or undo_by_events:
            # The claim moves it by its event alone, and may be an older one whose event was lost.
            self._tell(record, [])
        return {record.saga_id: "cancelled, past its deadline"}

    # Recoveries.

    def _recover(self, record: Record, ended: Run | str) -> dict[str, str]:
        """Open a recovery, and start it; or park the saga, where there have been enough."""
        if record.recoveries >= RECOVERIES:
            return self._park(record, f"{RECOVERIES} recoveries came to no end: the last {ended}")
        delay = min(GRACE * 2**record.recoveries, LONGEST_DELAY) * self.timescale
        opened = self.ledger.recover(
            record.saga_id,
            record.run,
            not_before=self._from_now(delay),
            failure={} if record.is_choreographed else self.runs.failure(record),
        )
        opening = f"run {record.run} ended {ended}: recovery {opened.run}"
        try:
            self.runs.start(opened)
        except TransientError as problem:
            return {record.saga_id: f"{opening}, which did not begin: {problem}"}
        return {record.saga_id: opening}

    def _park(self, record: Record, why: str) -> dict[str, str]:
        """Park a saga for an operator, where it can go neither forward nor back by itself.

        What is stuck is what there is to do next: forward the steps that come first after the
        pivot, back every undo that has not been, the pivot itself where its function cannot say.
        """
        try:
            cancelled = self.runs.cancel(record)
        except TransientError:
            stuck: list[Stuck] = [(self._saga(record).pivot.name, "failed")]
        else:
            stuck = self._not_undone(record) if cancelled else self._next_forward(record)
        parked = [self._stuck(record, step, kind, why) for step, kind in stuck]
        if self._is_due(self._tell(record, parked)):
            self._raise_alarm(record, f"{why}, and it could not be parked")
        return {record.saga_id: f"parked: {why}"}

    def _not_undone(self, record: Record) -> list[Stuck]:
        saga, found = self._saga(record), self.markers.read(record)
        return [
            (step.name, "undo_failed")
            for step in found.plays
            if saga.role(step.name) == "compensable" and found.outcome(step, "undo") is None
        ]

    def _next_forward(self, record: Record) -> list[Stuck]:
        saga, found = self._saga(record), self.markers.read(record)
        left = [step for step in found.plays if found.outcome(step, "action") not in DONE]
        first = min((saga.rank(step.name) for step in left), default=None)
        return [(step.name, "failed") for step in left if saga.rank(step.name) == first]

    def _stuck(self, record: Record, step: str, kind: StuckKind, why: str) -> Event:
        """That a step waits for an operator, as its own parking would tell it."""
        return Event.parked(
            record.saga_id,
            record.saga,
            step,
            kind,
            run=record.run,
            attempts=0,
            error=error(RecoveryFailedError.__name__, why),
            claimed=True,
        )

    # Healing.

    def _heard(self, record: Record, run: Run) -> dict[str, str]:
        """See to it that the ledger hears of a run that has come to its end."""
        if run.ended_at is not None and self._now - run.ended_at < HEALING * self.timescale:
            return {}
        healed = self._tell(record, [])
        if not self._is_due(healed):
            return {record.saga_id: "told again what the ledger had not heard"}
        if run.error == PARKED:
            # What it parked has been done since, or nobody can say any more what that was.
            return self._recover(healed, run)
        why = f"run {record.run} ended {run}, and what its markers say is no such end"
        self._raise_alarm(record, why)
        return {record.saga_id: f"not healed: {why}"}

    def _raise_alarm(self, record: Record, why: str) -> None:
        self.alarm(record.saga_id, why)
        self.ledger.put_off(record.saga_id, not_before=self._from_now(ALARMING))

    def _silent(self, record: Record) -> dict[str, str]:
        """Move on a choreography that nothing has been heard of, and no operator is asked about."""
        heard = max(event.time for event in [*record.entered, *record.waiting])
        silence = self._now - _moment(heard)
        if silence >= timedelta(seconds=self._saga(record).deadline * self.timescale):
            if not self._is_due(healed := self._tell(record, [])):
                return {record.saga_id: f"silent since {heard}: told again what was lost"}
            return self._recover(healed, f"in silence since {heard}")
        if silence >= HEALING * self.timescale and (record.retold_at or "") < heard:
            # Also what the ledger has heard: it is a step that has not.
            self.ledger.tell_again(record.saga_id, self.markers.read(record).events())
            return {record.saga_id: f"silent since {heard}: told its events again"}
        return {}

    def _tell(self, record: Record, events: Sequence[Event]) -> Record:
        """Tell of what the ledger does not know, by the markers, and these events besides."""
        known = {event.id for event in record.entered}
        every = [*self.markers.read(record).events(), *events]
        lost = [event for event in every if event.id not in known]
        return self.ledger.tell_again(record.saga_id, lost) if lost else record

    # Operators' queues.

    def _clear(self, problems: list[Exception]) -> None:
        """Take out of the operators' queues what is about sagas at rest."""

        @cache
        def is_at_rest(saga_id: str) -> bool:
            record = self.ledger.get(saga_id)
            return record is not None and record.status in AT_REST

        def is_over(message: str) -> bool:
            saga_id = _about(message, self.ledger.sagas)
            return saga_id is not None and is_at_rest(saga_id)

        with ThreadPoolExecutor(max(1, len(self.queues))) as pool:
            cleared = [pool.submit(queue.clear, is_over) for queue in self.queues]
        problems += [why for one in cleared if isinstance(why := one.exception(), Exception)]

    # Time.

    @property
    def _now(self) -> datetime:
        return datetime.fromtimestamp(self.clock(), UTC)

    def _from_now(self, delay: timedelta) -> str:
        return moment(self._now + delay)

    def _saga(self, record: Record) -> Saga:
        return self.ledger.sagas[record.saga]


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _about(message: str, sagas: Mapping[str, Saga]) -> str | None:
    """The saga that a message tells of, as its event or as the end of its run; None for others."""
    try:
        return Event.parse(message, sagas).saga_id
    except UnreadableError:
        pass
    try:
        return parse_name(json.loads(message)["detail"]["name"])[0]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
