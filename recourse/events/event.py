"""What has happened in a saga: an `Event` in memory, CloudEvents 1.0 as JSON.

Types are `recourse.<saga>.<step>.<done|failed|undone|undo_failed>` and
`recourse.<saga>.<started|succeeded|compensated|compensation_failed>`; `subject` is the saga id. An
event's id is made from the marker that it stands for, so the same occurrence has the same id
however often it is published. `traceparent` is the extension of CloudEvents for distributed
tracing: the span in which it happened, the same on whatever way it is delivered.

An event of a choreography also carries, as `data.carried`, what the steps that receive it need: the
run (`saga`), the whole `request` and the `results` so far. Only steps receive that: the ledger
removes it (`Event.public`).

It is longer than other modules: how an event is made, read and written is one matter.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from recourse.declare.ids import Traceparent
from recourse.declare.limits import cut
from recourse.errors import UnreadableError
from recourse.events.checks import MALFORMED, check, unreadable
from recourse.text import MalformedError, read_json

StepKind = Literal["done", "failed", "undone", "asked", "reminded", "later", "due"]
StuckKind = Literal["failed", "undo_failed"]
Ending = Literal["succeeded", "compensated", "compensation_failed"]


def moment(when: datetime) -> str:
    """A time as every surface shows it: ISO 8601 in UTC with milliseconds."""
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def now() -> str:
    """The current time, as every surface shows it."""
    return moment(datetime.now(UTC))


def error(kind: str, message: str) -> dict[str, str]:
    """An error as events and results show it: the class name of the typed error, and its text.

    A text that is too long is cut (`recourse.declare.limits`).
    """
    return {"type": kind, "message": cut(message)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that has happened to a saga or to one of its steps.

    Usage::

        event = message.event()  # or Event.parse(text)
        if event.step == "flight" and event.kind == "failed":
            print(event.saga_id, event.error["message"])

    `started`, `of_step`, `parked` and `ended` make it when it happens, `parse` and `from_dict` when
    it is read; `to_dict` and `to_json` return what was read, with all of its `data`.

    Attributes:
        id: The same however often the event is published.
        saga_id: The saga; in a feed also a webhook, where the event is about one.
        saga: The name of the saga's declaration; `webhook` where it is about one.
        step: The step, where it is about one.
        kind: The last part of the type: `done`, `failed`, `started`, …
        time: When it happened: ISO 8601 in UTC.
        source: The `source` of the CloudEvent.
        data: The `data` of the CloudEvent; fields that no property below names are kept.
        sequence: Its place among the public events of its saga, once it has one.
        traceparent: The span in which it happened; None where an earlier release made it.
    """

    id: str
    saga_id: str
    saga: str
    step: str | None
    kind: str
    time: str
    source: str
    data: Mapping[str, Any]
    sequence: int | None = None
    traceparent: Traceparent | None = None

    # Made when it happens.

    @classmethod
    def _new(
        cls,
        saga_id: str,
        saga: str,
        step: str | None,
        kind: str,
        data: dict[str, Any],
        *,
        trace: Traceparent | None = None,
        occasion: str = "",
        time: str | None = None,
    ) -> Event:
        """An event; its occasion distinguishes two of one type: an undo may fail twice."""
        path = f"{step}.{kind}" if step else kind
        side = None if step is None else "undo" if kind in ("undone", "undo_failed") else "action"
        return cls(
            id=f"{saga_id}.{path}{'.' if occasion else ''}{occasion}",
            saga_id=saga_id,
            saga=saga,
            step=step,
            kind=kind,
            time=time or now(),
            source=f"/sagas/{saga}",
            data={"step": step} | data if step else data,
            traceparent=trace and trace.at(saga_id, step, side),
        )

    @classmethod
    def started(
        cls,
        saga_id: str,
        saga: str,
        *,
        business_key: str,
        coordination: str,
        shape: str | None = None,
        trace: Traceparent | None = None,
    ) -> Event:
        """A saga was started, in the span of `trace`: the caller's, or else the saga's own.

        `shape` is the digest of the shape that it began with (`recourse.declare.shape`).
        """
        data = {"business_key": business_key, "coordination": coordination} | _given(shape=shape)
        return replace(cls._new(saga_id, saga, None, "started", data), traceparent=trace)

    @classmethod
    def ended(
        cls,
        saga_id: str,
        saga: str,
        kind: Ending,
        *,
        run: int | None = None,
        trace: Traceparent | None = None,
    ) -> Event:
        """A saga has ended; where undos failed, `run` is the run in which they did."""
        occasion = "" if run is None else str(run)
        return cls._new(saga_id, saga, None, kind, {}, trace=trace, occasion=occasion)

    @classmethod
    def of_step(
        cls,
        saga_id: str,
        saga: str,
        step: str,
        kind: StepKind,
        *,
        run: int,
        attempts: int,
        entered_at: str | None = None,
        outcome: str | None = None,
        result: Any = None,
        question: Mapping[str, Any] | None = None,
        answer: Mapping[str, Any] | None = None,
        error: Mapping[str, str] | None = None,
        claimed: bool = False,
        carried: Mapping[str, Any] | None = None,
        follows: Sequence[str] | None = None,
        shape: str | None = None,
        due_at: str | None = None,
        time: str | None = None,
        trace: Traceparent | None = None,
    ) -> Event:
        """A step has acted, failed or been undone.

        Args:
            saga_id: The saga.
            saga: Its name.
            step: The step.
            kind: What happened.
            run: The run in which it happened: 0 is the first, others are recoveries.
            attempts: The number of attempts, over all runs.
            entered_at: When the run came to the step, where its own task reports that.
            outcome: What came of it, where the kind does not say all (see `attributes`).
            result: The result of the action, or the one that an operator entered.
            question: What somebody is asked (`question` below).
            answer: What they have decided (`answer` below).
            error: Why it failed, as made by `error`.
            claimed: Whether it failed before its turn: a caller, a deadline or a recovery wrote the
                marker of the pivot first.
            carried: What the steps that receive the event need.
            follows: Of an undo, or after a question: the kinds of the events of the same step that
                came before it.
            shape: The digest of the shape that the saga began with, if it names one.
            due_at: Until when the step waits (`due_at` below).
            time: When it happened; now by default.
            trace: A span of the saga's trace, if it has one.
        """
        data = {"attempts": attempts, "entered_at": entered_at, "run": run} | _given(
            outcome=outcome,
            result=result,
            question=question,
            answer=answer,
            error=error,
            early=claimed or None,
            carried=carried,
            follows=follows,
            shape=shape,
            due_at=due_at,
        )
        return cls._new(saga_id, saga, step, kind, data, trace=trace, time=time)

    @classmethod
    def parked(
        cls,
        saga_id: str,
        saga: str,
        step: str,
        kind: StuckKind,
        *,
        run: int,
        attempts: int,
        error: Mapping[str, str],
        claimed: bool,
        carried: Mapping[str, Any] | None = None,
        trace: Traceparent | None = None,
    ) -> Event:
        """An action or an undo is stuck, once a run at the most, and waits for an operator."""
        data = {"outcome": "parked", "error": error, "attempts": attempts, "run": run}
        data |= {"early": claimed} | _given(carried=carried)
        return cls._new(saga_id, saga, step, kind, data, trace=trace, occasion=f"r{run}")

    # Read and written.

    @classmethod
    def from_dict(cls, found: Any) -> Event:
        """The event that a CloudEvent is, as `to_dict` returns it.

        Raises:
            UnreadableError: It is not an event; the message says why.
        """
        try:
            prefix, saga, *path = found["type"].split(".")
            data, sequence = found["data"], found.get("sequence")
            step = data.get("step")
            event = cls(
                id=found["id"],
                saga_id=found["subject"],
                saga=saga,
                step=step,
                kind=path[-1],
                time=found["time"],
                source=found.get("source", f"/sagas/{saga}"),
                data=data,
                sequence=sequence,
                traceparent=Traceparent.sent(found.get("traceparent")),
            )
        except MALFORMED as problem:
            raise UnreadableError(f"this is not an event of a saga: {problem!r}") from problem
        if prefix != "recourse" or path[:-1] != ([] if step is None else [step]):
            right = "recourse.<saga>.<kind>, or with the step of its data before the kind"
            raise unreadable("type", right, found["type"])
        for name in ("id", "subject", "time"):
            if not isinstance(found[name], str):
                raise unreadable(name, "a text", found[name])
        if sequence is not None and not isinstance(sequence, int):
            raise unreadable("sequence", "a number", sequence)
        return event

    @classmethod
    def parse(
        cls, text: str, sagas: Collection[str] | None = None, *, checked: bool = False
    ) -> Event:
        """The event that a text is.

        Args:
            text: The text.
            sagas: The names of sagas, where the text comes from outside and must be about one of
                them; a saga that is declared no more may still have events. Its step may be any:
                it may have been one when the saga began.
            checked: Whether it comes from outside, and any saga will do.

        Raises:
            UnreadableError: It is not an event; the message says why.
        """
        try:
            found = read_json(text)
        except MalformedError as problem:
            raise UnreadableError(f"this is not an event of a saga: {problem}") from problem
        event = cls.from_dict(found)
        if sagas is not None and event.saga not in sagas:
            raise unreadable("saga", "declared", event.saga)
        if sagas is not None or checked:
            check(event.step, event.kind, event.data)
        return event

    def to_dict(self) -> dict[str, Any]:
        """The event as a CloudEvent."""
        made = {
            "specversion": "1.0",
            "id": self.id,
            "type": self.type,
            "source": self.source,
            "subject": self.saga_id,
            "time": self.time,
            "datacontenttype": "application/json",
            "data": self.data,
        }
        return made | _given(sequence=self.sequence, traceparent=self.traceparent)

    def to_json(self) -> str:
        """The event as the text of a CloudEvent: the same each time."""
        return json.dumps(self.to_dict(), separators=(",", ":"), ensure_ascii=False)

    def attributes(self) -> dict[str, str]:
        """What SNS filters match: the type and its parts, and what came of the step.

        `outcome` is absent where the type says all; else it is `empty` (there was nothing to undo),
        `skipped` (by an operator) or `parked` (an operator is needed). `coordination` is there only
        on the events that the steps of a choreography listen to.
        """
        found = {"type": self.type, "saga": self.saga, "kind": self.kind}
        if self.step:
            found["step"] = self.step
        if self.outcome:
            found["outcome"] = self.outcome
        if "carried" in self.data:
            found["coordination"] = "choreography"
        return found

    def public(self) -> Event:
        """The event without what it carries from step to step, as owners see it.

        The shape of a saga is in its first event alone.
        """
        unseen = _OF_STEPS if self.step else _OF_STARTS
        if not unseen.intersection(self.data):
            return self
        data = {name: value for name, value in self.data.items() if name not in unseen}
        return replace(self, data=data)

    # What it says of what happened.

    @property
    def path(self) -> str:
        """What happened within its saga: `<step>.<kind>`, or the kind alone."""
        return f"{self.step}.{self.kind}" if self.step else self.kind

    @property
    def type(self) -> str:
        """The `type` of the CloudEvent."""
        return f"recourse.{self.saga}.{self.path}"

    @property
    def run(self) -> int:
        """The run in which it happened; 0 is the first, others are recoveries."""
        run: int = self.data.get("run", 0)
        return run

    @property
    def outcome(self) -> str | None:
        """What came of it, where the kind does not say all: `empty`, `skipped` or `parked`."""
        outcome: str | None = self.data.get("outcome")
        return outcome

    @property
    def attempts(self) -> int:
        """The number of attempts, over all runs."""
        attempts: int = self.data.get("attempts", 0)
        return attempts

    @property
    def entered_at(self) -> str | None:
        """When the run came to the step, where that is known."""
        entered_at: str | None = self.data.get("entered_at")
        return entered_at

    @property
    def result(self) -> Any:
        """The result of the action, or the one that an operator entered."""
        return self.data.get("result")

    @property
    def error(self) -> Mapping[str, str]:
        """Why something failed: its `type` and its `message`; empty where nothing did."""
        found: Mapping[str, str] = self.data.get("error", {})
        return found

    @property
    def claimed(self) -> bool:
        """Whether a step failed before its turn: its marker was written by another first."""
        return bool(self.data.get("early", False))

    @property
    def question(self) -> Mapping[str, Any]:
        """What somebody is asked; empty where nobody is.

        `name` is what such questions are called, `about` what they show, `to` the one subject who
        may decide, if it is one, `asked_at` since when and `answer_by` until when; `remind_at` is
        when it is told again, if it is.
        """
        found: Mapping[str, Any] = self.data.get("question", {})
        return found

    @property
    def answer(self) -> Mapping[str, Any]:
        """What somebody has decided: the fields of an `Answer`; empty where nobody has."""
        found: Mapping[str, Any] = self.data.get("answer", {})
        return found

    @property
    def due_at(self) -> str:
        """Until when a step waits that is done later: of the event `later` alone."""
        due_at: str = self.data["due_at"]
        return due_at

    @property
    def follows(self) -> Sequence[str]:
        """Of an undo, or after a question: the kinds of its step's events that came before it."""
        follows: Sequence[str] = self.data.get("follows", ())
        return follows

    @property
    def carried(self) -> Mapping[str, Any]:
        """What the steps that receive the event need; empty where no step does."""
        carried: Mapping[str, Any] = self.data.get("carried", {})
        return carried

    @property
    def shape(self) -> str | None:
        """The digest of the shape that the saga began with; not of every event."""
        shape: str | None = self.data.get("shape")
        return shape

    @property
    def is_hidden(self) -> bool:
        """Whether only the ledger uses it: an undo that had nothing to undo."""
        return self.kind == "undone" and self.outcome is not None

    @property
    def is_parked(self) -> bool:
        """Whether it says that a step waits for an operator."""
        return self.outcome == "parked"


def saga_id_of(text: str) -> str | None:
    """The `subject` of a message, even if it is not an event; None where it has none."""
    try:
        return str(read_json(text)["subject"])
    except MALFORMED:
        return None


_OF_STARTS = frozenset({"carried"})
_OF_STEPS = _OF_STARTS | {"shape"}


def _given(**data: Any) -> dict[str, Any]:
    """What is not None."""
    return {name: value for name, value in data.items() if value is not None}
