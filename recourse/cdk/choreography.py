"""The choreography: each step's queue on the topic, and the function that listens for it."""

from __future__ import annotations

from collections.abc import Mapping

from constructs import Construct

from recourse.cdk.events import EventBackbone
from recourse.cdk.queues import PullConsumer
from recourse.cdk.rights import read_shapes
from recourse.cdk.services import Services, check_homes
from recourse.cdk.stage import Stage
from recourse.choreography.listener import GIVE_UP_RETRIES, MIN_RECEIVES
from recourse.choreography.routing import listeners
from recourse.errors import DeclarationError

RESOURCES = 12
"""How many resources the queue and the function of a step have, alarms included."""
FILTERS = 180
"""How many steps may listen: a topic has 200 subscriptions with a filter, these and confirmers'."""


class Choreography(Construct):
    """Which step listens to which, by the declarations (`recourse.choreography.routing`).

    It is needed for sagas that are started with the coordination `choreography`.

    ::

        choreography = Choreography(
            stack,
            "Choreography",
            stage=stage,
            services=services,
            events=events,
        )

    Args:
        scope: The construct that contains it.
        name: Its construct id.
        stage: The deployment.
        services: The services whose steps listen.
        events: What they listen to.
        homes: Where the queues and the functions of a service's steps are, by service, if not here:
            in a stack of their own, where this one would have more than CloudFormation takes. What
            is deployed must stay where it is: a queue of the same name cannot be made elsewhere
            before it is gone.

    Attributes:
        consumers: The queue of each step and what handles it, by `Step.function`.
        deadletters: Keep the steps' messages that could not be processed.

    Raises:
        DeclarationError: The steps have more resources than a stack, or more filters than a topic.
    """

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        stage: Stage,
        services: Services,
        events: EventBackbone,
        homes: Mapping[str, Construct] | None = None,
    ) -> None:
        super().__init__(scope, name)
        homes = homes or {}
        self.consumers: dict[str, PullConsumer] = {}
        shapes = services.shapes
        served_by = {step.function: step for shape in shapes for step in shape.all}
        check_homes(self, homes, served_by.values(), each=RESOURCES)
        if len(served_by) > FILTERS:
            raise DeclarationError(
                f"the steps of a choreography must be at most {FILTERS}, for each filters the topic"
                f", got {len(served_by)} (docs/operations.md)"
            )
        for function, types in listeners(shapes).items():
            served = [(shape, s) for shape in shapes for s in shape.all if s.function == function]
            step = served_by[function]
            home = homes.get(step.service, self)
            listener = services.step_function(
                home,
                f"{function}Queue",
                step=step,
                handler="recourse.functions.step_queue.handler",
                environment={
                    "FUNCTION": function,
                    "RECOURSE_SAGAS": stage.sagas,
                    "LEDGER_TABLE": events.ledger.table_name,
                },
                timeout=stage.batch_timeout(max(one.timeout for _, one in served)),
            )
            tries = max(shape.patience(one).attempts for shape, one in served)
            read_shapes(events.ledger, listener)
            self.consumers[function] = PullConsumer(
                home,
                f"{function}Events",
                stage=stage,
                called=function,
                function=listener,
                topic=events.topic,
                only={"coordination": ["choreography"], "type": types},
                key=events.key,
                alarm=events.alarm,
                # The listener dead-letters messages itself; the queue only those that kill it.
                receives=max(MIN_RECEIVES, tries + 2 * GIVE_UP_RETRIES),
            )
        self.deadletters = [consumer.deadletters for consumer in self.consumers.values()]
