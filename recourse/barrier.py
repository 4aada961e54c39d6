"""The barrier: each action and each undo takes effect at most once, whatever is delivered when.

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
- `skipped`: an operator took it upon himself;
- `begun` (external actions only): a try may be calling a provider until `until`, milliseconds of
  the epoch. A tombstone in its place keeps `until`: whether the provider has acted is not known
  before that moment, and is then found out (an undo, or the pivot's `find`).
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from recourse.limits import ResultTooLargeError
from recourse.step import Decision, Item, TransientError
from recourse.store.aws import PASSING
from recourse.store.items import decode_item, encode, encode_item, put, put_if_absent, request

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient
    from types_boto3_dynamodb.type_defs import TransactWriteItemTypeDef

Side = Literal["action", "undo", "confirm"]
T = TypeVar("T")

_FAILED = "ConditionalCheckFailed"


class _ChangedError(Exception):
    """What was read is no longer so, or another transaction was in the way: decide again."""


@dataclass(frozen=True)
class MarkerFound(Exception):
    """The marker is there already: this delivery is a duplicate, or comes too late."""

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
        budget: float,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._dynamodb = dynamodb
        self._table = table
        self._saga_id = saga_id
        self._step = step
        self._until = clock() + budget
        self._budget = budget
        self._sleep = sleep
        self._clock = clock

    def key(self, side: Side) -> str:
        """The key of one of the step's markers."""
        return marker_key(self._saga_id, self._step, side)

    def read(self, keys: Sequence[str]) -> list[Item | None]:
        """The rows under these keys, read consistently in one call.

        Raises:
            TransientError: DynamoDB did not answer.
        """
        if not keys:
            return []
        try:
            if len(keys) == 1:
                got = self._dynamodb.get_item(
                    TableName=self._table, Key={"pk": {"S": keys[0]}}, ConsistentRead=True
                )
                return [decode_item(got["Item"]) if "Item" in got else None]
            wanted = [{"pk": {"S": key}} for key in dict.fromkeys(keys)]
            batch = self._dynamodb.batch_get_item(
                RequestItems={self._table: {"Keys": wanted, "ConsistentRead": True}}
            )
        except (ClientError, BotoCoreError) as problem:
            _raise(problem)
        if batch["UnprocessedKeys"]:
            raise _ChangedError("the table is throttled")
        rows = [decode_item(item) for item in batch["Responses"].get(self._table, [])]
        by_key = {row["pk"]: row for row in rows}
        return [by_key.get(key) for key in keys]

    def until_settled(self, attempt: Callable[[], Item]) -> Item:
        """Attempt until it commits, or finds a marker, or raises what is no conflict.

        Args:
            attempt: Reads, decides and commits; returns the marker that it put.

        Raises:
            TransientError: The budget ended first.
        """
        return until_settled(attempt, until=self._until, sleep=self._sleep, clock=self._clock)

    def begin(self, until: float) -> bool:
        """Say that this try of an external action may call its provider until a moment.

        Several tries may have begun. The marker holds a moment that is not before any of theirs,
        and another one each time, so that whoever has begun sees that others have.

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
            before = self._dynamodb.put_item(
                TableName=self._table,
                Item=encode_item(row),
                ConditionExpression="attribute_not_exists(pk) OR outcome = :begun AND #u < :until",
                ExpressionAttributeNames={"#u": "until"},
                ExpressionAttributeValues={":begun": {"S": "begun"}, ":until": encode(moment)},
                ReturnValues="ALL_OLD",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except self._dynamodb.exceptions.ConditionalCheckFailedException as there:
            found: Any = there.response
            marker = decode_item(found["Item"])
            if marker["outcome"] != "begun":
                raise MarkerFound(marker) from None
            return self.begin((marker["until"] + 1) / 1000)
        except (ClientError, BotoCoreError) as problem:
            _raise(problem)
        return "Attributes" not in before

    def entomb(self, begun: Item) -> Item:
        """Put a tombstone in the place of a `begun`: no try will commit any more; the tombstone.

        Raises:
            TransientError: DynamoDB could not do it now, or another try has begun.
        """
        tombstone = begun | {"outcome": "cancelled"}
        try:
            self._dynamodb.put_item(
                TableName=self._table,
                Item=encode_item(tombstone),
                ConditionExpression="outcome = :begun AND #u = :until",
                ExpressionAttributeNames={"#u": "until"},
                ExpressionAttributeValues={
                    ":begun": {"S": "begun"},
                    ":until": encode(begun["until"]),
                },
            )
        except self._dynamodb.exceptions.ConditionalCheckFailedException:
            raise _ChangedError("another try has begun, or has come to its end") from None
        except (ClientError, BotoCoreError) as problem:
            _raise(problem)
        return tombstone

    def wait(self, until: int) -> None:
        """Wait for a moment, milliseconds of the epoch: no try that had begun calls after it.

        Raises:
            TransientError: It comes later than this try may wait; the next one waits on.
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
        tombstone: bool = False,
    ) -> Item:
        """Put a marker, and with it everything that it stands for, in one transaction.

        Args:
            side: Whose marker.
            marker: Its outcome and result.
            decision: The step's own writes.
            outbox: What is told of it.
            replaces: What the marker whose place it takes must hold; None where there must be none.
            requires_action: Also require that the action's marker holds a result.
            tombstone: Also leave a tombstone in the place of the action's marker.

        Returns:
            The marker.

        Raises:
            MarkerFound: Another one is there. Nothing was written.
            TransientError: DynamoDB could not do it now. Nothing is known.
        """
        row = {"pk": self.key(side)} | marker
        requests: list[TransactWriteItemTypeDef] = [put(self._table, row, replaces)]
        if requires_action:
            requests.append(
                {
                    "ConditionCheck": {
                        "TableName": self._table,
                        "Key": {"pk": {"S": self.key("action")}},
                        "ConditionExpression": "outcome = :done",
                        "ExpressionAttributeValues": {":done": {"S": "done"}},
                    }
                }
            )
        if tombstone:
            grave = {"pk": self.key("action"), "outcome": "cancelled", "at": marker["at"]}
            requests.append(put_if_absent(self._table, grave))
        requests += [request(self._table, write) for write in decision.writes]
        requests += [
            {"Put": {"TableName": self._table, "Item": encode_item(item)}} for item in outbox
        ]
        transact(self._dynamodb, requests)
        return row


def millis(moment: float) -> int:
    """A moment in milliseconds, from seconds; never earlier than it is."""
    return math.ceil(moment * 1000)


def until_settled(
    attempt: Callable[[], T],
    *,
    until: float,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.time,
) -> T:
    """Attempt until it comes to something else than a conflict.

    Args:
        attempt: Reads, decides and writes; what it returns is returned.
        until: When conflicts and throttles are no longer retried, by the clock.
        sleep: How to wait between tries.
        clock: Seconds of the epoch.

    Raises:
        TransientError: The time ended first.
    """
    pause = 0.02
    while True:
        try:
            return attempt()
        except _ChangedError as problem:
            if clock() + pause > until:
                raise TransientError(f"{problem}, for as long as this try may take") from None
            sleep(random.uniform(0, pause))
            pause = min(pause * 2, 1.0)


def transact(dynamodb: DynamoDBClient, requests: Sequence[TransactWriteItemTypeDef]) -> None:
    """Write all of it or nothing; within `until_settled`, which tries again after a conflict.

    Args:
        dynamodb: A DynamoDB client.
        requests: The first puts a marker, on the condition that it is not there.

    Raises:
        MarkerFound: The marker is there already. Nothing was written.
        TransientError: DynamoDB could not do it now. Nothing is known.
    """
    try:
        dynamodb.transact_write_items(TransactItems=requests)
    except dynamodb.exceptions.TransactionCanceledException as cancelled:
        reasons: Any = cancelled.response["CancellationReasons"]
        _explain(reasons)
    except (ClientError, BotoCoreError) as problem:
        _raise(problem)


def _explain(reasons: Sequence[Any]) -> NoReturn:
    """Raise what a cancelled transaction means: a duplicate first, else a conflict."""
    codes = [reason.get("Code", "None") for reason in reasons]
    if codes[0] == _FAILED and "Item" in reasons[0]:
        raise MarkerFound(decode_item(reasons[0]["Item"]))
    if "ValidationError" in codes:
        why = reasons[codes.index("ValidationError")].get("Message")
        raise ResultTooLargeError(f"DynamoDB does not take a row: {why}")
    if any(code in PASSING for code in codes):
        raise _ChangedError("another transaction was in the way")
    if _FAILED in codes:
        raise _ChangedError("a row has changed since it was read")
    raise TransientError(f"the transaction was cancelled: {codes}")


def _raise(problem: ClientError | BotoCoreError) -> NoReturn:
    """Raise what a failed call means: wait and try again, try later, or a mistake of ours."""
    if isinstance(problem, BotoCoreError):
        raise TransientError(f"DynamoDB did not answer: {problem}") from problem
    code = problem.response["Error"]["Code"]
    if code in PASSING:
        raise _ChangedError(code) from problem
    if problem.response["ResponseMetadata"].get("HTTPStatusCode", 500) >= 500:
        raise TransientError(f"DynamoDB could not: {code}") from problem
    raise problem
