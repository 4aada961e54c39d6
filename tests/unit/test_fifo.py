"""Messages in order: a failure holds up its own group alone, and what is dead-lettered keeps it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, cast

import pytest
from moto import mock_aws

from recourse.functions.batch import Batch
from recourse.queues.deadletters import DeadletterQueue, deadletters_of
from recourse.queues.sources import SourceQueue
from recourse.store.aws import client

ACCOUNT = "123456789012"


class Puts:
    """Stands for the queue, and notes what is put off."""

    off: ClassVar[list[tuple[str, int]]] = []

    def delay(self, record: Mapping[str, Any], seconds: int) -> None:
        self.off.append((record["messageId"], seconds))


def batch(arn: str, *groups: str) -> Batch:
    """A batch of one message a group named, whose ids are their places."""
    records = [
        {
            "messageId": str(place),
            "body": "",
            "attributes": {"MessageGroupId": group},
            "eventSourceARN": arn,
        }
        for place, group in enumerate(groups)
    ]
    return Batch(records, lambda arn: cast("SourceQueue", Puts()))


def taken(made: Batch, failing: str) -> list[str]:
    """Take a batch of which one message fails; what was taken."""
    seen = []
    for record in made.messages():
        seen.append(record["messageId"])
        if record["messageId"] == failing:
            made.retry(record)
    return seen


def again(made: Batch) -> list[str]:
    return [one["itemIdentifier"] for one in made.answer()["batchItemFailures"]]


def test_behind_a_message_that_failed_nothing_of_its_group_is_taken_and_all_of_it_comes_again() -> (
    None
):
    made = batch("arn:aws:sqs:r:a:Things.fifo", "a", "b", "a", "b", "a")
    assert taken(made, failing="2") == ["0", "1", "2", "3"]
    assert again(made) == ["2", "4"]
    assert Puts.off.pop() == ("4", 0), "what has not begun is there as soon as it may"


def test_where_no_order_is_kept_a_group_waits_for_nobody() -> None:
    made = batch("arn:aws:sqs:r:a:Things", "a", "b", "a")
    assert taken(made, failing="0") == ["0", "1", "2"]
    assert again(made) == ["0"]


@pytest.fixture
def sqs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """SQS with a FIFO queue and its dead-letter queue."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        client.cache_clear()
        made = client("sqs")
        fifo = {"FifoQueue": "true"}
        made.create_queue(QueueName="Things-deadletters.fifo", Attributes=fifo)
        target = f"arn:aws:sqs:us-east-1:{ACCOUNT}:Things-deadletters.fifo"
        policy = f'{{"deadLetterTargetArn": "{target}", "maxReceiveCount": 5}}'
        made.create_queue(QueueName="Things.fifo", Attributes=fifo | {"RedrivePolicy": policy})
        yield made
    client.cache_clear()


def received(sqs: Any, name: str) -> list[Any]:
    url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
    got = sqs.receive_message(QueueUrl=url, AttributeNames=["All"], MaxNumberOfMessages=10)
    found: list[Any] = got.get("Messages", [])
    return found


def test_what_is_dead_lettered_of_a_fifo_queue_keeps_its_group_on_its_way_there_and_back(
    sqs: Any,
) -> None:
    url = sqs.get_queue_url(QueueName="Things.fifo")["QueueUrl"]
    sqs.send_message(
        QueueUrl=url, MessageBody="bad", MessageGroupId="a", MessageDeduplicationId="first"
    )
    (message,) = received(sqs, "Things.fifo")
    record = {
        "messageId": message["MessageId"],
        "body": message["Body"],
        "attributes": message["Attributes"],
    }
    source = SourceQueue(lambda: sqs, f"arn:aws:sqs:us-east-1:{ACCOUNT}:Things.fifo")
    source.dead_letter(record, "it is bad")
    sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    assert deadletters_of("Things.fifo") == "Things-deadletters.fifo"
    lost = DeadletterQueue(sqs, "Things.fifo", "Things.fifo")
    assert lost.waiting() == 1
    redriven = lost.redrive()
    assert (redriven.moved, dict(redriven.reasons)) == (1, {"it is bad": 1})
    (back,) = received(sqs, "Things.fifo")
    assert back["Body"] == "bad" and back["Attributes"]["MessageGroupId"] == "a"
