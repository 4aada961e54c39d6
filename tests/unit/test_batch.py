"""What a batch does with a message that keeps failing: at its last receive, dead-lettered."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

from recourse.errors import TransientError
from recourse.feed.connections import Connections
from recourse.functions import confirm, ledger, push, webhook_deliver, webhook_dispatch
from recourse.functions.batch import handle_each
from recourse.queues.message import Message
from statemachines import SAGAS

MOST = 5
SENT = {"ApproximateReceiveCount": "1", "SentTimestamp": "0"}


class Queue:
    """A queue that says what was done with its messages."""

    def __init__(self, *, is_down: bool = False) -> None:
        self._is_down = is_down
        self.dead_lettered: list[tuple[str, str]] = []
        self.put_off: list[str] = []

    def is_last_receive(self, record: Any) -> bool:
        if self._is_down:
            raise TransientError("the queue does not say")
        return int(record["attributes"]["ApproximateReceiveCount"]) >= MOST

    def dead_letter(self, record: Any, reason: str) -> None:
        self.dead_lettered.append((record["messageId"], reason))

    def delay(self, record: Any, seconds: int) -> None:
        self.put_off.append(record["messageId"])


def message(name: str, body: str, receives: int) -> dict[str, Any]:
    return {
        "messageId": name,
        "body": body,
        "attributes": SENT | {"ApproximateReceiveCount": str(receives)},
        "messageAttributes": {},
        "eventSourceARN": "arn:aws:sqs:us-east-1:1:queue",
    }


def event(subject: str) -> str:
    told = {"id": "e", "subject": subject, "time": "now", "data": {}}
    return json.dumps(told | {"type": "recourse.order.started"})


def batch(*receives: int) -> list[dict[str, Any]]:
    return [message(f"m{at}", event(f"s{at}"), times) for at, times in enumerate(receives)]


class Broken:
    """A consumer that nothing works with."""

    sagas = SAGAS

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("it does not work")


def by_handler(records: list[dict[str, Any]], queue: Queue) -> Any:
    def handle(message: Message) -> None:
        raise RuntimeError("it does not work")

    context: Any = SimpleNamespace(get_remaining_time_in_millis=lambda: 30_000)
    return handle_each(handle, records, lambda _: queue, context)  # type: ignore[arg-type, return-value]


def by_ledger(records: list[dict[str, Any]], queue: Queue) -> Any:
    return ledger.handle_batch(Broken(), records, lambda _: queue)  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize("take", [by_handler, by_ledger])
def test_what_fails_at_its_last_receive_is_dead_lettered_with_its_reason(take: Any) -> None:
    queue = Queue()
    answer = take(batch(1, MOST, MOST - 1, MOST + 1), queue)
    assert [one["itemIdentifier"] for one in answer["batchItemFailures"]] == ["m0", "m2"]
    assert queue.dead_lettered == [(m, "RuntimeError: it does not work") for m in ("m1", "m3")]


@pytest.mark.parametrize("take", [by_handler, by_ledger])
def test_where_the_queue_does_not_say_which_receive_is_the_last_it_comes_again(take: Any) -> None:
    answer = take(batch(MOST), Queue(is_down=True))
    assert [one["itemIdentifier"] for one in answer["batchItemFailures"]] == ["m0"]


def test_a_hold_that_cannot_be_confirmed_is_dead_lettered_at_its_last_receive() -> None:
    queue = Queue()
    broken: Any = {"order": SimpleNamespace(all=[SimpleNamespace(confirm=1, service="inventory")])}
    sagas = {"order": SimpleNamespace(all=broken["order"].all, by_name={})}
    source: Any = lambda _: queue  # noqa: E731
    answer = confirm.handle_batch(None, "t", "inventory", sagas, batch(1, MOST), source)  # type: ignore[arg-type]
    assert [one["itemIdentifier"] for one in answer["batchItemFailures"]] == ["m0"]
    ((name, reason),) = queue.dead_lettered
    assert name == "m1" and reason.startswith("AttributeError: ")


def test_a_wake_up_that_says_nothing_is_dead_lettered_at_once() -> None:
    queue = Queue()
    source: Any = lambda _: queue  # noqa: E731
    nothing: Any = Broken()
    answer = webhook_dispatch.handle_batch(nothing, [message("m", "{}", 1)], nothing, source)
    assert answer == {"batchItemFailures": []}
    answer = webhook_deliver.handle_batch(nothing, [message("n", "[]", 1)], source, nothing)
    assert answer == {"batchItemFailures": []}
    assert [name for name, _ in queue.dead_lettered] == ["m", "n"]
    assert all(
        reason.startswith("PoisonError: it does not name") for _, reason in queue.dead_lettered
    )


@pytest.mark.parametrize(
    "body", ['{"webhook_id": 1, "lane": "l"}', '{"webhook_id": "\\ud800", "lane": ""}']
)
def test_a_wake_up_of_a_lane_that_is_not_text_is_dead_lettered_at_once(body: str) -> None:
    queue, nothing = Queue(), cast("Any", Broken())
    source: Any = lambda _: queue  # noqa: E731
    answer = webhook_deliver.handle_batch(nothing, [message("m", body, 1)], source, nothing)
    assert answer == {"batchItemFailures": []}
    assert [name for name, _ in queue.dead_lettered] == ["m"]


class Pusher:
    """A pusher that reads its connections from a real table."""

    def __init__(self, connections: Any) -> None:
        self.connections = connections
        self.pushed: list[tuple[str, str, int]] = []

    def for_a_batch(self) -> Pusher:
        return self

    def push(self, owner: str, name: str, wanted: int, *, until: float) -> bool:
        self.pushed.append((owner, name, wanted))
        return True


def test_a_wake_up_that_can_never_be_read_stops_no_other() -> None:
    """An owner who is no key of any table, digits that are none, and an owner who fails."""
    open_to = SimpleNamespace(name="socket", position=0)

    def of(owner: str) -> list[Any]:
        if owner == "broken":
            raise RuntimeError("it does not work")
        return (
            [open_to] if owner == "asha" else Connections(cast("Any", None), "t", most=1).of(owner)
        )

    connections = SimpleNamespace(clock=lambda: 0.0, of=of)
    queue, pusher, nothing = Queue(), Pusher(connections), cast("Any", Broken())

    def wake(name: str, **attributes: str) -> dict[str, Any]:
        told = {key: {"stringValue": text} for key, text in attributes.items()}
        return message(name, "{}", 1) | {"messageAttributes": told}

    records = [
        wake("long", owner="x" * 2048, position="1"),
        wake("digits", owner="asha", position="²"),
        wake("many", owner="asha", position="9" * 5000),
        wake("broken", owner="broken", position="1"),
        wake("good", owner="asha", position="0000000000000000001"),
    ]
    answer = push.handle_batch(pusher, nothing, records, lambda _: queue)  # type: ignore[arg-type,return-value]
    assert pusher.pushed == [("asha", "socket", 1)]
    assert {name for name, _ in queue.dead_lettered} == {"long", "digits", "many"}
    assert [one["itemIdentifier"] for one in answer["batchItemFailures"]] == ["broken"]
