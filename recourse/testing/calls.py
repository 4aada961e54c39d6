"""What happens around a call of AWS: between one read and one write, or instead of an answer.

A test that asks for a condition, or for what AWS says under load, does it here: something happens
just before a call (`before`), a call is answered as AWS answers when it is throttled, breaks down
or is not heard (`answered`), keys are left unread (`unread`), rows come in another order
(`disordered`), or the calls are only looked at (`recorded`, `stale`). It works above botocore's
own retries, so a condition that never holds and a throttle that lasts are seen at once.

`passing` is every way in which DynamoDB says that it is not now; a test goes through all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import local
from typing import Any

from botocore.client import BaseClient
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    ReadTimeoutError,
)

from recourse.testing.patching import replaced

WRITES = ("PutItem", "UpdateItem", "DeleteItem", "TransactWriteItems", "BatchWriteItem")
URL = "https://dynamodb"


@dataclass(frozen=True)
class Call:
    """One call of AWS.

    Attributes:
        client: Who makes it.
        operation: As AWS names it: `TransactWriteItems`.
        parameters: What is asked.
    """

    client: BaseClient
    operation: str
    parameters: Mapping[str, Any]


Answer = Callable[[Call], BaseException]
"""How a call is answered that is not made, or was made and not heard."""


def error(code: str, status: int = 400) -> Answer:
    """An error by its code, as a client raises it."""

    def answer(call: Call) -> ClientError:
        made: Any = {
            "Error": {"Code": code, "Message": code},
            "ResponseMetadata": {"HTTPStatusCode": status},
        }
        return _raised(call, code, made)

    return answer


def cancelled(reason: str) -> Answer:
    """A transaction that is cancelled for a reason that concerns its last operation alone."""

    def answer(call: Call) -> ClientError:
        others = len(call.parameters["TransactItems"]) - 1
        code = "TransactionCanceledException"
        made: Any = {
            "Error": {"Code": code, "Message": reason},
            "CancellationReasons": [{"Code": "None"}] * others + [{"Code": reason}],
            "ResponseMetadata": {"HTTPStatusCode": 400},
        }
        return _raised(call, code, made)

    return answer


def _raised(call: Call, code: str, response: Any) -> ClientError:
    kind: Any = call.client.exceptions.from_code(code)
    made: ClientError = kind(response, call.operation)
    return made


THROTTLES: Mapping[str, Answer] = {
    "ThrottlingException": error("ThrottlingException"),
    "ProvisionedThroughputExceededException": error("ProvisionedThroughputExceededException"),
    "RequestLimitExceeded": error("RequestLimitExceeded"),
}
BROKEN: Mapping[str, Answer] = {
    "InternalServerError": error("InternalServerError", 500),
    "ServiceUnavailable": error("ServiceUnavailable", 503),
    "no such error, a 502": error("BadGateway", 502),
    "no connection": lambda _: ConnectTimeoutError(endpoint_url=URL),
    "an answer that was lost": lambda _: ReadTimeoutError(endpoint_url=URL),
    "a connection that was closed": lambda _: ConnectionClosedError(endpoint_url=URL),
}
IN_THE_WAY: Mapping[str, Answer] = {
    "TransactionConflict": cancelled("TransactionConflict"),
    "ThrottlingError": cancelled("ThrottlingError"),
    "ProvisionedThroughputExceeded": cancelled("ProvisionedThroughputExceeded"),
    "TransactionInProgressException": error("TransactionInProgressException"),
}
"""What only a transaction is answered."""
CONFLICT: Mapping[str, Answer] = {
    "TransactionConflictException": error("TransactionConflictException"),
}
"""What only a call for one row is answered that a transaction is writing."""


def passing(operation: str) -> Mapping[str, Answer]:
    """Every answer of DynamoDB to an operation that may be another one a moment later.

    Args:
        operation: As AWS names it.
    """
    own = {"TransactWriteItems": IN_THE_WAY, "BatchGetItem": {}}.get(operation, CONFLICT)
    return {**THROTTLES, **BROKEN, **own}


def in_turn(answers: Iterable[Answer]) -> Answer:
    """Each of these answers, one a call."""
    left = iter(answers)
    return lambda call: next(left)(call)


@contextmanager
def around(hook: Callable[[Call, Callable[[], Any]], Any]) -> Iterator[None]:
    """Put a hook round every call of AWS.

    Args:
        hook: Is given the call and what makes it; what it returns or raises is the answer. The
            calls that it makes itself do not meet it.
    """
    inside = local()
    make = BaseClient._make_api_call  # type: ignore[attr-defined]

    def hooked(client: BaseClient, operation: str, parameters: Mapping[str, Any]) -> Any:
        def go() -> Any:
            return make(client, operation, parameters)

        if getattr(inside, "now", False):
            return go()
        inside.now = True
        try:
            return hook(Call(client, operation, parameters), go)
        finally:
            inside.now = False

    with replaced(BaseClient, "_make_api_call", hooked):
        yield


@contextmanager
def recorded() -> Iterator[list[Call]]:
    """The calls that are made in a block, in order."""
    made: list[Call] = []

    def hook(call: Call, go: Callable[[], Any]) -> Any:
        made.append(call)
        return go()

    with around(hook):
        yield made


@contextmanager
def before(
    happen: Callable[[], Any], *operations: str, number: int = 0, sure: bool = True
) -> Iterator[None]:
    """Let something happen, once, just before a call: between what was read and what is written.

    Args:
        happen: What happens.
        operations: Before which operations; without any, before any write of DynamoDB.
        number: Before which of these calls; 0 is the first.
        sure: Whether there must be such a call.

    Raises:
        AssertionError: The block made no such call, and had to.
    """
    left = number
    happened = False

    def hook(call: Call, go: Callable[[], Any]) -> Any:
        nonlocal left, happened
        if call.operation in (operations or WRITES) and not happened:
            if left == 0:
                happened = True
                happen()
            left -= 1
        return go()

    with around(hook):
        yield
    assert happened or not sure, (
        f"there was no call {number} of {operations or WRITES} to come before"
    )


@contextmanager
def answered(
    answer: Answer, *operations: str, number: int = 0, times: int = 1, after: bool = False
) -> Iterator[list[Call]]:
    """Answer calls as AWS does when it does not, or when it was not heard.

    Args:
        answer: How they are answered.
        operations: Which; without any, all.
        number: From which of these calls; 0 is the first.
        times: How many of them; the others are made.
        after: Whether the call takes effect all the same.

    Yields:
        The calls that were answered so.
    """
    seen = 0
    hit: list[Call] = []

    def hook(call: Call, go: Callable[[], Any]) -> Any:
        nonlocal seen
        if operations and call.operation not in operations:
            return go()
        seen += 1
        if not number < seen <= number + times:
            return go()
        hit.append(call)
        if after:
            with suppress(ClientError):  # what it said is not heard either
                go()
        raise answer(call)

    with around(hook):
        yield hit


@contextmanager
def paged(limit: int = 1) -> Iterator[None]:
    """Let a Query end after so many rows, as DynamoDB does after 1 MB.

    Args:
        limit: How many.
    """

    def hook(call: Call, go: Callable[[], Any]) -> Any:
        if call.operation == "Query":
            asked: Any = call.parameters
            asked["Limit"] = min(limit, asked.get("Limit", limit))
        return go()

    with around(hook):
        yield


@contextmanager
def unread(times: int = 1) -> Iterator[list[Call]]:
    """Leave all keys of the first BatchGetItem unread, as a throttled table does.

    Args:
        times: How many of them.

    Yields:
        The calls that were answered so.
    """
    hit: list[Call] = []

    def hook(call: Call, go: Callable[[], Any]) -> Any:
        if call.operation != "BatchGetItem" or len(hit) == times:
            return go()
        hit.append(call)
        return {"Responses": {}, "UnprocessedKeys": call.parameters["RequestItems"]}

    with around(hook):
        yield hit


@contextmanager
def disordered() -> Iterator[None]:
    """Give the rows of every BatchGetItem in another order: DynamoDB promises none."""

    def hook(call: Call, go: Callable[[], Any]) -> Any:
        answer = go()
        if call.operation == "BatchGetItem":
            for rows in answer["Responses"].values():
                rows.reverse()
        return answer

    with around(hook):
        yield


def stale(calls: Iterable[Call]) -> list[Call]:
    """Those of some calls that read a table and may be answered with what was a moment ago."""
    found = []
    for call in calls:
        if call.operation == "BatchGetItem":
            asked = list(call.parameters["RequestItems"].values())
        elif call.operation == "GetItem" or (
            call.operation in ("Query", "Scan") and "IndexName" not in call.parameters
        ):
            asked = [call.parameters]
        else:
            asked = []
        if not all(one.get("ConsistentRead") for one in asked):
            found.append(call)
    return found
