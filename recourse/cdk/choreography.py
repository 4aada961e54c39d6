"""The choreography: each step's queue on the topic, and the function that listens for it."""

from __future__ import annotations

from constructs import Construct

from recourse.cdk.events import EventBackbone
from recourse.cdk.queues import Deadletters, PullConsumer
from recourse.cdk.services import Services
from recourse.cdk.stage import Stage
from recourse.choreography.listener import GIVE_UP_RETRIES, MIN_RECEIVES
from recourse.choreography.routing import listeners


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

    Attributes:
        deadletters: Keep the steps' messages that could not be processed.
    """

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        stage: Stage,
        services: Services,
        events: EventBackbone,
    ) -> None:
        super().__init__(scope, name)
        self.deadletters: list[Deadletters] = []
        sagas = services.sagas
        for function, types in listeners(sagas).items():
            served = [(saga, s) for saga in sagas for s in saga.all if s.function == function]
            _, step = served[0]
            listener = services.step_function(
                self,
                f"{function}Queue",
                step=step,
                handler="recourse.functions.step_queue.handler",
                environment={"FUNCTION": function, "RECOURSE_SAGAS": stage.sagas},
                timeout=stage.batch_timeout(max(one.timeout for _, one in served)),
            )
            tries = max(saga.patience(one).attempts for saga, one in served)
            consumer = PullConsumer(
                self,
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
            self.deadletters.append(consumer.deadletters)
