"""A course of events: which sagas begin, what disturbs them, and in which order messages come.

It is plain data, so it can be drawn, shrunk and run again; `run` plays it on a fresh ground and
looks at the world after every call of a step and at the end.

It is longer than other modules: what a course is, and how it is played, is one matter.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import local
from typing import Any, Literal, get_args
from unittest import mock

from recourse.choreography import listener
from recourse.declare.declaration import Coordination
from recourse.declare.reverse import reversed_by
from recourse.declare.saga import Saga
from recourse.events import Event
from recourse.ledger.history import AT_REST
from recourse.orchestration import sweeper
from recourse.run.faults import FAULTS, UnknownFaultError, parse
from recourse.testing import calls, checks
from recourse.testing.ground import Ground
from recourse.testing.handlers import Killed
from recourse.testing.story import Story, WrongWorldError
from recourse.testing.world import World

COORDINATIONS: tuple[Coordination, ...] = get_args(Coordination)
What = Literal[
    "dies before its write",
    "dies before its write at every try",
    "dies after its write",
    "is overtaken",
    "is cancelled",
]
Says = Literal["yes", "no", "nothing"]
PAST_EVERY_DEADLINE = 1e-9
ROUNDS = 10
"""How often the sweeper goes round, and an operator decides, before a saga must be at rest."""
TRIES = 2
"""How often an operator lets a stuck step try again before it is skipped."""


@dataclass(frozen=True)
class Interruption:
    """What disturbs a saga from outside, once where nothing else is said.

    Attributes:
        what: It dies just before or after its write; it `is overtaken`: the next saga begins
            between its read and its write; or the saga is cancelled there.
        step: In which step
        phase: and which of its functions: `action` or `undo`.
    """

    what: What
    step: str
    phase: str = "action"

    def __str__(self) -> str:
        return f"{self.step}{'.undo' if self.phase == 'undo' else ''} {self.what}"


@dataclass(frozen=True)
class Start:
    """One saga begins.

    Attributes:
        saga: Its name.
        coordination: Its coordination.
        faults: The faults on demand that it meets, by target.
        interruption: What else disturbs it.
        says: What somebody says to its questions, where it asks some; nothing, until their time is
            up.
    """

    saga: str
    coordination: Coordination = "orchestration"
    faults: tuple[tuple[str, str], ...] = ()
    interruption: Interruption | None = None
    says: Says = "yes"

    def __str__(self) -> str:
        met = [*(f"{target}={fault}" for target, fault in self.faults)]
        met += [str(self.interruption)] if self.interruption else []
        met += [f"somebody says {self.says}"] if self.says != "yes" else []
        return f"{self.saga}[{', '.join([self.coordination, *(met or ['undisturbed'])])}]"


@dataclass(frozen=True)
class Move:
    """Something becomes of messages; what is left undelivered comes at the end.

    Attributes:
        kind: `deliver` some messages of a queue, `relay` what has been written, or `wait`.
        queue: Which of the queues that have messages.
        most: How many, at most.
        twice: Two times.
        unheard: The process dies after its work, so the messages come again later.
    """

    kind: Literal["deliver", "relay", "wait"]
    queue: int = 0
    most: int = 10
    twice: bool = False
    unheard: bool = False


@dataclass(frozen=True)
class Course:
    """Sagas that are under way at the same time, and moves after each start."""

    starts: tuple[Start, ...]
    moves: tuple[tuple[Move, ...], ...] = ()

    def __str__(self) -> str:
        return " and ".join(map(str, self.starts))


def courses(saga: Saga) -> Iterator[Course]:
    """Every step of a saga under every fault and every interruption, in both coordinations."""
    pivot = (saga.pivot.name, "reject")
    for coordination in COORDINATIONS:
        yield Course((Start(saga.name, coordination),))
        if saga.waiting:
            for says in get_args(Says)[1:]:
                yield Course((Start(saga.name, coordination, says=says),))
        for target, fault in targets(saga):
            undoing = target.endswith(".undo")
            for times in ("", ":1"):
                faults = ((target, fault + times), *((pivot,) if undoing else ()))
                yield Course((Start(saga.name, coordination, faults),))
        for step in saga.all:
            whats: list[What] = ["dies before its write", "dies after its write"]
            for what in (*whats, "is overtaken", "is cancelled"):
                met = Interruption(what, step.name)
                first = Start(saga.name, coordination, interruption=met)
                rival = (Start(saga.name),) if what == "is overtaken" else ()
                yield Course((first, *rival))
            if step.undo:
                met = Interruption("dies before its write at every try", step.name)
                yield Course((Start(saga.name, coordination, interruption=met),))
                for what in whats:
                    met = Interruption(what, step.name, "undo")
                    yield Course((Start(saga.name, coordination, (pivot,), met),))


def targets(saga: Saga) -> Iterator[tuple[str, str]]:
    """Every fault that can be asked for, by target."""
    names = [step.name for step in saga.all] + [f"{s.name}.undo" for s in saga.all if s.undo]
    for target, fault in itertools.product(names, FAULTS):
        try:
            parse(f"{target}={fault}", saga)
        except UnknownFaultError:
            continue
        yield target, fault


def run(world: World, course: Course, effects: Mapping[str, checks.Figures]) -> None:
    """Play a course on a fresh ground.

    Args:
        world: What it is played with.
        course: What happens.
        effects: What an undisturbed run of each saga does to the numbers of the stock.

    Raises:
        WrongWorldError: The world is not as it must be; the message tells how that came about.
    """
    with _grounded(world) as ground:
        _Play(world, ground, course).run(effects)


def effect(world: World, saga: str) -> checks.Figures:
    """What an undisturbed run of a saga does to the numbers of the stock.

    Raises:
        WrongWorldError: It does not succeed.
    """
    with _grounded(world) as ground:
        play = _Play(world, ground, Course((Start(saga),)))
        before = checks.figures(ground.business_rows(), world.may_change)
        (saga_id,) = play.to_rest()
        status = ground.view(saga_id)["status"]
        if status != "SUCCEEDED":
            reason = ground.view(saga_id)["reason"]
            play.story.wrong(
                f"the request in samples/{saga}.json must succeed, got {status}: {reason}"
            )
            raise WrongWorldError(play.story.text(f"{saga}, undisturbed"))
        after = checks.figures(ground.business_rows(), world.may_change)
        return {where: after.get(where, 0) - number for where, number in before.items()}


@contextmanager
def _grounded(world: World) -> Iterator[Ground]:
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(sweeper, "GRACE_PERIOD", timedelta(0)))
        for module in (listener, sweeper):
            stack.enter_context(mock.patch.object(module, "ThreadPoolExecutor", _InTurn))
        ground = stack.enter_context(world.ground())
        stack.enter_context(ground.clock.standing())
        yield ground


class _InTurn(Executor):
    """Does one thing after the other.

    A course is the same whenever it is played: what overtakes what is in it, and not by chance.
    """

    def __init__(self, _: int) -> None:
        pass

    def submit(self, do: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(do(*args, **kwargs))
        except BaseException as problem:
            done.set_exception(problem)
        return done


class _Play:
    """A course as it is played on a ground."""

    def __init__(self, world: World, ground: Ground, course: Course) -> None:
        self.story = Story(ground)
        self._world = world
        self._ground = ground
        self._course = course
        self._left = list(enumerate(course.starts))
        self._begun: dict[str, Start] = {}
        self._interrupted: set[str] = set()
        self._skipped = False
        self._now = local()
        self._firsts = [self._first(number, one) for number, one in enumerate(course.starts)]
        ground.mishap = self._mishap

    def _first(self, number: int, start: Start) -> str:
        """Have the saga succeed that a start reverses, if it does so, before anything begins."""
        first = reversed_by(self._world.sagas).get(start.saga)
        if not first:
            return ""
        body = self._world.samples[start.saga]
        saga_id = self._ground.start(first[0].name, body, key=f"first-{number}")
        self._ground.settle()
        return saga_id

    def run(self, effects: Mapping[str, checks.Figures]) -> None:
        before = self._ground.business_rows()
        begun = self.to_rest()
        for saga_id in begun:
            saga = self._world.sagas[self._begun[saga_id].saga]
            for what in checks.of_saga(self._ground, saga, saga_id):
                self.story.wrong(f"{saga_id}: {what}")
        for what in checks.of_ground(self._ground):
            self.story.wrong(what)
        if not self._skipped:
            ends = {saga_id: self._ground.view(saga_id)["status"] for saga_id in begun}
            expected: Counter[tuple[str, str, str]] = Counter()
            for saga_id, end in ends.items():
                if end == "SUCCEEDED":
                    expected.update(effects[self._begun[saga_id].saga])
            undone = "SUCCEEDED" not in ends.values()
            after = self._ground.business_rows()
            for what in checks.of_stock(
                before, after, expected, undone=undone, but=self._world.may_change
            ):
                self.story.wrong(what)
            self._check(self._world.at_rest)
        if self.story.wrongs:
            raise WrongWorldError(self.story.text(str(self._course)))

    def to_rest(self) -> list[str]:
        """Begin every saga, make every move, and bring all of them to rest; their ids."""
        with calls.around(self._write):
            while self._left:
                number, _ = self._left[0]
                self._begin()
                for move in self._course.moves[number : number + 1]:
                    for one in move:
                        self._move(one)
            self._settle()
        return list(self._begun)

    def _begin(self) -> None:
        number, start = self._left.pop(0)
        how: Any = {
            "faults": dict(start.faults),
            "coordination": start.coordination,
            "run": False,
        }
        if first := self._firsts[number]:
            saga_id = self._ground.reverse(first, **how)
        else:
            body = self._world.samples[start.saga]
            saga_id = self._ground.start(start.saga, body, key=f"course-{number}", **how)
        self._begun[saga_id] = start
        self.story.tell(f"{self.story.name(saga_id, start.saga)} begins: {start}")
        record = self._ground.ledger.get(saga_id)
        assert record is not None
        self._ground.runs.start(record)

    def _move(self, move: Move) -> None:
        ground = self._ground
        waiting = [name for name in ground.queues if ground.waiting(name)]
        if move.kind == "wait":
            ground.pass_time()
        elif move.kind == "relay" or not waiting:
            ground.relay(move.most, twice=move.twice)
        else:
            name = waiting[move.queue % len(waiting)]
            how = f"{', twice' if move.twice else ''}{', and not heard of' * move.unheard}"
            self.story.tell(f"messages (at most {move.most}) are delivered to {name}{how}")
            ground.deliver(name, move.most, twice=move.twice, lost=move.unheard)
        self._check(self._world.always)

    def _settle(self) -> None:
        ground = self._ground
        tries: Counter[tuple[str, str]] = Counter()
        for _ in range(ROUNDS):
            ground.settle()
            self._check(self._world.always)
            left = [one for one in self._begun if ground.view(one)["status"] not in AT_REST]
            if not left:
                return
            for saga_id in left:
                record = ground.ledger.get(saga_id)
                assert record is not None
                saga = self._world.sagas[record.saga]
                stuck = [s.name for s in saga.all if ground.ledger.stuck_step(record, s.name)]
                asked = record.question(ground.ledger.shape(record))
                if record.due_at is not None and asked is None:
                    self._wait(saga_id, record.due_at)
                elif asked is not None:
                    self._answer(saga_id, asked)
                elif stuck:
                    tries[saga_id, stuck[0]] += 1
                    self._resolve(saga_id, stuck[0], skip=tries[saga_id, stuck[0]] > TRIES)
                elif not record.is_choreographed:
                    ground.hear_of_end(saga_id, record.run)
            self.story.tell("the sweeper goes round, after every deadline")
            ground.sweep(PAST_EVERY_DEADLINE)

    def _wait(self, saga_id: str, due_at: str) -> None:
        """Wait until a step is due, or until the saga is to begin."""
        at = due_at.partition("#")[0]
        self.story.tell(f"{self.story.of(saga_id)}: it waits until {at}")
        until = datetime.fromisoformat(at).timestamp()
        self._ground.clock.sleep(max(0.0, until - self._ground.clock.seconds()))

    def _answer(self, saga_id: str, asked: Event) -> None:
        says, step = self._begun[saga_id].says, str(asked.step)
        whose = f"{self.story.of(saga_id)}: somebody says {says} to what {step} asks"
        self.story.tell(whose)
        late = says == "nothing"
        if not late:
            yes = says == "yes"
            late = self._ground.decide(saga_id, step, approved=yes, reason="a course").late
            self._ground.settle()  # before the sweeper takes every deadline for past
        if late:
            until = datetime.fromisoformat(asked.question["answer_by"]).timestamp()
            self._ground.clock.sleep(max(0.0, until - self._ground.clock.seconds()))

    def _resolve(self, saga_id: str, step: str, *, skip: bool) -> None:
        how = "skips" if skip else "lets it try again:"
        self.story.tell(f"{self.story.of(saga_id)}: an operator {how} {step}")
        begun = self._begun[saga_id]
        disturbed = {t.partition(".")[0] for t, fault in begun.faults if ":" not in fault}
        if begun.interruption and begun.interruption.what.endswith("every try"):
            disturbed.add(begun.interruption.step)
        if skip and step not in disturbed:
            shown = next(s for s in self._ground.view(saga_id)["steps"] if s["name"] == step)
            self.story.wrong(
                f"{saga_id}: step {step!r} keeps failing, and nothing disturbs it any more: "
                f"{shown['error']}"
            )
        self._skipped = self._skipped or skip
        self._ground.resolve(saga_id, step, skip=skip)

    def _mishap(self, function: str, task: dict[str, Any], run: Callable[[], Any]) -> Any:
        before, self._now.task = getattr(self._now, "task", None), task
        try:
            return self.story.around(function, task, run)
        finally:
            self._now.task = before
            self._check(self._world.always)

    def _write(self, call: calls.Call, go: Callable[[], Any]) -> Any:
        """Do what disturbs a saga, where a step of it commits."""
        task = getattr(self._now, "task", None)
        if call.operation != "TransactWriteItems" or not task or "step" not in task:
            return go()
        saga_id = task["saga"]["id"]
        met = self._begun[saga_id].interruption
        mine = met and (met.step, met.phase) == (task["step"], task["phase"])
        once = met and not met.what.endswith("every try")
        if not met or not mine or (once and saga_id in self._interrupted):
            return go()
        self._interrupted.add(saga_id)
        self._now.task = None
        try:
            match met.what:
                case "is cancelled":
                    record = self._ground.ledger.get(saga_id)
                    assert record is not None
                    self.story.tell("before its write, the saga is cancelled")
                    self._ground.runs.cancel(record)
                case "is overtaken" if self._left:
                    self.story.tell("between its read and its write, another saga begins")
                    self._begin()
                    self._ground.settle(without="")  # no time passes meanwhile
                    self.story.tell(f"{self.story.of(saga_id)} goes on to its write")
                case "dies before its write" | "dies before its write at every try":
                    raise Killed("the process died before its write")
            answer = go()
            if met.what == "dies after its write":
                raise Killed("the process died after its write")
        finally:
            self._now.task = task
        return answer

    def _check(self, invariants: Mapping[str, Callable[[Ground], Any]]) -> None:
        with self._ground.alone:
            for name, invariant in invariants.items():
                try:
                    invariant(self._ground)
                except Exception as problem:  # an author's own check may raise anything
                    first = str(problem).partition("\n")[0] or type(problem).__name__
                    if not any(one.startswith(f"{name}:") for one in self.story.wrongs):
                        self.story.tell(f"from here on, {name} does not hold")
                        self.story.wrong(f"{name}: {first}")
