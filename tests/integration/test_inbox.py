"""The inbox under what DynamoDB says when it is not now, and under another delivery meanwhile."""

from __future__ import annotations

from typing import Any

import pytest

from recourse.errors import TransientError
from recourse.queues.inbox import Inbox
from recourse.testing.calls import BROKEN, answered, before, passing, recorded
from tests.integration.bench import TABLE, Bench

WRITE = "TransactWriteItems"
TAKE: Any = {
    "Update": {
        "TableName": TABLE,
        "Key": {"pk": {"S": "thing#1"}},
        "UpdateExpression": "ADD #left :less",
        "ExpressionAttributeNames": {"#left": "free"},
        "ExpressionAttributeValues": {":less": {"N": "-1"}},
    }
}


@pytest.mark.parametrize("after", [False, True], ids=["without effect", "with its effect"])
def test_whatever_dynamodb_says_an_effect_is_done_once(bench: Bench, after: bool) -> None:
    inbox = Inbox(bench.dynamodb, TABLE)
    for name, answer in passing(WRITE).items():
        free = bench.free
        with answered(answer, WRITE, after=after) as hit:
            try:
                inbox.once(name, TAKE)
            except TransientError:
                assert name in BROKEN, "what is only in the way is waited out"
        assert hit
        inbox.once(name, TAKE)
        assert not inbox.once(name, TAKE)
        assert bench.free == free - 1, name


def test_of_two_deliveries_that_meet_one_has_the_effect(bench: Bench) -> None:
    inbox, first = Inbox(bench.dynamodb, TABLE), []
    with before(lambda: first.append(inbox.once("e", TAKE)), WRITE):
        assert not inbox.once("e", TAKE)
    assert first == [True] and bench.free == 4


def test_a_duplicate_is_one_though_its_effect_cannot_be_had_again(bench: Bench) -> None:
    once: Any = {
        "Update": TAKE["Update"]
        | {
            "UpdateExpression": "SET taken = :less ADD #left :less",
            "ConditionExpression": "attribute_not_exists(taken)",
        }
    }
    inbox = Inbox(bench.dynamodb, TABLE)
    assert inbox.once("e", once)
    with recorded() as calls:
        assert not inbox.once("e", once)
    assert len(calls) == 1 and bench.free == 4
