"""Valet keys: their table, their bucket, the key that signs tokens, and the functions' rights."""

from __future__ import annotations

from aws_cdk import Duration
from aws_cdk.aws_events import EventPattern, Match, Rule, Schedule
from aws_cdk.aws_events_targets import LambdaFunction
from aws_cdk.aws_kms import Key, KeySpec, KeyUsage
from constructs import Construct

from recourse.cdk.events import EventBackbone
from recourse.cdk.function import HandlerFunction
from recourse.cdk.indexes import VALET_INDEXES
from recourse.cdk.queues import Deadletters, alarm_above
from recourse.cdk.rights import CHECK, WRITE, allow, explain, use_key, use_table, wildcard
from recourse.cdk.services import Services
from recourse.cdk.stage import Stage
from recourse.cdk.tables import ListedTable
from recourse.cdk.valet_bucket import ValetBucket

CHANGES = ("dynamodb:BatchGetItem", *WRITE)
COMMITS = {
    "incoming/*": (
        "s3:AbortMultipartUpload",
        "s3:DeleteObjectVersion",
        "s3:GetObject",
        "s3:GetObjectVersion",
        "s3:ListMultipartUploadParts",
        "s3:PutObject",
    ),
    "objects/*": ("s3:DeleteObjectVersion", "s3:PutObject", "s3:PutObjectVersionTagging"),
    "quarantine/*": ("s3:PutObject",),
}
"""The S3 actions that committing or quarantining an upload needs, by prefix."""


class ValetKeys(Construct):
    """Everything that valet keys need, except the API that issues them.

    ::

        valet = ValetKeys(stack, "Valet", stage=stage, services=services, events=events)
        valet.bucket.add_lifecycle_rule(prefix="objects/", expiration=Duration.days(365))

    Args:
        scope: The construct that contains it.
        name: Its construct id.
        stage: The deployment.
        services: Those whose documents keys can give access to.
        events: Where operators are alerted.

    Attributes:
        table: The valet table.
        bucket: The documents.
        signing_key: The key that signs tokens, which never leaves KMS.
        deadletters: Keep S3's events that could not be processed.
        redeems: The function that redeems keys; its role signs URLs, for two prefixes only.
    """

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
        self._stage = stage
        self._services = services
        self._events = events
        self.key = services.key
        if stage.has_every_key:
            self.key = Key(self, "Key", enable_key_rotation=True, removal_policy=stage.removal)
        self.signing_key = Key(
            self,
            "SigningKey",
            key_spec=KeySpec.ECC_NIST_P256,
            key_usage=KeyUsage.SIGN_VERIFY,
            removal_policy=stage.removal,
        )
        self.table = ListedTable(
            self, "ValetTable", stage=stage, key=self.key, indexes=VALET_INDEXES
        )
        self.bucket = ValetBucket(self, "Valet", stage=stage, key=self.key)
        self.redeems = self._redeems()
        self.deadletters = [self._commits()]

    @property
    def environment_of_keys(self) -> dict[str, str]:
        """The environment of every function that works with valet keys."""
        return {
            "VALET_TABLE": self.table.table_name,
            "VALET_BUCKET": self.bucket.bucket_name,
            "VALET_ISSUER": f"urn:recourse:{self._stage.name}",
        }

    def let_issue(self, function: HandlerFunction) -> None:
        """Let a function issue keys, list them, and have tokens signed."""
        use_table(self.table, function, *CHANGES, indexes=list(VALET_INDEXES))
        for action in ("kms:GetPublicKey", "kms:Sign"):
            allow(function, action, self.signing_key.key_arn)
        self._let_read(function, "s3:GetObject", "it looks up the version that a step has stored")

    def let_commit(self, function: HandlerFunction) -> None:
        """Let a function commit or quarantine uploads, and delete what remains of them."""
        use_key(self.key, function)
        # Without it S3 answers 403 instead of 404 for an object that does not exist.
        allow(function, "s3:ListBucket", self.bucket.bucket_arn)
        for prefix, actions in COMMITS.items():
            for action in actions:
                allow(function, action, self.bucket.arn_for_objects(prefix))
            self._explain(function, prefix, "uploads land, become visible or are quarantined there")

    def let_lend_results(self, prefix: str) -> None:
        """Let keys be redeemed for what lies under a prefix, besides uploads and documents."""
        allow(self.redeems, "s3:GetObjectVersion", self.bucket.arn_for_objects(prefix))
        self._explain(self.redeems, prefix, "each URL that it signs is for one object there")
        self.bucket.open_to_signer(prefix)

    def _redeems(self) -> HandlerFunction:
        function = HandlerFunction(
            self,
            "Redeem",
            stage=self._stage,
            handler="recourse.functions.valet.handler",
            environment=self.environment_of_keys,
            timeout=Duration.seconds(10),
            memory=1024,
        )
        use_table(self.table, function, *CHANGES, CHECK)
        use_key(self.key, function)
        for action, prefix in (
            ("s3:PutObject", "incoming/*"),
            ("s3:GetObjectVersion", "objects/*"),
        ):
            allow(function, action, self.bucket.arn_for_objects(prefix))
            self._explain(function, prefix, "each URL that it signs is for one object there")
        self._let_read(function, "s3:GetObjectVersion", "it signs URLs of steps' documents")
        use_key(self._services.key, function)
        self.bucket.keep_within(function.own_role)
        if self._stage.malware_scan:
            self.bucket.hide_until_scanned(function.own_role)
        alarm_above(
            self,
            "RedeemErrors",
            function.metric_errors(),
            stage=self._stage,
            threshold=0,
            action=self._events.alarm,
        )
        return function

    def _commits(self) -> Deadletters:
        function = HandlerFunction(
            self,
            "ValetCommit",
            stage=self._stage,
            handler="recourse.functions.valet_commit.handler",
            environment={
                name: value
                for name, value in self.environment_of_keys.items()
                if name != "VALET_ISSUER"
            },
            timeout=Duration.minutes(5),
            memory=1024,
        )
        use_table(self.table, function, *CHANGES)
        self.let_commit(function)
        allow(function, "s3:ListBucketMultipartUploads", self.bucket.bucket_arn)
        alarm_above(
            self,
            "ValetCommitErrors",
            function.metric_errors(),
            stage=self._stage,
            threshold=0,
            action=self._events.alarm,
        )
        lost = Deadletters(
            self,
            "ValetCommitDeadletters",
            stage=self._stage,
            called="ValetCommit",
            why_not="it holds S3's events: complete the upload with the API, which does the same",
            key=self._events.key,
            alarm=self._events.alarm,
        )
        target = LambdaFunction(function, dead_letter_queue=lost, retry_attempts=3)
        Rule(
            self,
            "Landed",
            event_pattern=EventPattern(
                source=["aws.s3"],
                detail_type=["Object Created"],
                detail={
                    "bucket": {"name": [self.bucket.bucket_name]},
                    "object": {"key": Match.prefix("incoming/")},
                },
            ),
            targets=[target],
        )
        Rule(self, "EveryHour", schedule=Schedule.rate(Duration.hours(1)), targets=[target])
        return lost

    def _let_read(self, function: HandlerFunction, action: str, reason: str) -> None:
        documents = self._services.documents
        for prefix in self._services.lent:
            allow(function, action, documents.arn_for_objects(prefix))
            explain(
                function.own_role,
                wildcard(documents, "Arn", after=f"/{prefix}", seen_from=function),
                reason=reason,
            )

    def _explain(self, function: HandlerFunction, prefix: str, reason: str) -> None:
        explain(
            function.own_role,
            wildcard(self.bucket, "Arn", after=f"/{prefix}", seen_from=function),
            reason=reason,
        )
