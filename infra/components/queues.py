"""Queues and their consumers: nothing is dropped without a trace, and a batch fails in part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aws_cdk import Duration
from aws_cdk.aws_cloudwatch import ComparisonOperator, IAlarmAction, IMetric, TreatMissingData
from aws_cdk.aws_kms import IKey
from aws_cdk.aws_lambda import Function
from aws_cdk.aws_lambda_event_sources import SqsEventSource
from aws_cdk.aws_sns import ITopic, SubscriptionFilter
from aws_cdk.aws_sns_subscriptions import SqsSubscription
from aws_cdk.aws_sqs import DeadLetterQueue, Queue, QueueEncryption
from constructs import Construct

from infra.components.rights import explain

RECEIVES = 5
"""How often a message is delivered before it is set aside; fewer would lose it to throttling."""


class Deadletters(Queue):
    """Where messages rest that could not be taken, for two weeks, with an alarm on the first."""

    def __init__(self, scope: Construct, name: str, *, key: IKey, alarm: IAlarmAction) -> None:
        super().__init__(
            scope,
            name,
            encryption=QueueEncryption.KMS,
            encryption_master_key=key,
            enforce_ssl=True,
            retention_period=Duration.days(14),
        )
        explain(self, "AwsSolutions-SQS3", reason="it is where undeliverable messages rest")
        alarm_above(
            self,
            "Waiting",
            self.metric_approximate_number_of_messages_visible(statistic="Maximum"),
            threshold=0,
            action=alarm,
        )


class QueueConsumer(Construct):
    """A queue on a topic, and the function that takes its messages in batches.

    Args:
        scope: Where it belongs.
        name: Its construct id.
        function: Takes the batches; answers with `batchItemFailures`.
        topic: Whose messages they are.
        only: What it listens to, by message attribute; everything where it is absent.
        key: What the queues are encrypted with.
        alarm: What is told when messages wait too long or are set aside.
        at_once: How many batches at the same time at the most.

    Attributes:
        queue: The queue.
        deadletters: Where messages go that fail for good.
    """

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        function: Function,
        topic: ITopic,
        only: Mapping[str, Sequence[str]] | None = None,
        key: IKey,
        alarm: IAlarmAction,
        at_once: int = 10,
    ) -> None:
        super().__init__(scope, name)
        if function.timeout is None:
            raise ValueError(f"the function of {name} has no timeout of its own")
        self.deadletters = Deadletters(self, "Deadletters", key=key, alarm=alarm)
        self.queue = Queue(
            self,
            "Queue",
            encryption=QueueEncryption.KMS,
            encryption_master_key=key,
            enforce_ssl=True,
            visibility_timeout=Duration.seconds(6 * function.timeout.to_seconds()),
            retention_period=Duration.days(14),
            dead_letter_queue=DeadLetterQueue(queue=self.deadletters, max_receive_count=RECEIVES),
        )
        subscribe(topic, self.queue, self.deadletters, only=only)
        function.add_event_source(
            SqsEventSource(
                self.queue,
                batch_size=10,
                report_batch_item_failures=True,
                max_concurrency=at_once,
            )
        )
        alarm_above(
            self,
            "Late",
            self.queue.metric_approximate_age_of_oldest_message(statistic="Maximum"),
            threshold=300,
            action=alarm,
        )


def subscribe(
    topic: ITopic,
    queue: Queue,
    deadletters: Queue,
    *,
    only: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Put a queue on a topic, raw, with what cannot be delivered set aside."""
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
    """An alarm for a metric above a threshold; silence is no alarm."""
    alarm = metric.create_alarm(  # type: ignore[attr-defined]
        scope,
        name,
        threshold=threshold,
        evaluation_periods=1,
        comparison_operator=ComparisonOperator.GREATER_THAN_THRESHOLD,
        treat_missing_data=TreatMissingData.NOT_BREACHING,
    )
    alarm.add_alarm_action(action)
