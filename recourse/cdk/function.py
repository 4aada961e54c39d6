"""A function: its code, its own log group, and its own role, which may only write to that."""

from __future__ import annotations

from collections.abc import Mapping

from aws_cdk import Duration
from aws_cdk.aws_iam import Role, ServicePrincipal
from aws_cdk.aws_lambda import Function, Runtime, Tracing
from aws_cdk.aws_logs import LogGroup
from constructs import Construct

from recourse.cdk import code
from recourse.cdk.rights import explain
from recourse.cdk.stage import Stage


class HandlerFunction(Function):
    """A function that runs a handler of the library or of the project.

    ::

        reports = HandlerFunction(
            stack,
            "Reports",
            stage=stage,
            handler="shop.reports.handler",
            environment={"LEDGER_TABLE": events.ledger.table_name},
            timeout=Duration.seconds(30),
        )
        events.ledger.grant_read_data(reports)

    Args:
        scope: The construct that contains it.
        name: Its construct id.
        stage: The deployment.
        handler: `module.attribute`; a test resolves every one.
        environment: The variables that the handler reads.
        timeout: The function's timeout; its caller (task, queue) has a timeout of its own.
        memory: MB, which also determines its share of a processor.
        at_once: Its reserved concurrency; none by default.

    Attributes:
        own_role: Its role, at which findings of cdk-nag about its rights are explained.
    """

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        stage: Stage,
        handler: str,
        environment: Mapping[str, str],
        timeout: Duration,
        memory: int = 512,
        at_once: int | None = None,
    ) -> None:
        logs = LogGroup(
            scope,
            f"{name}Logs",
            retention=stage.log_retention,
            removal_policy=stage.removal,
        )
        role = Role(scope, f"{name}Role", assumed_by=ServicePrincipal("lambda.amazonaws.com"))
        logs.grant_write(role)
        super().__init__(
            scope,
            name,
            runtime=Runtime.PROVIDED_AL2023 if stage.local else code.PYTHON,
            architecture=code.ARCHITECTURE,
            code=code.of(stage),
            handler=handler,
            environment={
                "POWERTOOLS_SERVICE_NAME": name,
                "POWERTOOLS_METRICS_NAMESPACE": stage.metrics_namespace,
                **stage.retention,
                **environment,
            },
            timeout=timeout,
            memory_size=memory,
            reserved_concurrent_executions=at_once,
            role=role,
            log_group=logs,
            tracing=Tracing.ACTIVE,
        )
        self.own_role = role
        explain(self, "AwsSolutions-L1", reason="Python 3.13 is what the wheels are bundled for")
        explain(
            role, "AwsSolutions-IAM5[Resource::*]", reason="X-Ray's put actions have no resources"
        )
