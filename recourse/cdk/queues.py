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
"""The most batches that a function handles at the same time, and the most tasks of a worker: for
four messages of each of 1,000 sagas a second, if a batch takes 0.3 s."""
AT_ONCE_OF_EVERY_EVENT = 400
"""The same for a consumer that receives every event: up to 13 of each of 1,000 sagas a second."""
BACKLOG = 1000
"""How many messages may wait throughout a period, for a queue whose messages' age says nothing."""


class UnsafeQueueError(RecourseError, ValueError):
    """A consumer that would lose or repeat messages; the message names it and says why."""


class Deadletters(Queue):
    """Keeps messages that could not be processed, for two weeks, with an alarm on the first.

    A stage with few alarms has one for all of these queues (`Orchestration.watch`).

    Args:
        scope: The construct that contains it.
        name: Its construct id.
        stage: The deployment.
        called: The name that operators use, from which its name in SQS is made.
        why_not: Why its messages cannot be redriven. None if they can: they go back to the queue
            of that name (`queue_called`).
        key: The key that encrypts it.
        alarm: Notified of the first message.
        fifo: Whether it belongs to a FIFO queue; `called` then ends in `.fifo`.

    Attributes:
        called: The name that operators use.
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
            stage=stage,
            threshold=0,
            action=alarm,
        )


def queue_called(stage: Stage, called: str) -> str:
    """The name in SQS of a queue, by the name that operators use."""
    return f"{stage.prefix}-{called}"


class PullConsumer(Construct):
    """A queue, subscribed to a topic or not, and its consumer: a function or a worker.

    A function always reports the failures of a batch message by message. A FIFO queue keeps the
    order of each group of messages, and its groups do not wait for each other; a function that
    reports a message as failed must also report those behind it in its group
    (`recourse.functions.batch` does).

    ::

        parcels = PullConsumer(
            stack,
            "Parcels",
            stage=stage,
            called="Parcels",
            function=function,
            topic=events.feed,
            only={"saga": ["order"], "kind": ["succeeded"]},
            key=events.key,
            alarm=events.alarm,
        )

    Args:
        scope: The construct that contains it.
        name: Its construct id.
        stage: The deployment.
        called: The name that operators use, from which its queues' names are made; a FIFO queue's
            gets the suffix `.fifo`.
        function: Handles the messages, and may delay or dead-letter them. A function answers with
            `batchItemFailures`.
        topic: The topic to subscribe to; None if messages are sent to the queue itself.
        only: The values of message attributes to subscribe to; every message by default.
        key: The key that encrypts the queues.
        alarm: Notified when messages wait too long or are dead-lettered.
        at_once: The most batches at the same time, which must not exceed the function's reserved
            concurrency if it has one; or the most tasks of a worker. By default `AT_ONCE` and
            `TASKS`.
        receives: How often a message is received before it is dead-lettered.
        visibility: The visibility timeout; by default, and at least, six times the function's
            timeout. A worker sets it for each message.
        batch: The most messages of a batch; a worker handles them one by one.
        puts_off: Whether messages are delayed for hours on purpose: then their age says nothing,
            and the alarm is about the number of messages that could be received.
        fifo: Whether it is a FIFO queue. Senders give each message a group, and an id by which SQS
            recognises it if it is sent again within five minutes.

    Attributes:
        queue: The queue.
        deadletters: The dead-letter queue.

    Raises:
        UnsafeQueueError: The settings would lose messages, or receive them twice.
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
                f"{name}: receives must be at least {RECEIVES}, got {receives}: with fewer, "
                "throttling alone dead-letters a message"
            )
        if fifo:
            if topic and not topic.fifo:
                raise UnsafeQueueError(
                    f"{name}: a FIFO queue must have a FIFO topic or none: a standard topic cannot "
                    "deliver to it"
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
        grantee = self._consumed_by(function, at_once, batch)
        for action in ("sqs:SendMessage", "sqs:GetQueueUrl"):
            allow(grantee, action, self.deadletters.queue_arn)
        use_key(key, grantee)
        alarm_above(
            self,
            "Late",
            self.queue.metric_approximate_number_of_messages_visible(statistic="Minimum")
            if puts_off
            else self.queue.metric_approximate_age_of_oldest_message(statistic="Maximum"),
            stage=stage,
            threshold=BACKLOG if puts_off else 300,
            action=alarm,
        )

    def precede(self, construct: Construct) -> None:
        """Have a construct deployed only when messages arrive here and are handled.

        By then the subscription is there, and what lets the topic send; so is what handles the
        messages, though they would wait for it.
        """
        construct.node.add_dependency(self, self._function)

    def let_send(self, function: HandlerFunction) -> None:
        """Let a function send to the queue.

        The queue's own consumer then calls itself until there is no work left. Lambda would detect
        that as a loop and stop it after some 16 rounds, so it is told to allow it.
        """
        allow(function, "sqs:SendMessage", self.queue.queue_arn)
        use_key(self._key, function)
        if function is self._function:
            cast("CfnFunction", function.node.default_child).recursive_loop = "Allow"

    def _consumed_by(self, function: Function | Worker, at_once: int, batch: int) -> IGrantable:
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
        raise UnsafeQueueError(f"{name}: its function must have a timeout")
    least = Duration.seconds(6 * function.timeout.to_seconds())
    visibility = asked or least
    if visibility.to_seconds() < least.to_seconds():
        raise UnsafeQueueError(
            f"{name}: visibility must be at least six times its function's timeout, "
            f"{least.to_seconds():g} s, got {visibility.to_seconds():g} s: with less, messages "
            "would be received twice"
        )
    return visibility


def _check_concurrency(name: str, function: Function, at_once: int) -> None:
    reserved = cast("CfnFunction", function.node.default_child).reserved_concurrent_executions
    if not 2 <= at_once <= (reserved or 1000):
        raise UnsafeQueueError(
            f"{name}: at_once must be 2 to {reserved or 1000:g}, got {at_once}: batches beyond the "
            "function's concurrency are throttled until their messages are dead-lettered"
        )


def subscribe(
    topic: ITopic,
    queue: Queue,
    deadletters: Queue,
    *,
    only: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Subscribe a queue to a topic, with raw delivery; undeliverable messages are dead-lettered."""
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
    scope: Construct,
    name: str,
    metric: IMetric,
    *,
    stage: Stage,
    threshold: float,
    action: IAlarmAction,
    vital: bool = False,
) -> None:
    """An alarm on a metric above a threshold; missing data does not raise it.

    Args:
        scope: The construct that contains it.
        name: Its construct id.
        metric: The metric.
        stage: The deployment, which may have few alarms.
        threshold: The highest value that is no reason for alarm.
        action: Notified of the alarm.
        vital: Whether it is one of those few: it tells of something that only a person can mend.
    """
    if not (vital or stage.has_every_alarm):
        return
    alarm = metric.create_alarm(  # type: ignore[attr-defined]
        scope,
        name,
        alarm_description=f"docs/runbooks.md#{name.lower()}",
        threshold=threshold,
        evaluation_periods=1,
        comparison_operator=ComparisonOperator.GREATER_THAN_THRESHOLD,
        treat_missing_data=TreatMissingData.NOT_BREACHING,
    )
    alarm.add_alarm_action(action)
