"""Whatever AWS answers at whatever call: what a consumer of events handles is handled once.

Nothing here knows which calls a consumer makes. Every call that a saga's consumers make of
DynamoDB and of SQS is answered, the first time it is made, in one of the ways in which AWS says
that it is not now, or is made and its answer is lost; the next time it works. In the end all is as
if nothing had been in the way, no try too few was made, and nothing rests in a dead-letter queue.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from typing import Any

import pytest

from recourse.testing import calls
from statemachines import SAGAS
from tests.ground import Ground
from tests.integration import test_every_saga as every
from tests.integration.test_choreography import begin, change, counts, of_one
from tests.integration.test_every_saga import dead_lettered, must_be_as_told

SAGA = SAGAS["travel-booking"]
stocked = every.stocked
LOST = ("an answer that was lost", "InternalServerError")
"""How a call is answered that may have taken effect."""
UNREAD = "keys that were not read"
WAYS = [(name, False) for name in {**calls.passing("TransactWriteItems"), **calls.CONFLICT}]
WAYS += [(UNREAD, False)]
WAYS += [(name, True) for name in LOST]


def what(call: calls.Call) -> str:
    """A call, by what it is about: the same when it is made again."""
    asked = call.parameters
    match call.operation:
        case "TransactWriteItems":
            requests = [one for kind in asked["TransactItems"] for one in kind.values()]
            about: Any = [one["Item"]["pk"] if "Item" in one else one["Key"] for one in requests]
        case "BatchGetItem":
            about = [table["Keys"] for table in asked["RequestItems"].values()]
        case "PutItem":
            about = [asked["Item"].get(name) for name in ("pk", "version")]
        case "GetItem" | "UpdateItem" | "DeleteItem":
            about = asked["Key"]
        case _:
            about = asked
    return f"{call.operation} {json.dumps(about, sort_keys=True)}"


@contextmanager
def at_first(name: str, *, after: bool) -> Iterator[Counter[str]]:
    """Answer each call of DynamoDB and of SQS so when it is first made; which ones, by name."""
    met: set[str] = set()
    hit: Counter[str] = Counter()
    lock = Lock()

    def hook(call: calls.Call, go: Callable[[], Any]) -> Any:
        answer = calls.passing(call.operation).get(name)
        is_left_unread = name == UNREAD and call.operation == "BatchGetItem"
        if not (answer or is_left_unread) or call.operation == "PublishBatch":
            return go()
        with lock:
            is_first = what(call) not in met
            met.add(what(call))
            hit[call.operation] += is_first
        if not is_first:
            return go()
        if answer is None:
            return {"Responses": {}, "UnprocessedKeys": call.parameters["RequestItems"]}
        if after:
            go()
        raise answer(call)

    with calls.around(hook):
        yield hit


@pytest.fixture
def one(stocked: Ground) -> Mapping[Any, Mapping[str, int]]:
    """What one trip that succeeds changes."""
    return of_one(stocked, SAGA.name)


@pytest.mark.parametrize(("name", "after"), WAYS)
def test_what_is_in_the_way_of_each_call_once_changes_nothing(
    stocked: Ground, one: Mapping[Any, Mapping[str, int]], name: str, after: bool
) -> None:
    before = counts(stocked)
    booked, undone = begin(stocked), begin(stocked, capture="reject")
    with at_first(name, after=after) as hit:
        stocked.settle()
    assert hit.total() > 5, hit
    assert must_be_as_told(stocked, SAGA, booked) == "SUCCEEDED"
    assert must_be_as_told(stocked, SAGA, undone) == "COMPENSATED"
    assert change(before, counts(stocked)) == one
    assert dead_lettered(stocked) == {}
