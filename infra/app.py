"""The whole app: its stacks, what is in each, and what is particular to this deployment."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from aws_cdk import App, CfnOutput, Stack, Tags
from aws_cdk.aws_ecr_assets import Platform
from aws_cdk.aws_ecs import ContainerImage
from constructs import Construct

from infra.payments import SERVICE, PaymentEvents
from infra.probe import Probe
from lambdas.consumers import consumers
from lambdas.subscribers import subscribers
from recourse.cdk.api import SagaApi
from recourse.cdk.choreography import Choreography
from recourse.cdk.console import Console
from recourse.cdk.consumers import Consumers
from recourse.cdk.dashboard import SagaDashboard
from recourse.cdk.erasure import Erasure
from recourse.cdk.events import EventBackbone
from recourse.cdk.imports import Imports
from recourse.cdk.issuer import CognitoIssuer, Issuer
from recourse.cdk.live import LiveChannels
from recourse.cdk.orchestration import Orchestration
from recourse.cdk.rights import use_table
from recourse.cdk.services import Services
from recourse.cdk.stage import ContextError, Stage
from recourse.cdk.valet import ValetKeys
from recourse.cdk.webhooks import Webhooks
from recourse.declare.saga import Saga
from services.holdings import HOLDINGS
from statemachines import SAGAS

HERE = "Default"
"""The id of what a stack is about: it is not part of logical ids, which stages are stored under."""
CARRIED = ("recourse", "cli", "infra/image")
"""What the workers' image contains besides the project's own packages."""


def build(app: App, stage: Stage, sagas: Mapping[str, Saga] | None = None) -> None:
    """Put the stacks of a stage into an app.

    Args:
        app: The CDK app.
        stage: The deployment.
        sagas: The declarations; those of `statemachines` by default.

    Raises:
        ContextError: The context has a setting of this deployment that is not valid.
    """
    probe = _checked(app, "probe", "on|off", "on or off") == "on"
    provider = _payment_provider(app, stage)
    stacks: list[Stack] = []

    def stack(name: str) -> Stack:
        stacks.append(Stack(app, f"{stage.prefix}-{name}"))
        return stacks[-1]

    declared = (SAGAS if sagas is None else sagas).values()
    services = Services(stack("Services"), HERE, stage=stage, sagas=declared)
    events = EventBackbone(stack("Events"), HERE, stage=stage, services=services)
    _tell(
        events,
        LedgerTableName=events.ledger.table_name,
        EventsTopicArn=events.topic.topic_arn,
        FeedTableName=events.feed_table.table_name,
        FeedTopicArn=events.feed.topic_arn,
        AlarmsTopicArn=events.alarms.topic_arn,
        ParkedQueueUrl=events.parked.queue_url,
    )
    choreography = Choreography(
        stack("Choreography"), HERE, stage=stage, services=services, events=events
    )
    orchestration = Orchestration(
        stack("Sagas"),
        HERE,
        stage=stage,
        services=services,
        events=events,
        choreography=choreography,
    )
    listening = Consumers(
        stack("Subscribers"),
        HERE,
        stage=stage,
        services=services,
        events=events,
        consumers=consumers(),
        subscribers=subscribers(),
        image=_worker_image(stage) if stage.fargate else None,
    )
    _tell(
        listening,
        **{f"{name}TableName": table.table_name for name, table in listening.tables.items()},
    )
    valet = ValetKeys(stack("Valet"), HERE, stage=stage, services=services, events=events)
    _tell(
        valet,
        ValetTableName=valet.table.table_name,
        ValetBucketName=valet.bucket.bucket_name,
    )
    webhooks = Webhooks(stack("Webhooks"), HERE, stage=stage, events=events)
    imports = Imports(
        stack("Imports"),
        HERE,
        stage=stage,
        events=events,
        orchestration=orchestration,
        valet=valet,
    )
    _tell(
        imports,
        ImportsTableName=imports.table.table_name,
        ImportMachineArn=imports.machine.state_machine_arn,
    )
    users = None
    if stage.issuer and stage.audience:
        issuer = Issuer(stage.issuer, (stage.audience,))
    else:
        users = _user_pool(stack("Issuer"), stage, declared, events)
        issuer = users.issuer
    live = LiveChannels(stack("Live"), HERE, stage=stage, events=events, issuer=issuer)
    _tell(
        live,
        SseUrl=live.sse_url,
        WebSocketUrl=live.websocket_url,
        ConnectionsUrl=live.connections_url,
        ConnectionsTableName=live.connections.table_name,
    )
    api = SagaApi(
        stack("Api"),
        HERE,
        stage=stage,
        services=services,
        events=events,
        orchestration=orchestration,
        issuer=issuer,
        choreography=choreography,
        valet=valet,
        webhooks=webhooks,
        imports=imports,
        live=live,
        consumers=listening,
        handler="lambdas.api.handler",
    )
    _let_change_holdings(api, services)
    if stage.has_every_alarm:
        SagaDashboard(Stack.of(api), "Dashboard", stage=stage, events=events, api=api)
    _tell(api, ApiUrl=api.url, ApiId=api.api.api_id, Chaos="on" if stage.chaos else "off")
    if users:
        _tell(api, LoginCommand=users.login_command(api.url))
    if stage.has_console:
        console = Console(
            stack("Console"),
            HERE,
            stage=stage,
            issuer=issuer,
            api=api,
            live=live,
            valet=valet,
        )
        _tell(console, ConsoleUrl=console.url)
        if console.next_step:
            _tell(console, ConsoleNextStep=console.next_step)
    erasing = stack("Erasure")
    erasure = Erasure(
        erasing,
        HERE,
        services=services,
        events=events,
        consumers=listening,
        valet=valet,
        imports=imports,
        webhooks=webhooks,
        live=live,
    )
    _tell(erasure, Places=erasure.places, ErasurePolicyArn=erasure.policy.managed_policy_arn)
    if provider.startswith("stripe:") and SERVICE in services.tables:
        PaymentEvents(
            stack("Payments"),
            HERE,
            stage=stage,
            services=services,
            events=events,
            api=api,
            provider=provider,
            secret=_text(app, "payment_secret"),
        )
    if probe:
        Probe(stack("Probe"), HERE, stage=stage, services=services, events=events)
    for one in stacks:
        # W3005: the CDK writes dependencies that a GetAtt already implies. W6001: one stack says of
        # the others' tables and buckets where they are, and the API's where to sign in.
        ignored = ["W3005", *(["W6001"] if one in (erasing, Stack.of(api)) else [])]
        one.template_options.metadata = {"cfn-lint": {"config": {"ignore_checks": ignored}}}
    Tags.of(app).add("recourse:stage", stage.name)


def _payment_provider(app: App, stage: Stage) -> str:
    """The payment provider, by the context: `services.gateways` says what it may be."""
    loopback = r"http://(127\.0\.0\.1|\[::1\]|localhost)(:\d+)?"
    provider = _checked(
        app,
        "payment_provider",
        rf"https?://[^?#\s]+|stripe:(test|live|{loopback})",
        "an http or https address, stripe:test or stripe:live",
    )
    by_stripe, secret = provider.startswith("stripe:"), _text(app, "payment_secret")
    if by_stripe != bool(secret):
        raise ContextError(
            "context payment_secret must be the ARN of the secret with Stripe's key, and be given "
            f"with payment_provider=stripe:… alone, got {secret!r} with {provider!r}"
        )
    if provider == "stripe:live" and stage.chaos:
        raise ContextError("context payment_provider='stripe:live' must not be with chaos='on'")
    return provider


def _checked(app: App, name: str, pattern: str, wanted: str) -> str:
    value = _text(app, name)
    if value and not re.fullmatch(pattern, value):
        raise ContextError(f"context {name}={value!r} must be {wanted}")
    return value


def _text(app: App, name: str) -> str:
    return str(app.node.try_get_context(name) or "").strip()


def _tell(construct: Construct, **outputs: str) -> None:
    """Outputs of a construct's stack."""
    for name, value in outputs.items():
        CfnOutput(Stack.of(construct), name, value=value)


def _user_pool(
    stack: Stack, stage: Stage, sagas: Iterable[Saga], events: EventBackbone
) -> CognitoIssuer:
    """A user pool, in a separate stack: every stack that verifies tokens is deployed after it."""
    users = CognitoIssuer(stack, "Users", stage=stage, sagas=sagas, alarm=events.alarm)
    _tell(
        users,
        UserPoolId=users.pool.user_pool_id,
        TokenUrl=users.token_url,
        **{f"{machine}Id": client_id for machine, client_id in users.machines.items()},
    )
    return users


def _let_change_holdings(api: SagaApi, services: Services) -> None:
    """Let the API show and change what the services hold."""
    shown = [
        services.tables[service]
        for service in sorted({h.service for h in HOLDINGS.values()})
        if service in services.tables
    ]
    for table in shown:
        use_table(
            table, api.function, "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"
        )


def _worker_image(stage: Stage) -> ContainerImage:
    """The workers' image, which the CDK builds when it deploys; `cdk synth` needs no Docker."""
    project = stage.carried
    return ContainerImage.from_asset(
        str(project.root),
        file="infra/image/Dockerfile",
        exclude=[
            "*",
            *(f"!{one}" for one in (*project.packages, *CARRIED)),
            "**/__pycache__",
        ],
        platform=Platform.LINUX_ARM64,
    )
