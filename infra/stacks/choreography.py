"""The choreography: each step's queue on the topic, and the function that listens for it."""

from __future__ import annotations

from aws_cdk import Stack
from constructs import Construct

from infra.components.queues import Deadletters, PullConsumer
from infra.components.steps import StepFunction
from infra.stacks.events import EventsStack
from infra.stacks.services import ServicesStack
from infra.stage import Stage
from recourse.choreography import listeners
from recourse.listener import GRACE, RECEIVES
from recourse.saga import Saga


class ChoreographyStack(Stack):
    """Who listens to whom, as the declarations have it (`recourse.choreography`).

    Attributes:
        deadletters: Where the steps' messages rest that could not be taken.
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
                handler="lambdas.step_queue.handler",
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
                # The listener gives a message up by itself; the queue only what kills the listener.
                receives=max(RECEIVES, tries + 2 * GRACE),
            )
            self.deadletters.append(consumer.deadletters)
