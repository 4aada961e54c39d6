"""A queue in memory, with the part of an SQS client that a worker uses; its time is the test's."""

from __future__ import annotations

import itertools
import json
import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.patience import PATIENCE


@dataclass(eq=False)
class Sent:
    """A message in the queue.

    Attributes:
        body: Its text.
        group: Its group, in a FIFO queue.
        visible_at: When it is there again, by the queue's time.
        receives: How often it has been received.
        changes: The visibilities that it was given, in order.
    """

    body: str
    group: str | None
    visible_at: float = 0
    receives: int = 0
    changes: list[int] = field(default_factory=list)


class Queue:
    """A queue and its dead-letter queue.

    A message that was received is there again when `pass_time` has gone beyond its visibility; no
    time passes by itself.

    Args:
        fifo: Whether it is FIFO.
        receives: How often it delivers a message; None where it has no dead-letter queue.

    Attributes:
        messages: What is in it, taken or not.
        dead_lettered: What was sent to its dead-letter queue.
        asked: How many messages each receive asked for.
        deletes: How many messages each call was to delete.
        in_hand: How many messages were taken and neither deleted nor put off, at the most.
        attached: The attributes of every message.
        refuse: Called before each call with its name and what it is about; raises, or answers with
            the entries that are to fail.
    """

    def __init__(self, *, fifo: bool = False, receives: int | None = 5) -> None:
        self.name = "Things.fifo" if fifo else "Things"
        self.url = f"https://sqs.example/1/{self.name}"
        self.messages: list[Sent] = []
        self.dead_lettered: list[dict[str, Any]] = []
        self.asked: list[int] = []
        self.deletes: list[int] = []
        self.attached: dict[str, Any] = {"kind": {"StringValue": "done", "DataType": "String"}}
        self.refuse: Callable[[str, dict[str, Any]], Any] = lambda name, about: None
        self._fifo = fifo
        self._most = receives
        self._now = 0.0
        self._numbers = itertools.count()
        self._receipts: dict[str, Sent] = {}
        self._moved = threading.Condition()

    # What a test does.

    def put(self, *bodies: str, group: str | None = None) -> None:
        """Send messages."""
        with self._moved:
            self.messages += [Sent(body, group) for body in bodies]
            self._moved.notify_all()

    def pass_time(self, seconds: float) -> None:
        """Let time pass."""
        with self._moved:
            self._now += seconds
            self._moved.notify_all()

    def put_off(self, one: Sent, *, times: int) -> None:
        """Wait until a message is put off so many times, and then for as long as it was."""
        self.until(lambda: len(one.changes) == times)
        self.pass_time(one.changes[-1])

    def until(self, holds: Callable[[], Any]) -> None:
        """Wait until something holds; it is looked at after every call."""
        with self._moved:
            assert self._moved.wait_for(holds, timeout=PATIENCE), "it has never come to be"

    def tell(self) -> None:
        """Let those who wait look again."""
        with self._moved:
            self._moved.notify_all()

    def find(self, body: str) -> Sent:
        """A message by its text."""
        return next(one for one in self.messages if one.body == body)

    # What a worker asks for.

    def get_queue_url(self, QueueName: str) -> Any:
        return {"QueueUrl": f"https://sqs.example/1/{QueueName}"}

    def get_queue_attributes(self, **about: Any) -> Any:
        self._ask("get_queue_attributes", about)
        found = {"QueueArn": f"arn:aws:sqs:r:1:{self.name}"}
        if self._most is not None:
            target = "arn:aws:sqs:r:1:Lost" + (".fifo" if self._fifo else "")
            policy = {"deadLetterTargetArn": target, "maxReceiveCount": self._most}
            found["RedrivePolicy"] = json.dumps(policy)
        return {"Attributes": found}

    def receive_message(self, **about: Any) -> Any:
        self._ask("receive_message", about)
        with self._moved:
            self.asked.append(about["MaxNumberOfMessages"])
            self._moved.notify_all()
            self._moved.wait_for(self._there, timeout=0.05)
            given = []
            for one in self._there()[: about["MaxNumberOfMessages"]]:
                one.receives += 1
                one.visible_at = self._now + about["VisibilityTimeout"]
                receipt = f"receipt-{next(self._numbers)}"
                self._receipts[receipt] = one
                attributes = {"ApproximateReceiveCount": str(one.receives), "SentTimestamp": "1"}
                if one.group:
                    attributes["MessageGroupId"] = one.group
                given.append(
                    {
                        "MessageId": f"id-{one.body}",
                        "ReceiptHandle": receipt,
                        "Body": one.body,
                        "Attributes": attributes,
                        "MessageAttributes": self.attached,
                    }
                )
            return {"Messages": given} if given else {}

    def delete_message_batch(self, **about: Any) -> Any:
        def delete(one: Sent, entry: dict[str, Any]) -> None:
            if one in self.messages:
                self.messages.remove(one)

        self.deletes.append(len(about["Entries"]))
        return self._each("delete_message_batch", about, delete)

    def change_message_visibility_batch(self, **about: Any) -> Any:
        def change(one: Sent, entry: dict[str, Any]) -> None:
            one.visible_at = self._now + entry["VisibilityTimeout"]
            one.changes.append(entry["VisibilityTimeout"])

        return self._each("change_message_visibility_batch", about, change)

    def send_message(self, **about: Any) -> Any:
        self._ask("send_message", about)
        with self._moved:
            self.dead_lettered.append(about)
            self._moved.notify_all()

    def _ask(self, name: str, about: dict[str, Any]) -> Any:
        self.tell()
        return self.refuse(name, about)

    def _each(
        self, name: str, about: dict[str, Any], do: Callable[[Sent, dict[str, Any]], None]
    ) -> Any:
        entries = about["Entries"]
        assert 1 <= len(entries) <= 10 and len({one["Id"] for one in entries}) == len(entries)
        bodies = {one["Id"]: self._receipts[one["ReceiptHandle"]].body for one in entries}
        failed = self._ask(name, {**about, "bodies": bodies}) or []
        with self._moved:
            for entry in entries:
                if entry["Id"] not in {one["Id"] for one in failed}:
                    do(self._receipts[entry["ReceiptHandle"]], entry)
            self._moved.notify_all()
        return {"Failed": failed}

    def _there(self) -> list[Sent]:
        """What can be received now: in a FIFO queue nothing behind what is taken or put off."""
        there, blocked = [], defaultdict(bool)
        for one in self.messages:
            if one.visible_at > self._now:
                blocked[one.group] = True
            elif not (self._fifo and blocked[one.group]):
                there.append(one)
        return there
