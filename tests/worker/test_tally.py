"""The tally: each event is counted once, by the function and by a worker's handler alike."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aws_lambda_powertools.utilities.typing import LambdaContext
from moto import mock_aws

from lambdas.consumers import tally as function
from lambdas.consumers.tally import SHARDS, Tally
from recourse.errors import UnreadableError
from recourse.events import Event
from recourse.functions.batch import handle_each
from recourse.queues.message import Message
from recourse.queues.sources import SourceQueue
from recourse.store.aws import client
from recourse.store.items import decode_item
from recourse.testing import speed, transactions
from tests.events import event

TABLE = "tally"
ARN = "arn:aws:sqs:us-east-1:123456789012:Tally"


@pytest.fixture
def tally(monkeypatch: pytest.MonkeyPatch) -> Iterator[Tally]:
    """A tally that the function counts in."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("RECOURSE_SAGAS", "statemachines:SAGAS")
    with mock_aws(), speed.up(), transactions.true():
        client.cache_clear()
        client("dynamodb").create_table(
            TableName=TABLE,
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        made = Tally(client("dynamodb"), TABLE)
        monkeypatch.setattr(function, "tally", lambda: made)
        yield made
    client.cache_clear()


def told(saga_id: str, kind: str, **about: Any) -> Event:
    about = {"time": "2026-11-24T10:00:00.000Z"} | about
    return event(saga_id, "travel-booking", kind, **about)


def message(body: str) -> Message:
    return Message("m", body, {}, None, 1)


def record(number: int, body: str) -> dict[str, Any]:
    attributes = {"ApproximateReceiveCount": "1"}
    return {
        "messageId": str(number),
        "receiptHandle": "r",
        "body": body,
        "attributes": attributes,
        "eventSourceARN": ARN,
    }


def context(*remaining: int) -> LambdaContext:
    """A function that has so much time left, each time it looks; then always the last."""
    looks = iter([*remaining, *[remaining[-1]] * 10])
    return cast(LambdaContext, SimpleNamespace(get_remaining_time_in_millis=lambda: next(looks)))


def counted() -> dict[str, Counter[str]]:
    """The counts, by day and saga."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for item in client("dynamodb").scan(TableName=TABLE)["Items"]:
        row = decode_item(item)
        key, _, shard = row.pop("pk").rpartition("#")
        if key.startswith("tally#"):
            assert 0 <= int(shard) < SHARDS
            found[key].update(row)
    return found


def test_it_hears_how_sagas_begin_and_end_and_may_write_its_own_table_alone() -> None:
    assert function.CONSUMER.hears == {
        "kind": ("started", "succeeded", "compensated", "compensation_failed")
    }
    assert function.CONSUMER.may == {"table": ["dynamodb:PutItem", "dynamodb:UpdateItem"]}


def test_no_row_counts_more_than_its_share(tally: Tally) -> None:
    """All sagas of a day were counted in one row before."""
    for number in range(4 * SHARDS):
        tally.count(told(f"{number:032x}", "started"))
    rows = [decode_item(row) for row in client("dynamodb").scan(TableName=TABLE)["Items"]]
    counts = [row["started"] for row in rows if row["pk"].startswith("tally#")]
    assert sum(counts) == 4 * SHARDS
    assert max(counts) <= 16 and len(counts) > SHARDS * 0.8


def test_sagas_are_counted_by_day_and_outcome_whatever_comes_how_often(tally: Tally) -> None:
    events = [
        *(told(saga, "started") for saga in "abc"),
        told("a", "succeeded"),
        told("b", "compensated"),
        told("c", "compensation_failed"),
        told("a", "done", step="hotel"),
        told("b", "started", id="other", time="2026-11-25T00:00:00.000Z"),
    ]
    for one in [*events, *events]:
        function.handle(message(one.to_json()))
    assert counted() == {
        "tally#2026-11-24#travel-booking": {
            "started": 3,
            "succeeded": 1,
            "compensated": 1,
            "compensation_failed": 1,
        },
        "tally#2026-11-25#travel-booking": {"started": 1},
    }


def test_an_event_that_comes_to_many_at_once_is_counted_once(tally: Tally) -> None:
    with ThreadPoolExecutor(8) as pool:
        new = list(pool.map(tally.count, [told("a", "started")] * 16))
    assert new.count(True) == 1
    assert counted() == {"tally#2026-11-24#travel-booking": {"started": 1}}


def test_what_is_no_event_is_poison(tally: Tally) -> None:
    for body in ("", "{", "[]", "[" * 100_000, '{"type": 1}', told("a", "x").to_json()[:-1]):
        with pytest.raises(UnreadableError):
            function.handle(message(body))


class Puts(SourceQueue):
    """Stands for the queue, and notes what is asked of it."""

    def __init__(self) -> None:
        self.dead_lettered: list[str] = []
        self.off: list[str] = []

    def dead_letter(self, record: Any, reason: str) -> None:
        self.dead_lettered.append(record["messageId"])

    def is_last_receive(self, record: Any) -> bool:
        return False

    def delay(self, record: Any, seconds: int) -> None:
        self.off.append(record["messageId"])


def test_in_a_batch_poison_is_dead_lettered_and_what_fails_comes_again(
    tally: Tally, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = tally.count

    def broken(one: Event) -> bool:
        if one.saga_id == "b":
            raise ConnectionError("the table cannot be reached")
        return count(one)

    monkeypatch.setattr(tally, "count", broken)
    bodies = [told("a", "started").to_json(), "{", told("b", "started").to_json()]
    queue = Puts()
    records = [record(number, body) for number, body in enumerate(bodies)]
    answer = handle_each(function.handle, records, lambda arn: queue, context(30_000))
    assert answer == {"batchItemFailures": [{"itemIdentifier": "2"}]}
    assert (queue.dead_lettered, queue.off) == (["1"], ["2"])
    assert counted() == {"tally#2026-11-24#travel-booking": {"started": 1}}


def test_what_a_function_has_no_more_time_for_comes_again_at_once(tally: Tally) -> None:
    bodies = [told(saga, "started").to_json() for saga in "abc"]
    queue = Puts()
    records = [record(number, body) for number, body in enumerate(bodies)]
    answer = handle_each(function.handle, records, lambda arn: queue, context(12_000, 9_000))
    assert [one["itemIdentifier"] for one in answer["batchItemFailures"]] == ["1", "2"]
    assert queue.off == ["1", "2"]
    assert counted() == {"tally#2026-11-24#travel-booking": {"started": 1}}
