"""The whole app: its stacks, and what is passed to each."""

from __future__ import annotations

from aws_cdk import App, Stack, Tags

from infra.stacks.api import ApiStack
from infra.stacks.choreography import ChoreographyStack
from infra.stacks.erasure import ErasureStack
from infra.stacks.events import EventsStack
from infra.stacks.issuer import issuer_of
from infra.stacks.live import LiveStack
from infra.stacks.probe import ProbeStack
from infra.stacks.sagas import SagasStack
from infra.stacks.services import ServicesStack
from infra.stacks.subscribers import SubscribersStack
from infra.stacks.valet import ValetStack
from infra.stacks.webhooks import WebhooksStack
from recourse.cdk.stage import Stage
from recourse.declare.saga import Saga, collect
from statemachines import SAGAS


def build(app: App, stage: Stage, sagas: dict[str, Saga] | None = None) -> None:
    """Put the stacks of a stage into an app.

    Args:
        app: The CDK app.
        stage: The deployment.
        sagas: The declarations; those of `statemachines` by default.
    """
    declared = list(collect(*(SAGAS if sagas is None else sagas).values()).values())
    prefix = stage.prefix
    services = ServicesStack(app, f"{prefix}-Services", stage=stage, sagas=declared)
    events = EventsStack(
        app,
        f"{prefix}-Events",
        stage=stage,
        sagas=declared,
        tables=services.tables,
        documents_key=services.key,
    )
    choreography = ChoreographyStack(
        app,
        f"{prefix}-Choreography",
        stage=stage,
        sagas=declared,
        services=services,
        events=events,
    )
    machines = SagasStack(
        app,
        f"{prefix}-Sagas",
        stage=stage,
        sagas=declared,
        functions=services.functions,
        tables=services.tables,
        events=events,
    )
    subscribers = SubscribersStack(
        app, f"{prefix}-Subscribers", stage=stage, events=events, key=services.key
    )
    valet = ValetStack(app, f"{prefix}-Valet", stage=stage, services=services, events=events)
    webhooks = WebhooksStack(app, f"{prefix}-Webhooks", stage=stage, events=events)
    issuer = issuer_of(app, stage)
    live = LiveStack(app, f"{prefix}-Live", stage=stage, events=events, issuer=issuer)
    api = ApiStack(
        app,
        f"{prefix}-Api",
        stage=stage,
        tables=services.tables,
        events=events,
        sagas=machines,
        valet=valet,
        webhooks=webhooks,
        live=live,
        issuer=issuer,
        deadletters=[
            *events.deadletters,
            *choreography.deadletters,
            *machines.deadletters,
            *valet.deadletters,
            *webhooks.deadletters,
            *live.deadletters,
            *subscribers.deadletters,
        ],
        documents=services.documents,
    )
    erasure = ErasureStack(
        app,
        f"{prefix}-Erasure",
        services=services,
        events=events,
        subscribers=subscribers,
        valet=valet,
        webhooks=webhooks,
        live=live,
    )
    stacks: list[Stack] = [
        services,
        events,
        choreography,
        machines,
        subscribers,
        valet,
        live,
        webhooks,
        api,
        erasure,
    ]
    if issuer.stack:
        stacks.append(issuer.stack)
    if stage.probe:
        stacks.append(
            ProbeStack(app, f"{prefix}-Probe", stage=stage, events=events, tables_key=services.key)
        )
    for stack in stacks:
        # W3005: the CDK writes dependencies that a GetAtt already implies. W6001: one stack says of
        # the others' tables and buckets where they are.
        ignored = ["W3005", *(["W6001"] if stack is erasure else [])]
        stack.template_options.metadata = {"cfn-lint": {"config": {"ignore_checks": ignored}}}
    Tags.of(app).add("recourse:stage", stage.name)
