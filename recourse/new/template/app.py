"""The CDK app: a stack for each capability. It makes no call to AWS."""

from aws_cdk import App, CfnOutput, Stack
from constructs import Construct
from recourse.cdk import (
    Choreography,
    CognitoIssuer,
    Console,
    Consumers,
    EventBackbone,
    Imports,
    Issuer,
    LiveChannels,
    Orchestration,
    SagaApi,
    Services,
    Stage,
    ValetKeys,
    Webhooks,
)

from lambdas.consumers import consumers
from statemachines import SAGAS

app = App()
stage = Stage.from_context(app.node, app="MySagas")


def stack(name: str) -> Stack:
    """A stack of this stage."""
    return Stack(app, f"{stage.prefix}-{name}")


def tell(construct: Construct, **outputs: str) -> None:
    """Outputs of a construct's stack."""
    for name, value in outputs.items():
        CfnOutput(Stack.of(construct), name, value=value)


services = Services(stack("Services"), "Services", stage=stage, sagas=SAGAS.values())
events = EventBackbone(stack("Events"), "Events", stage=stage, services=services)
choreography = Choreography(
    stack("Choreography"), "Choreography", stage=stage, services=services, events=events
)
orchestration = Orchestration(
    stack("Sagas"),
    "Sagas",
    stage=stage,
    services=services,
    events=events,
    choreography=choreography,
)
listening = Consumers(
    stack("Consumers"),
    "Consumers",
    stage=stage,
    services=services,
    events=events,
    consumers=consumers(),
)
valet = ValetKeys(stack("Valet"), "Valet", stage=stage, services=services, events=events)
webhooks = Webhooks(stack("Webhooks"), "Webhooks", stage=stage, events=events)
imports = Imports(
    stack("Imports"),
    "Imports",
    stage=stage,
    events=events,
    orchestration=orchestration,
    valet=valet,
)
users = None
if stage.issuer and stage.audience:  # the context names one, as the local cloud does
    issuer = Issuer(stage.issuer, (stage.audience,))
else:
    users = CognitoIssuer(
        stack("Issuer"), "Users", stage=stage, sagas=SAGAS.values(), alarm=events.alarm
    )
    tell(users, UserPoolId=users.pool.user_pool_id, TokenUrl=users.token_url)
    issuer = users.issuer
live = LiveChannels(stack("Live"), "Live", stage=stage, events=events, issuer=issuer)
api = SagaApi(
    stack("Api"),
    "Api",
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
)
tell(api, ApiUrl=api.url)
if users:
    tell(api, LoginCommand=users.login_command(api.url))
if stage.has_console:
    console = Console(
        stack("Console"),
        "Console",
        stage=stage,
        issuer=issuer,
        api=api,
        live=live,
        valet=valet,
    )
    tell(console, ConsoleUrl=console.url)
    if console.next_step:
        tell(console, ConsoleNextStep=console.next_step)
app.synth()
