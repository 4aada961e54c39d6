"""Constructs for the CDK, one for each capability; only this package imports `aws_cdk`.

They work in any app and any layout of stacks: everything in one, or each in one of its own::

    from recourse.cdk import EventBackbone, Orchestration, SagaApi, Services, Stage

    stage = Stage.from_context(app.node, app="Shop")
    services = Services(stack, "Services", stage=stage, sagas=SAGAS.values())
    events = EventBackbone(stack, "Events", stage=stage, services=services)

`Stage` holds a deployment's settings; every construct receives it. In the examples of the others,
`stack` is a stack of the app, `stage` its stage, and `services`, `events` and so on are what the
examples before have made. What `__all__` names may be relied upon; the other modules may change.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from recourse.extras import needed

if TYPE_CHECKING:
    from recourse.cdk.api import SagaApi as SagaApi
    from recourse.cdk.choreography import Choreography as Choreography
    from recourse.cdk.console import Console as Console
    from recourse.cdk.console_settings import SignIn as SignIn
    from recourse.cdk.consumers import Consumers as Consumers
    from recourse.cdk.dashboard import SagaDashboard as SagaDashboard
    from recourse.cdk.erasure import Erasure as Erasure
    from recourse.cdk.events import EventBackbone as EventBackbone
    from recourse.cdk.function import HandlerFunction as HandlerFunction
    from recourse.cdk.imports import Imports as Imports
    from recourse.cdk.issuer import CognitoIssuer as CognitoIssuer
    from recourse.cdk.issuer import Issuer as Issuer
    from recourse.cdk.live import LiveChannels as LiveChannels
    from recourse.cdk.orchestration import Orchestration as Orchestration
    from recourse.cdk.queues import PullConsumer as PullConsumer
    from recourse.cdk.services import Services as Services
    from recourse.cdk.stage import Stage as Stage
    from recourse.cdk.valet import ValetKeys as ValetKeys
    from recourse.cdk.webhooks import Webhooks as Webhooks

_ROOMS = {
    "api": ("SagaApi",),
    "choreography": ("Choreography",),
    "console": ("Console",),
    "console_settings": ("SignIn",),
    "consumers": ("Consumers",),
    "dashboard": ("SagaDashboard",),
    "erasure": ("Erasure",),
    "events": ("EventBackbone",),
    "function": ("HandlerFunction",),
    "imports": ("Imports",),
    "issuer": ("CognitoIssuer", "Issuer"),
    "live": ("LiveChannels",),
    "orchestration": ("Orchestration",),
    "queues": ("PullConsumer",),
    "services": ("Services",),
    "stage": ("Stage",),
    "valet": ("ValetKeys",),
    "webhooks": ("Webhooks",),
}
_WHERE = {name: module for module, names in _ROOMS.items() for name in names}
__all__ = sorted(_WHERE)


def __getattr__(name: str) -> object:
    """What is named above, imported when it is first asked for (PEP 562)."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        found = getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
    except ModuleNotFoundError as problem:
        if (said := needed(problem)) is None:
            raise
        raise ModuleNotFoundError(said, name=problem.name) from problem
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return [*globals(), *_WHERE]
