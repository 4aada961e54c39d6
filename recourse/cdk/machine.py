"""A saga's state machine: compiled from its declaration, versioned, traced, logged, watched."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from aws_cdk import Aws, CfnDeletionPolicy, CfnOutput, Duration, Fn
from aws_cdk.aws_cloudwatch import IAlarmAction
from aws_cdk.aws_iam import PolicyStatement, Role, ServicePrincipal
from aws_cdk.aws_lambda import Function
from aws_cdk.aws_logs import LogGroup
from aws_cdk.aws_stepfunctions import (
    CfnStateMachineAlias,
    CfnStateMachineVersion,
    DefinitionBody,
    LogLevel,
    LogOptions,
    StateMachine,
    StateMachineType,
)
from constructs import Construct

from recourse.cdk.queues import alarm_above
from recourse.cdk.rights import allow, explain
from recourse.cdk.stage import Stage
from recourse.declare.declaration import Step
from recourse.declare.shape import Shape, digest, record
from recourse.orchestration.compiler import compile_saga

ALIAS = "live"


class SagaMachine(Construct):
    """The state machine of one saga.

    Args:
        scope: The construct that contains it.
        name: Its construct id.
        stage: The deployment.
        shapes: The shapes that its runs may have, the newest last: the machine is compiled from
            that one. Its versions are retained, and a recovery starts the one of its saga's shape.
        functions: The functions, by the names that the compiled machine substitutes.
        alarm: Notified when a run is aborted or times out.

    Attributes:
        machine: The state machine.
        newest: What functions know of it (`recourse.orchestration.executions.Versions`): the ARN of
            its newest version, and the digest of the shape that this was compiled from.
        alias_arn: An alias of the newest version, for operators. Running executions keep the
            version that they started with.
    """

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        stage: Stage,
        shapes: Sequence[Shape[Step]],
        functions: Mapping[str, Function],
        alarm: IAlarmAction,
    ) -> None:
        super().__init__(scope, name)
        shape = shapes[-1]
        definition = json.dumps(compile_saga(shape, stage.timescale), separators=(",", ":"))
        used = {key: f for key, f in functions.items() if f"${{{key}}}" in definition}
        called = {step.function for one in shapes for step in one.all} | used.keys()
        # The prefix /aws/vendedlogs keeps the account's log delivery policy short. The name ends
        # with the stack's id, because a log group that outlives its stack would keep the name.
        named = f"{stage.prefix.lower()}-{shape.name}-{Fn.select(2, Fn.split('/', Aws.STACK_ID))}"
        logs = LogGroup(
            self,
            "Logs",
            log_group_name=f"/aws/vendedlogs/states/{named}",
            retention=stage.log_retention,
            removal_policy=stage.removal,
        )
        role = Role(self, "Role", assumed_by=ServicePrincipal("states.amazonaws.com"))
        role.add_to_policy(
            PolicyStatement(
                actions=["lambda:InvokeFunction"],
                resources=[functions[key].function_arn for key in functions if key in called],
            )
        )
        self.machine = StateMachine(
            self,
            "Machine",
            definition_body=DefinitionBody.from_string(definition),
            definition_substitutions={key: f.function_arn for key, f in used.items()},
            # Express starts at least once and cannot be looked up.
            state_machine_type=StateMachineType.STANDARD,
            role=role,
            tracing_enabled=True,
            # Data stays out of the logs: requests hold names and addresses.
            logs=LogOptions(destination=logs, level=LogLevel.ALL, include_execution_data=False),
            removal_policy=stage.removal,
        )
        version = CfnStateMachineVersion(
            self,
            "Version",
            state_machine_arn=self.machine.state_machine_arn,
            state_machine_revision_id=self.machine.state_machine_revision_id,
            description=digest(record(shape)),
        )
        self.newest = f"{version.attr_arn} {version.description}"
        # One that another replaces stays, for a recovery; with the machine all of them go.
        version.cfn_options.deletion_policy = CfnDeletionPolicy.DELETE
        version.cfn_options.update_replace_policy = CfnDeletionPolicy.RETAIN
        alias = CfnStateMachineAlias(
            self,
            "Alias",
            name=ALIAS,
            routing_configuration=[
                CfnStateMachineAlias.RoutingConfigurationVersionProperty(
                    state_machine_version_arn=version.attr_arn, weight=100
                )
            ],
        )
        self.alias_arn = alias.attr_arn
        for end in ("Aborted", "TimedOut"):
            metric = self.machine.metric(
                f"Executions{end}", statistic="Sum", period=Duration.minutes(5)
            )
            alarm_above(self, end, metric, stage=stage, threshold=0, action=alarm)
        explain(
            role,
            "AwsSolutions-IAM5[Resource::*]",
            reason="the actions of log delivery and X-Ray have no resources",
        )
        CfnOutput(self, "Arn", value=self.machine.state_machine_arn)

    def let_start(self, function: Function) -> None:
        """Let a function start runs by the alias or by a version, and find the versions.

        AWS authorizes a start by the machine's ARN, and what follows it is a condition key.
        """
        function.add_to_role_policy(
            PolicyStatement(
                actions=["states:StartExecution"],
                resources=[self.machine.state_machine_arn],
                conditions={"StringLike": {"states:StateMachineQualifier": "*"}},
            )
        )
        for action in ("states:ListStateMachineVersions", "states:DescribeStateMachine"):
            allow(function, action, self.machine.state_machine_arn)
