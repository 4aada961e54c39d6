"""A table of DynamoDB: get, put, update, transact, page.

The whole library reads and writes through it::

    things = Table(dynamodb, "things")

    things.put({"pk": "seat#1", "free": 2}, when=ABSENT)
    things.get("seat#1")                                    # {"pk": "seat#1", "free": 2}
    things.update("seat#1", add={"free": -1}, when={"free": AtLeast(1)})

    things.transact(
        [
            things.update_request("seat#1", add={"free": -1}, when={"free": AtLeast(1)}),
            things.put_request({"pk": "hold#7", "seat": 1}, when=ABSENT),
        ]
    )

Conditions (`when`) and the values of updates are in `expressions`. Where a condition does not hold,
nothing is written, and `ConditionFailedError` has the rows as they are. To decide by what was read,
read and write in one attempt, which is retried where another write came between::

    def book() -> Item:
        seat = things.get("seat#1") or {"free": 0, "version": 0}
        ...
        return things.update("seat#1", set=changes, when={"version": seat["version"]})

    things.retry(book, what="seat 1")

A single call that AWS refuses or does not answer raises what botocore raises: whether it took
effect is unknown, and only the caller can tell whether it may be repeated. A key that is empty or
too long for DynamoDB is an `InvalidItemError`, before any call.

It is longer than other modules, for each call of DynamoDB is one method here and nowhere else, and
half of it says what the callers may rely on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from botocore.exceptions import ClientError

from recourse.declare.step import Item, Put, Write
from recourse.errors import ContentionError, TransientError
from recourse.store.aws import TRANSIENT_CODES
from recourse.store.contention import Backoff, ConditionFailedError, ConflictError, InvalidItemError
from recourse.store.cursors import cursor_after, started_of
from recourse.store.expressions import ABSENT, PRESENT, Expressions, LessThan, Path, When
from recourse.store.items import decode_item, encode, encode_item

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient
    from types_boto3_dynamodb.type_defs import TransactWriteItemTypeDef as Request

MAX_BATCH_GET = 100
"""How many rows DynamoDB reads in one BatchGetItem."""
MAX_KEY_BYTES = (2048, 1024)
"""The bytes of a partition key and of a sort key in DynamoDB."""
_FAILED = "ConditionalCheckFailed"
_NOTHING: Mapping[Any, Any] = {}
T = TypeVar("T")
Key = Any
"""The key of a row: its one value, or a tuple of two where the table has a sort key."""


class Table:
    """A table.

    Attributes:
        dynamodb: A DynamoDB client.
        name: The table's name.
        key: Its key: one attribute, or two where it has a sort key.
        backoff: How long conflicts and throttles are retried.
    """

    def __init__(
        self,
        dynamodb: DynamoDBClient,
        name: str,
        key: str | tuple[str, str] = "pk",
        backoff: Backoff | None = None,
    ) -> None:
        self.dynamodb = dynamodb
        self.name = name
        self.key = key
        self.backoff = backoff or Backoff()

    # Reads.

    def get(self, key: Key, *, consistent: bool = True) -> Item | None:
        """A row; None where it does not exist."""
        got = self.dynamodb.get_item(
            TableName=self.name, Key=self._key(key), ConsistentRead=consistent
        )
        return decode_item(got["Item"]) if "Item" in got else None

    def get_many(self, keys: Sequence[Key]) -> list[Item | None]:
        """The rows of these keys, in their order, read consistently; see `read_rows`."""
        return read_rows([(self, key) for key in keys])

    def query(
        self,
        when: Mapping[Any, Any],
        *,
        index: str | None = None,
        newest_first: bool = False,
        consistent: bool = False,
        size: int | None = None,
        pages: int | None = None,
    ) -> Iterator[Item]:
        """The rows of one partition, in the order of the sort key; pages are read lazily.

        Args:
            when: The partition key's value, and a condition on the sort key.
            index: The index to query; the table itself if absent.
            newest_first: Descending, from the greatest sort key on.
            consistent: Whether to read consistently, which indexes do not offer.
            size: How many rows a call reads.
            pages: How many calls are made at the most. A call ends after `size` rows or 1 MB.
        """
        for value in when.values():
            _check_key(value, MAX_KEY_BYTES[0])
        expressions = self._expressions()
        asked: dict[str, Any] = {
            "TableName": self.name,
            "KeyConditionExpression": expressions.condition(when),
            **expressions.parameters,
            "ScanIndexForward": not newest_first,
        }
        if index is not None:
            asked["IndexName"] = index
        if consistent:
            asked["ConsistentRead"] = True
        if size is not None:
            asked["Limit"] = size
        return self._pages(self.dynamodb.query, asked, pages)

    def page(
        self, index: str, when: Mapping[str, Any], *, cursor: str | None, limit: int
    ) -> tuple[list[Item], str | None]:
        """A page of an index that is ordered by `started`, newest first, and the next cursor.

        Args:
            index: The index.
            when: Its partition key's value.
            cursor: The cursor that came with the page before; None for the first page.
            limit: How many rows at the most.

        Returns:
            The rows, and the cursor of the next page; None if this is the last.

        Raises:
            BadCursorError: The cursor was not issued by this method.
        """
        before = started_of(cursor)
        asked = when if before is None else {**when, "started": LessThan(before)}
        rows = self.query(asked, index=index, newest_first=True, size=limit + 1)
        found = list(islice(rows, limit + 1))
        more = len(found) > limit
        return found[:limit], cursor_after(found[limit - 1]["started"]) if more else None

    def scan(self, when: Mapping[Any, Any] = _NOTHING) -> Iterator[Item]:
        """Every row that meets a condition, read consistently; it reads the whole table."""
        expressions = self._expressions()
        asked: dict[str, Any] = {"TableName": self.name, "ConsistentRead": True}
        if when:
            asked["FilterExpression"] = expressions.condition(when)
        return self._pages(self.dynamodb.scan, asked | expressions.parameters, None)

    # Writes of one row.

    def put(self, item: Mapping[str, Any], *, when: When | None = None) -> None:
        """Put a row, replacing the one that may exist.

        Raises:
            ConditionFailedError: `when` does not hold.
        """
        self._write(self.dynamodb.put_item, self._put(item, when))

    def replace(self, item: Mapping[str, Any], *, when: When | None = None) -> Item | None:
        """The same, returning the row that was replaced; None where there was none."""
        asked = self._put(item, when) | {"ReturnValues": "ALL_OLD"}
        before = self._write(self.dynamodb.put_item, asked).get("Attributes")
        return decode_item(before) if before else None

    def update(
        self,
        key: Key,
        *,
        set: Mapping[Any, Any] = _NOTHING,
        add: Mapping[Any, int | Collection[str]] = _NOTHING,
        remove: Iterable[Path] = (),
        discard: Mapping[Any, Collection[str]] = _NOTHING,
        when: When | None = None,
    ) -> Item:
        """Update a row; create it if it does not exist, unless `when` forbids it.

        Args:
            key: The row's key.
            set: The new values of attributes; `IfAbsent` and `Append` depend on the old ones.
            add: What is added: to an attribute that is a number, an int; to a set, strings.
            remove: The attributes to remove.
            discard: The strings to remove from sets.
            when: The condition.

        Returns:
            The row as it is afterwards.

        Raises:
            ConditionFailedError: `when` does not hold.
        """
        asked = self._update(key, set, add, remove, discard, when) | {"ReturnValues": "ALL_NEW"}
        return decode_item(self._write(self.dynamodb.update_item, asked)["Attributes"])

    def delete(self, key: Key, *, when: When | None = None) -> Item | None:
        """Delete a row; the row as it was, None where it did not exist.

        Raises:
            ConditionFailedError: `when` does not hold.
        """
        expressions = self._expressions()
        asked = {"TableName": self.name, "Key": self._key(key), "ReturnValues": "ALL_OLD"}
        asked |= self._when(expressions, when) | expressions.parameters
        was = self._write(self.dynamodb.delete_item, asked)
        return decode_item(was["Attributes"]) if "Attributes" in was else None

    # Writes of several rows.

    def put_request(self, item: Mapping[str, Any], *, when: When | None = None) -> Request:
        """The request of a `put`, for `transact`."""
        return {"Put": self._put(item, when)}  # type: ignore[typeddict-item]

    def update_request(
        self,
        key: Key,
        *,
        set: Mapping[Any, Any] = _NOTHING,
        add: Mapping[Any, int | Collection[str]] = _NOTHING,
        remove: Iterable[Path] = (),
        discard: Mapping[Any, Collection[str]] = _NOTHING,
        when: When | None = None,
    ) -> Request:
        """The request of an `update`, for `transact`."""
        asked: Any = self._update(key, set, add, remove, discard, when)
        return {"Update": asked}

    def check_request(self, key: Key, *, when: When) -> Request:
        """A condition on a row that is not written, for `transact`."""
        asked: Any = {"TableName": self.name, "Key": self._key(key)}
        expressions = self._expressions()
        return {"ConditionCheck": asked | self._when(expressions, when) | expressions.parameters}

    def write_request(self, write: Write) -> Request:
        """A step's write, for `transact`: what it puts must not exist, what it updates must."""
        if isinstance(write, Put):
            return self.put_request(write.item, when=ABSENT)
        when = {self._names[0]: PRESENT, **write.when}
        return self.update_request(
            write.key, set=write.put, add=write.add, remove=write.remove, when=when
        )

    def transact(self, requests: Sequence[Request]) -> None:
        """Write all of it or nothing; conflicts with other transactions are retried.

        Args:
            requests: For this table and others, 100 at the most, each for a different row.

        Raises:
            ConditionFailedError: A condition does not hold.
            InvalidItemError: A row is too large, or of another type than its update needs.
            ContentionError: Conflicts lasted for as long as it was retried.
        """
        for number in self.backoff:
            try:
                self.dynamodb.transact_write_items(TransactItems=requests)
                return
            except ClientError as problem:
                if problem.response["Error"]["Code"] != "TransactionCanceledException":
                    raise
                reasons: list[Any] = problem.response["CancellationReasons"]
                _explain(reasons)
                why = f"conflict or throttling, {number} times in a row"
        raise ContentionError(why)

    def retry(self, attempt: Callable[[], T], *, what: str) -> T:
        """Read, decide and write; retried where another write has changed meanwhile what was read.

        Args:
            attempt: Does it. Its result is returned; it is called again after a `ConflictError`,
                and any other error is raised.
            what: What is written, for the message.

        Raises:
            ContentionError: Other writes came first for as long as it was retried.
        """
        for number in self.backoff:
            try:
                return attempt()
            except ConflictError as problem:
                why = f"{what}: {problem}, {number} times in a row"
        raise ContentionError(why)

    # Requests.

    def _expressions(self) -> Expressions:
        return Expressions(self._names[0])

    def _put(self, item: Mapping[str, Any], when: When | None) -> dict[str, Any]:
        expressions = self._expressions()
        self._key(self._key_of(item))
        asked = {"TableName": self.name, "Item": encode_item(item)}
        return asked | self._when(expressions, when) | expressions.parameters

    def _update(
        self,
        key: Key,
        set: Mapping[Any, Any],
        add: Mapping[Any, int | Collection[str]],
        remove: Iterable[Path],
        discard: Mapping[Any, Collection[str]],
        when: When | None,
    ) -> dict[str, Any]:
        expressions = self._expressions()
        asked = {
            "TableName": self.name,
            "Key": self._key(key),
            "UpdateExpression": expressions.change(set, add, remove, discard),
        }
        return asked | self._when(expressions, when) | expressions.parameters

    @staticmethod
    def _when(expressions: Expressions, when: When | None) -> dict[str, Any]:
        if when is None:
            return {}
        return {
            "ConditionExpression": expressions.condition(when),
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }

    @property
    def _names(self) -> tuple[str, ...]:
        return (self.key,) if isinstance(self.key, str) else self.key

    def _key(self, key: Key) -> dict[str, Any]:
        values = key if isinstance(key, tuple) else (key,)
        for value, most in zip(values, MAX_KEY_BYTES, strict=False):
            _check_key(value, most)
        return {name: encode(value) for name, value in zip(self._names, values, strict=True)}

    def _key_of(self, row: Mapping[str, Any]) -> Key:
        values = tuple(row[name] for name in self._names)
        return values if len(values) > 1 else values[0]

    # Calls.

    def _write(self, call: Callable[..., Any], asked: dict[str, Any]) -> Any:
        try:
            return call(**asked)
        except ClientError as problem:
            if problem.response["Error"]["Code"] != f"{_FAILED}Exception":
                raise
            row: Any = problem.response.get("Item")
            raise ConditionFailedError({0: decode_item(row) if row else None}) from None

    @staticmethod
    def _pages(call: Callable[..., Any], asked: dict[str, Any], most: int | None) -> Iterator[Item]:
        asked_more: Any = {}
        made = 0
        while made != most:
            got = call(**asked, **asked_more)
            made += 1
            yield from map(decode_item, got["Items"])
            if "LastEvaluatedKey" not in got:
                return
            asked_more = {"ExclusiveStartKey": got["LastEvaluatedKey"]}


def _check_key(value: Any, most: int) -> None:
    if isinstance(value, str) and not 1 <= (found := len(value.encode())) <= most:
        raise InvalidItemError(f"a key must have 1 to {most} bytes, got {found}: {value[:40]!r}")


def read_rows(rows: Sequence[tuple[Table, Key]]) -> list[Item | None]:
    """Rows of one table or of several, in the order of their keys, read consistently.

    One call reads a hundred. What it leaves out, because it is large or a table is throttled, is
    asked for again: at once where some have come, else after a pause.

    Args:
        rows: The table and the key of each; the tables are within reach of one client.

    Raises:
        ContentionError: A table is throttled for as long as it was tried.
    """
    tables = {table.name: table for table, _ in rows}
    keys = [(table.name, key) for table, key in rows]
    found: dict[tuple[str, Key], Item] = {}
    ordered = list(dict.fromkeys(keys))
    for first in range(0, len(ordered), MAX_BATCH_GET):
        left: dict[str, list[Any]] = {}
        for name, key in ordered[first : first + MAX_BATCH_GET]:
            left.setdefault(name, []).append(tables[name]._key(key))
        while left:
            come, left = _some(tables, left)
            found |= come
    return [found.get(key) for key in keys]


def _some(
    tables: Mapping[str, Table], asked: Mapping[str, list[Any]]
) -> tuple[dict[tuple[str, Key], Item], dict[str, list[Any]]]:
    """Some of the rows of these keys, and the keys that were not read, both by table."""
    table = tables[next(iter(asked))]
    for number in table.backoff:
        got = table.dynamodb.batch_get_item(
            RequestItems={
                name: {"Keys": keys, "ConsistentRead": True} for name, keys in asked.items()
            }
        )
        come = {
            (name, tables[name]._key_of(row)): row
            for name, items in got["Responses"].items()
            for row in map(decode_item, items)
        }
        left: dict[str, Any] = {name: one["Keys"] for name, one in got["UnprocessedKeys"].items()}
        # Where some have come it was too much for one answer, as it may be of large rows.
        if come or not left:
            return come, left
        count = sum(map(len, left.values()))
        why = f"{count} rows of {' and '.join(left)} could not be read in {number} tries"
    raise ContentionError(why)


def _explain(reasons: Sequence[Any]) -> None:
    """Raise what a cancelled transaction means, unless it may be retried."""
    codes = [reason.get("Code", "None") for reason in reasons]
    if _FAILED in codes:
        raise ConditionFailedError(
            {
                at: decode_item(reason["Item"]) if reason.get("Item") else None
                for at, reason in enumerate(reasons)
                if reason.get("Code") == _FAILED
            }
        ) from None
    if "ValidationError" in codes:
        why = reasons[codes.index("ValidationError")].get("Message")
        raise InvalidItemError(f"DynamoDB rejects a row: {why}") from None
    if not any(code in TRANSIENT_CODES for code in codes):
        raise TransientError(f"the transaction was cancelled: {codes}") from None
