"""The guardrails of valet keys, each where it is asserted: nothing here evaluates a policy."""

from __future__ import annotations

from typing import Any

import pytest

from recourse.valet.objects import URL_LIFE
from tests.infra.assembly import Assembly, listed

pytestmark = pytest.mark.xdist_group("infra")

WEEK = 7


def statements(assembly: Assembly) -> dict[str, Any]:
    """The statements of the bucket's policy, by what they are for."""
    policy = assembly.one("AWS::S3::BucketPolicy", "Valet/Policy")
    found = assembly.plain("Valet", policy.properties["PolicyDocument"]["Statement"])
    assert all(one["Effect"] == "Deny" for one in found)
    return {one.get("Sid", "OnlyTls"): one for one in found}


def bucket(assembly: Assembly) -> Any:
    return assembly.one("AWS::S3::Bucket", "Valet").properties


def test_the_bucket_denies_plain_text(each: Assembly) -> None:
    one = statements(each)["OnlyTls"]
    assert one["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert (one["Action"], one["Principal"]) == ("s3:*", {"AWS": "*"})
    assert one["Resource"] == ["<Valet.Arn>", "<Valet.Arn>/*"]


def test_the_bucket_denies_every_signature_but_version_4(each: Assembly) -> None:
    one = statements(each)["OnlySigV4"]
    assert one["Condition"] == {"StringNotEquals": {"s3:signatureversion": "AWS4-HMAC-SHA256"}}
    assert (one["Action"], one["Principal"]) == ("s3:*", {"AWS": "*"})
    assert one["Resource"] == ["<Valet.Arn>", "<Valet.Arn>/*"]


def test_the_bucket_denies_signatures_older_than_a_url_lives(each: Assembly) -> None:
    from recourse.cdk.valet_bucket import OLDEST_SIGNATURE

    one = statements(each)["NoOldSignature"]
    assert one["Condition"] == {"NumericGreaterThan": {"s3:signatureAge": str(OLDEST_SIGNATURE)}}
    assert (one["Action"], one["Principal"]) == ("s3:*", {"AWS": "*"})
    assert 1000 * URL_LIFE <= OLDEST_SIGNATURE <= 1000 * (URL_LIFE + 5)


def test_the_bucket_denies_what_was_withdrawn_to_everybody(each: Assembly) -> None:
    one = statements(each)["NothingWithdrawn"]
    assert one["Principal"] == {"AWS": "*"}
    assert one["Action"] == ["s3:GetObject", "s3:GetObjectVersion"]
    assert one["Resource"] == "<Valet.Arn>/objects/*"
    assert one["Condition"] == {"StringEquals": {"s3:ExistingObjectTag/revoked": "true"}}


def test_the_signer_can_touch_nothing_but_its_prefixes(each: Assembly) -> None:
    one = statements(each)["SignerKeepsToItsPrefixes"]
    assert one["Principal"] == {"AWS": "<RedeemRole.Arn>"}
    assert one["Action"] == "s3:*"
    prefixes = [f"<Valet.Arn>/{prefix}/*" for prefix in ("incoming", "objects", "results")]
    assert one["NotResource"] == prefixes
    rights = each.rights(each.one("AWS::Lambda::Function", "Redeem"))
    touched = {
        resource: actions
        for resource, actions in rights.items()
        if any(action.startswith("s3:") for action in actions)
    }
    assert touched == {
        "<Valet.Arn>/incoming/*": {"s3:PutObject"},
        "<Valet.Arn>/objects/*": {"s3:GetObjectVersion"},
        "<Valet.Arn>/results/*": {"s3:GetObjectVersion"},
        "<Documents.Arn>/invoices/*": {"s3:GetObjectVersion"},
    }


def test_what_is_not_scanned_is_hidden_where_the_context_has_it_scanned(
    dev: Assembly, prod: Assembly
) -> None:
    assert "NothingUnscanned" not in statements(dev)
    one = statements(prod)["NothingUnscanned"]
    assert one["Principal"] == {"AWS": "<RedeemRole.Arn>"}
    assert one["Action"] == ["s3:GetObject", "s3:GetObjectVersion"]
    assert one["Resource"] == "<Valet.Arn>/objects/*"
    tag = "s3:ExistingObjectTag/GuardDutyMalwareScanStatus"
    assert one["Condition"] == {"StringNotEquals": {tag: "NO_THREATS_FOUND"}}


def test_the_bucket_is_private_versioned_and_its_owners(each: Assembly) -> None:
    has = bucket(each)
    assert has["VersioningConfiguration"] == {"Status": "Enabled"}
    assert has["PublicAccessBlockConfiguration"] == {
        "BlockPublicAcls": True,
        "BlockPublicPolicy": True,
        "IgnorePublicAcls": True,
        "RestrictPublicBuckets": True,
    }
    assert has["OwnershipControls"] == {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}


def test_what_is_left_behind_goes_but_not_before_the_longest_key(each: Assembly) -> None:
    rules = {rule["Id"]: rule for rule in bucket(each)["LifecycleConfiguration"]["Rules"]}
    assert set(rules) == {"interrupted", "incoming", "quarantine", "imports", "results"}
    for prefix in ("imports", "results"):
        assert (rules[prefix]["Prefix"], rules[prefix]["ExpirationInDays"]) == (f"{prefix}/", 30)
    assert all(rule["Status"] == "Enabled" for rule in rules.values())
    interrupted = rules["interrupted"]
    assert interrupted["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": WEEK + 1}
    assert "Prefix" not in interrupted
    assert (rules["incoming"]["Prefix"], rules["quarantine"]["Prefix"]) == (
        "incoming/",
        "quarantine/",
    )
    assert (rules["incoming"]["ExpirationInDays"], rules["quarantine"]["ExpirationInDays"]) == (
        WEEK + 1,
        30,
    )


def test_browsers_reach_the_bucket_from_the_origins_of_the_context_alone(
    dev: Assembly, prod: Assembly, local: Assembly
) -> None:
    assert "CorsConfiguration" not in bucket(dev)
    (rule,) = bucket(prod)["CorsConfiguration"]["CorsRules"]
    assert rule["AllowedOrigins"] == [
        "https://one.example",
        "https://two.example",
        "https://console.example",
    ]
    assert rule["AllowedMethods"] == ["GET", "PUT"]
    assert "*" not in rule["AllowedHeaders"]
    # The console's own is among them, by both of its names: it uploads to S3 itself.
    (rule,) = bucket(local)["CorsConfiguration"]["CorsRules"]
    assert rule["AllowedOrigins"] == ["http://127.0.0.1:8000", "http://localhost:8000"]


def test_tokens_are_signed_by_a_key_that_only_the_api_may_use(each: Assembly) -> None:
    key = each.one("AWS::KMS::Key", "SigningKey").properties
    assert (key["KeySpec"], key["KeyUsage"]) == ("ECC_NIST_P256", "SIGN_VERIFY")
    users = {
        function.name: actions
        for function in each.every("AWS::Lambda::Function")
        if (actions := each.rights(function).get("<SigningKey.Arn>"))
    }
    assert users == {"Api": {"kms:GetPublicKey", "kms:Sign"}}


def test_what_lands_is_committed_and_what_is_interrupted_is_swept(each: Assembly) -> None:
    rules = {
        rule.name: each.plain(rule.stack, rule.properties)
        for rule in each.every("AWS::Events::Rule")
        if rule.stack == "Valet"
    }
    assert rules["Landed"]["EventPattern"] == {
        "source": ["aws.s3"],
        "detail-type": ["Object Created"],
        "detail": {
            "bucket": {"name": ["<Valet>"]},
            "object": {"key": [{"prefix": "incoming/"}]},
        },
    }
    assert rules["EveryHour"]["ScheduleExpression"] == "rate(1 hour)"
    for rule in rules.values():
        (target,) = rule["Targets"]
        assert target["Arn"] == "<ValetCommit.Arn>"
        assert target["DeadLetterConfig"] == {"Arn": "<ValetCommitDeadletters.Arn>"}
    notified = bucket(each)["NotificationConfiguration"]
    assert notified == {"EventBridgeConfiguration": {"EventBridgeEnabled": True}}


def test_functions_of_valet_keys_raise_an_alarm_when_they_fail(alarmed: Assembly) -> None:
    watched = {
        alarmed.plain("Valet", one["Value"])
        for alarm in alarmed.every("AWS::CloudWatch::Alarm")
        if alarm.stack == "Valet" and alarm.properties["MetricName"] == "Errors"
        for one in alarm.properties["Dimensions"]
    }
    assert watched == {"<Redeem>", "<ValetCommit>"}


def test_nobody_may_do_everything_by_the_policy(each: Assembly) -> None:
    """Every statement denies; rights come from roles alone."""
    for one in statements(each).values():
        assert one["Effect"] == "Deny"
        assert listed(one["Action"])
