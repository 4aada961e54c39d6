"""The state machines, the function that parks stuck sagas, and the sweeper."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import cast

from aws_cdk import ArnFormat, Duration, Stack
from aws_cdk.aws_events import EventPattern, Rule, Schedule
from aws_cdk.aws_events_targets import LambdaFunction
from aws_cdk.aws_lambda import CfnFunction
from aws_cdk.aws_ssm import StringParameter
from constructs import Construct

from recourse.cdk.choreography import Choreography
from recourse.cdk.events import EventBackbone
from recourse.cdk.function import HandlerFunction
from recourse.cdk.machine import SagaMachine
from recourse.cdk.queues import Deadletters, alarm_above, queue_called
from recourse.cdk.rights import (
    READ,
    allow,
    explain,
    read_shapes,
    use_key,
    use_queues,
    use_table,
    wildcard,
)
from recourse.cdk.services import Services
from recourse.cdk.stage import Stage
from recourse.ledger.listing import BY_DUE, BY_OWNER_STATUS, BY_STATUS
from recourse.queues.called import operators_queues, redriven_queues
from recourse.queues.deadletters import deadletters_of

PATTERN = 10
"""How many machines a rule names: its pattern has 2,048 characters, and an ARN up to 140."""

CLEARS = (
    "sqs:GetQueueUrl",
    "sqs:ReceiveMessage",
    "sqs:DeleteMessage",
    "sqs:ChangeMessageVisibility",
    "sqs:SendMessage",
)
"""What removing messages about sagas at rest from operators' queues needs, and keeping others."""


class Orchestration(Construct):
    """Every saga's state machine, and the sweeper that resumes lost runs.

    ::

        orchestration = Orchestration(
            stack,
            "Orchestration",
            stage=stage,
            services=services,
            events=events,
        )

    Args:
        scope: The construct that contains it.
        name: Its construct id.
        stage: The deployment.
        services: The services whose steps run.
        events: Where they are recorded, and where operators are alerted.
        choreography: The queues of the steps, if sagas may be choreographed.

    Attributes:
        machines: The state machine of each saga.
        called: The function of each pivot, and of each step that waits for somebody's decision, by
            the name that `Step.function` has: the API and the sweeper call them.
        deadletters: Keep calls of the sweeper that failed.
    """

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        stage: Stage,
        services: Services,
        events: EventBackbone,
        choreography: Choreography | None = None,
    ) -> None:
        super().__init__(scope, name)
        self._stage = stage
        self._events = events
        self._tables = services.tables
        functions, shapes = services.functions, services.shapes
        park = self._park()
        self.machines = {
            name: SagaMachine(
                self,
                name.title().replace("-", ""),
                stage=stage,
                shapes=[shape for shape in shapes if shape.name == name],
                functions={**functions, "Park": park},
                alarm=events.alarm,
            )
            for name in dict.fromkeys(shape.name for shape in shapes)
        }
        called = [step for shape in shapes for step in (shape.pivot, *shape.waiting.values())]
        self.called = {step.function: functions[step.function] for step in called}
        self._parameters = self._parameters_of(
            {
                "machines": {name: one.newest for name, one in self.machines.items()},
                "called": {name: one.function_name for name, one in self.called.items()},
                "tables": {name: one.table_name for name, one in self._tables.items()},
            }
        )
        # Who starts sagas is deployed after the parameters, and these after whoever hears of them.
        consumers = {} if choreography is None else choreography.consumers
        for step in (step for shape in shapes for step in shape.all):
            hearing = [consumers.get(step.function), events.confirmers.get(step.service)]
            for consumer in filter(None, hearing):
                consumer.precede(self._parameters[0])
        self._waiting = list(dict.fromkeys(shape.name for shape in shapes if shape.rests))
        listening = choreography is not None
        self._redriven = redriven_queues(shapes, choreography=listening)
        self._sweeps = self._sweeper("on" if listening else "")
        self._let_use_queues("Clear", CLEARS, operators_queues(shapes, choreography=listening))
        self.deadletters = [self._called(self._sweeps)]

    @property
    def environment_of_runs(self) -> dict[str, str]:
        """The environment of a function that starts, reads or cancels runs."""
        return {"RECOURSE_SAGAS": self._stage.sagas, "PARAMETERS": self._path}

    @property
    def _path(self) -> str:
        """What the names of parameters begin with. SSM takes no name that begins with `aws`."""
        return f"/recourse/{self._stage.prefix}"

    def _parameters_of(self, values: Mapping[str, Mapping[str, str]]) -> list[StringParameter]:
        """A parameter for each saga or service, by kind: no function's environment holds them."""
        self._version = _digest(json.dumps(Stack.of(self).resolve(values)))
        return [
            StringParameter(
                self,
                f"{name.title().replace('-', '')}{kind.title()}",
                parameter_name=f"{self._path}/{kind}/{name}",
                string_value=value,
            )
            for kind, named in values.items()
            for name, value in named.items()
        ]

    def let_run(self, function: HandlerFunction) -> None:
        """Let a function start runs, call steps, and read where these and the tables are."""
        self.let_start(function)
        allow(
            function,
            "lambda:InvokeFunction",
            *(
                step.function_arn
                for step in {one.node.addr: one for one in self.called.values()}.values()
            ),
        )

    def let_start(self, function: HandlerFunction) -> None:
        """Let a function start first runs, and read what these are of."""
        arn = Stack.of(function).format_arn(
            service="ssm", resource="parameter", resource_name=f"{self._path.lstrip('/')}/*"
        )
        allow(function, "ssm:GetParameter", arn)
        explain(
            function.own_role,
            "AwsSolutions-IAM5[Resource::arn:<AWS::Partition>:ssm:<AWS::Region>:<AWS::AccountId>:"
            f"parameter{self._path}/*]",
            reason="it reads the parameters of this stage",
        )
        function.node.add_dependency(*self._parameters)
        # Another description starts new processes, so that none keeps what it has read before.
        description = f"parameters {self._version}"
        cast("CfnFunction", function.node.default_child).description = description
        for machine in self.machines.values():
            machine.let_start(function)

    def let_decide(self, function: HandlerFunction) -> None:
        """Let a function that starts runs see whether the run has ended of a saga that waits."""
        for saga in self._waiting:
            self._let_look(function, self.machines[saga], "states:DescribeExecution")

    def _let_look(self, function: HandlerFunction, machine: SagaMachine, *actions: str) -> None:
        """Let a function look at the executions of a machine."""
        for action in actions:
            allow(function, action, self._executions(machine))
        explain(
            function.own_role,
            wildcard(
                machine.machine,
                "Name",
                before="arn:<AWS::Partition>:states:<AWS::Region>:<AWS::AccountId>:execution:",
                after=":*",
                seen_from=function,
            ),
            reason="it describes the executions of this machine",
        )

    def _park(self) -> HandlerFunction:
        function = HandlerFunction(
            self,
            "Park",
            stage=self._stage,
            handler="recourse.functions.park.handler",
            environment={
                "LEDGER_TABLE": self._events.ledger.table_name,
                "RECOURSE_SAGAS": self._stage.sagas,
                "TIMESCALE": str(self._stage.timescale),
            },
            timeout=self._stage.step_timeout(20),
        )
        use_table(self._events.ledger, function, "dynamodb:PutItem")
        read_shapes(self._events.ledger, function)
        return function

    def watch(self, deadletters: Sequence[Deadletters]) -> None:
        """Have the sweeper look into dead-letter queues, and fail where there are messages.

        So the alarm on its errors is one for all of them, in a stage with few alarms.
        """
        # Its environment names those only that do not follow from the sagas.
        others = [one.called for one in deadletters if one.called not in self._redriven]
        self._sweeps.add_environment("WATCHED_QUEUES", Stack.of(self).to_json_string(others))
        counts = ("sqs:GetQueueUrl", "sqs:GetQueueAttributes")
        names = [deadletters_of(name) for name in (*self._redriven, *others)]
        self._let_use_queues("Watch", counts, names)

    def _sweeper(self, choreography: str) -> HandlerFunction:
        function = HandlerFunction(
            self,
            "Sweeper",
            stage=self._stage,
            handler="recourse.functions.sweeper.handler",
            environment=self.environment_of_runs
            | {
                "LEDGER_TABLE": self._events.ledger.table_name,
                "QUEUE_PREFIX": queue_called(self._stage, ""),
                "CHOREOGRAPHY": choreography,
                "WATCHED_QUEUES": "",
                "ALARMS_TOPIC_ARN": self._events.alarms.topic_arn,
                "TIMESCALE": str(self._stage.timescale),
            }
            | self._stage.environment_of_limits,
            timeout=Duration.minutes(5),
        )
        use_table(
            self._events.ledger,
            function,
            *READ,
            "dynamodb:PutItem",
            "dynamodb:UpdateItem",
            indexes=[BY_STATUS.name, BY_DUE.name, BY_OWNER_STATUS.name],
        )
        for table in self._tables.values():
            use_table(table, function, "dynamodb:BatchGetItem")
        allow(function, "sns:Publish", self._events.alarms.topic_arn)
        use_key(self._events.key, function)
        self.let_run(function)
        look = ("states:DescribeExecution", "states:GetExecutionHistory")
        for machine in self.machines.values():
            self._let_look(function, machine, *look)
        alarm_above(
            self,
            "SweeperErrors",
            function.metric_errors(),
            stage=self._stage,
            threshold=0,
            action=self._events.alarm,
            vital=True,
        )
        return function

    def _called(self, function: HandlerFunction) -> Deadletters:
        """Have the sweeper called each minute, and when a run ends badly."""
        lost = Deadletters(
            self,
            "SweeperDeadletters",
            stage=self._stage,
            called="Sweeper",
            why_not="it holds calls that failed: the sweeper checks every unfinished saga once a "
            "minute, so the next call makes up for them",
            key=self._events.key,
            alarm=self._events.alarm,
        )
        target = LambdaFunction(function, dead_letter_queue=lost, retry_attempts=3)
        Rule(self, "EveryMinute", schedule=Schedule.rate(Duration.minutes(1)), targets=[target])
        arns = [one.machine.state_machine_arn for one in self.machines.values()]
        for first in range(0, len(arns), PATTERN):
            Rule(
                self,
                f"WentWrong{first // PATTERN + 1}" if first else "WentWrong",
                event_pattern=EventPattern(
                    source=["aws.states"],
                    detail_type=["Step Functions Execution Status Change"],
                    detail={
                        "status": ["FAILED", "TIMED_OUT", "ABORTED"],
                        "stateMachineArn": arns[first : first + PATTERN],
                    },
                ),
                targets=[target],
            )
        return lost

    def _let_use_queues(self, name: str, actions: Sequence[str], queues: Sequence[str]) -> None:
        """Let the sweeper use queues."""
        names = [queue_called(self._stage, queue) for queue in queues]
        use_queues(self, name, self._sweeps.own_role, [(actions, names)], prefix=self._stage.prefix)

    def _executions(self, machine: SagaMachine) -> str:
        return Stack.of(self).format_arn(
            service="states",
            resource="execution",
            resource_name=f"{machine.machine.state_machine_name}:*",
            arn_format=ArnFormat.COLON_RESOURCE_NAME,
        )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
