"""The services' resources: a table each, a function for each step, and the documents' bucket."""

from __future__ import annotations

from aws_cdk import Duration, Stack
from aws_cdk.aws_kms import Key
from aws_cdk.aws_s3 import (
    BlockPublicAccess,
    Bucket,
    BucketEncryption,
    LifecycleRule,
    ObjectOwnership,
)
from constructs import Construct

from recourse.cdk.function import HandlerFunction
from recourse.cdk.rights import explain
from recourse.cdk.stage import Stage
from recourse.cdk.steps import StepFunction
from recourse.cdk.tables import OutboxTable
from recourse.cdk.valet_bucket import expiring, only_fresh_signatures
from recourse.declare.saga import Saga


class ServicesStack(Stack):
    """Every service that a saga uses, made from the declarations.

    Attributes:
        tables: The table of each service.
        functions: The function of each step, by `Step.function`.
        documents: The bucket of the documents that steps store.
        lent: The prefixes in it that valet keys can give access to, such as `invoices/*`.
        erased: Those of documents that are not kept when their owner's data are erased.
    """

    def __init__(self, scope: Construct, name: str, *, stage: Stage, sagas: list[Saga]) -> None:
        super().__init__(scope, name)
        self._stage = stage
        self.key = Key(self, "Key", enable_key_rotation=True, removal_policy=stage.removal)
        steps = {step.function: step for saga in sagas for step in saga.all}
        self.documents = self._bucket()
        storing = {step.service for step in steps.values() if step.action.documents}
        self.lent = [f"{service}/*" for service in sorted(storing)]
        kept = {step.service for step in steps.values() if step.action.keeps_documents}
        self.erased = [f"{service}/*" for service in sorted(storing - kept)]
        self.tables = {
            service: OutboxTable(self, f"{service.title()}Table", stage=stage, key=self.key)
            for service in sorted({step.service for step in steps.values()})
        }
        self.functions: dict[str, HandlerFunction] = {
            name: StepFunction(
                self,
                name,
                stage=stage,
                step=step,
                handler="recourse.functions.step.handler",
                table=self.tables[step.service],
                documents=self.documents,
                key=self.key,
            )
            for name, step in sorted(steps.items())
        }

    def _bucket(self) -> Bucket:
        bucket = Bucket(
            self,
            "Documents",
            encryption=BucketEncryption.KMS,
            encryption_key=self.key,
            bucket_key_enabled=True,
            block_public_access=BlockPublicAccess.BLOCK_ALL,
            object_ownership=ObjectOwnership.BUCKET_OWNER_ENFORCED,
            enforce_ssl=True,
            versioned=True,
            removal_policy=self._stage.removal,
            lifecycle_rules=[
                LifecycleRule(abort_incomplete_multipart_upload_after=Duration.days(1)),
                *expiring("", self._stage.kept("documents")),
            ],
        )
        only_fresh_signatures(bucket)
        explain(bucket, "AwsSolutions-S1", reason="access to documents is audited by CloudTrail")
        return bucket
