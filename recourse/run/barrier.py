"""The barrier: each action and each undo takes effect at most once, in any order of deliveries.

A marker (saga id, step, `action` | `undo` | `confirm`) is put in the transaction that carries the
effect, on the condition that it is not there yet. An undo also requires that the action's marker
holds a result; where there is no action marker it leaves a tombstone, which refuses the action if
it arrives later. This is the sub-transaction barrier of DTM (Yedf, 2021) on DynamoDB: one
TransactWriteItems a step, after at most one consistent read.

A marker's `outcome` is one of

- `done`: it took effect, and `result` says with what;
- `refused`: the business said no, and `error` says why; no effect;
- `cancelled`: a tombstone; the action has not acted and never will;
- `empty` (undo only): there was nothing to undo;
- `skipped`: an operator has decided that it is not to run;
- `asked` (actions that wait): somebody is asked, as `question` says; their decision, a time-out or
  an undo replaces it, whichever comes first;
- `later` (actions that are delayed): it is not to be done before `due_at`; the action replaces it
  from then on, or an undo or a claim at any time;
- `begun` (external actions only): a try may be calling a provider until `until`, milliseconds of
  the epoch. A tombstone in its place keeps `until`: whether the provider has acted is not known
  before that moment, and is looked up then (by an undo, or the pivot's `find`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from recourse.declare.step import Decision, Item, Reads
from recourse.declare.tables import ExistingTable, Row
from recourse.errors import (
    ContentionError,
    RecourseError,
    Refusal,
    ResultTooLargeError,
    TransientError,
)
from recourse.store.aws import TRANSIENT_CODES
from recourse.store.contention import Backoff, ConditionFailedError, ConflictError, InvalidItemError
from recourse.store.expressions import ABSENT, LessThan
from recourse.store.table import Table, read_rows

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient
    from types_boto3_dynamodb.type_defs import TransactWriteItemTypeDef

LATER: Mapping[str, Any] = {"outcome": "later"}
"""What the marker of a delayed action holds until it is done."""
Side = Literal["action", "undo", "confirm"]
T = TypeVar("T")


@dataclass(frozen=True)
class MarkerFound(RecourseError):
    """The marker exists already: this delivery is a duplicate, or arrives too late."""

    marker: Item


def marker_key(saga_id: str, step: str, side: Side) -> str:
    """The key of a marker in its service's table."""
    return f"marker#{saga_id}#{step}#{side}"


class Barrier:
    """The barrier of one step, in the table of the service that owns it.

    Args:
        dynamodb: A DynamoDB client.
        table: The service's table.
        saga_id: The saga.
        step: The step.
        table_name: The physical name of a table that exists already.
        budget: Seconds for which conflicts and throttles are retried here before they are raised.
        sleep: How to wait between tries.
        clock: Seconds of the epoch.
    """

    def __init__(
        self,
        dynamodb: DynamoDBClient,
        table: str,
        saga_id: str,
        step: str,
        *,
        table_name: Callable[[ExistingTable], str],
        budget: float,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.time,
    ) -> None:
        backoff = Backoff(tries=None, until=clock() + budget, sleep=sleep, clock=clock)
        self._table = Table(dynamodb, table, backoff=backoff)
        self._table_name = table_name
        self._saga_id = saga_id
        self._step = step
        self._budget = budget
        self._sleep = sleep
        self._clock = clock

    def key(self, side: Side) -> str:
        """The key of one of the step's markers."""
        return marker_key(self._saga_id, self._step, side)

    def read(self, keys: Reads) -> list[Item | None]:
        """These rows, read consistently in one call, whichever tables they are of.

        Raises:
            TransientError: DynamoDB did not answer.
        """
        if not keys:
            return []
        with retryable_errors():
            if len(keys) == 1 and isinstance(keys[0], str):
                return [self._table.get(keys[0])]
            return read_rows([self._row(key) for key in keys])

    def until_settled(self, attempt: Callable[[], Item]) -> Item:
        """Attempt until it commits, finds a marker, or raises something other than a conflict.

        Args:
            attempt: Reads, decides and commits; returns the marker that it put.

        Raises:
            TransientError: The budget ended first.
        """
        try:
            return self._table.retry(attempt, what=f"step {self._step!r}")
        except ContentionError as problem:
            # Events and state machines know a contention by this name.
            raise TransientError(str(problem)) from None

    def put_or_find(self, attempt: Callable[[], Item]) -> Item:
        """The marker that an attempt puts, or that another delivery has put before it."""
        try:
            return self.until_settled(attempt)
        except MarkerFound as found:
            return found.marker

    def unless_found(self, side: Side, ask: Callable[[], T]) -> T:
        """Call the author's function; where it raises, another delivery may have been first.

        Raises:
            MarkerFound: It was, and its marker holds the answer.
        """
        try:
            return ask()
        except Exception as problem:
            # An action's refusal is put as its marker, and finds another's then.
            if side != "action" or not isinstance(problem, Refusal):
                self.raise_if_found(side)
            raise

    def raise_if_found(self, side: Side) -> None:
        """Check whether another delivery has put the marker meanwhile.

        Raises:
            MarkerFound: It has.
        """
        marker = self.read([self.key(side)])[0]
        if marker and not is_open(marker) and marker["outcome"] != "later":
            raise MarkerFound(marker)

    def begin(self, until: float) -> bool:
        """Record that this try of an external action may call its provider until a moment.

        Several tries may have begun. The marker holds a moment that is not before any of theirs,
        and a later one with each, so that a try that has begun sees that another one has.

        Args:
            until: Seconds of the epoch.

        Returns:
            Whether no other try had begun.

        Raises:
            MarkerFound: The step has acted, was refused, or was cancelled.
            TransientError: DynamoDB could not do it now.
        """
        moment = millis(until)
        row = {"pk": self.key("action"), "outcome": "begun", "until": moment}
        try:
            with retryable_errors():
                sooner = {"outcome": "begun", "until": LessThan(moment)}
                before = self._table.replace(row, when=[ABSENT, LATER, sooner])
        except ConditionFailedError as there:
            marker = there.rows[0]
            assert marker is not None, "where there is none, it is put"
            if marker["outcome"] != "begun":
                raise MarkerFound(marker) from None
            return self.begin((marker["until"] + 1) / 1000)
        return before is None or before["outcome"] == "later"

    def put_tombstone(self, begun: Item) -> Item:
        """Replace a `begun` by a tombstone, so that no try can commit any more.

        Returns:
            The tombstone.

        Raises:
            TransientError: DynamoDB could not do it now, or another try has begun.
        """
        tombstone = begun | {"outcome": "cancelled"}
        with retryable_errors():
            self._table.put(tombstone, when={"outcome": "begun", "until": begun["until"]})
        return tombstone

    def wait(self, until: int) -> None:
        """Wait until a moment, milliseconds of the epoch, after which no try calls its provider.

        Raises:
            TransientError: It is later than this try may wait for; the next try waits on.
        """
        ahead = until / 1000 - self._clock()
        if ahead > 0:
            self._sleep(min(ahead, self._budget))
        if ahead > self._budget:
            raise TransientError(f"an earlier try of {self._step!r} may still call its provider")

    def commit(
        self,
        side: Side,
        marker: Item,
        decision: Decision,
        *,
        outbox: Sequence[Item] = (),
        replaces: Mapping[str, Any] | None = None,
        requires_action: bool = False,
        tombstone: Mapping[str, Any] | None = None,
        undone: Item | None = None,
    ) -> Item:
        """Put a marker, and with it every write of the decision and its events, in one transaction.

        Args:
            side: Whose marker.
            marker: Its outcome and result.
            decision: The step's own writes.
            outbox: The rows of its events.
            replaces: What the marker that it replaces must hold; None where there must be none.
            requires_action: Also require that the action's marker holds a result.
            tombstone: Also leave a tombstone in the place of the action's marker, which must hold
                this; what it holds stays in it.
            undone: Also put this marker of the undo.

        Returns:
            The marker.

        Raises:
            MarkerFound: There is one already. Nothing was written.
            TransientError: DynamoDB could not do it now. Whether it did is unknown.
        """
        table, row = self._table, {"pk": self.key(side)} | marker
        requests = [table.put_request(row, when=ABSENT if replaces is None else replaces)]
        if requires_action:
            requests.append(table.check_request(self.key("action"), when={"outcome": "done"}))
        if tombstone is not None:
            grave = {"pk": self.key("action"), **tombstone, "outcome": "cancelled"}
            grave |= {"at": marker["at"]}
            requests.append(table.put_request(grave, when=tombstone or ABSENT))
        if undone is not None:
            requests.append(table.put_request({"pk": self.key("undo")} | undone, when=ABSENT))
        requests += [self._of(write.table).write_request(write) for write in decision.writes]
        requests += [table.put_request(item) for item in outbox]
        commit(table, requests)
        return row

    def _row(self, key: str | Row) -> tuple[Table, Any]:
        return (self._table, key) if isinstance(key, str) else (self._of(key.table), key.key)

    def _of(self, table: ExistingTable | None) -> Table:
        """A table that exists already; the service's own where there is none."""
        if table is None:
            return self._table
        own = self._table
        return Table(own.dynamodb, self._table_name(table), table.key, own.backoff)


def is_open(marker: Item) -> bool:
    """Whether a provider may have been called and the outcome has not been looked up yet."""
    return marker["outcome"] in ("begun", "cancelled") and "until" in marker


def millis(moment: float) -> int:
    """A moment in milliseconds, from seconds; never earlier than it is."""
    return math.ceil(moment * 1000)


def commit(table: Table, requests: Sequence[TransactWriteItemTypeDef]) -> None:
    """Write all of it or nothing; within `Table.retry`, which decides again after a conflict.

    Args:
        table: Where the marker is.
        requests: The first puts a marker, on the condition that there is none.

    Raises:
        MarkerFound: The marker exists already. Nothing was written.
        ConflictError: Another condition does not hold, or DynamoDB was busy.
        TransientError: DynamoDB could not do it now. Whether it did is unknown.
    """
    try:
        with retryable_errors():
            table.transact(requests)
    except ConditionFailedError as failed:
        # A duplicate first: what it would have changed may have changed since then.
        if marker := failed.rows.get(0):
            raise MarkerFound(marker) from None
        raise
    except InvalidItemError as problem:
        raise ResultTooLargeError(str(problem)) from None


@contextmanager
def retryable_errors() -> Iterator[None]:
    """Raise what a failed call of DynamoDB means where a marker makes it safe to call again.

    Raises:
        ConflictError: DynamoDB was busy: decide again.
        TransientError: It did not answer, or could not do it now.
    """
    try:
        yield
    except BotoCoreError as problem:
        raise TransientError(f"DynamoDB did not answer: {problem}") from problem
    except ClientError as problem:
        code = problem.response["Error"]["Code"]
        if code in TRANSIENT_CODES:
            raise ConflictError(code) from problem
        if problem.response["ResponseMetadata"].get("HTTPStatusCode", 500) >= 500:
            raise TransientError(f"DynamoDB could not: {code}") from problem
        raise
