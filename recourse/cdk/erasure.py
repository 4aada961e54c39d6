"""The rights of whoever erases a person's data, and where the data are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aws_cdk import Stack
from aws_cdk.aws_dynamodb import ITable
from aws_cdk.aws_iam import ManagedPolicy, PolicyStatement
from aws_cdk.aws_s3 import Bucket
from constructs import Construct

from recourse.cdk.api import SagaApi
from recourse.cdk.consumers import Consumers
from recourse.cdk.events import EventBackbone
from recourse.cdk.imports import RESULTS, WORK, Imports
from recourse.cdk.live import LiveChannels
from recourse.cdk.rights import explain, wildcard
from recourse.cdk.services import Services
from recourse.cdk.valet import ValetKeys
from recourse.cdk.webhooks import Webhooks

ROWS = ("dynamodb:Scan", "dynamodb:GetItem", "dynamodb:UpdateItem")
KEYS = ("dynamodb:Scan", "dynamodb:BatchGetItem", "dynamodb:UpdateItem")
UPLOADS = ("objects/*", "incoming/*", "quarantine/*")


class Erasure(Construct):
    """A policy for `recourse erase`, attached to nobody, and what that command must know.

    No function has these rights: to scan every table, to delete rows, and every version of objects.
    An operator takes a role that has the policy for as long as an erasure lasts. The command reads
    the output `Places` of the construct's stack.

    ::

        from aws_cdk import CfnOutput

        erasure = Erasure(
            stack,
            "Erasure",
            services=services,
            events=events,
            consumers=consumers,
            valet=valet,
            imports=imports,
            webhooks=webhooks,
            live=live,
        )
        CfnOutput(stack, "Places", value=erasure.places)

    Args:
        services: The services, whose rows name people.
        events: The ledger and the feed.
        consumers: Those that keep rows of their own, if there are any, as with the next.
        valet: Keys, and what was uploaded by them.
        imports: Imports, and their files.
        webhooks: Registrations, and their log.
        live: Connections.
        api: Without live channels: what an owner has under way is counted in a table of the API.

    Attributes:
        policy: The policy.
        places: Where the data are, as JSON.
    """

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        services: Services,
        events: EventBackbone,
        consumers: Consumers | None = None,
        valet: ValetKeys | None = None,
        imports: Imports | None = None,
        webhooks: Webhooks | None = None,
        live: LiveChannels | None = None,
        api: SagaApi | None = None,
    ) -> None:
        super().__init__(scope, name)
        stack = Stack.of(self)
        own = consumers.tables if consumers else {}
        rows = [*services.tables.values(), *own.values()]
        connections = live.connections if live else api.slots if api else None
        buckets = [*([valet.bucket] if valet else []), services.documents]
        keys = [services.key, events.key, *(one.key for one in (valet, webhooks) if one)]
        change = "dynamodb:DeleteItem"
        uploads = (*UPLOADS, *((WORK, RESULTS) if imports else ()))
        listed = [one.table for one in (valet, imports) if one]
        self.policy = ManagedPolicy(
            self,
            "Erase",
            description="For an operator who erases a person's data (recourse erase)",
            statements=[
                self._of_tables(rows, *ROWS),
                self._of_tables([events.ledger], *ROWS, "dynamodb:PutItem", change),
                self._of_tables([events.feed_table], "dynamodb:GetItem", "dynamodb:Query", change),
                *(
                    [self._of_tables([webhooks.table], *ROWS, "dynamodb:BatchGetItem", change)]
                    if webhooks
                    else []
                ),
                # One statement, for the policy's room: 6 KB, and each service takes some.
                *([self._of_tables(listed, *KEYS, change)] if listed else []),
                *([self._of_tables([connections], "dynamodb:Scan", change)] if connections else []),
                PolicyStatement(
                    actions=["s3:ListBucketVersions"],
                    resources=[one.bucket_arn for one in buckets],
                ),
                *(
                    [
                        self._of_objects(valet.bucket, "s3:DeleteObjectVersion", uploads),
                        self._of_objects(valet.bucket, "s3:AbortMultipartUpload", ["incoming/*"]),
                    ]
                    if valet
                    else []
                ),
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
                    resources=[one.key_arn for one in keys],
                ),
                PolicyStatement(
                    actions=["cloudformation:DescribeStacks"],
                    resources=[
                        stack.format_arn(
                            service="cloudformation",
                            resource="stack",
                            resource_name=f"{stack.stack_name}/*",
                        )
                    ],
                ),
            ],
        )
        if valet:
            self._explain(valet.bucket, uploads)
        self._explain(services.documents, services.erased)
        explain(
            self.policy,
            "AwsSolutions-IAM5[Resource::arn:<AWS::Partition>:cloudformation:<AWS::Region>:"
            f"<AWS::AccountId>:stack/{stack.stack_name}/*]",
            reason="the id of this very stack, which is not known before it is made",
        )
        places = {
            "ledger": events.ledger.table_name,
            "feed": events.feed_table.table_name,
            "services": _names(services.tables),
            "consumers": _names(own),
            "keeps": consumers.keeps if consumers else {},
            "webhooks": webhooks.table.table_name if webhooks else "",
            "connections": connections.table_name if connections else "",
            "valet": valet.table.table_name if valet else "",
            "imports": imports.table.table_name if imports else "",
            "uploads": valet.bucket.bucket_name if valet else "",
            "documents": services.documents.bucket_name,
        }
        self.places = stack.to_json_string(places)

    def _of_tables(self, tables: Sequence[ITable], *actions: str) -> PolicyStatement:
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
                self.policy,
                wildcard(bucket, "Arn", after=f"/{prefix}", seen_from=self),
                reason="every version of a person's objects is deleted, wherever they lie there",
            )


def _names(tables: Mapping[str, ITable]) -> dict[str, str]:
    return {name: table.table_name for name, table in tables.items()}
