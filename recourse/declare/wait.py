"""A step that waits for somebody: what it asks, who may decide, and what the decision does.

An action that `waits` may return a `Question` in place of a `Decision`. The saga then rests there,
and nothing runs, until somebody decides it through the API, once::

    def covered(call: Call[ClaimAsk], answer: Answer) -> Decision | Refused:
        key = f"claim#{call.saga_id}"
        if answer.approved:
            return Decision(result={}, writes=[Update(key, put={"status": "APPROVED"})])
        return Refused(
            ClaimRefusedError(answer.reason), [Update(key, put={"status": "REJECTED"})]
        )

    @action(
        ClaimAsk,
        refuses=[ClaimRefusedError],
        waits=Wait("claims", covered, scope="insurer", within=7 * DAY, remind=1 * DAY),
    )
    def claim(call: Call[ClaimAsk]) -> Decision | Question:
        row = {"pk": f"claim#{call.saga_id}", "amount": call.ask.amount, "status": "OPEN"}
        return Question(about={"amount": call.ask.amount}, writes=[Put(row)])

`GET /claims?status=open` lists what waits, `POST /claims/{saga_id}/decision` decides. The step's
undo withdraws the question: it is called with `result=None` where nobody has decided. So it is
where nobody does within the time, when the step fails as `NoAnswerError` and the saga compensates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from recourse.declare.step import MOST_WRITES, Call, Decision, Write, plain, plain_write
from recourse.errors import Refusal


@dataclass(frozen=True, slots=True)
class Answer:
    """What somebody has decided; the runtime makes it, and a test that tries a `Wait.decide`.

    ::

        Answer(approved=False, reason="not covered", by="acme", at="2026-11-28T09:00:00.000Z")

    Attributes:
        approved: Whether the answer is yes.
        reason: Why; never empty where it is no.
        by: The subject who decided.
        at: When, in RFC 3339.
    """

    approved: bool
    reason: str
    by: str
    at: str


@dataclass(frozen=True, slots=True)
class Question:
    """What an action returns that leaves its decision to somebody.

    ::

        row = {"pk": f"claim#{call.saga_id}", "status": "OPEN"}
        Question(about={"patient": "Asha Rao"}, to="acme", writes=[Put(row)])

    Attributes:
        about: What whoever decides is shown: JSON without floats. It counts as the step's result.
        to: The subject who alone may decide; None for whoever has the scope.
        writes: What is written with the question; the step's undo takes it back.
    """

    about: Mapping[str, Any] = field(default_factory=dict)
    to: str | None = None
    writes: Sequence[Write] = ()

    def __post_init__(self) -> None:
        _check_writes(self.writes)
        object.__setattr__(self, "about", plain(self.about))
        object.__setattr__(self, "writes", tuple(map(plain_write, self.writes)))


@dataclass(frozen=True, slots=True)
class Refused:
    """What comes of an answer that is no: the refusal, and what is written with it.

    The question's own writes stay as these leave them: the step's undo is not called.

    ::

        class ClaimRefusedError(Refusal): ...

        key = f"claim#{call.saga_id}"
        Refused(ClaimRefusedError("not covered"), [Update(key, put={"status": "REFUSED"})])

    Attributes:
        why: The refusal, one that the action `refuses`.
        writes: What is written with it.
    """

    why: Refusal
    writes: Sequence[Write] = ()

    def __post_init__(self) -> None:
        _check_writes(self.writes)
        object.__setattr__(self, "writes", tuple(map(plain_write, self.writes)))


def _check_writes(writes: Sequence[Write]) -> None:
    if len(writes) > MOST_WRITES:
        raise ValueError(f"{len(writes)} writes: one transaction holds {MOST_WRITES}")


@dataclass(frozen=True)
class Wait:
    """How a step waits for somebody's decision: what its action's `waits` is.

    An action that waits may return a `Question` in place of a `Decision`::

        class ClaimRefusedError(Refusal): ...

        def decide(call: Call, answer: Answer) -> Decision | Refused:
            key = f"claim#{call.saga_id}"
            if answer.approved:
                return Decision(writes=[Update(key, put={"status": "APPROVED"})])
            refused = Update(key, put={"status": "REFUSED"})
            return Refused(ClaimRefusedError(answer.reason), [refused])

        @action(
            refuses=[ClaimRefusedError],
            waits=Wait("claims", decide, scope="insurer", within=7 * 24 * 3600),
        )
        def claim(call: Call) -> Decision | Question:
            row = {"pk": f"claim#{call.saga_id}", "status": "OPEN"}
            return Question(about={"visit": call.business_key}, writes=[Put(row)])

    Attributes:
        name: What its questions are called, in the plural: `claims` makes the path `/claims`. A
            saga asks one question of a name at the most.
        decide: What the answer does: a `Decision`, or a `Refused`.
        scope: The scope of whoever may decide.
        within: Seconds after which nobody may any more, and the saga compensates.
        remind: Seconds after which the question is told once more; None for never.
    """

    name: str
    decide: Callable[[Call[Any], Answer], Decision[Any] | Refused]
    scope: str
    within: float
    remind: float | None = None


@dataclass(frozen=True, slots=True)
class Waits:
    """What a shape says of a step's wait; the fields are those of `Wait`."""

    name: str
    scope: str
    within: float
    remind: float | None = None
