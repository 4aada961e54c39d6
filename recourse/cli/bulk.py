"""Resolves many parked sagas: finds those that are meant, asks for each, and follows it.

A decision is sent with the version of the saga that it was made for (`If-Match`), so that it is
carried out once at the most, and never on a saga that somebody else has moved meanwhile.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx

from recourse.cli.api import LARGEST_PAGE, POLL_INTERVAL, Api, ApiError, Skipping, segment
from recourse.cli.where import Stuck, Where, stuck

Outcome = Literal[
    "resolved", "stuck_again", "refused", "passed_over", "accepted", "unanswered", "not_reached"
]
OUTCOMES: Mapping[Outcome, str] = {
    "resolved": "resolved",
    "stuck_again": "stuck again",
    "refused": "refused",
    "passed_over": "not parked like that any more",
    "accepted": "accepted, and still under way",
    "unanswered": "without an answer",
    "not_reached": "not reached",
}
TRIES = 6
"""How often a saga is looked at and asked for, where calls fail in a way that may pass."""
FAILURES = 3
"""After how many sagas in a row that the API did not answer for the others are left."""
_MOVED = ("DONE", "UNDONE", "SKIPPED", "FAILED")


class StoppedShortError(ApiError):
    """The API would answer no further call either, so the sagas that follow are left."""


@dataclass
class Parked:
    """A saga that is meant, and what has become of it.

    Attributes:
        saga_id: Its id.
        saga: Its name.
        status: Its status, as it was last seen.
        steps: Its steps that wait for an operator and are meant.
        outcome: What has become of it; None in a dry run.
        why: Why, where the outcome does not say all.
    """

    saga_id: str
    saga: str
    status: str
    steps: tuple[Stuck, ...]
    outcome: Outcome | None = None
    why: str = ""

    @property
    def since(self) -> str:
        """Since when it waits."""
        return min(one.since for one in self.steps)

    def now(self, outcome: Outcome, why: str = "") -> Outcome:
        """Note what has become of it."""
        self.outcome, self.why = outcome, why
        return outcome


@dataclass
class Found:
    """What a look through the sagas has found.

    Attributes:
        meant: The sagas that are meant, those that wait for the longest time first.
        others: How many other steps wait for an operator, by saga, status, step and error.
        steps: The names of the steps of all sagas that were looked at.
        looked_at: How many sagas were looked at.
        is_all: Whether those were all.
    """

    meant: list[Parked] = field(default_factory=list)
    others: Counter[tuple[str, str, str, str]] = field(default_factory=Counter)
    steps: set[str] = field(default_factory=set)
    looked_at: int = 0
    is_all: bool = True


def find(client: Api, where: Where, *, most: int, skipping: Skipping) -> Found:
    """Look through the sagas that may be parked, page by page.

    Args:
        client: The API.
        where: Which are meant.
        most: How many sagas are looked at, at most.
        skipping: Called after each page that is empty with the number of them in a row.

    Raises:
        ApiError: The API refused a filter, or does not answer.
    """
    found = Found()
    meant: dict[str, Parked] = {}
    for saga in _listed(client, where, skipping):
        if found.looked_at == most:
            found.is_all = False
            break
        found.looked_at += 1
        found.steps.update(one["name"] for one in saga["steps"])
        steps = where.matching(saga)
        if steps:
            # What is listed later is newer, where a saga has moved from one list to the other.
            one = Parked(saga["saga_id"], saga["saga"], saga["status"], steps)
            meant[one.saga_id] = one
        for other in stuck(saga):
            if other not in steps:
                found.others[saga["saga"], saga["status"], other.step, other.error] += 1
    found.meant = sorted(meant.values(), key=lambda one: (one.since, one.saga_id))
    return found


def _listed(client: Api, where: Where, skipping: Skipping) -> Iterator[Mapping[str, Any]]:
    """The sagas that may be parked, list by list and page by page."""
    for status in where.statuses:
        cursor: str | None = None
        empty = 0
        while True:
            asked = {"saga": where.saga, "business_key": where.business_key, "cursor": cursor}
            response = client.poll("/sagas", {}, status=status, limit=LARGEST_PAGE, **asked)
            page = client.read(response)
            yield from page["items"]
            before, cursor = cursor, page["cursor"]
            empty = 0 if page["items"] else empty + 1
            if cursor is None or (empty and cursor == before):
                break
            if empty:
                skipping(empty)


@dataclass
class Bulk:
    """Resolves sagas one after the other, and follows all of them.

    ::

        bulk = Bulk(client, where, {"action": "retry"}, rate=5, wait=300, say=err.print)
        bulk.resolve(found.meant)    # each then has its outcome

    Attributes:
        client: The API.
        where: Which sagas are meant: each is looked at once more before it is asked for.
        decision: The body of each request.
        rate: How many sagas are asked for in a second, at most.
        wait: For how many seconds they are followed, after the last one was asked for.
        say: Called with a line of progress.
    """

    client: Api
    where: Where
    decision: Mapping[str, str]
    rate: float
    wait: float
    say: Callable[[str], None]

    def resolve(self, sagas: Sequence[Parked]) -> None:
        """Resolve sagas; each has its outcome then, also where this is interrupted.

        Raises:
            StoppedShortError: The API refuses the caller, or answers for none of them any more.
        """
        for one in sagas:
            one.outcome = "not_reached"
        failed = 0
        for number, one in enumerate(sagas, 1):
            begun = time.monotonic()
            outcome = self._ask(one, one.steps)
            failed = failed + 1 if outcome == "unanswered" else 0
            if failed == FAILURES:
                raise StoppedShortError(f"for {failed} sagas in a row: {one.why}")
            self.say(f"{number} of {len(sagas)}: {one.saga_id}: {OUTCOMES[outcome]}")
            time.sleep(max(0.0, 1 / self.rate - (time.monotonic() - begun)))
        self._follow([one for one in sagas if one.outcome == "accepted"])

    def _ask(self, one: Parked, steps: Sequence[Stuck]) -> Outcome:
        """Ask for a saga by the first of these steps that still waits and is still meant."""
        sent, outcome = "", one.outcome or "not_reached"
        for number in range(TRIES):
            try:
                seen = self._look(one)
                saga, version = self.client.read(seen), seen.headers.get("etag", "")
                left = {step.step for step in self.where.matching(saga)}
                step = next((step.step for step in steps if step.step in left), None)
                if sent not in ("", version):  # a call was carried out whose answer was lost
                    return one.now("accepted")
                if step is None:
                    return one.now("passed_over")
                sent = version
                one.now("unanswered")
                self._send(one, step, version)
                return one.now("accepted")
            except ApiError as problem:
                why = " ".join(str(problem).split("\n"))
                if problem.status in (401, 403):
                    one.now("unanswered" if sent and number else "not_reached", why)
                    raise StoppedShortError(why, status=problem.status) from None
                if problem.kind in ("nothing-to-resolve", "saga-changed"):
                    sent = ""  # it was answered: what matters is what the saga is by now
                    outcome = one.now("refused", why)
                elif problem.is_transient:
                    outcome = one.now("unanswered", why)
                    if number < TRIES - 1:
                        time.sleep(problem.retry_after + random.uniform(0, 0.5 * 2**number))
                else:
                    return one.now("refused", why)
        return outcome

    def _look(self, one: Parked) -> httpx.Response:
        seen = self.client.call("GET", f"/sagas/{segment(one.saga_id)}")
        one.status = self.client.read(seen)["status"]
        return seen

    def _send(self, one: Parked, step: str, version: str) -> None:
        path = f"/sagas/{segment(one.saga_id)}/steps/{segment(step)}/resolve"
        saga = self.client.ask("POST", path, json=self.decision, headers={"If-Match": version})
        one.status = saga["status"]

    def _follow(self, accepted: Sequence[Parked]) -> None:
        """Look at the sagas in turn, until all have moved or the time is up."""
        left, until = list(accepted), time.monotonic() + self.wait
        said = len(left)
        while left and time.monotonic() < until:
            for one in left:
                self._look_after(one)
            left = [one for one in left if one.outcome == "accepted"]
            if len(left) < said:
                self.say(f"{len(left)} still under way")
                said = len(left)
            if left:
                time.sleep(min(POLL_INTERVAL, max(0.0, until - time.monotonic())))

    def _look_after(self, one: Parked) -> None:
        try:
            saga = self.client.read(self._look(one))
        except ApiError as problem:
            if problem.status in (401, 403):
                raise StoppedShortError(str(problem), status=problem.status) from None
            one.why = " ".join(str(problem).split("\n"))
            time.sleep(problem.retry_after)
            return
        one.why = ""
        again = [step for step in one.steps if step.step in saga["stuck"]]
        if again and self.decision["action"] == "skip":
            # A skip is of one step; the others have been tried again, and this one in vain.
            self._ask(one, again)
        elif again:
            now = next(step for step in stuck(saga) if step.step == again[0].step)
            one.now("stuck_again", f"{now.step}: {now.error}: {now.message}")
        else:
            status = {step["name"]: step["status"] for step in saga["steps"]}
            if all(status.get(step.step) in _MOVED for step in one.steps):
                waits = ", ".join(saga["stuck"])
                one.now("resolved", f"the saga waits for an operator at {waits}" if waits else "")
