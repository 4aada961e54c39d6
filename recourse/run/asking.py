"""A step that asks somebody: its question, and what they decide, each in one transaction.

::

    asking = Asking(task, action, barrier, timescale, clock)
    asking.ask(Question(about={"amount": 500}))   # the marker `asked`, until somebody decides
    asking.decide()                               # by `task.answer`, in the place of it
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from recourse import events
from recourse.declare.step import Action, Decision, Item
from recourse.declare.wait import Answer, Question, Refused, Wait
from recourse.errors import Refusal
from recourse.run.barrier import Barrier, MarkerFound
from recourse.run.task import Task, check_commit

ASKED = {"outcome": "asked"}


@dataclass(frozen=True)
class Asking:
    """A task of a step that asks.

    Attributes:
        task: The task.
        action: The step's action.
        barrier: The step's barrier.
        timescale: What times are multiplied by.
        clock: Seconds of the epoch.
    """

    task: Task
    action: Action
    barrier: Barrier
    timescale: float
    clock: Callable[[], float]

    def ask(self, question: Question) -> Item:
        """Commit that somebody is asked, and until when they may decide; the marker."""
        wait, now = self._wait, self.clock()
        said: dict[str, Any] = {
            "name": wait.name,
            "about": question.about,
            "to": question.to,
            "asked_at": _moment(now),
            "answer_by": _moment(now + wait.within * self.timescale),
            "remind_at": wait.remind and _moment(now + wait.remind * self.timescale),
        }
        said = {name: value for name, value in said.items() if value is not None}
        decision = Decision(writes=question.writes)
        check_commit(self.task, self.action, said, decision.writes)
        event = self.task.event("asked", question=said)
        marker = {**ASKED, "at": event.time, "question": said}
        return self.barrier.commit("action", marker, decision, outbox=[self.task.outbox_row(event)])

    def decide(self) -> dict[str, Any]:
        """Take the task's answer, if there is a question and it is in time.

        Returns:
            `outcome`, that of the action's marker now; `answer`, the one that was taken; `late`,
            whether this one came too late though none was taken. All may be missing.
        """
        marker = self.barrier.put_or_find(self._try)
        late = marker.get("outcome") == "asked"
        return {"outcome": marker.get("outcome"), "answer": marker.get("answer"), "late": late}

    def _try(self) -> Item:
        wait, given = self._wait, self.task.answer
        assert given is not None, "the phase has an answer"
        call, keys = self.task.call(self.action)
        asked, *items = self.barrier.read([self.barrier.key("action"), *keys])
        if asked is None or asked["outcome"] != "asked":
            raise MarkerFound(asked or {})
        if _moment(self.clock()) >= asked["question"]["answer_by"]:
            raise MarkerFound(asked)
        answer = Answer(**{name: given[name] for name in ("approved", "reason", "by", "at")})
        try:
            decided = wait.decide(replace(call, items=items), answer)
        except Refusal as no:
            decided = Refused(no)
        kept = {"question": asked["question"], "answer": given}
        said = {name: value for name, value in given.items() if name != "id"}
        if isinstance(decided, Refused):
            return self._refuse(decided, kept, said)
        check_commit(self.task, self.action, decided.result, decided.writes)
        event = self.task.event("done", result=decided.result, answer=said, follows=["asked"])
        marker = {"outcome": "done", "at": event.time, "result": decided.result, **kept}
        rows = [self.task.outbox_row(event)]
        return self.barrier.commit("action", marker, decided, outbox=rows, replaces=ASKED)

    def _refuse(self, refused: Refused, kept: Mapping[str, Any], answer: Mapping[str, Any]) -> Item:
        """Commit that the answer is no, and that there is nothing to undo."""
        why = events.error(type(refused.why).__name__, str(refused.why))
        check_commit(self.task, self.action, None, refused.writes)
        failed = self.task.event("failed", error=why, answer=answer, follows=["asked"])
        undone = self.task.event("undone", outcome="empty", follows=["asked", "failed"])
        return self.barrier.commit(
            "action",
            {"outcome": "refused", "at": failed.time, "error": why, **kept},
            Decision(writes=refused.writes),
            outbox=[self.task.outbox_row(one) for one in (failed, undone)],
            replaces=ASKED,
            undone={"outcome": "empty", "at": undone.time, "result": None},
        )

    @property
    def _wait(self) -> Wait:
        """How the step waits.

        Raises:
            TypeError: It does not say.
        """
        if self.action.waits is None:
            raise TypeError(f"{self.action.ref} must declare waits=Wait(...), for it asks somebody")
        return self.action.waits


def kept_of(marker: Item) -> dict[str, Any]:
    """What a tombstone keeps of what waits in its place, and requires to be there."""
    return {name: marker[name] for name in ("outcome", "question", "due_at") if name in marker}


def _moment(seconds: float) -> str:
    return events.moment(datetime.fromtimestamp(seconds, UTC))
