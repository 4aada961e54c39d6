"""The choreography: each step's queue on the topic, and the function that listens for it."""

from __future__ import annotations

from aws_cdk import Stack
from constructs import Construct

from infra.stacks.events import EventsStack
from infra.stacks.services import ServicesStack
from recourse.cdk.queues import Deadletters, PullConsumer
from recourse.cdk.stage import Stage
from recourse.cdk.steps import StepFunction
from recourse.choreography.listener import GIVE_UP_RETRIES, MIN_RECEIVES
from recourse.choreography.routing import listeners
from recourse.declare.saga import Saga


class ChoreographyStack(Stack):
    """Which step listens to which, by the declarations (`recourse.choreography.routing`).

    Attributes:
        deadletters: Keep the steps' messages that could not be processed.
    """

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        stage: Stage,
        sagas: list[Saga],
        services: ServicesStack,
        events: EventsStack,
    ) -> None:
        super().__init__(scope, name)
        self.deadletters: list[Deadletters] = []
        for function, types in listeners(sagas).items():
            served = [(saga, s) for saga in sagas for s in saga.all if s.function == function]
            _, step = served[0]
            listener = StepFunction(
                self,
                f"{function}Queue",
                stage=stage,
                step=step,
                handler="recourse.functions.step_queue.handler",
                table=services.tables[step.service],
                documents=services.documents,
                key=services.key,
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
