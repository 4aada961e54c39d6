"""The rights of whoever erases a person's data, and where the data are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aws_cdk import CfnOutput, Stack
from aws_cdk.aws_dynamodb import Table
from aws_cdk.aws_iam import ManagedPolicy, PolicyStatement
from aws_cdk.aws_s3 import Bucket
from constructs import Construct

from infra.stacks.events import EventsStack
from infra.stacks.live import LiveStack
from infra.stacks.services import ServicesStack
from infra.stacks.subscribers import SubscribersStack
from infra.stacks.valet import ValetStack
from infra.stacks.webhooks import WebhooksStack
from recourse.cdk.rights import explain, wildcard

ROWS = ("dynamodb:Scan", "dynamodb:GetItem", "dynamodb:UpdateItem")
UPLOADS = ("objects/*", "incoming/*", "quarantine/*")


class ErasureStack(Stack):
    """A policy for `recourse erase`, attached to nobody, and the output that it reads.

    No function has these rights: to scan every table, to delete rows, and every version of objects.
    An operator takes a role that has the policy for as long as an erasure lasts.
    """

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        services: ServicesStack,
        events: EventsStack,
        subscribers: SubscribersStack,
        valet: ValetStack,
        webhooks: WebhooksStack,
        live: LiveStack,
    ) -> None:
        super().__init__(scope, name)
        rows = [*services.tables.values(), *subscribers.tables.values()]
        change = "dynamodb:DeleteItem"
        self._policy = ManagedPolicy(
            self,
            "Erase",
            description="For an operator who erases a person's data (recourse erase)",
            statements=[
                self._of_tables(rows, *ROWS),
                self._of_tables([events.ledger], *ROWS, "dynamodb:PutItem", change),
                self._of_tables([events.feed_table], "dynamodb:GetItem", "dynamodb:Query", change),
                self._of_tables([webhooks.table], *ROWS, "dynamodb:BatchGetItem", change),
                self._of_tables(
                    [valet.table],
                    "dynamodb:Scan",
                    "dynamodb:BatchGetItem",
                    "dynamodb:UpdateItem",
                    change,
                ),
                self._of_tables([live.connections], "dynamodb:Scan", change),
                PolicyStatement(
                    actions=["s3:ListBucketVersions"],
                    resources=[valet.bucket.bucket_arn, services.documents.bucket_arn],
                ),
                self._of_objects(valet.bucket, "s3:DeleteObjectVersion", UPLOADS),
                self._of_objects(valet.bucket, "s3:AbortMultipartUpload", ["incoming/*"]),
                *(
                    [
                        self._of_objects(
                            services.documents, "s3:DeleteObjectVersion", services.erased
                        )
                    ]
                    if services.erased
                    else []
                ),
                PolicyStatement(
                    actions=["kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey"],
                    resources=[
                        one.key_arn for one in (services.key, events.key, valet.key, webhooks.key)
                    ],
                ),
                PolicyStatement(
                    actions=["cloudformation:DescribeStacks"],
                    resources=[
                        self.format_arn(
                            service="cloudformation",
                            resource="stack",
                            resource_name=f"{self.stack_name}/*",
                        )
                    ],
                ),
            ],
        )
        self._explain(valet.bucket, UPLOADS)
        self._explain(services.documents, services.erased)
        explain(
            self._policy,
            "AwsSolutions-IAM5[Resource::arn:<AWS::Partition>:cloudformation:<AWS::Region>:"
            f"<AWS::AccountId>:stack/{self.stack_name}/*]",
            reason="the id of this very stack, which is not known before it is made",
        )
        places = {
            "ledger": events.ledger.table_name,
            "feed": events.feed_table.table_name,
            "services": _names(services.tables),
            "consumers": _names(subscribers.tables),
            "webhooks": webhooks.table.table_name,
            "connections": live.connections.table_name,
            "valet": valet.table.table_name,
            "uploads": valet.bucket.bucket_name,
            "documents": services.documents.bucket_name,
        }
        CfnOutput(self, "Places", value=self.to_json_string(places))
        CfnOutput(self, "ErasurePolicyArn", value=self._policy.managed_policy_arn)

    def _of_tables(self, tables: Sequence[Table], *actions: str) -> PolicyStatement:
        return PolicyStatement(
            actions=list(actions), resources=[table.table_arn for table in tables]
        )

    def _of_objects(self, bucket: Bucket, action: str, prefixes: Sequence[str]) -> PolicyStatement:
        return PolicyStatement(
            actions=[action], resources=[bucket.arn_for_objects(prefix) for prefix in prefixes]
        )

    def _explain(self, bucket: Bucket, prefixes: Sequence[str]) -> None:
        for prefix in prefixes:
            explain(
                self._policy,
                wildcard(bucket, "Arn", after=f"/{prefix}", seen_from=self),
                reason="every version of a person's objects is deleted, wherever they lie there",
            )


def _names(tables: Mapping[str, Table]) -> dict[str, str]:
    return {name: table.table_name for name, table in tables.items()}
