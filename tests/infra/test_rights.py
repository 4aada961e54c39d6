"""Who may do what: each function just what its handler does, and nothing by wildcard unnamed."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from recourse.declare.step import Action, Confirm, Undo
from recourse.queues.consumer import Declaration
from services.holdings import HOLDINGS
from statemachines import SAGAS
from tests.infra.assembly import Assembly, Resource, listed
from tests.infra.test_events import CONSUMERS, KEPT, SUBSCRIBERS

pytestmark = [pytest.mark.xdist_group("infra"), pytest.mark.of_all]

STEPS = {step.function: step for saga in SAGAS.values() for step in saga.all}
# Written out, not taken from the infrastructure: the test says what is right.
ROWS = {
    "dynamodb:GetItem",
    "dynamodb:BatchGetItem",
    "dynamodb:PutItem",
    "dynamodb:UpdateItem",
}
CHECK = {"dynamodb:ConditionCheckItem"}
"""An undo is written on condition that its action is; a valet key's use, that its object is."""
DOCUMENTS = {
    f"<Documents.Arn>/{step.service}/*" for step in STEPS.values() if step.action.documents
}
LEDGER, FEED, TOPIC = "<LedgerTable.Arn>", "<FeedTable.Arn>", "<Events>"
BY_NAME = "arn:<AWS::Partition>:sqs:<AWS::Region>:<AWS::AccountId>:Recourse-dev-"
PUT = {"sqs:SendMessage", "sqs:GetQueueUrl"}
COUNT = {"sqs:GetQueueAttributes", "sqs:GetQueueUrl"}
EMPTY = COUNT | {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility"}
PARAMETERS = "arn:<AWS::Partition>:ssm:<AWS::Region>:<AWS::AccountId>:parameter/recourse/"
CLEAR = EMPTY - {"sqs:GetQueueAttributes"} | {"sqs:SendMessage"}
LOOK = {"states:DescribeExecution", "states:GetExecutionHistory"}
START = {
    'states:StartExecution?{"StringLike": {"states:StateMachineQualifier": "*"}}',
    # A recovery finds the version of its saga's shape.
    "states:ListStateMachineVersions",
    "states:DescribeStateMachine",
}
SHAPES = {
    'dynamodb:GetItem?{"ForAllValues:StringLike": {"dynamodb:LeadingKeys": ["shape#*"]}}',
}
"""What each saga began with is in the ledger's table, in rows of their own beside the sagas."""
TAKE = {
    "sqs:ReceiveMessage",
    "sqs:ChangeMessageVisibility",
    "sqs:GetQueueUrl",
    "sqs:DeleteMessage",
    "sqs:GetQueueAttributes",
}
DEAD_LETTER = {"sqs:SendMessage", "sqs:GetQueueAttributes", "sqs:GetQueueUrl"}
STREAM = {"dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator"}
TRACE = {"xray:PutTraceSegments", "xray:PutTelemetryRecords"}
VALET = "<ValetTable.Arn>"
HOOKS = "<WebhooksTable.Arn>"
IMPORTS = "<ImportsTable.Arn>"
EXECUTION = "arn:<AWS::Partition>:states:<AWS::Region>:<AWS::AccountId>:execution:"
SLOTS = 'dynamodb:UpdateItem?{"ForAllValues:StringLike": {"dynamodb:LeadingKeys": ["slots#*"]}}'
"""What one owner has under way is counted in rows of their own beside their connections."""
VALET_WRITES = ROWS - {"dynamodb:GetItem"}
COMMITS_INCOMING = {
    "s3:AbortMultipartUpload",
    "s3:DeleteObjectVersion",
    "s3:GetObject",
    "s3:GetObjectVersion",
    "s3:ListMultipartUploadParts",
    "s3:PutObject",
}
COMMITS_OBJECTS = {"s3:DeleteObjectVersion", "s3:PutObject", "s3:PutObjectVersionTagging"}
COMMITS = {
    "<Valet.Arn>": {"s3:ListBucket"},
    "<Valet.Arn>/incoming/*": COMMITS_INCOMING,
    "<Valet.Arn>/objects/*": COMMITS_OBJECTS,
    "<Valet.Arn>/quarantine/*": {"s3:PutObject"},
}
CONNECTIONS = "<ConnectionsTable.Arn>"
SENDS = {
    "arn:<AWS::Partition>:execute-api:<AWS::Region>:<AWS::AccountId>:<WebSockets/Api>/live/"
    f"{verb}/@connections/*": {"execute-api:ManageConnections"}
    for verb in ("POST", "DELETE")
}
WILD = {
    # Connections of one stage, which have their names when they are opened.
    *((resource, action) for resource, actions in SENDS.items() for action in actions),
    # Actions that know no resource.
    ("*", "xray:PutTraceSegments"),
    ("*", "xray:PutTelemetryRecords"),
    ("*", "dynamodb:ListStreams"),
    # What the CDK grants for the queue that the relay's stream dead-letters records to, on our key.
    ("<Key.Arn>", "kms:GenerateDataKey*"),
    ("<Key.Arn>", "kms:ReEncrypt*"),
    # Documents of the services that have any.
    *(
        (one, f"s3:{action}")
        for one in DOCUMENTS
        for action in ("PutObject", "GetObject", "GetObjectVersion")
    ),
    # Documents of valet keys: one object a URL, one upload a key.
    *(("<Valet.Arn>/incoming/*", action) for action in COMMITS_INCOMING),
    *(("<Valet.Arn>/objects/*", action) for action in COMMITS_OBJECTS),
    ("<Valet.Arn>/quarantine/*", "s3:PutObject"),
    ("<Valet.Arn>/objects/*", "s3:GetObjectVersion"),
    # Files of imports, and what each of them comes to.
    ("<Valet.Arn>/imports/*", "s3:GetObject"),
    ("<Valet.Arn>/imports/*", "s3:PutObject"),
    ("<Valet.Arn>/results/*", "s3:PutObject"),
    ("<Valet.Arn>/results/*", "s3:GetObjectVersion"),
    (f"{EXECUTION}<Machine.Name>:*", "states:DescribeExecution"),
    # Runs of one machine.
    *(
        (
            "arn:<AWS::Partition>:states:<AWS::Region>:<AWS::AccountId>:execution:"
            f"<{name.title().replace('-', '')}/Machine.Name>:*",
            action,
        )
        for name in SAGAS
        for action in LOOK
    ),
}


def machine(saga: str) -> str:
    return f"<{saga.title().replace('-', '')}/Machine>"


def executions(saga: str) -> str:
    return f"{EXECUTION}{machine(saga)[:-1]}.Name>:*"


def functions(assembly: Assembly) -> dict[str, Resource]:
    return {one.name: one for one in assembly.every("AWS::Lambda::Function")}


def said(one: Declaration) -> dict[str, set[str]]:
    """What a consumer or a subscriber declares that it may do, in a stage that sends no mail."""
    on = {"table": f"<{one.name}Table.Arn>", "ledger": LEDGER, "feed": FEED}
    return {on[what]: set(actions) for what, actions in one.may.items() if what in on}


def business(assembly: Assembly, name: str) -> dict[str, set[str]]:
    """A function's rights without what every one has: its own log, its traces, its keys."""
    rights = assembly.rights(functions(assembly)[name])
    assert rights.pop(f"<{name}Logs.Arn>") == {"logs:CreateLogStream", "logs:PutLogEvents"}
    traced = rights.pop("*")
    assert traced >= TRACE
    kept = {"*": traced - TRACE} if traced - TRACE else {}
    return kept | {
        resource: rest
        for resource, actions in rights.items()
        if (rest := {one for one in actions if not one.startswith("kms:")})
    }


def lent(*parts: Action | Undo | Confirm | None) -> dict[str, set[str]]:
    """What declared parts may do in tables that exist already."""
    found: dict[str, set[str]] = {}
    for part in parts:
        for table in part.tables if part else ():
            arn = f"arn:<AWS::Partition>:dynamodb:<AWS::Region>:<AWS::AccountId>:table/{table.name}"
            actions = found.setdefault(arn, set())
            actions |= {"dynamodb:PutItem", "dynamodb:UpdateItem"}
            actions |= {"dynamodb:BatchGetItem"} if part and part.may_read else set()
    return found


@pytest.mark.parametrize("name", STEPS)
def test_a_step_may_use_the_table_of_its_service_and_no_other(dev: Assembly, name: str) -> None:
    step = STEPS[name]
    expected = {f"<{step.service.title()}Table.Arn>": ROWS | (CHECK if step.undo else set())}
    if step.action.documents:
        expected[f"<Documents.Arn>/{step.service}/*"] = {"s3:PutObject"}
    expected |= lent(step.action, step.undo)
    assert business(dev, name) == expected


@pytest.mark.parametrize("name", STEPS)
def test_a_step_that_listens_may_besides_take_from_its_queue_and_dead_letter(
    dev: Assembly, name: str
) -> None:
    assert business(dev, f"{name}Queue") == business(dev, name) | {
        f"<{name}Events/Queue.Arn>": TAKE,
        f"<{name}Events/Deadletters.Arn>": PUT,
        LEDGER: SHAPES,
    }


def test_every_other_function_has_the_rights_of_its_handler(dev: Assembly) -> None:
    index = {
        name: f"{LEDGER}/index/listed-by-{name}"
        for name in ("status", "owner", "owner-key", "key", "question", "owner-status")
    }
    read = {"dynamodb:GetItem", "dynamodb:BatchGetItem"}
    called = {
        f"<{step.function}.Arn>": {"lambda:InvokeFunction"}
        for saga in SAGAS.values()
        for step in (saga.pivot, *saga.waiting.values())
    }
    asking = [name for name, saga in SAGAS.items() if saga.waiting]
    starts = {machine(saga): START for saga in SAGAS}
    tables = {step.service: f"<{step.service.title()}Table" for step in STEPS.values()}
    shown = {f"{tables[holding.service]}.Arn>" for holding in HOLDINGS.values()}
    confirming = {s.service for saga in SAGAS.values() for s in saga.all if s.confirm}
    confirmers = {f"{service.title()}Confirm" for service in confirming}
    redriven = {*STEPS, *confirmers, *(one.name for one in CONSUMERS), "Ledger", "Parked"}
    redriven |= {"Push", "WebhookOwners", "WebhookLanes"}
    operators = {f"{one}-deadletters" for one in (*STEPS, "Ledger", "Parked", "Sweeper")}
    # Few alarms: it counts what is in every dead-letter queue.
    counted = {f"{BY_NAME}{one}-deadletters": COUNT for one in {*redriven, *KEPT}}
    expected: dict[str, dict[str, set[str]]] = {
        "Relay": {
            "*": {"dynamodb:ListStreams"},
            TOPIC: {"sns:Publish"},
            "<RelayDeadletters.Arn>": DEAD_LETTER,
            **{f"{table}.StreamArn>": STREAM for table in (*tables.values(), "<LedgerTable")},
        },
        "Feeder": {
            "*": {"dynamodb:ListStreams"},
            FEED: {"dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:PutItem"},
            "<FeederDeadletters.Arn>": DEAD_LETTER,
            "<LedgerTable.StreamArn>": STREAM,
        },
        "FeedRelay": {
            "*": {"dynamodb:ListStreams"},
            "<Feed>": {"sns:Publish"},
            "<FeedRelayDeadletters.Arn>": DEAD_LETTER,
            "<FeedTable.StreamArn>": STREAM,
        },
        **{
            one.name: said(one) | {f"<{one.name}Deadletters.Arn>": DEAD_LETTER}
            for one in SUBSCRIBERS
        },
        **{
            one.name: said(one)
            | {f"<{one.name}Events/Queue.Arn>": TAKE, f"<{one.name}Events/Deadletters.Arn>": PUT}
            for one in CONSUMERS
        },
        "Ledger": {
            LEDGER: {"dynamodb:GetItem", "dynamodb:PutItem"},
            "<LedgerEvents/Queue.Arn>": TAKE,
            "<LedgerEvents/Deadletters.Arn>": PUT,
        },
        "Park": {LEDGER: {"dynamodb:PutItem"} | SHAPES},
        "Stream": {FEED: {"dynamodb:GetItem", "dynamodb:Query"}, CONNECTIONS: {SLOTS}},
        "Authorise": {},
        "Users/PreToken": {},
        "WebSocket": {
            FEED: {"dynamodb:GetItem", "dynamodb:Query"},
            CONNECTIONS: {"dynamodb:DeleteItem", "dynamodb:PutItem", "dynamodb:UpdateItem"},
            "<PushEvents/Queue.Arn>": {"sqs:SendMessage"},
            **SENDS,
        },
        "Push": {
            FEED: {"dynamodb:GetItem", "dynamodb:Query"},
            CONNECTIONS: {
                "dynamodb:DeleteItem",
                "dynamodb:GetItem",
                "dynamodb:Query",
                "dynamodb:UpdateItem",
            },
            "<PushEvents/Queue.Arn>": TAKE | {"sqs:SendMessage"},
            "<PushEvents/Deadletters.Arn>": PUT,
            **SENDS,
        },
        "Sweeper": {
            LEDGER: ROWS,
            index["status"]: {"dynamodb:Query"},
            f"{LEDGER}/index/listed-by-due": {"dynamodb:Query"},
            f"{LEDGER}/index/listed-by-owner-status": {"dynamodb:Query"},
            **{f"{table}.Arn>": {"dynamodb:BatchGetItem"} for table in tables.values()},
            "<Alarms>": {"sns:Publish"},
            **counted,
            f"{PARAMETERS}Recourse-dev/*": {"ssm:GetParameter"},
            **{f"{BY_NAME}{one}": CLEAR | COUNT for one in operators},
            f"{BY_NAME}Parked": CLEAR,
            **starts,
            **called,
            **{executions(saga): LOOK for saga in SAGAS},
        },
        "Api": {
            LEDGER: read | {"dynamodb:PutItem"},
            FEED: {"dynamodb:GetItem", "dynamodb:Query"},
            CONNECTIONS: {SLOTS},
            f"{PARAMETERS}Recourse-dev/*": {"ssm:GetParameter"},
            IMPORTS: {"dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"},
            f"{IMPORTS}/index/by-owner": {"dynamodb:Query"},
            "<Machine>": {"states:StartExecution"},
            f"{EXECUTION}<Machine.Name>:*": {"states:DescribeExecution"},
            HOOKS: ROWS,
            f"{HOOKS}/index/by-webhook": {"dynamodb:Query"},
            "<WebhookLanes/Queue.Arn>": {"sqs:SendMessage"},
            "<WebhookOwners/Queue.Arn>": {"sqs:SendMessage"},
            **{one: {"dynamodb:Query"} for one in index.values()},
            **{
                one: {"dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"}
                for one in shown
            },
            **starts,
            **called,
            **{executions(saga): {"states:DescribeExecution"} for saga in asking},
            **{one: {"s3:GetObject"} for one in DOCUMENTS},
            VALET: VALET_WRITES,
            **{f"{VALET}/index/{name}": {"dynamodb:Query"} for name in ("by-owner", "by-key")},
            **COMMITS,
            **{f"{BY_NAME}{one}": PUT for one in redriven},
            **{f"{BY_NAME}{one}-deadletters": EMPTY for one in redriven},
            **{f"{BY_NAME}{one}-deadletters": COUNT for one in KEPT},
        },
        "WebhookDispatch": {
            HOOKS: ROWS - {"dynamodb:PutItem"},
            FEED: {"dynamodb:GetItem", "dynamodb:Query"},
            "<WebhookOwners/Queue.Arn>": TAKE | {"sqs:SendMessage"},
            "<WebhookOwners/Deadletters.Arn>": PUT,
            "<WebhookLanes/Queue.Arn>": {"sqs:SendMessage"},
        },
        "WebhookDeliver": {
            HOOKS: ROWS - {"dynamodb:BatchGetItem"},
            FEED: {
                "dynamodb:GetItem",
                "dynamodb:BatchGetItem",
                "dynamodb:PutItem",
                "dynamodb:Query",
            },
            "<WebhookLanes/Queue.Arn>": TAKE | {"sqs:SendMessage"},
            "<WebhookLanes/Deadletters.Arn>": PUT,
            "<WebhookOwners/Queue.Arn>": {"sqs:SendMessage"},
        },
        "Redeem": {
            VALET: VALET_WRITES | CHECK,
            "<Valet.Arn>/incoming/*": {"s3:PutObject"},
            "<Valet.Arn>/objects/*": {"s3:GetObjectVersion"},
            "<Valet.Arn>/results/*": {"s3:GetObjectVersion"},
            **{one: {"s3:GetObjectVersion"} for one in DOCUMENTS},
        },
        "ImportFiles": {
            IMPORTS: {
                "dynamodb:GetItem",
                "dynamodb:BatchGetItem",
                "dynamodb:PutItem",
                "dynamodb:UpdateItem",
            },
            VALET: {"dynamodb:BatchGetItem"},
            "<Valet.Arn>/objects/*": {"s3:GetObjectVersion"},
            "<Valet.Arn>/imports/*": {"s3:GetObject", "s3:PutObject"},
            "<Valet.Arn>/results/*": {"s3:PutObject"},
        },
        "ImportStarts": {
            IMPORTS: {"dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"},
            LEDGER: {"dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:PutItem"},
            f"{LEDGER}/index/listed-by-owner-status": {"dynamodb:Query"},
            f"{PARAMETERS}Recourse-dev/*": {"ssm:GetParameter"},
            **starts,
        },
        "ValetCommit": {
            VALET: VALET_WRITES,
            **COMMITS,
            "<Valet.Arn>": {"s3:ListBucket", "s3:ListBucketMultipartUploads"},
        },
        **{
            f"{service.title()}Confirm": {
                f"{tables[service]}.Arn>": ROWS,
                LEDGER: SHAPES,
                f"<{service.title()}ConfirmEvents/Queue.Arn>": TAKE,
                f"<{service.title()}ConfirmEvents/Deadletters.Arn>": PUT,
                **lent(*(s.confirm for s in STEPS.values() if s.service == service)),
            }
            for service in confirming
        },
    }
    steps = {f"{name}{entry}" for name in STEPS for entry in ("", "Queue")}
    assert set(functions(dev)) == set(expected) | steps
    for name, rights in expected.items():
        assert business(dev, name) == rights, name


@pytest.mark.parametrize(("name", "policy"), [("Api", "Redrive"), ("Sweeper", "Clear")])
def test_a_function_stays_within_what_it_can_be_told_and_its_policies_can_hold(
    each: Assembly, name: str, policy: str
) -> None:
    """4 KB of environment, 6,144 characters of a managed policy; names have 80 at the most."""
    function = functions(each)[name]
    assert len(json.dumps(each.environment(function))) < 4096 * 0.8
    # With many sagas one policy is full, and what it has no room for is in `Redrive2`.
    parts: dict[str, list[Resource]] = {}
    for one in each.every("AWS::IAM::ManagedPolicy"):
        parts.setdefault(one.name.rstrip("0123456789"), []).append(one)
    # `Erase` is attached to no function: an operator takes it (tests/infra/test_erasure.py).
    # `Watch` is what one alarm for all dead-letter queues needs (tests/infra/test_cost.py).
    # What a role's own policy has no room for, with many sagas, the CDK puts into `Overflow…`.
    own = {one for one in parts if "/OverflowPolicy" not in one}
    assert own - {"Watch"} == {"Redrive", "Clear", "Erase"}
    for managed in parts[policy]:
        document = each.plain(managed.stack, managed.properties["PolicyDocument"])
        assert len(json.dumps(document)) < 6144


def test_a_machine_may_call_its_own_steps_and_the_parking_function(dev: Assembly) -> None:
    for saga in SAGAS.values():
        role = f"<{saga.name.title().replace('-', '')}/Role.Arn>"
        called = {res for action, res in dev._allowed(role) if action == "lambda:InvokeFunction"}
        assert called == {f"<{name}.Arn>" for name in {s.function for s in saga.all} | {"Park"}}


def test_nobody_deletes_what_a_service_holds(each: Assembly) -> None:
    for policy in each.every("AWS::IAM::Policy") + each.every("AWS::IAM::ManagedPolicy"):
        if policy.name == "Erase":
            continue  # attached to nobody that runs: whoever erases a person's data takes it
        for statement in policy.properties["PolicyDocument"]["Statement"]:
            for action in listed(statement["Action"]):
                service, _, verb = action.partition(":")
                if action == "dynamodb:DeleteItem":
                    # A connection that is closed holds nothing any more.
                    assert each.plain(policy.stack, statement["Resource"]) == CONNECTIONS
                    continue
                if action == "s3:DeleteObjectVersion":
                    # A copy of an upload that was revoked, or that somebody else committed.
                    held = str(each.plain(policy.stack, statement["Resource"]))
                    assert set(re.findall("<(.*?)>", held)) == {"Valet.Arn"}
                    continue
                if policy.stack == "Console":
                    # The page's files, which are nobody's: they come of a release.
                    held = str(each.plain(policy.stack, statement["Resource"]))
                    if "Delete" in verb:
                        assert set(re.findall("<(.*?)>", held)) == {"Page.Arn"}
                    continue
                assert not (service in ("dynamodb", "s3") and "Delete" in verb), policy.name


def test_no_action_and_no_resource_is_a_wildcard_that_is_not_named_here(each: Assembly) -> None:
    found = {
        (resource, action)
        for function in each.every("AWS::Lambda::Function")
        for resource, actions in each.rights(function).items()
        for action, *_ in (one.partition("?") for one in actions)  # a condition but narrows
        if "*" in resource or "*" in action
    }
    told = each.environment(functions(each)["Api"])
    parameters = f"{PARAMETERS.removesuffix('/recourse/')}{told['PARAMETERS']}/*"
    # What the stage says of each saga: one path, of which nobody else reads.
    assert found == WILD | {(parameters, "ssm:GetParameter")}


def test_each_function_has_a_role_of_its_own_that_only_lambda_takes_on(each: Assembly) -> None:
    roles = [each.role_of(function) for function in each.every("AWS::Lambda::Function")]
    assert len(roles) == len(set(roles))
    for role in each.every("AWS::IAM::Role"):
        (statement,) = role.properties["AssumeRolePolicyDocument"]["Statement"]
        service = statement["Principal"]["Service"].removesuffix(".amazonaws.com")
        assert service in ("lambda", "states", "apigateway")
        # The one that the account's APIs write their logs by is AWS's own.
        assert ("ManagedPolicyArns" in role.properties) == (service == "apigateway")


def test_resource_policies_let_in_services_for_this_account_or_a_named_source_alone(
    each: Assembly,
) -> None:
    kinds = ("AWS::SQS::QueuePolicy", "AWS::SNS::TopicPolicy", "AWS::S3::BucketPolicy")
    for kind in kinds:
        for policy in each.every(kind):
            for one in policy.properties["PolicyDocument"]["Statement"]:
                if one["Effect"] == "Allow":
                    assert set(one["Principal"]) == {"Service"}, policy.name
                    assert re.search("(?i)aws:Source(Arn|Account)", json.dumps(one["Condition"]))


def key_of(assembly: Assembly, queue: Resource) -> Resource:
    """The key that a queue or a topic is encrypted with, whichever stack it is in."""
    named = queue.properties["KmsMasterKeyId"]
    exporting, _, _ = named.get("Fn::ImportValue", "").partition(":")
    home = exporting.rpartition("-")[2] or queue.stack
    name = assembly.plain(queue.stack, named)
    (key,) = [
        one
        for one in assembly.every("AWS::KMS::Key")
        if (one.stack, f"<{one.name}.Arn>") == (home, name)
    ]
    return key


def test_what_eventbridge_sends_to_encrypted_queues_arrives(each: Assembly) -> None:
    """It does not say to a queue's key for which account it comes: none may be asked for there.

    Whose rule it is, is for the queue's own policy to ask.
    """
    queues = {f"<{one.name}.Arn>": one for one in each.every("AWS::SQS::Queue")}
    let_in: set[tuple[str, str]] = set()
    for policy in each.every("AWS::SQS::QueuePolicy"):
        for one in each.plain(policy.stack, policy.properties["PolicyDocument"]["Statement"]):
            if one["Principal"] == {"Service": "events.amazonaws.com"}:
                ((how, source),) = one["Condition"].items()
                assert (how, one["Action"]) == ("ArnEquals", "sqs:SendMessage")
                let_in.add((one["Resource"], source["aws:SourceArn"]))
    sent = {
        (arn, f"<{rule.name}.Arn>")
        for rule in each.every("AWS::Events::Rule")
        for target in rule.properties["Targets"]
        for place in (target["Arn"], target["DeadLetterConfig"]["Arn"])
        if (arn := each.plain(rule.stack, place)) in queues
    }
    assert sent == let_in
    for arn, _ in sent:
        document = key_of(each, queues[arn]).properties["KeyPolicy"]
        (statement,) = [
            one
            for one in document["Statement"]
            if "events.amazonaws.com" in listed(one["Principal"].get("Service", []))
        ]
        assert "Condition" not in statement
        assert set(statement["Action"]) >= {"kms:Decrypt", "kms:GenerateDataKey"}


def test_alarms_may_be_published(each: Assembly) -> None:
    """An explicit topic policy replaces the default one, by which CloudWatch was let in."""
    policies = [p for p in each.every("AWS::SNS::TopicPolicy") if p.name == "Alarms/Policy"]
    statements: list[Any] = policies[0].properties["PolicyDocument"]["Statement"]
    let_in = [
        one["Principal"]["Service"]
        for one in statements
        if one["Effect"] == "Allow" and one["Action"] == "sns:Publish"
    ]
    assert let_in == ["cloudwatch.amazonaws.com"]
    key = key_of(each, each.one("AWS::SNS::Topic", "Alarms"))
    assert "cloudwatch.amazonaws.com" in json.dumps(key.properties["KeyPolicy"])
