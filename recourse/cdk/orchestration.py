"""The state machines, the function that parks stuck sagas, and the sweeper."""

from __future__ import annotations

from collections.abc import Sequence

from aws_cdk import ArnFormat, Duration, Stack
from aws_cdk.aws_events import EventPattern, Rule, Schedule
from aws_cdk.aws_events_targets import LambdaFunction
from aws_cdk.aws_iam import ManagedPolicy, PolicyStatement
from aws_cdk.aws_lambda import Function
from constructs import Construct

from recourse.cdk.choreography import Choreography
from recourse.cdk.events import EventBackbone
from recourse.cdk.function import HandlerFunction
from recourse.cdk.machine import SagaMachine
from recourse.cdk.queues import Deadletters, alarm_above, queue_called
from recourse.cdk.rights import READ, allow, explain, use_key, use_table, wildcard
from recourse.cdk.services import Services
from recourse.cdk.stage import Stage
from recourse.ledger.listing import BY_STATUS
from recourse.queues.deadletters import deadletters_of

CLEARS = (
    "sqs:GetQueueUrl",
    "sqs:ReceiveMessage",
    "sqs:DeleteMessage",
    "sqs:ChangeMessageVisibility",
)
"""What removing messages about sagas at rest from operators' queues needs."""


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
        pivots: The function of each saga's pivot.
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
        functions, sagas = services.functions, services.sagas
        heard = choreography.deadletters if choreography else []
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
        operators = _operators_queues(heard)
        self._sweeps = self._sweeper(operators)
        self._let_use_queues("Clear", CLEARS, operators)
        self.deadletters = [self._called(self._sweeps)]

    @property
    def environment_of_runs(self) -> dict[str, str]:
        """The environment of a function that starts, reads or cancels runs."""
        machines = {name: machine.alias_arn for name, machine in self.machines.items()}
        pivots = {name: function.function_name for name, function in self.pivots.items()}
        return {
            "RECOURSE_SAGAS": self._stage.sagas,
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
            handler="recourse.functions.park.handler",
            environment={
                "LEDGER_TABLE": self._events.ledger.table_name,
                "RECOURSE_SAGAS": self._stage.sagas,
                "TIMESCALE": str(self._stage.timescale),
            },
            timeout=self._stage.step_timeout(20),
        )
        use_table(self._events.ledger, function, "dynamodb:PutItem")
        return function

    def watch(self, deadletters: Sequence[Deadletters]) -> None:
        """Have the sweeper look into dead-letter queues, and fail where there are messages.

        So the alarm on its errors is one for all of them, in a stage with few alarms.
        """
        names = [one.called for one in deadletters]
        told = {"prefix": queue_called(self._stage, ""), "names": names}
        self._sweeps.add_environment("WATCHED_QUEUES", Stack.of(self).to_json_string(told))
        counts = ("sqs:GetQueueUrl", "sqs:GetQueueAttributes")
        self._let_use_queues("Watch", counts, [deadletters_of(name) for name in names])

    def _sweeper(self, queues: Sequence[str]) -> HandlerFunction:
        stack = Stack.of(self)
        tables = {name: table.table_name for name, table in self._tables.items()}
        function = HandlerFunction(
            self,
            "Sweeper",
            stage=self._stage,
            handler="recourse.functions.sweeper.handler",
            environment=self.environment_of_runs
            | {
                "LEDGER_TABLE": self._events.ledger.table_name,
                "SERVICE_TABLES": stack.to_json_string(tables),
                "OPERATORS_QUEUES": stack.to_json_string(
                    {"prefix": queue_called(self._stage, ""), "names": queues}
                ),
                "WATCHED_QUEUES": "",
                "ALARMS_TOPIC_ARN": self._events.alarms.topic_arn,
                "TIMESCALE": str(self._stage.timescale),
            },
            timeout=Duration.minutes(5),
        )
        use_table(
            self._events.ledger,
            function,
            *READ,
            "dynamodb:PutItem",
            "dynamodb:UpdateItem",
            indexes=[BY_STATUS.name],
        )
        for table in self._tables.values():
            use_table(table, function, "dynamodb:BatchGetItem")
        allow(function, "sns:Publish", self._events.alarms.topic_arn)
        use_key(self._events.key, function)
        self.let_run(function)
        for machine in self.machines.values():
            for action in ("states:DescribeExecution", "states:GetExecutionHistory"):
                allow(function, action, self._executions(machine))
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

    def _let_use_queues(self, name: str, actions: Sequence[str], queues: Sequence[str]) -> None:
        """Let the sweeper use queues.

        The rights name the queues, in a managed policy, for the same reasons as the API's.
        """
        ManagedPolicy(
            self,
            name,
            roles=[self._sweeps.own_role],
            statements=[
                PolicyStatement(
                    actions=list(actions),
                    resources=[
                        Stack.of(self).format_arn(
                            service="sqs",
                            resource=queue_called(self._stage, queue),
                            arn_format=ArnFormat.NO_RESOURCE_NAME,
                        )
                        for queue in queues
                    ],
                )
            ],
        )

    def _executions(self, machine: SagaMachine) -> str:
        return Stack.of(self).format_arn(
            service="states",
            resource="execution",
            resource_name=f"{machine.machine.state_machine_name}:*",
            arn_format=ArnFormat.COLON_RESOURCE_NAME,
        )


def _operators_queues(heard: Sequence[Deadletters]) -> list[str]:
    """The queues whose messages ask an operator to act on a saga that is not at rest.

    Dead-letter queues of consumers that act on a saga's end are not among them: their messages
    must be processed although the saga is at rest.
    """
    lost = [*sorted(one.called for one in heard), "Ledger", "Parked", "Sweeper"]
    return ["Parked", *(deadletters_of(name) for name in lost)]
