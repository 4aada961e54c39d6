"""The sweeper: finds every saga that has stalled, and brings it to its end.

- a start that was recorded but has no run is run; if Step Functions does not accept it until the
  saga's deadline, the pivot is claimed and the steps undo what they did, by events alone;
- a run that did not end as designed (aborted, timed out, States.Runtime, too much data) is followed
  by a recovery, which settles the pivot and goes forward or undoes; further recoveries follow with
  growing delays, and after the last one the saga is parked, with the reason;
- a saga past its deadline is cancelled, if its pivot has not acted;
- if a run has ended but the saga has not, by the ledger, an event was lost: it is published again,
  from the services' own markers; if that does not help, an alarm names the saga;
- the events of a choreography that has been silent are published again, which moves it on if one
  was lost, and again whenever the silence has doubled; after one as long as its deadline it is
  recovered by a run of the state machine, which needs no message;
- a saga that is to begin later begins when it is due, and one whose step is done later goes on;
- a saga that an import has recorded and not begun in time begins when there is room;
- a saga that waits for somebody's decision is looked at when something is due: it is told once
  more, or its time is up; when it is decided and does not go on by itself, it is taken on;
- messages about sagas at rest are removed from the operators' queues, and those about others are
  sent again before SQS would drop them.

One sweeper runs at a time, by a lease. A round begins with what is due, several sagas at once, for
half of its time at the most. Then it begins with the oldest saga, passes over those that wait for
an operator, and has a time limit; the next round continues where it stopped. The sweeper
decides by what Step Functions, the ledger and the markers say, and everything it does is harmless
if it is done twice.

It is longer than other modules: what may have stalled is told apart in one place.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from recourse.declare.shape import Shape
from recourse.errors import RecourseError, TransientError
from recourse.events import Event, error, moment
from recourse.events.event import StuckKind
from recourse.ledger.history import AT_REST
from recourse.ledger.ledger import Ledger
from recourse.ledger.record import LEFT_TO_IMPORT, Record
from recourse.orchestration.compiler import LOOKUP_FAILED, PARKED, WAITING
from recourse.orchestration.executions import Run, Runs, parse_name
from recourse.orchestration.markers import DONE, Found, Markers
from recourse.orchestration.notices import clear
from recourse.queues.deadletters import OperatorQueue
from recourse.queues.reach import Reach
from recourse.store import retention
from recourse.store.lease import Lease

GRACE_PERIOD = timedelta(seconds=60)
"""The minimum age of a saga that the sweeper looks at, and the time that the first recovery has
before the next one, which doubles with each; times the timescale."""
LONGEST_DELAY = timedelta(hours=1)
"""The maximum time until the next recovery; times the timescale."""
MAX_RECOVERIES = 8
"""How many recoveries in a row are tried before the saga is parked: more than two hours."""
HEALING_DELAY = timedelta(minutes=3)
"""How long an event may take to reach the ledger; times the timescale. What is published again for
the sake of whoever missed it is published once more when the silence has doubled: SNS may take 15
minutes to regard a new filter, so the first times may be lost as well."""
ALARM_INTERVAL = timedelta(days=1)
"""The time between two alarms about a saga."""
AT_ONCE = 8
"""How many sagas that are due are looked at at once; a client has ten connections."""
FAILED_DELAY = timedelta(minutes=5)
"""For how long one is put off that is due and could not be checked; times the timescale."""
ROUND_TIME_LIMIT = 45.0
"""Seconds that a round may take; the next one is due within a minute."""
LEASE_DURATION = 180.0
"""Seconds that the lease lasts: longer than the work on any one saga, after which it is renewed."""
DESCRIBE_INTERVAL = 0.1
"""Seconds between two DescribeExecutions: Step Functions allows an account some ten a second."""
LOOKUP_FAILURES = (LOOKUP_FAILED, "Blind")
"""The errors of a recovery in which a look-up failed; a run of a machine that was deployed before
`LookupFailed` had this name ends as `Blind`."""

StuckSide = tuple[str, StuckKind]
"""A step's name, and whether its action or its undo is stuck."""


class RecoveryFailedError(RecourseError):
    """`MAX_RECOVERIES` recoveries in a row did not bring the saga to its end."""


@dataclass(kw_only=True)
class Sweeper:
    """The sweeper.

    ::

        sweeper.sweep()                                        # on a schedule
        sweeper.handle_run_end(name, "FAILED", "States.Runtime")  # as EventBridge reports it

    Attributes:
        ledger: The ledger.
        runs: Runs of all sagas.
        markers: The markers of all sagas.
        lease: Held by the sweeper that is running a round.
        alarm: Alerts the people on call; called with a saga's id and what is wrong with it.
        reach: Passes over the queues that a deploy keeps out of reach.
        room: How many more sagas of imports of an owner may begin now.
        queues: The operators' queues.
        timescale: Multiplies the grace period, the deadlines and the delays.
        clock: Returns seconds since the epoch.
        sleep: Waits for some seconds.
    """

    ledger: Ledger
    runs: Runs
    markers: Markers
    lease: Lease
    alarm: Callable[[str, str], None]
    reach: Reach
    room: Callable[[str], int]
    queues: Sequence[OperatorQueue] = ()
    timescale: float = 1
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    _next_look: float = field(default=0, init=False)
    _looking: Lock = field(default_factory=Lock, init=False)
    _rooms: dict[str, int] = field(default_factory=dict, init=False)

    def handle_run_end(self, execution: str, state: Any, error: str | None) -> dict[str, str]:
        """Recover the saga of a run that has ended, if it needs it.

        Step Functions is not called, because a thousand runs may end at once. A run whose error is
        not known is left to the next round, and so is a recovery in which a look-up failed: what it
        could not reach may take a while to return.

        Args:
            execution: The execution's name.
            state: Its state, as Step Functions reports it.
            error: The error with which it failed.

        Returns:
            What was done, by saga id; empty if nothing was.
        """
        run = Run(state, error)
        ended_well = run.ended_well and error != WAITING
        if ended_well or error in LOOKUP_FAILURES or (state == "FAILED" and not error):
            return {}
        saga_id, number = parse_name(execution)
        record = self.ledger.get(saga_id)
        if record is None or record.run != number or not self._is_due(record):
            return {}
        if error == WAITING:
            return self._go_on(record, self.markers.read(record))
        return self._recover(record, run)

    def sweep(self) -> dict[str, str]:
        """Check every unfinished saga, the oldest first, until the round's time is up.

        Returns:
            What was done, by saga id; empty if another sweeper holds the lease.

        Raises:
            ExceptionGroup: Some sagas could not be checked; all the others were.
        """
        if not self.lease.acquire():
            return {}
        done: dict[str, str] = {}
        problems: list[Exception] = []
        self._rooms.clear()
        try:
            until = self.clock() + ROUND_TIME_LIMIT
            problems += clear(self.queues, self.ledger, self.reach, self.clock())
            before = self._from_now(-GRACE_PERIOD * self.timescale)
            self._check_due(until - ROUND_TIME_LIMIT / 2, done, problems)
            found = self.ledger.queries.unfinished(before, self.lease.position)
            fresh = {*done}
            unfinished = (o for o in found if o.begun_at < before and o.saga_id not in fresh)
            if self._check_all(unfinished, until, done, problems):
                # The round is complete: the next one begins with the oldest saga.
                self.lease.position = None
        finally:
            self.lease.release()
        if problems:
            raise ExceptionGroup("sagas that could not be checked", problems)
        return done

    def _check_all(
        self,
        records: Iterable[Record],
        until: float,
        done: dict[str, str],
        problems: list[Exception],
    ) -> bool:
        """Check one saga after the other until the time is up; whether that were all."""
        for found in records:
            # Without the lease another sweeper may be at this very saga.
            if self.clock() > until or not self.lease.renew():
                return False
            try:
                done |= self._check(found.saga_id)
            except Exception as problem:
                problem.add_note(f"saga {found.saga_id}")
                problems.append(problem)
            # Also after a failure: one bad saga must not hold up those behind it.
            self.lease.position = found.place
        return True

    def _check_due(self, until: float, done: dict[str, str], problems: list[Exception]) -> None:
        """Check the sagas that are due, the oldest first, several at once, until the time is up.

        What is left is the oldest in the next round. One that fails is put off, so that those which
        fail do not take that round as well.
        """
        running: dict[Future[dict[str, str]], str] = {}

        def collect(some: Iterable[Future[dict[str, str]]]) -> None:
            for ended in some:
                saga_id = running.pop(ended)
                try:
                    done.update(ended.result())
                except Exception as problem:
                    problem.add_note(f"saga {saga_id}")
                    problems.append(problem)
                    with suppress(RecourseError, ClientError, BotoCoreError):
                        self._put_off(saga_id)

        with ThreadPoolExecutor(AT_ONCE) as pool:
            for found in self.ledger.queries.due(moment(self._now)):
                if not self.lease.renew() or self.clock() > until:
                    break
                if self._is_put_off(found):
                    continue
                running[pool.submit(self._check, found.saga_id)] = found.saga_id
                if len(running) == 2 * AT_ONCE:
                    collect(wait(running, return_when=FIRST_COMPLETED).done)
            collect(wait(running).done)

    def _put_off(self, saga_id: str) -> None:
        """Leave a saga alone for a while that is due still; what has begun is looked after soon."""
        record = self.ledger.get(saga_id)
        if record is not None and record.is_due(moment(self._now)):
            again = self._from_now(FAILED_DELAY * self.timescale)
            self.ledger.put_off(saga_id, not_before=again)

    def _check(self, saga_id: str) -> dict[str, str]:
        record = self.ledger.get(saga_id)
        if record is None or not self._is_due(record):
            return {}
        return self._look_after(record)

    def _is_due(self, record: Record) -> bool:
        """Whether the sweeper may act on a saga: not at rest, not parked, and not put off."""
        looked_at = record.status not in AT_REST and not self._is_put_off(record)
        return looked_at and not self.ledger.is_parked(record)

    def _is_put_off(self, record: Record) -> bool:
        return record.not_before is not None and self._now < _moment(record.not_before)

    def _look_after(self, record: Record) -> dict[str, str]:
        if record.scheduled:
            return self._begin(record)
        if record.waits_for is not None:
            return self._waited(record)
        if record.due_at is not None and not record.is_due(moment(self._now)):
            return {}
        if record.is_choreographed and record.due_at is not None:
            return self._wake(record)
        if record.is_choreographed:
            return self._past_deadline(record) or self._move_on_silent(record)
        try:
            run = self._describe(record)
        except (ClientError, BotoCoreError) as problem:
            return self._end_without_run(record, problem)
        if run.state == "ABSENT":
            return self._start(record)
        if run.state == "RUNNING":
            return self._past_deadline(record)
        if run.error == WAITING and record.due_at is not None:
            return self._wake(record)
        if run.error == WAITING:
            return self._go_on(record, self.markers.read(record), look=True)
        if run.ended_well:
            return self._reconcile(record, run)
        return self._recover(record, run)

    def _describe(self, record: Record) -> Run:
        """The run that a record is at, at the rate that Step Functions allows."""
        with self._looking:
            pause = self._next_look - self.clock()
            if pause > 0:
                self.sleep(pause)
            self._next_look = self.clock() + DESCRIBE_INTERVAL
        return self.runs.describe(record)

    # Starts and deadlines.

    def _begin(self, record: Record) -> dict[str, str]:
        """Begin a saga whose time has come; one that is being undone never begins."""
        at = moment(self._now)
        if record.status != "RUNNING":
            opened = self.ledger.call_off(record.saga_id, at=at)
        elif not record.is_due(at):
            return {}
        elif record.imported_by and not self._has_room(record.owner):
            later = self._from_now(LEFT_TO_IMPORT)
            self.ledger.put_off_beginning(record.saga_id, until=later)
            return {}
        else:
            opened = self.ledger.begin(record.saga_id, at=at)
        if record.imported_by:
            return self._go(opened, f"begun, for the import {record.imported_by} has not begun it")
        return self._go(opened, f"begun, for it was not to begin before {record.begins_at}")

    def _has_room(self, owner: str) -> bool:
        """Whether one more saga of an owner's imports may begin in this round; one always may."""
        with self._looking:
            if owner not in self._rooms:
                self._rooms[owner] = max(1, self.room(owner))
            self._rooms[owner] -= 1
            return self._rooms[owner] >= 0

    def _go(self, moved: Record, why: str) -> dict[str, str]:
        """Start the run that a saga is at; if that fails, a later round does."""
        try:
            self.runs.start(moved)
        except TransientError as problem:
            why = f"{why}; run {moved.run} was not started: {problem}"
        return {moved.saga_id: why}

    def _start(self, record: Record) -> dict[str, str]:
        try:
            self.runs.start(record)
        except TransientError as problem:
            if not record.run or record.resumes:
                return self._end_without_run(record, problem)
            # A recovery that cannot be started is followed by others, as many as `_recover` allows.
            with suppress(TransientError):
                if ended := self._past_deadline(record, undo_by_events=True):
                    return ended
            return self._recover(record, f"before it began: {problem}")
        return {record.saga_id: f"started run {record.run}, which was recorded but not started"}

    def _end_without_run(self, record: Record, problem: Exception) -> dict[str, str]:
        """Cancel a saga past its deadline whose run cannot be started, or described.

        Its steps receive the claim on the pivot as in a choreography, and undo what they did, if
        anything: that does not need Step Functions.

        Raises:
            Exception: The problem, if the deadline has not passed or the pivot has acted.
        """
        ended = self._past_deadline(record, undo_by_events=True)
        if not ended:
            raise problem
        return ended

    def _past_deadline(self, record: Record, *, undo_by_events: bool = False) -> dict[str, str]:
        shape = self._shape(record)
        # What it rested until a step was due counts for nothing.
        waits = [event.time for event in record.entered if event.kind == "due"]
        age = self._now - _moment(max([record.begun_at, *waits]))
        steps = record.view(shape)["steps"]
        pivot = next(step for step in steps if step["name"] == shape.pivot.name)
        settled = pivot["status"] in ("DONE", "FAILED")
        if settled or age < timedelta(seconds=shape.deadline * self.timescale):
            return {}
        if not self.runs.cancel(record, undo_by_events=undo_by_events):
            return {}
        if record.is_choreographed or undo_by_events:
            # Only the claim's event moves the saga, and an older claim's may have been lost.
            self._republish_lost(record, [])
        return {record.saga_id: "cancelled, past its deadline"}

    # Sagas that wait for somebody's decision.

    def _waited(self, record: Record) -> dict[str, str]:
        """Do what is due of a question: tell it once more, or take back what nobody has decided."""
        asked = record.question(self._shape(record))
        if asked is None or not record.is_due(moment(self._now)):
            return {}
        found = self.markers.read(record)
        step = found.shape.by_name[str(asked.step)]
        if found.outcome(step, "action") == "asked":
            if self._now < _moment(asked.question["answer_by"]):
                self._republish(record, [self._reminder(record, asked)])
                return {record.saga_id: f"told once more what {step.name!r} asks"}
            self.runs.expire(record, step)
        # Decided or not, what says so has not come.
        healed = self._republish_lost(record, [])
        then = self._go_on(healed, self.markers.read(healed)).get(record.saga_id)
        why = f"the time of the question of {step.name!r} is up"
        return {record.saga_id: f"{why}; {then}" if then else why}

    def _reminder(self, record: Record, asked: Event) -> Event:
        return Event.of_step(
            record.saga_id,
            record.saga,
            str(asked.step),
            "reminded",
            run=record.run,
            attempts=asked.attempts,
            question=asked.question,
            follows=["asked"],
            trace=record.trace,
        )

    def _go_on(self, record: Record, found: Found, *, look: bool = False) -> dict[str, str]:
        """Take on an orchestrated saga whose run has ended because it waits, once it need not.

        Args:
            record: The saga.
            found: Its markers.
            look: Whether the ledger should know by now what it waits for.
        """
        if record.is_choreographed:
            return {}  # the step's own event moves it on
        if found.turned:
            return self._recover(record, "waiting, and there is nothing to wait for any more")
        until = found.delayed
        if found.asks or (until is not None and until > moment(self._now)):
            healed = self._republish_lost(record, []) if look else record
            return {} if healed is record else {record.saga_id: "published again what it waits for"}
        opened = self.ledger.resume(record.saga_id, record.run)
        self.runs.start(opened)
        return {record.saga_id: f"{'due' if until else 'decided'}: run {opened.run} goes on"}

    def _wake(self, record: Record) -> dict[str, str]:
        """Take on a saga whose step is due; a choreography is moved on by the event of that."""
        opened = self.ledger.wake(record.saga_id, at=moment(self._now))
        return self._go(opened, "went on, for a step of it was due")

    # Recoveries.

    def _recover(self, record: Record, ended: Run | str) -> dict[str, str]:
        """Open a recovery and start it; or park the saga, after `MAX_RECOVERIES` of them."""
        failure = {} if record.is_choreographed else self.runs.failure(record)
        if record.recoveries >= MAX_RECOVERIES:
            why = f"{MAX_RECOVERIES} recoveries did not end the saga: the last {ended}"
            caught = (f"{name}: {one['Error']}: {one['Cause']}" for name, one in failure.items())
            return self._park(record, "; ".join([why, *caught]))
        delay = min(GRACE_PERIOD * 2**record.recoveries, LONGEST_DELAY) * self.timescale
        opened = self.ledger.recover(
            record.saga_id,
            record.run,
            not_before=self._from_now(delay),
            failure=failure,
        )
        opening = f"run {record.run} ended {ended}: recovery {opened.run}"
        try:
            self.runs.start(opened)
        except TransientError as problem:
            return {record.saga_id: f"{opening}, which did not begin: {problem}"}
        return {record.saga_id: opening}

    def _park(self, record: Record, why: str) -> dict[str, str]:
        """Park a saga for an operator, because it can go neither forward nor back by itself.

        The steps that come next are stuck: forward, the first group after the pivot that has not
        acted; back, every undo that is missing; or the pivot, if its function cannot be called.
        """
        try:
            cancelled = self.runs.cancel(record)
        except TransientError:
            stuck: list[StuckSide] = [(self._shape(record).pivot.name, "failed")]
        else:
            stuck = self._not_undone(record) if cancelled else self._next_forward(record)
        parked = [self._parked_event(record, step, kind, why) for step, kind in stuck]
        if self._is_due(self._republish_lost(record, parked)):
            self._raise_alarm(record, f"{why}, and it could not be parked")
        return {record.saga_id: f"parked: {why}"}

    def _not_undone(self, record: Record) -> list[StuckSide]:
        shape, found = self._shape(record), self.markers.read(record)
        return [
            (step.name, "undo_failed")
            for step in found.plays
            if shape.role(step.name) == "compensable" and found.outcome(step, "undo") is None
        ]

    def _next_forward(self, record: Record) -> list[StuckSide]:
        shape, found = self._shape(record), self.markers.read(record)
        left = [step for step in found.plays if found.outcome(step, "action") not in DONE]
        first = min((shape.rank(step.name) for step in left), default=None)
        return [(step.name, "failed") for step in left if shape.rank(step.name) == first]

    def _parked_event(self, record: Record, step: str, kind: StuckKind, why: str) -> Event:
        """The event that a step waits for an operator, as the step's own parking would make it."""
        return Event.parked(
            record.saga_id,
            record.saga,
            step,
            kind,
            run=record.run,
            attempts=0,
            error=error(RecoveryFailedError.__name__, why),
            claimed=True,
            trace=record.trace,
        )

    # Lost events.

    def _reconcile(self, record: Record, run: Run) -> dict[str, str]:
        """Publish again what the ledger lacks of a run that has ended as designed."""
        if run.ended_at is not None and self._now - run.ended_at < HEALING_DELAY * self.timescale:
            return {}
        healed = self._republish_lost(record, [])
        if not self._is_due(healed):
            return {record.saga_id: "published again what the ledger lacked"}
        if run.error == PARKED:
            # What it parked has succeeded since, or the event that said what it was has expired.
            return self._recover(healed, run)
        why = f"run {record.run} ended {run}, and its markers do not agree"
        self._raise_alarm(record, why)
        return {record.saga_id: f"not healed: {why}"}

    def _raise_alarm(self, record: Record, why: str) -> None:
        self.alarm(record.saga_id, why)
        self.ledger.put_off(record.saga_id, not_before=self._from_now(ALARM_INTERVAL))

    def _move_on_silent(self, record: Record) -> dict[str, str]:
        """Move on a choreography without new events that does not wait for an operator."""
        moments = [event.time for event in [*record.entered, *record.waiting]]
        last_event_at = max([*moments, record.answered.get("at", "")])
        silence = self._now - _moment(last_event_at)
        silent = f"silent since {last_event_at}"
        if silence >= timedelta(seconds=self._shape(record).deadline * self.timescale):
            if not self._is_due(healed := self._republish_lost(record, [])):
                return {record.saga_id: f"{silent}: published again what was lost"}
            return self._recover(healed, f"in silence since {last_event_at}")
        told = _moment(max(record.retold_at or last_event_at, last_event_at))
        due = max(HEALING_DELAY * self.timescale, 2 * (told - _moment(last_event_at)))
        # Who has an inbox forgets what is older, and would act on it once more.
        known = timedelta(seconds=retention.for_a_time("events"))
        if due <= silence < known:
            # Also events that the ledger has: it may be a step that missed one.
            events = self.markers.read(record).events()
            fresh = [event for event in events if self._now - _moment(event.time) < known]
            self._republish(record, fresh)
            return {record.saga_id: f"{silent}: published its events again"}
        return {}

    def _republish_lost(self, record: Record, events: Sequence[Event]) -> Record:
        """Publish again the events that the ledger lacks, by the markers, and these events too.

        A saga may have waited for a year: what is so old that others may have forgotten that they
        have had it enters the ledger alone.
        """
        known = {event.id for event in record.entered}
        every = [*self.markers.read(record).events(), *events]
        lost = [event for event in every if event.id not in known]
        since = moment(self._now - timedelta(seconds=retention.INBOX))
        fresh = [event for event in lost if event.time >= since]
        healed = self._republish(record, fresh) if fresh else record
        if len(fresh) == len(lost):
            return healed
        return self.ledger.record_events(record.saga_id, lost, retold_at=moment(self._now))

    def _republish(self, record: Record, events: Sequence[Event]) -> Record:
        return self.ledger.republish(record.saga_id, events, at=moment(self._now))

    # Time.

    @property
    def _now(self) -> datetime:
        return datetime.fromtimestamp(self.clock(), UTC)

    def _from_now(self, delay: timedelta) -> str:
        return moment(self._now + delay)

    def _shape(self, record: Record) -> Shape[Any]:
        return self.ledger.shape(record)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
