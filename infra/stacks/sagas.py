"""The state machines, the function that parks, and the sweeper."""

from __future__ import annotations

from aws_cdk import ArnFormat, Duration, Stack
from aws_cdk.aws_events import EventPattern, Rule, Schedule
from aws_cdk.aws_events_targets import LambdaFunction
from aws_cdk.aws_lambda import Function
from constructs import Construct

from infra.components.function import HandlerFunction
from infra.components.machine import SagaMachine
from infra.components.queues import Deadletters, alarm_above
from infra.components.rights import READ, allow, explain, use_table, wildcard
from infra.stacks.events import EventsStack
from infra.stage import Stage
from recourse.listing import BY_STATUS
from recourse.saga import Saga


class SagasStack(Stack):
    """Every saga's state machine, and what sees to it that none is lost.

    Attributes:
        machines: The state machine of each saga.
        pivots: The function of each saga's pivot.
        deadletters: Where the sweeper's calls rest that could not be made.
    """

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        stage: Stage,
        sagas: list[Saga],
        functions: dict[str, HandlerFunction],
        events: EventsStack,
    ) -> None:
        super().__init__(scope, name)
        self._stage = stage
        self._events = events
        park = self._park()
        self.machines = {
            saga.name: SagaMachine(
                self,
                saga.name.title().replace("-", ""),
                stage=stage,
                saga=saga,
                functions={**functions, "Park": park},
                alarm=events.alarm,
            )
            for saga in sagas
        }
        self.pivots = {saga.name: functions[saga.pivot.function] for saga in sagas}
        self.deadletters = [self._sweeper()]

    @property
    def environment_of_runs(self) -> dict[str, str]:
        """What a function reads that starts, looks at or cancels runs."""
        machines = {name: machine.alias_arn for name, machine in self.machines.items()}
        pivots = {name: function.function_name for name, function in self.pivots.items()}
        return {
            "STATE_MACHINES": Stack.of(self).to_json_string(machines),
            "PIVOTS": Stack.of(self).to_json_string(pivots),
        }

    def let_run(self, function: Function) -> None:
        """Let a function start runs and claim pivots."""
        for machine in self.machines.values():
            machine.let_start(function)
        allow(
            function,
            "lambda:InvokeFunction",
            *(
                pivot.function_arn
                for pivot in {p.node.addr: p for p in self.pivots.values()}.values()
            ),
        )

    def _park(self) -> HandlerFunction:
        function = HandlerFunction(
            self,
            "Park",
            stage=self._stage,
            handler="lambdas.park.handler",
            environment={
                "LEDGER_TABLE": self._events.ledger.table_name,
                "TIMESCALE": str(self._stage.timescale),
            },
            timeout=self._stage.step_timeout(20),
        )
        use_table(self._events.ledger, function, "dynamodb:PutItem")
        return function

    def _sweeper(self) -> Deadletters:
        function = HandlerFunction(
            self,
            "Sweeper",
            stage=self._stage,
            handler="lambdas.sweeper.handler",
            environment=self.environment_of_runs
            | {
                "LEDGER_TABLE": self._events.ledger.table_name,
                "TIMESCALE": str(self._stage.timescale),
            },
            timeout=Duration.minutes(5),
        )
        use_table(
            self._events.ledger,
            function,
            *READ,
            "dynamodb:PutItem",
            indexes=[BY_STATUS.name],
        )
        self.let_run(function)
        for machine in self.machines.values():
            allow(function, "states:DescribeExecution", self._executions(machine))
            explain(
                function.own_role,
                wildcard(
                    machine.machine,
                    "Name",
                    before="arn:<AWS::Partition>:states:<AWS::Region>:<AWS::AccountId>:execution:",
                    after=":*",
                ),
                reason="it describes the executions of this machine",
            )
        alarm_above(
            self,
            "SweeperErrors",
            function.metric_errors(),
            threshold=0,
            action=self._events.alarm,
        )
        lost = Deadletters(
            self,
            "SweeperDeadletters",
            stage=self._stage,
            called="Sweeper",
            why_not="it holds calls that were not made: the sweeper looks at every unfinished saga "
            "once a minute, so the next one makes up for them",
            key=self._events.key,
            alarm=self._events.alarm,
        )
        target = LambdaFunction(function, dead_letter_queue=lost, retry_attempts=3)
        Rule(self, "EveryMinute", schedule=Schedule.rate(Duration.minutes(1)), targets=[target])
        Rule(
            self,
            "WentWrong",
            event_pattern=EventPattern(
                source=["aws.states"],
                detail_type=["Step Functions Execution Status Change"],
                detail={
                    "status": ["FAILED", "TIMED_OUT", "ABORTED"],
                    "stateMachineArn": [
                        m.machine.state_machine_arn for m in self.machines.values()
                    ],
                },
            ),
            targets=[target],
        )
        return lost

    def _executions(self, machine: SagaMachine) -> str:
        return self.format_arn(
            service="states",
            resource="execution",
            resource_name=f"{machine.machine.state_machine_name}:*",
            arn_format=ArnFormat.COLON_RESOURCE_NAME,
        )
