"""The probe, which measures the channels; only with the context `probe=on`."""

from __future__ import annotations

from aws_cdk import CfnOutput, Duration, Stack
from aws_cdk.aws_lambda_destinations import SqsDestination
from aws_cdk.aws_sns import SubscriptionFilter
from aws_cdk.aws_sns_subscriptions import LambdaSubscription
from aws_cdk.aws_sqs import DeadLetterQueue, Queue, QueueEncryption
from constructs import Construct

from lambdas.probe import MAY, PULLED, PUSHED, WORKED
from recourse.cdk.events import EventBackbone
from recourse.cdk.function import HandlerFunction
from recourse.cdk.queues import RECEIVES, Deadletters, PullConsumer, queue_called, subscribe
from recourse.cdk.rights import explain, use_key, use_table
from recourse.cdk.services import Services
from recourse.cdk.stage import Stage
from recourse.cdk.tables import KeptTable

TIMEOUT = Duration.seconds(3)
NOT_REDRIVEN = "they are measurements of a run that has ended"


class Probe(Construct):
    """A subscriber by SNS to Lambda, a consumer by SQS to Lambda, and a queue for workers."""

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        stage: Stage,
        services: Services,
        events: EventBackbone,
    ) -> None:
        super().__init__(scope, name)
        self._stage, self._events = stage, events
        self._effects = KeptTable(self, "Effects", stage=stage, key=services.key)
        self._push()
        pulled = PullConsumer(
            self,
            "PullEvents",
            stage=stage,
            called=PULLED.name,
            function=self._function("Pull", "lambdas.probe.pulled"),
            topic=events.feed,
            only=PULLED.hears,
            key=events.key,
            alarm=events.alarm,
        )
        worked = self._worked()
        stack = Stack.of(self)
        CfnOutput(stack, "ProbeTableName", value=self._effects.table_name)
        CfnOutput(stack, "ProbePullQueueArn", value=pulled.queue.queue_arn)
        CfnOutput(stack, "ProbeWorkerQueueUrl", value=worked.queue_url)

    def _function(self, name: str, handler: str) -> HandlerFunction:
        function = HandlerFunction(
            self,
            name,
            stage=self._stage,
            handler=handler,
            environment={"PROBE_TABLE": self._effects.table_name},
            timeout=TIMEOUT,
        )
        use_table(self._effects, function, *MAY["table"])
        return function

    def _push(self) -> None:
        lost = self._lost("PushDeadletters", PUSHED.name)
        function = self._function("Push", "lambdas.probe.pushed")
        function.configure_async_invoke(on_failure=SqsDestination(lost), retry_attempts=2)
        use_key(self._events.key, function)
        explain(
            function.own_role,
            "AwsSolutions-IAM5[Action::kms:GenerateDataKey*]",
            "AwsSolutions-IAM5[Action::kms:ReEncrypt*]",
            reason="the CDK's grant to dead-letter messages, on this app's own key",
        )
        self._events.feed.add_subscription(
            LambdaSubscription(
                function,
                dead_letter_queue=lost,
                filter_policy={
                    attribute: SubscriptionFilter.string_filter(allowlist=list(values))
                    for attribute, values in PUSHED.hears.items()
                },
            )
        )

    def _worked(self) -> Queue:
        lost = self._lost("WorkerDeadletters", WORKED.name)
        queue = Queue(
            self,
            "Worker",
            queue_name=queue_called(self._stage, WORKED.name),
            encryption=QueueEncryption.KMS,
            encryption_master_key=self._events.key,
            enforce_ssl=True,
            visibility_timeout=Duration.seconds(30),
            retention_period=Duration.days(14),
            dead_letter_queue=DeadLetterQueue(queue=lost, max_receive_count=RECEIVES),
        )
        subscribe(self._events.feed, queue, lost, only=WORKED.hears)
        return queue

    def _lost(self, name: str, called: str) -> Deadletters:
        return Deadletters(
            self,
            name,
            stage=self._stage,
            called=called,
            why_not=NOT_REDRIVEN,
            key=self._events.key,
            alarm=self._events.alarm,
        )
