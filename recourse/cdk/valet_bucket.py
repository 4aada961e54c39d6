"""The bucket of valet keys: its policy limits every request, whatever its signer's rights."""

from __future__ import annotations

from aws_cdk import Duration
from aws_cdk.aws_iam import AnyPrincipal, Effect, IRole, PolicyStatement
from aws_cdk.aws_kms import IKey
from aws_cdk.aws_s3 import (
    BlockPublicAccess,
    Bucket,
    BucketEncryption,
    CfnBucket,
    CorsRule,
    HttpMethods,
    LifecycleRule,
    ObjectOwnership,
)
from constructs import Construct

from recourse.cdk.rights import explain
from recourse.cdk.stage import Stage

OLDEST_SIGNATURE = 15_000
"""Milliseconds: a URL's ten seconds, and five for clocks that differ."""
LONGEST_KEY = Duration.days(7)


class ValetBucket(Bucket):
    """Contains incoming uploads, visible objects, and quarantined uploads.

    Args:
        scope: The construct that contains it.
        name: Its construct id.
        stage: The deployment.
        key: The key that encrypts it.
    """

    def __init__(self, scope: Construct, name: str, *, stage: Stage, key: IKey) -> None:
        # The API answers the console at the console's own origin; S3 does not.
        pages = [*stage.cors_origins, *([stage.console_url] if stage.console_url else [])]
        if stage.local and stage.console_url:  # there by two names, which are two origins
            pages.append(stage.console_url.replace("127.0.0.1", "localhost"))
        cors = [
            CorsRule(
                allowed_origins=pages,
                allowed_methods=[HttpMethods.GET, HttpMethods.PUT],
                allowed_headers=[
                    "content-type",
                    "if-match",
                    "if-none-match",
                    "range",
                    "x-amz-checksum-sha256",
                ],
                exposed_headers=["content-range", "etag"],
                max_age=300,
            )
        ]
        super().__init__(
            scope,
            name,
            encryption=BucketEncryption.KMS,
            encryption_key=key,
            bucket_key_enabled=True,
            block_public_access=BlockPublicAccess.BLOCK_ALL,
            object_ownership=ObjectOwnership.BUCKET_OWNER_ENFORCED,
            enforce_ssl=True,
            versioned=True,
            removal_policy=stage.removal,
            cors=cors if pages else None,
            lifecycle_rules=[
                # Not before the longest key has expired, and with it the right to complete.
                LifecycleRule(
                    id="interrupted",
                    abort_incomplete_multipart_upload_after=LONGEST_KEY.plus(Duration.days(1)),
                ),
                LifecycleRule(
                    id="incoming",
                    prefix="incoming/",
                    expiration=LONGEST_KEY.plus(Duration.days(1)),
                    noncurrent_version_expiration=Duration.days(1),
                ),
                LifecycleRule(
                    id="quarantine",
                    prefix="quarantine/",
                    expiration=stage.kept("quarantine"),
                    noncurrent_version_expiration=Duration.days(1),
                ),
                *expiring("objects/", stage.kept("uploads")),
            ],
        )
        underneath = self.node.default_child
        assert isinstance(underneath, CfnBucket)
        # The CDK's own way creates a function with rights over every bucket.
        underneath.notification_configuration = CfnBucket.NotificationConfigurationProperty(
            event_bridge_configuration=CfnBucket.EventBridgeConfigurationProperty(
                event_bridge_enabled=True
            )
        )
        only_fresh_signatures(self)
        self.add_to_resource_policy(
            PolicyStatement(
                sid="NothingWithdrawn",
                effect=Effect.DENY,
                principals=[AnyPrincipal()],
                actions=["s3:GetObject", "s3:GetObjectVersion"],
                resources=[self.arn_for_objects("objects/*")],
                conditions={"StringEquals": {"s3:ExistingObjectTag/revoked": "true"}},
            )
        )
        explain(
            self,
            "AwsSolutions-S1",
            reason="access is audited in the valet table, and by CloudTrail",
        )

    def keep_within(self, signer: IRole) -> None:
        """Deny the signer of URLs everything but uploads and visible objects."""
        self._within = PolicyStatement(
            sid="SignerKeepsToItsPrefixes",
            effect=Effect.DENY,
            principals=[signer],
            actions=["s3:*"],
            not_resources=[self.arn_for_objects("incoming/*"), self.arn_for_objects("objects/*")],
        )
        self.add_to_resource_policy(self._within)

    def open_to_signer(self, prefix: str) -> None:
        """Do not deny the signer of URLs what lies under a further prefix."""
        self._within.add_not_resources(self.arn_for_objects(prefix))

    def hide_until_scanned(self, signer: IRole) -> None:
        """Deny the signer of URLs objects that GuardDuty has not found clean."""
        self.add_to_resource_policy(
            PolicyStatement(
                sid="NothingUnscanned",
                effect=Effect.DENY,
                principals=[signer],
                actions=["s3:GetObject", "s3:GetObjectVersion"],
                resources=[self.arn_for_objects("objects/*")],
                conditions={
                    "StringNotEquals": {
                        "s3:ExistingObjectTag/GuardDutyMalwareScanStatus": "NO_THREATS_FOUND"
                    }
                },
            )
        )


def expiring(prefix: str, kept: Duration | None) -> list[LifecycleRule]:
    """The rule by which objects are deleted after a time, every version; none where never."""
    if kept is None:
        return []
    return [
        LifecycleRule(
            id="kept",
            prefix=prefix or None,
            expiration=kept,
            noncurrent_version_expiration=Duration.days(1),
        )
    ]


def only_fresh_signatures(bucket: Bucket) -> None:
    """Deny every request that is not signed by SigV4, or whose signature is too old."""
    for sid, conditions in (
        ("OnlySigV4", {"StringNotEquals": {"s3:signatureversion": "AWS4-HMAC-SHA256"}}),
        ("NoOldSignature", {"NumericGreaterThan": {"s3:signatureAge": str(OLDEST_SIGNATURE)}}),
    ):
        bucket.add_to_resource_policy(
            PolicyStatement(
                sid=sid,
                effect=Effect.DENY,
                principals=[AnyPrincipal()],
                actions=["s3:*"],
                resources=[bucket.bucket_arn, bucket.arn_for_objects("*")],
                conditions=conditions,
            )
        )
