"""Imports: their table, their functions, and the state machine that starts a saga for each row."""

from __future__ import annotations

import json

from aws_cdk import ArnFormat, Aws, Duration, Fn, Stack
from aws_cdk.aws_iam import Policy, PolicyStatement, Role, ServicePrincipal
from aws_cdk.aws_logs import LogGroup
from aws_cdk.aws_stepfunctions import (
    DefinitionBody,
    LogLevel,
    LogOptions,
    StateMachine,
    StateMachineType,
)
from constructs import Construct

from recourse.cdk.events import EventBackbone
from recourse.cdk.function import HandlerFunction
from recourse.cdk.orchestration import Orchestration
from recourse.cdk.queues import alarm_above
from recourse.cdk.rights import READ, WRITE, allow, explain, use_key, use_table, wildcard
from recourse.cdk.stage import Stage
from recourse.cdk.tables import ListedTable
from recourse.cdk.valet import ValetKeys
from recourse.imports import machine
from recourse.imports.table import BY_OWNER
from recourse.ledger.listing import BY_OWNER_STATUS

WORK, RESULTS = "imports/*", "results/*"
"""Where the files of imports are in the bucket of valet keys: their own, and those for owners."""


class Imports(Construct):
    """Everything that imports need, except the API that begins them.

    ::

        imports = Imports(
            stack, "Imports", stage=stage, events=events, orchestration=orchestration, valet=valet
        )

    `SagaApi(…, valet=valet, imports=imports)` then has their routes.

    Args:
        scope: The construct that contains it.
        name: Its construct id.
        stage: The deployment.
        events: The ledger in which sagas are recorded, and where operators are alerted.
        orchestration: The runs that they start.
        valet: The keys by which files come, and results go.

    Attributes:
        table: The table of imports.
        machine: The state machine that runs them.
    """

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        stage: Stage,
        events: EventBackbone,
        orchestration: Orchestration,
        valet: ValetKeys,
    ) -> None:
        super().__init__(scope, name)
        self._stage = stage
        self._valet = valet
        self.table = ListedTable(
            self, "ImportsTable", stage=stage, key=valet.key, indexes={BY_OWNER: "owner"}
        )
        valet.let_lend_results(RESULTS)
        for prefix in (WORK, RESULTS):
            valet.bucket.add_lifecycle_rule(
                id=prefix.removesuffix("/*"),
                prefix=prefix.removesuffix("*"),
                expiration=stage.kept("imports"),
                noncurrent_version_expiration=Duration.days(1),
            )
        files, starts = self._files(), self._starts(events, orchestration)
        self.machine = self._machine(files, starts)
        alarm_above(
            self,
            "ImportInterrupted",
            self.machine.metric_failed(statistic="Sum", period=Duration.minutes(5)),
            stage=stage,
            threshold=0,
            action=events.alarm,
        )

    @property
    def environment_of_imports(self) -> dict[str, str]:
        """The API's environment variables for imports."""
        return {
            "IMPORTS_TABLE": self.table.table_name,
            "IMPORTS_MACHINE": self.machine.state_machine_arn,
        }

    def let_import(self, function: HandlerFunction) -> None:
        """Let a function begin imports, show them, and see whether their runs have died."""
        use_table(self.table, function, "dynamodb:GetItem", *WRITE, indexes=[BY_OWNER])
        allow(function, "states:StartExecution", self.machine.state_machine_arn)
        executions = Stack.of(self).format_arn(
            service="states",
            resource="execution",
            resource_name=f"{self.machine.state_machine_name}:*",
            arn_format=ArnFormat.COLON_RESOURCE_NAME,
        )
        allow(function, "states:DescribeExecution", executions)
        explain(
            function.own_role,
            wildcard(
                self.machine,
                "Name",
                before="arn:<AWS::Partition>:states:<AWS::Region>:<AWS::AccountId>:execution:",
                after=":*",
                seen_from=function,
            ),
            reason="it describes the executions of this machine",
        )

    def _files(self) -> HandlerFunction:
        function = HandlerFunction(
            self,
            machine.FILES,
            stage=self._stage,
            handler="recourse.functions.import_files.handler",
            environment={
                "RECOURSE_SAGAS": self._stage.sagas,
                "IMPORTS_TABLE": self.table.table_name,
                "VALET_TABLE": self._valet.table.table_name,
                "VALET_BUCKET": self._valet.bucket.bucket_name,
            },
            timeout=Duration.seconds(machine.CHECK_SECONDS),
            memory=1024,
        )
        use_table(self.table, function, *READ, *WRITE)
        use_table(self._valet.table, function, "dynamodb:BatchGetItem")
        use_key(self._valet.key, function)
        bucket = self._valet.bucket
        for prefix, actions in {
            "objects/*": ("s3:GetObjectVersion",),
            WORK: ("s3:GetObject", "s3:PutObject"),
            RESULTS: ("s3:PutObject",),
        }.items():
            for action in actions:
                allow(function, action, bucket.arn_for_objects(prefix))
            explain(
                function.own_role,
                wildcard(bucket, "Arn", after=f"/{prefix}", seen_from=function),
                reason="the files of an import, whoever has uploaded them",
            )
        return function

    def _starts(self, events: EventBackbone, orchestration: Orchestration) -> HandlerFunction:
        function = HandlerFunction(
            self,
            machine.STARTS,
            stage=self._stage,
            handler="recourse.functions.import_starts.handler",
            environment=orchestration.environment_of_runs
            | {
                "IMPORTS_TABLE": self.table.table_name,
                "LEDGER_TABLE": events.ledger.table_name,
            }
            | self._stage.environment_of_limits,
            timeout=Duration.seconds(machine.START_SECONDS),
            memory=1024,
        )
        use_table(self.table, function, "dynamodb:GetItem", *WRITE)
        use_table(
            events.ledger, function, *READ, "dynamodb:PutItem", indexes=[BY_OWNER_STATUS.name]
        )
        orchestration.let_start(function)
        return function

    def _machine(self, files: HandlerFunction, starts: HandlerFunction) -> StateMachine:
        stage, bucket = self._stage, self._valet.bucket
        named = f"{stage.prefix.lower()}-imports-{Fn.select(2, Fn.split('/', Aws.STACK_ID))}"
        logs = LogGroup(
            self,
            "Logs",
            log_group_name=f"/aws/vendedlogs/states/{named}",
            retention=stage.log_retention,
            removal_policy=stage.removal,
        )
        role = Role(self, "Role", assumed_by=ServicePrincipal("states.amazonaws.com"))
        functions = [files.function_arn, starts.function_arn]
        allow(role, "lambda:InvokeFunction", *functions)
        allow(role, "s3:GetObject", bucket.arn_for_objects(WORK))
        allow(role, "kms:Decrypt", self._valet.key.key_arn)
        definition = json.dumps(machine.definition(stage.timescale), separators=(",", ":"))
        made = StateMachine(
            self,
            "Machine",
            definition_body=DefinitionBody.from_string(definition),
            definition_substitutions={
                machine.FILES: files.function_arn,
                machine.STARTS: starts.function_arn,
                machine.BUCKET: bucket.bucket_name,
                machine.PARTITION: Aws.PARTITION,
            },
            state_machine_type=StateMachineType.STANDARD,
            role=role,
            tracing_enabled=True,
            # Data stays out of the logs: requests hold names and addresses.
            logs=LogOptions(destination=logs, level=LogLevel.ALL, include_execution_data=False),
            removal_policy=stage.removal,
        )
        self._let_map(role, made)
        explain(
            role,
            "AwsSolutions-IAM5[Resource::*]",
            reason="the actions of log delivery and X-Ray have no resources",
        )
        explain(
            role,
            wildcard(bucket, "Arn", after=f"/{WORK}", seen_from=self),
            reason="the batches of an import",
        )
        return made

    def _let_map(self, role: Role, made: StateMachine) -> None:
        """Let a machine run its Distributed Map: the items are executions of it.

        In a policy of its own, for the machine waits for the one that the role has.
        """
        items = Stack.of(self).format_arn(
            service="states",
            resource="execution",
            resource_name=f"{made.state_machine_name}/*",
            arn_format=ArnFormat.COLON_RESOURCE_NAME,
        )
        policy = Policy(
            self,
            "MapPolicy",
            roles=[role],
            statements=[
                PolicyStatement(
                    actions=["states:StartExecution"], resources=[made.state_machine_arn]
                ),
                PolicyStatement(
                    actions=["states:DescribeExecution", "states:StopExecution"], resources=[items]
                ),
            ],
        )
        explain(
            policy,
            wildcard(
                made,
                "Name",
                before="arn:<AWS::Partition>:states:<AWS::Region>:<AWS::AccountId>:execution:",
                after="/*",
            ),
            reason="the executions of the items of its own map",
        )
