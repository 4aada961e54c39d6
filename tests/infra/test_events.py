"""What is told reaches everybody that it is for, or is dead-lettered where an alarm sees it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

import lambdas.consumers
import lambdas.subscribers
from recourse.choreography.listener import GIVE_UP_RETRIES
from recourse.choreography.routing import listeners
from recourse.queues.called import redriven_queues
from recourse.queues.consumer import Declaration
from recourse.store import retention
from statemachines import SAGAS
from tests.infra.assembly import Assembly, Resource

if TYPE_CHECKING:
    from recourse.cdk.queues import PullConsumer

pytestmark = [pytest.mark.xdist_group("infra"), pytest.mark.of_all]
CONSUMERS = list(lambdas.consumers.consumers().values())
SUBSCRIBERS = list(lambdas.subscribers.subscribers().values())
KEPT = (
    *("Relay", "Feeder", "FeedRelay", "Sweeper", "ValetCommit"),
    *(one.name for one in SUBSCRIBERS),
)


LANES = "<WebhookLanes/Queue.QueueName>"


def consumers(assembly: Assembly) -> list[tuple[Resource, Resource, Resource]]:
    """Each mapping from a queue, with the queue and the function that it joins."""
    queues = {f"<{one.name}.Arn>": one for one in assembly.every("AWS::SQS::Queue")}
    functions = {f"<{one.name}>": one for one in assembly.every("AWS::Lambda::Function")}
    found = []
    for mapping in assembly.every("AWS::Lambda::EventSourceMapping"):
        source = assembly.plain(mapping.stack, mapping.properties["EventSourceArn"])
        if source in queues:
            to = assembly.plain(mapping.stack, mapping.properties["FunctionName"])
            found.append((mapping, queues[source], functions[to]))
    assert found
    return found


def deadletters(assembly: Assembly) -> set[str]:
    """Every queue that something is dead-lettered in, by what names it so."""
    arns: set[str] = set()
    for one in assembly.every("AWS::SQS::Queue") + assembly.every("AWS::SNS::Subscription"):
        if "RedrivePolicy" in one.properties:
            target = one.properties["RedrivePolicy"]["deadLetterTargetArn"]
            arns.add(assembly.plain(one.stack, target))
    for rule in assembly.every("AWS::Events::Rule"):
        for target in rule.properties["Targets"]:
            arns.add(assembly.plain(rule.stack, target["DeadLetterConfig"]["Arn"]))
    for mapping in assembly.every("AWS::Lambda::EventSourceMapping"):
        if "DestinationConfig" in mapping.properties:
            target = mapping.properties["DestinationConfig"]["OnFailure"]["Destination"]
            arns.add(assembly.plain(mapping.stack, target))
    return arns


def watched(assembly: Assembly, metric: str, dimension: str) -> set[str]:
    """What has an alarm on a metric, by the metric's dimension."""
    return {
        assembly.plain(alarm.stack, one["Value"])
        for alarm in assembly.every("AWS::CloudWatch::Alarm")
        if alarm.properties["MetricName"] == metric
        for one in alarm.properties["Dimensions"]
        if one["Name"] == dimension
    }


def operators_see(assembly: Assembly) -> set[str]:
    """The queues whose messages raise an alarm: their own, or by the sweeper the one for all."""
    assert "<Sweeper>" in watched(assembly, "Errors", "FunctionName")
    sweeper = assembly.one("AWS::Lambda::Function", "Sweeper")
    told = assembly.environment(sweeper)
    others = json.loads(told["WATCHED_QUEUES"] or "null")
    of_sagas = redriven_queues(SAGAS.values(), choreography=told["CHOREOGRAPHY"] == "on")
    watches = [] if others is None else [*of_sagas, *others]
    names = {f"{told['QUEUE_PREFIX']}{name}-deadletters" for name in watches}
    return watched(assembly, "ApproximateNumberOfMessagesVisible", "QueueName") | {
        f"<{queue.name}.QueueName>"
        for queue in assembly.every("AWS::SQS::Queue")
        if queue.properties["QueueName"] in names
    }


def test_every_queue_has_deadletters_or_is_where_they_rest(each: Assembly) -> None:
    resting = deadletters(each)
    for queue in each.every("AWS::SQS::Queue"):
        has_its_own = "RedrivePolicy" in queue.properties
        if queue.name == "Parked":
            # A notice is due however often it is looked at; only SNS dead-letters some for it.
            assert not has_its_own
            continue
        assert has_its_own != (f"<{queue.name}.Arn>" in resting), queue.name


def test_a_queue_and_its_deadletters_are_named_so_that_people_know_them(each: Assembly) -> None:
    prefix = next(iter(each.templates)).rpartition("-")[0]
    names = {one.properties["QueueName"] for one in each.every("AWS::SQS::Queue")}
    consuming = {queue.properties["QueueName"] for _, queue, _ in consumers(each)}
    assert consuming | {f"{prefix}-Parked"} == {
        name for name in names if "-deadletters" not in name
    }
    for queue in each.every("AWS::SQS::Queue"):
        name = queue.properties["QueueName"]
        assert name.startswith(f"{prefix}-") and len(name) <= 80
        if "RedrivePolicy" in queue.properties:
            target = each.plain(
                queue.stack, queue.properties["RedrivePolicy"]["deadLetterTargetArn"]
            )
            (lost,) = [
                one for one in each.every("AWS::SQS::Queue") if f"<{one.name}.Arn>" == target
            ]
            plain, dot, fifo = name.partition(".")
            assert lost.properties["QueueName"] == f"{plain}-deadletters{dot}{fifo}"
            assert lost.properties.get("FifoQueue") == queue.properties.get("FifoQueue")


def test_the_api_knows_every_dead_letter_queue_and_which_can_be_redriven(each: Assembly) -> None:
    environment = each.environment(each.one("AWS::Lambda::Function", "Api"))
    prefix, told = environment["QUEUE_PREFIX"], json.loads(environment["DEADLETTERS"])
    # Those that follow from the sagas take no room in the environment.
    of_sagas = redriven_queues(SAGAS.values(), choreography=environment["CHOREOGRAPHY"] == "on")
    assert not set(of_sagas) & set(told["redriven"])
    names = {one.properties["QueueName"] for one in each.every("AWS::SQS::Queue")}
    redriven = {prefix + name for name in [*of_sagas, *told["redriven"]]}
    assert redriven == {name for name in names if not name.endswith("-deadletters")}
    kept = {prefix + name for name in told["kept"]}
    assert kept == {prefix + name for name in KEPT}
    assert {f"{name}-deadletters" for name in redriven | kept} == names - redriven


def test_no_two_queues_have_one_name(each: Assembly) -> None:
    names = [one.properties["QueueName"] for one in each.every("AWS::SQS::Queue")]
    assert len(names) == len(set(names))


def test_every_subscription_and_every_rule_dead_letters_what_it_cannot_deliver(
    each: Assembly,
) -> None:
    for subscription in each.every("AWS::SNS::Subscription"):
        assert "RedrivePolicy" in subscription.properties, subscription.name
        if subscription.properties["Protocol"] == "sqs":
            assert subscription.properties["RawMessageDelivery"] is True, subscription.name
    for rule in each.every("AWS::Events::Rule"):
        assert all("DeadLetterConfig" in one for one in rule.properties["Targets"]), rule.name


def test_what_is_dead_lettered_rests_for_two_weeks_and_raises_an_alarm(each: Assembly) -> None:
    seen = operators_see(each)
    for queue in each.every("AWS::SQS::Queue"):
        assert queue.properties["MessageRetentionPeriod"] == 14 * 24 * 3600, queue.name
        if "RedrivePolicy" not in queue.properties:
            assert f"<{queue.name}.QueueName>" in seen, queue.name


def test_an_event_is_kept_for_as_long_as_a_message_about_it(each: Assembly) -> None:
    """What was dead-lettered may be redriven on its last day: its outbox and inbox rows exist."""
    longest = max(
        queue.properties["MessageRetentionPeriod"]
        for queue in each.every("AWS::SQS::Queue")
        if "MessageRetentionPeriod" in queue.properties
    )
    assert retention.KINDS["events"].least * retention.DAY >= longest


def test_a_batch_fails_in_part(each: Assembly) -> None:
    for mapping, _, _ in consumers(each):
        assert mapping.properties["FunctionResponseTypes"] == ["ReportBatchItemFailures"]


def test_a_message_stays_hidden_for_six_times_what_its_function_may_take(each: Assembly) -> None:
    for _, queue, function in consumers(each):
        hidden = queue.properties["VisibilityTimeout"]
        assert hidden >= 6 * function.properties["Timeout"], queue.name


def test_throttling_does_not_dead_letter_messages(each: Assembly) -> None:
    for mapping, queue, _ in consumers(each):
        assert queue.properties["RedrivePolicy"]["maxReceiveCount"] >= 5, queue.name
        assert mapping.properties["ScalingConfig"]["MaximumConcurrency"] >= 2, queue.name


def test_a_queue_that_waits_too_long_raises_an_alarm(alarmed: Assembly) -> None:
    seen = watched(alarmed, "ApproximateAgeOfOldestMessage", "QueueName")
    queues = {f"<{queue.name}.QueueName>" for _, queue, _ in consumers(alarmed)}
    # Where messages are put off for hours, their age says nothing: it counts those that are not.
    assert queues - seen == {LANES}
    assert LANES in watched(alarmed, "ApproximateNumberOfMessagesVisible", "QueueName")


def calls(assembly: Assembly) -> dict[str, set[str]]:
    """Which functions each can have called: at once, by a queue that one takes from, by a topic."""
    taken: dict[str, set[str]] = {}
    for _, queue, function in consumers(assembly):
        by_name = "arn:<AWS::Partition>:sqs:<AWS::Region>:<AWS::AccountId>:"
        for arn in (f"<{queue.name}.Arn>", by_name + queue.properties["QueueName"]):
            taken.setdefault(arn, set()).add(function.name)
    invoked = {f"<{one.name}.Arn>": {one.name} for one in assembly.every("AWS::Lambda::Function")}
    told: dict[str, set[str]] = {}
    for one in assembly.every("AWS::SNS::Subscription"):
        topic, hears = (
            assembly.plain(one.stack, one.properties[name]) for name in ("TopicArn", "Endpoint")
        )
        told.setdefault(topic, set()).update((taken | invoked).get(hears, ()))
    ways = {"sqs:SendMessage": taken, "sns:Publish": told, "lambda:InvokeFunction": invoked}
    return {
        function.name: {
            called
            for resource, actions in assembly.rights(function).items()
            for action in actions & ways.keys()
            for called in ways[action].get(resource, ())
        }
        for function in assembly.every("AWS::Lambda::Function")
    }


def test_a_function_that_comes_back_to_itself_may(each: Assembly) -> None:
    """Lambda ends such a chain after some 16 laps, though every lap takes something out of it.

    It follows calls, queues and topics; what comes by a table's stream or by EventBridge is a new
    chain.
    """
    called = calls(each)
    assert called["Relay"] > {"Ledger"} and called["FeedRelay"] > {one.name for one in SUBSCRIBERS}

    def reached(name: str) -> set[str]:
        found: set[str] = set()
        ahead = called[name]
        while ahead:
            found |= ahead
            ahead = set[str]().union(*(called[one] for one in ahead)) - found
        return found

    allowed = {
        one.name
        for one in each.every("AWS::Lambda::Function")
        if one.properties.get("RecursiveLoop") == "Allow"
    }
    assert {name for name in called if name in reached(name)} == allowed
    assert allowed == {"Push", "WebhookDispatch", "WebhookDeliver"}


def test_a_lane_of_webhooks_never_waits_for_another_in_its_batch(each: Assembly) -> None:
    (batch,) = [
        mapping.properties["BatchSize"]
        for mapping, queue, _ in consumers(each)
        if f"<{queue.name}.QueueName>" == LANES
    ]
    assert batch == 1


def test_a_stream_is_read_for_what_it_is_read_for_and_nothing_else(each: Assembly) -> None:
    read: dict[str, list[str]] = {}
    for mapping in each.every("AWS::Lambda::EventSourceMapping"):
        source = each.plain(mapping.stack, mapping.properties["EventSourceArn"])
        if not source.endswith(".StreamArn>"):
            continue
        function = each.plain(mapping.stack, mapping.properties["FunctionName"])
        read.setdefault(function, []).append(source)
        assert mapping.properties["StartingPosition"] == "TRIM_HORIZON"
        assert mapping.properties["BisectBatchOnFunctionError"] is True
        # It raises where it fails, so that the stream comes again.
        assert "FunctionResponseTypes" not in mapping.properties
        (only,) = mapping.properties["FilterCriteria"]["Filters"]
        assert (
            json.loads(only["Pattern"])
            == {
                "<Relay>": new_rows("outbox#"),
                "<FeedRelay>": new_rows("feed#"),
                "<Feeder>": {"dynamodb": {"NewImage": {"owner": {"S": [{"exists": True}]}}}},
            }[function]
        )
    tables = {
        f"<{table.name}.StreamArn>"
        for table in each.every("AWS::DynamoDB::Table")
        if "StreamSpecification" in table.properties
    }
    outboxes = sorted(tables - {"<FeedTable.StreamArn>"})
    assert sorted(read.pop("<Relay>")) == outboxes
    assert read == {
        "<Feeder>": ["<LedgerTable.StreamArn>"],
        "<FeedRelay>": ["<FeedTable.StreamArn>"],
    }


def test_every_mapping_has_an_end_of_attempts_and_of_age_and_a_place_for_what_fails(
    each: Assembly,
) -> None:
    """By which nothing that can never be taken stops what comes behind it."""
    queues = {f"<{one.name}.Arn>": one for one in each.every("AWS::SQS::Queue")}
    alarmed = operators_see(each)
    for mapping in each.every("AWS::Lambda::EventSourceMapping"):
        of = mapping.properties
        source = each.plain(mapping.stack, of["EventSourceArn"])
        if source in queues:
            policy = queues[source].properties["RedrivePolicy"]
            attempts, lost = policy["maxReceiveCount"], policy["deadLetterTargetArn"]
            age = queues[source].properties["MessageRetentionPeriod"]
            place = each.plain(queues[source].stack, lost)
        else:
            attempts, age = of["MaximumRetryAttempts"], of["MaximumRecordAgeInSeconds"]
            lost = of["DestinationConfig"]["OnFailure"]["Destination"]
            place = each.plain(mapping.stack, lost)
            assert of["BisectBatchOnFunctionError"] is True
            function = each.plain(mapping.stack, of["FunctionName"])
            (told,) = (
                each.environment(one)
                for one in each.every("AWS::Lambda::Function")
                if f"<{one.name}>" == function
            )
            assert told["LOST_URL"] == f"<{queues[place].name}>", "what it dead-letters by itself"
        assert 1 <= attempts <= 1000, mapping.name
        assert 60 <= age <= 14 * 24 * 3600, mapping.name
        assert f"<{queues[place].name}.QueueName>" in alarmed, mapping.name


def new_rows(prefix: str) -> dict[str, Any]:
    return {"eventName": ["INSERT"], "dynamodb": {"Keys": {"pk": {"S": [{"prefix": prefix}]}}}}


def test_what_a_subscriber_fails_at_is_tried_again_and_dead_lettered(each: Assembly) -> None:
    found = {}
    for invoked in each.every("AWS::Lambda::EventInvokeConfig"):
        assert invoked.properties["MaximumRetryAttempts"] == 2
        target = invoked.properties["DestinationConfig"]["OnFailure"]["Destination"]
        function = each.plain(invoked.stack, invoked.properties["FunctionName"])
        found[function] = each.plain(invoked.stack, target)
    assert found == {f"<{one.name}>": f"<{one.name}Deadletters.Arn>" for one in SUBSCRIBERS}


def test_what_is_pushed_to_endpoints_is_signed_by_sha_256(each: Assembly) -> None:
    assert each.one("AWS::SNS::Topic", "Feed").properties["SignatureVersion"] == "2"


def test_what_falls_behind_a_stream_raises_an_alarm(alarmed: Assembly) -> None:
    assert watched(alarmed, "IteratorAge", "FunctionName") == {"<Relay>", "<Feeder>", "<FeedRelay>"}


def hears(one: Declaration) -> dict[str, list[str]] | None:
    """Its filter; none where it hears everything."""
    return {attribute: list(values) for attribute, values in one.hears.items()} or None


def test_who_listens_to_what(each: Assembly) -> None:
    listens = {
        each.plain(one.stack, one.properties["Endpoint"]): one.properties.get("FilterPolicy")
        for one in each.every("AWS::SNS::Subscription")
    }
    pivots: dict[str, set[str]] = {}
    for saga in SAGAS.values():
        for step in saga.all:
            if step.confirm:
                event = f"recourse.{saga.name}.{saga.pivot.name}.done"
                pivots.setdefault(step.service, set()).add(event)
    assert listens == {
        "<LedgerEvents/Queue.Arn>": None,
        "<WebhookOwners/Queue.Arn>": None,
        "<PushEvents/Queue.Arn>": None,
        "<Parked.Arn>": {"outcome": ["parked"]},
        **{f"<{one.name}.Arn>": hears(one) for one in SUBSCRIBERS},
        **{f"<{one.name}Events/Queue.Arn>": hears(one) for one in CONSUMERS},
        **{
            f"<{service.title()}ConfirmEvents/Queue.Arn>": {"type": sorted(events)}
            for service, events in pivots.items()
        },
        **{
            f"<{function}Events/Queue.Arn>": {"coordination": ["choreography"], "type": types}
            for function, types in listeners(SAGAS.values()).items()
        },
    }


def test_a_step_is_tried_as_often_as_it_is_declared_before_its_queue_dead_letters_a_message(
    each: Assembly,
) -> None:
    queues = {queue.name: queue for _, queue, _ in consumers(each)}
    for saga in SAGAS.values():
        for step in saga.all:
            queue = queues[f"{step.function}Events/Queue"]
            receives = queue.properties["RedrivePolicy"]["maxReceiveCount"]
            assert receives > saga.patience(step).attempts + GIVE_UP_RETRIES, queue.name


@pytest.fixture
def consumer() -> Callable[..., PullConsumer]:
    """A consumer with settings of the test's own."""
    from aws_cdk import Duration, Stack
    from aws_cdk.aws_cloudwatch_actions import SnsAction
    from aws_cdk.aws_kms import Key
    from aws_cdk.aws_lambda import Code, Function, Runtime
    from aws_cdk.aws_sns import Topic

    from recourse.cdk.queues import PullConsumer
    from recourse.cdk.stage import Stage

    stack = Stack()
    key, alarms = Key(stack, "Key"), Topic(stack, "Alarms")

    def made(
        *,
        timeout: int = 30,
        reserved: int | None = None,
        visibility: int | None = None,
        **settings: Any,
    ) -> PullConsumer:
        function = Function(
            stack,
            "Function",
            runtime=Runtime.PYTHON_3_13,
            handler="module.handler",
            code=Code.from_inline("def handler(event, context): pass"),
            timeout=Duration.seconds(timeout),
            reserved_concurrent_executions=reserved,
        )
        return PullConsumer(
            stack,
            "Consumer",
            stage=Stage(),
            called="Things",
            function=function,
            key=key,
            alarm=SnsAction(alarms),
            visibility=None if visibility is None else Duration.seconds(visibility),
            **{"topic": Topic(stack, "Topic"), **settings},
        )

    return made


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"visibility": 179}, "visibility must be at least six times .*, 180 s, got 179 s"),
        ({"receives": 4}, "receives must be at least 5, got 4"),
        ({"at_once": 1}, "at_once must be 2 to 1000, got 1"),
        ({"reserved": 5}, "at_once must be 2 to 5, got 150"),
        ({"fifo": True}, "a FIFO queue must have a FIFO topic or none"),
    ],
)
def test_a_consumer_that_would_lose_messages_is_refused_when_it_is_built(
    consumer: Callable[..., PullConsumer], settings: dict[str, Any], said: str
) -> None:
    from recourse.cdk.queues import UnsafeQueueError

    with pytest.raises(UnsafeQueueError, match=f"Consumer: .*{said}"):
        consumer(**settings)


def test_a_consumer_within_its_functions_concurrency_is_built(
    consumer: Callable[..., PullConsumer],
) -> None:
    assert consumer(reserved=5, at_once=5, receives=5, visibility=180).queue


def test_a_consumer_that_keeps_order_has_fifo_queues_and_needs_no_topic(
    consumer: Callable[..., PullConsumer],
) -> None:
    from aws_cdk import Stack
    from aws_cdk.assertions import Template

    made = consumer(topic=None, fifo=True)
    template = Template.from_stack(Stack.of(made))
    template.resource_count_is("AWS::SNS::Subscription", 0)
    queues = template.find_resources("AWS::SQS::Queue").values()
    assert {one["Properties"]["QueueName"]: one["Properties"]["FifoQueue"] for one in queues} == {
        "Recourse-dev-Things.fifo": True,
        "Recourse-dev-Things-deadletters.fifo": True,
    }
    assert made.deadletters.called == "Things.fifo"


def test_what_is_parked_raises_an_alarm(each: Assembly) -> None:
    assert "<Parked.QueueName>" in watched(each, "ApproximateNumberOfMessagesVisible", "QueueName")


def test_every_alarm_tells_the_alarms_topic_and_takes_silence_for_health(each: Assembly) -> None:
    for alarm in each.every("AWS::CloudWatch::Alarm"):
        assert each.plain(alarm.stack, alarm.properties["AlarmActions"]) == ["<Alarms>"]
        assert alarm.properties["TreatMissingData"] == "notBreaching", alarm.name
        assert "Metrics" not in alarm.properties, "one metric, which every emulator knows"


def test_queues_and_topics_refuse_what_comes_without_tls(each: Assembly) -> None:
    for kind, what in (
        ("AWS::SQS::QueuePolicy", "AWS::SQS::Queue"),
        ("AWS::SNS::TopicPolicy", "AWS::SNS::Topic"),
    ):
        refusing = [
            policy
            for policy in each.every(kind)
            if any(
                one["Effect"] == "Deny"
                and one["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
                for one in policy.properties["PolicyDocument"]["Statement"]
            )
        ]
        assert len(refusing) == len(each.every(what))
