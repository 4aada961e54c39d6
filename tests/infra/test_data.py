"""What is stored is encrypted, can be brought back, and outlives its stack where it should."""

from __future__ import annotations

import itertools

import pytest

from lambdas.consumers import consumers
from lambdas.subscribers import subscribers
from tests.infra.assembly import Assembly

pytestmark = [pytest.mark.xdist_group("infra"), pytest.mark.of_all]

LISTENING = [*consumers().values(), *subscribers().values()]
STORES = (
    "AWS::DynamoDB::Table",
    "AWS::S3::Bucket",
    "AWS::KMS::Key",
    "AWS::Logs::LogGroup",
    "AWS::StepFunctions::StateMachine",
)
INDEXES = {
    "LedgerTable": {
        "listed-by-status": ["listed_status", "started"],
        "listed-by-owner": ["owner", "started"],
        "listed-by-owner-key": ["listed_owner_key", "started"],
        "listed-by-key": ["listed_key", "started"],
        "listed-by-question": ["listed_question", "due_at"],
        "listed-by-due": ["listed_due", "due_at"],
        "listed-by-owner-status": ["owner", "listed_status"],
    },
    "ImportsTable": {"by-owner": ["owner", "started"]},
    "ValetTable": {"by-owner": ["owner", "started"], "by-key": ["key_id", "started"]},
    "WebhooksTable": {"by-webhook": ["webhook_id", "started"]},
}

QUIET = {
    *("ConnectionsTable", "ImportsTable", "ValetTable", "WebhooksTable"),
    *(f"{one.name}Table" for one in LISTENING if "table" in one.may),
}
"""The tables whose streams nobody reads."""


def test_every_table_is_keyed_streamed_and_can_be_brought_back(each: Assembly) -> None:
    for table in each.every("AWS::DynamoDB::Table"):
        has = table.properties
        key = [{"AttributeName": "pk", "KeyType": "HASH"}]
        if table.name == "FeedTable":
            key.append({"AttributeName": "position", "KeyType": "RANGE"})
        if table.name == "ConnectionsTable":
            key.append({"AttributeName": "connection", "KeyType": "RANGE"})
        assert has["KeySchema"] == key, table.name
        listened_to = None if table.name in QUIET else {"StreamViewType": "NEW_IMAGE"}
        assert has.get("StreamSpecification") == listened_to, table.name
        assert has["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}
        assert has["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"], table.name
        assert has["BillingMode"] == "PAY_PER_REQUEST", table.name
        assert has["SSESpecification"]["SSEType"] == "KMS", table.name


def test_only_what_is_listed_has_indexes(each: Assembly) -> None:
    for table in each.every("AWS::DynamoDB::Table"):
        indexes = {
            index["IndexName"]: [key["AttributeName"] for key in index["KeySchema"]]
            for index in table.properties.get("GlobalSecondaryIndexes", [])
        }
        assert indexes == INDEXES.get(table.name, {}), table.name


def test_an_index_of_the_ledger_holds_keys_and_what_lists_filter_by(dev: Assembly) -> None:
    """What changes at each event is in none: a whole row was rewritten in each of three."""
    table = dev.one("AWS::DynamoDB::Table", "LedgerTable").properties
    held = {i["IndexName"]: i["Projection"] for i in table["GlobalSecondaryIndexes"]}
    assert {name: set(one.get("NonKeyAttributes", [])) for name, one in held.items()} == {
        "listed-by-status": {"saga"},
        "listed-by-owner": {"saga", "status"},
        "listed-by-owner-key": {"saga", "status"},
        "listed-by-key": {"saga", "status"},
        "listed-by-question": {"saga"},
        "listed-by-due": {"saga"},
        "listed-by-owner-status": {"saga"},
    }
    assert {one["ProjectionType"] for one in held.values()} == {"INCLUDE"}


def test_a_ledger_gets_its_indexes_and_loses_the_former_ones_one_a_deploy() -> None:
    """CloudFormation makes or drops one index of a table in a deploy."""
    from aws_cdk import App, Stack
    from aws_cdk.assertions import Template
    from aws_cdk.aws_kms import Key

    from recourse.cdk.indexes import INDEX_STEPS
    from recourse.cdk.stage import Stage
    from recourse.cdk.tables import LedgerTable

    def indexes(step: int | None) -> dict[str, object]:
        stack = Stack(App(analytics_reporting=False), "S")
        LedgerTable(stack, "T", stage=Stage(index_step=step), key=Key(stack, "K"))
        (table,) = (
            body["Properties"]
            for body in Template.from_stack(stack).to_json()["Resources"].values()
            if body["Type"] == "AWS::DynamoDB::Table"
        )
        return {one["IndexName"]: one for one in table["GlobalSecondaryIndexes"]}

    steps = [indexes(step) for step in (*range(INDEX_STEPS), None)]
    former = {f"by-{name}" for name in ("owner", "status", "business-key")}
    assert set(steps[0]) == former
    assert not former & set(steps[-1])
    for one, following in itertools.pairwise(steps):
        assert len(set(one) ^ set(following)) == 1
        assert all(one[name] == following[name] for name in set(one) & set(following))
    assert "listed-by-status" in steps[1], "the sweeper's comes first"
    assert former <= set(steps[4]), "nothing goes before all of them are there"


def test_every_store_queue_and_topic_is_encrypted_with_a_rotating_key_of_ours(
    each: Assembly,
) -> None:
    def ours(stack: str, key: object) -> bool:
        return bool(each.plain(stack, key) == "<Key.Arn>")

    for table in each.every("AWS::DynamoDB::Table"):
        assert ours(table.stack, table.properties["SSESpecification"]["KMSMasterKeyId"])
    for queue in each.every("AWS::SQS::Queue"):
        assert ours(queue.stack, queue.properties["KmsMasterKeyId"]), queue.name
    for topic in each.every("AWS::SNS::Topic"):
        assert ours(topic.stack, topic.properties["KmsMasterKeyId"]), topic.name
    for key in each.every("AWS::KMS::Key"):
        if key.name != "SigningKey":  # AWS rotates no asymmetric key
            assert key.properties["EnableKeyRotation"] is True
    for bucket in each.every("AWS::S3::Bucket"):
        (rule,) = bucket.properties["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        if bucket.stack == "Console":  # its page, which everybody may see
            assert rule["ServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
            continue
        assert ours(bucket.stack, rule["ServerSideEncryptionByDefault"]["KMSMasterKeyID"])


def test_the_documents_are_versioned_private_and_reached_over_tls_alone(each: Assembly) -> None:
    has = each.one("AWS::S3::Bucket", "Documents").properties
    assert has["VersioningConfiguration"] == {"Status": "Enabled"}
    assert all(has["PublicAccessBlockConfiguration"].values())
    assert len(has["PublicAccessBlockConfiguration"]) == 4
    policy = each.one("AWS::S3::BucketPolicy", "Documents/Policy")
    statements = policy.properties["PolicyDocument"]["Statement"]
    assert {one["Effect"] for one in statements} == {"Deny"}
    assert [one["Condition"] for one in statements] == [
        {"Bool": {"aws:SecureTransport": "false"}},
        {"StringNotEquals": {"s3:signatureversion": "AWS4-HMAC-SHA256"}},
        {"NumericGreaterThan": {"s3:signatureAge": "15000"}},
    ]


def test_production_keeps_what_is_stored_and_others_take_it_with_them(
    dev: Assembly, prod: Assembly
) -> None:
    for kind in STORES:
        # What is protected from deletion would only make the end of a failed create fail too.
        kept = "Retain" if kind == "AWS::DynamoDB::Table" else "RetainExceptOnCreate"
        for assembly, deleted, replaced in ((dev, "Delete", "Delete"), (prod, kept, "Retain")):
            for store in assembly.every(kind):
                assert store.body["DeletionPolicy"] == deleted, store.name
                assert store.body["UpdateReplacePolicy"] == replaced, store.name


def test_what_outlives_its_stack_is_not_in_the_way_of_the_next(prod: Assembly) -> None:
    """A name of its own would be taken: it has none, or one with the stack's id in it."""
    kept = [one for one in prod.resources if one.body.get("DeletionPolicy", "Delete") != "Delete"]
    assert {one.type for one in kept} >= set(STORES)
    named = {
        f"{one.name}: {name}"
        for one in kept
        for name, value in one.properties.items()
        if name.endswith("Name") and "AWS::StackId" not in str(value)
    }
    assert named == set()


def test_what_is_protected_from_deletion_is_kept_whatever_fails(prod: Assembly) -> None:
    """Else the end of a failed create would fail on it."""
    protected = [
        one
        for one in prod.resources
        if one.properties.get("DeletionProtectionEnabled") is True
        or one.properties.get("DeletionProtection") == "ACTIVE"
    ]
    assert protected
    assert {one.body["DeletionPolicy"] for one in protected} == {"Retain"}


def test_production_protects_tables_and_users_from_deletion(dev: Assembly, prod: Assembly) -> None:
    for assembly, protected in ((dev, False), (prod, True)):
        for table in assembly.every("AWS::DynamoDB::Table"):
            assert table.properties["DeletionProtectionEnabled"] is protected, table.name
    pool = dev.one("AWS::Cognito::UserPool", "Users/Pool")
    assert pool.properties["DeletionProtection"] == "INACTIVE"


def test_every_log_ends_after_two_weeks_and_in_production_after_a_year(
    dev: Assembly, prod: Assembly
) -> None:
    for assembly, days in ((dev, 14), (prod, 365)):
        for log in assembly.every("AWS::Logs::LogGroup"):
            assert log.properties["RetentionInDays"] == days, log.name
