"""The suite finds a channel that breaks a promise: each property, broken on purpose."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from recourse.functions.batch import handle_each
from recourse.queues.message import Message
from recourse.testing.handlers import Killed
from tests.push import test_conformance as suite
from tests.push.bed import Application, Bed
from tests.push.channels import IN_TIME, Pull, SqsToLambda, Webhook


class DeletesFirst(SqsToLambda):
    """Deletes a batch before it is taken: at most once."""

    def deliver(self) -> bool:
        if self.bed.is_down or not (records := self.bed.batch(self.url)):
            return False
        self.bed.settle(self.url, records, {"batchItemFailures": []})
        try:
            handle_each(self._handle, records, self.bed.source, IN_TIME)
        except Killed:
            return True
        return True


class MovesOn(Pull):
    """Keeps its cursor before it has taken the event."""

    def follow(self, events: Iterator[tuple[Mapping[str, Any], str]]) -> bool:
        came = False
        for told, self.cursor in events:
            came = True
            try:
                self.app.take(told)
            except BaseException:
                return True
        return came


class Turned(Pull):
    """Brings the newest first."""

    def follow(self, events: Iterator[tuple[Mapping[str, Any], str]]) -> bool:
        entries = self.bed.feed.read("asha", 0)
        if len(self.app.arrived) == len(entries):
            return False
        for entry in reversed(entries):
            self.app.take(entry.event.to_dict())
        return True


class NeverGivesUp(SqsToLambda):
    """Sends what fails again as new, so that nothing counts its attempts."""

    def _handle(self, message: Message) -> None:
        try:
            super()._handle(message)
        except Exception:
            if self.app.tries["saga-1.2"] > 50:
                raise
            self.bed.sqs.send_message(QueueUrl=self.url, MessageBody=message.body)


class OneForAll(Webhook):
    """Says that nothing waits behind a failure, where a saga does."""

    promises = SqsToLambda.promises


NOTHING_LOST = suite.test_nothing_is_lost_and_each_has_one_effect_in_order_where_that_is_promised


@pytest.mark.parametrize("mutant", [DeletesFirst, MovesOn])
@pytest.mark.parametrize("fault", ["random failures", "consumer killed"])
def test_a_channel_that_loses_is_found(ground: Bed, mutant: Any, fault: Any) -> None:
    with pytest.raises(AssertionError):
        NOTHING_LOST(mutant, ground, fault)


def test_a_consumer_without_an_inbox_is_found(
    ground: Bed,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("recourse.queues.inbox.Inbox.once", lambda *_: True)
    with pytest.raises(AssertionError):
        NOTHING_LOST(SqsToLambda, ground, "duplicates")


@pytest.mark.parametrize(
    ("mutant", "property"),
    [
        (Turned, lambda make, bed: NOTHING_LOST(make, bed, "none")),
        (NeverGivesUp, suite.test_poison_is_tried_so_often_and_dead_lettered_and_the_rest_is_done),
        (OneForAll, suite.test_what_waits_behind_poison_is_what_the_channel_says),
        (OneForAll, suite.test_a_channel_that_promises_no_order_really_keeps_none),
    ],
    ids=["order", "bounded attempts", "isolation", "no order"],
)
def test_a_channel_that_breaks_its_promise_is_found(
    ground: Bed,
    mutant: Any,
    property: Callable[[Any, Bed], None],
) -> None:
    with pytest.raises(AssertionError):
        property(mutant, ground)


def test_a_consumer_that_does_not_look_at_the_sequence_is_found(
    ground: Bed,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Application, "_last", lambda *_: 1_000)
    with pytest.raises(AssertionError):
        suite.test_a_consumer_restores_the_order_by_sequence(SqsToLambda, ground, "duplicates")
