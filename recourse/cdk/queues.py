"""Queues and their consumers: with dead-letter queues and partial batch responses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from aws_cdk import Duration
from aws_cdk.aws_cloudwatch import ComparisonOperator, IAlarmAction, IMetric, TreatMissingData
from aws_cdk.aws_iam import IGrantable
from aws_cdk.aws_kms import IKey
from aws_cdk.aws_lambda import CfnFunction, Function
from aws_cdk.aws_lambda_event_sources import SqsEventSource
from aws_cdk.aws_sns import ITopic, SubscriptionFilter
from aws_cdk.aws_sns_subscriptions import SqsSubscription
from aws_cdk.aws_sqs import (
    DeadLetterQueue,
    DeduplicationScope,
    FifoThroughputLimit,
    Queue,
    QueueEncryption,
)
from constructs import Construct

from recourse.cdk.function import HandlerFunction
from recourse.cdk.rights import allow, explain, use_key
from recourse.cdk.stage import Stage
from recourse.cdk.worker import Worker
from recourse.errors import RecourseError
from recourse.queues.deadletters import FIFO_SUFFIX, deadletters_of

RECEIVES = 5
"""How often a message is received before it is dead-lettered; fewer would lose it to throttling."""
AT_ONCE, TASKS = 150, 10
"""How many batches a function takes at the same time, or how many tasks of a worker there are, at
the most: for four messages of each of 1,000 sagas a second, where a batch takes 0.3 s."""
AT_ONCE_OF_EVERY_EVENT = 400
"""The same for a consumer that hears every event: up to 13 of each of 1,000 sagas a second."""


BACKLOG = 1000
"""How many messages may wait, all the time of a period, where their age says nothing."""


class UnsafeQueueError(RecourseError, ValueError):
    """A consumer that would lose or repeat messages; the message names it and says why."""


class Deadletters(Queue):
    """Keeps messages that could not be processed, for two weeks, with an alarm on the first.

    Args:
        scope: Where it belongs.
        name: Its construct id.
        stage: The deployment.
        called: What operators call it, and what its name in SQS is made from.
        why_not: Why its messages cannot be redriven; they go back to the queue of that name
            (`queue_called`) where nothing is said.
        key: What it is encrypted with.
        alarm: What is told of the first message.
        fifo: Whether it belongs to a FIFO queue; `called` then ends in `.fifo`.

    Attributes:
        called: What operators call it.
        why_not: Why its messages cannot be redriven, if they cannot.
    """

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        stage: Stage,
        called: str,
        why_not: str | None = None,
        key: IKey,
        alarm: IAlarmAction,
        fifo: bool = False,
    ) -> None:
        self.called = called
        self.why_not = why_not
        super().__init__(
            scope,
            name,
            queue_name=deadletters_of(queue_called(stage, called)),
            fifo=fifo or None,
            encryption=QueueEncryption.KMS,
            encryption_master_key=key,
            enforce_ssl=True,
            retention_period=Duration.days(14),
        )
        explain(self, "AwsSolutions-SQS3", reason="it is a dead-letter queue itself")
        alarm_above(
            self,
            "Waiting",
            self.metric_approximate_number_of_messages_visible(statistic="Maximum"),
            threshold=0,
            action=alarm,
        )


def queue_called(stage: Stage, called: str) -> str:
    """The name in SQS of a queue, by the name that operators use."""
    return f"{stage.prefix}-{called}"


class PullConsumer(Construct):
    """A queue, on a topic or not, and its consumer: a function in batches, or a worker.

    Failures of a batch are always reported one by one; there is no way to ask for less. A FIFO
    queue keeps the order of each group of messages, and its groups do not wait for each other; a
    function must not answer that a message failed without those behind it in its group
    (`recourse.functions.batch` sees to that).

    Args:
        scope: Where it belongs.
        name: Its construct id.
        stage: The deployment.
        called: What operators call it, with `.fifo` behind it where it is one; its queues' names
            are made from it.
        function: Takes the messages, and may put them off, and dead-letter them with a reason. A
            function answers with `batchItemFailures`.
        topic: Whose messages they are; None where they are sent to the queue itself.
        only: What it listens to, by message attribute; everything where it is absent.
        key: What the queues are encrypted with.
        alarm: What is told when messages wait too long or are dead-lettered.
        at_once: How many batches at the same time at the most, no more than the function's
            reserved concurrency, where it has one; or how many tasks of a worker. By default
            `AT_ONCE` and `TASKS`.
        receives: How often a message is delivered before it is dead-lettered.
        visibility: How long a message that is being taken stays away from others; by default, and
            at least, six times the function's timeout. A worker says so itself.
        batch: How many messages a batch has at the most; a worker takes them one by one.
        puts_off: Whether messages are put off for hours on purpose: then their age says nothing,
            and the alarm is for how many wait that could be taken.
        fifo: Whether it is a FIFO queue. Who sends to it names each message's group, and an id by
            which it is known if it is sent again within five minutes.

    Attributes:
        queue: The queue.
        deadletters: Where messages go that fail for good.

    Raises:
        UnsafeQueueError: The settings would lose messages or deliver them while they are taken.
    """

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        stage: Stage,
        called: str,
        function: Function | Worker,
        topic: ITopic | None,
        only: Mapping[str, Sequence[str]] | None = None,
        key: IKey,
        alarm: IAlarmAction,
        at_once: int | None = None,
        receives: int = RECEIVES,
        visibility: Duration | None = None,
        batch: int = 10,
        puts_off: bool = False,
        fifo: bool = False,
    ) -> None:
        super().__init__(scope, name)
        self._function = function
        self._key = key
        at_once = at_once or (AT_ONCE if isinstance(function, Function) else TASKS)
        if isinstance(function, Function):
            visibility = _safe_visibility(name, function, visibility)
            _check_concurrency(name, function, at_once)
        if receives < RECEIVES:
            raise UnsafeQueueError(
                f"{name}: dead-lettered after {receives} receives, a message is lost to "
                f"throttling; receives must be at least {RECEIVES}, got {receives}"
            )
        if fifo:
            if topic and not topic.fifo:
                raise UnsafeQueueError(
                    f"{name}: a topic that keeps no order delivers to no FIFO queue; send to it"
                )
            called += FIFO_SUFFIX
        self.deadletters = Deadletters(
            self, "Deadletters", stage=stage, called=called, key=key, alarm=alarm, fifo=fifo
        )
        self.queue = Queue(
            self,
            "Queue",
            queue_name=queue_called(stage, called),
            fifo=fifo or None,
            deduplication_scope=DeduplicationScope.MESSAGE_GROUP if fifo else None,
            fifo_throughput_limit=FifoThroughputLimit.PER_MESSAGE_GROUP_ID if fifo else None,
            encryption=QueueEncryption.KMS,
            encryption_master_key=key,
            enforce_ssl=True,
            visibility_timeout=visibility,
            retention_period=Duration.days(14),
            dead_letter_queue=DeadLetterQueue(queue=self.deadletters, max_receive_count=receives),
        )
        if topic:
            subscribe(topic, self.queue, self.deadletters, only=only)
        taker = self._taken_by(function, at_once, batch)
        for action in ("sqs:SendMessage", "sqs:GetQueueUrl"):
            allow(taker, action, self.deadletters.queue_arn)
        use_key(key, taker)
        alarm_above(
            self,
            "Late",
            self.queue.metric_approximate_number_of_messages_visible(statistic="Minimum")
            if puts_off
            else self.queue.metric_approximate_age_of_oldest_message(statistic="Maximum"),
            threshold=BACKLOG if puts_off else 300,
            action=alarm,
        )

    def let_send(self, function: HandlerFunction) -> None:
        """Let a function send to the queue.

        Where it is the one that takes from it, it calls itself for as long as there is something
        left to do. Lambda takes that for a loop, and ends it after some 16 laps.
        """
        allow(function, "sqs:SendMessage", self.queue.queue_arn)
        use_key(self._key, function)
        if function is self._function:
            cast("CfnFunction", function.node.default_child).recursive_loop = "Allow"

    def _taken_by(self, function: Function | Worker, at_once: int, batch: int) -> IGrantable:
        """Grant a function or a worker the right to consume the messages."""
        if isinstance(function, Worker):
            self.queue.grant_consume_messages(function.own_role)
            function.serve(self.queue, at_once=at_once)
            return function.own_role
        function.add_event_source(
            SqsEventSource(
                self.queue,
                batch_size=batch,
                report_batch_item_failures=True,
                max_concurrency=at_once,
            )
        )
        return function


def _safe_visibility(name: str, function: Function, asked: Duration | None) -> Duration:
    if function.timeout is None:
        raise UnsafeQueueError(f"{name}: its function has no timeout of its own")
    least = Duration.seconds(6 * function.timeout.to_seconds())
    visibility = asked or least
    if visibility.to_seconds() < least.to_seconds():
        raise UnsafeQueueError(
            f"{name}: a visibility of {visibility.to_seconds():g} s is less than six times its "
            f"function's timeout, {least.to_seconds():g} s: messages would be received twice"
        )
    return visibility


def _check_concurrency(name: str, function: Function, at_once: int) -> None:
    reserved = cast("CfnFunction", function.node.default_child).reserved_concurrent_executions
    if not 2 <= at_once <= (reserved or 1000):
        raise UnsafeQueueError(
            f"{name}: {at_once} batches at once, where 2 to {reserved or 1000:g} can be: what "
            "is fetched beyond the function's concurrency is throttled until it is dead-lettered"
        )


def subscribe(
    topic: ITopic,
    queue: Queue,
    deadletters: Queue,
    *,
    only: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Subscribe a queue to a topic, raw; what cannot be delivered is dead-lettered."""
    filters = {
        name: SubscriptionFilter.string_filter(allowlist=list(values))
        for name, values in (only or {}).items()
    }
    topic.add_subscription(
        SqsSubscription(
            queue,
            raw_message_delivery=True,
            filter_policy=filters or None,
            dead_letter_queue=deadletters,
        )
    )


def alarm_above(
    scope: Construct, name: str, metric: IMetric, *, threshold: float, action: IAlarmAction
) -> None:
    """An alarm on a metric above a threshold; missing data does not raise it."""
    alarm = metric.create_alarm(  # type: ignore[attr-defined]
        scope,
        name,
        threshold=threshold,
        evaluation_periods=1,
        comparison_operator=ComparisonOperator.GREATER_THAN_THRESHOLD,
        treat_missing_data=TreatMissingData.NOT_BREACHING,
    )
    alarm.add_alarm_action(action)
