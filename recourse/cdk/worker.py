"""A worker: a Fargate service that runs `recourse worker` on a consumer's queue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from aws_cdk import Duration, Stack
from aws_cdk.aws_applicationautoscaling import AdjustmentType, ScalingInterval
from aws_cdk.aws_ec2 import (
    GatewayVpcEndpointAwsService,
    SecurityGroup,
    SubnetConfiguration,
    SubnetType,
    Vpc,
)
from aws_cdk.aws_ecs import (
    Cluster,
    ContainerImage,
    ContainerInsights,
    CpuArchitecture,
    DeploymentCircuitBreaker,
    FargateService,
    FargateTaskDefinition,
    LogDriver,
    OperatingSystemFamily,
    RuntimePlatform,
)
from aws_cdk.aws_iam import Role, ServicePrincipal
from aws_cdk.aws_logs import LogGroup
from aws_cdk.aws_sqs import Queue
from constructs import Construct

from recourse.cdk.rights import explain
from recourse.cdk.stage import Stage

GRACE = Duration.seconds(60)
"""How long a task may take to shut down: the worker's own time, its last deletes, and a margin."""
BACKLOG = ((0, 0, -1), (100, None, +1), (1000, None, +3))
"""Scaling steps: waiting messages from and to, and the change in the number of tasks."""


class WorkerPlace(Construct):
    """The network and cluster of workers: public subnets, no NAT gateway, no inbound traffic.

    Args:
        scope: The construct that contains it.
        name: Its construct id.

    Attributes:
        cluster: The cluster.
        group: The security group, for outbound traffic only.
    """

    def __init__(self, scope: Construct, name: str) -> None:
        super().__init__(scope, name)
        vpc = Vpc(
            self,
            "Vpc",
            max_azs=2,
            nat_gateways=0,
            subnet_configuration=[
                SubnetConfiguration(
                    name="Public", subnet_type=SubnetType.PUBLIC, map_public_ip_on_launch=False
                )
            ],
            restrict_default_security_group=False,
        )
        vpc.add_gateway_endpoint("DynamoDb", service=GatewayVpcEndpointAwsService.DYNAMODB)
        explain(
            vpc,
            "AwsSolutions-VPC7",
            reason="no inbound traffic, and outbound traffic only to AWS",
        )
        self.cluster = Cluster(
            self, "Cluster", vpc=vpc, container_insights_v2=ContainerInsights.ENABLED
        )
        self.group = SecurityGroup(
            self, "Group", vpc=vpc, description="Workers: nothing comes in", allow_all_outbound=True
        )


class Worker(Construct):
    """Handles the messages of a consumer's queue in place of a function.

    Args:
        scope: The construct that contains it.
        name: Its construct id, and its name in logs.
        stage: The deployment.
        place: The network and cluster in which it runs.
        image: Its image, for arm64, whose entry point is `recourse worker`.
        handler: `package.module:function`; a test resolves every one.
        environment: The variables that the handler reads.

    Attributes:
        own_role: Its role, which has no rights but those granted to it.
    """

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        stage: Stage,
        place: WorkerPlace,
        image: ContainerImage,
        handler: str,
        environment: Mapping[str, str],
    ) -> None:
        super().__init__(scope, name)
        self._stage = stage
        self._place = place
        self._image = image
        self._handler = handler
        self._environment = {
            **stage.retention,
            "AWS_DEFAULT_REGION": Stack.of(self).region,
            "POWERTOOLS_SERVICE_NAME": name,
            "POWERTOOLS_METRICS_NAMESPACE": stage.metrics_namespace,
            **environment,
        }
        self.own_role = Role(self, "Role", assumed_by=ServicePrincipal("ecs-tasks.amazonaws.com"))

    def serve(self, queue: Queue, *, at_once: int) -> None:
        """Consume a queue; the number of tasks follows the number of waiting messages.

        Args:
            queue: The queue.
            at_once: The most tasks at the same time.
        """
        task = FargateTaskDefinition(
            self,
            "Task",
            cpu=256,
            memory_limit_mib=512,
            task_role=self.own_role,
            runtime_platform=RuntimePlatform(
                cpu_architecture=CpuArchitecture.ARM64,
                operating_system_family=OperatingSystemFamily.LINUX,
            ),
        )
        logs = LogGroup(
            self,
            "Logs",
            retention=self._stage.log_retention,
            removal_policy=self._stage.removal,
        )
        task.add_container(
            "Worker",
            image=self._image,
            command=["--queue", queue.queue_url, "--handler", self._handler, "--json"],
            environment=self._environment,
            logging=LogDriver.aws_logs(stream_prefix="worker", log_group=logs),
            readonly_root_filesystem=True,
            stop_timeout=GRACE,
        )
        explain(task, "AwsSolutions-ECS2", reason="the variables are names of tables, not secrets")
        explain(
            cast("Role", task.obtain_execution_role()),
            "AwsSolutions-IAM5[Resource::*]",
            reason="the action that gets a token of the image registry has no resources",
        )
        service = FargateService(
            self,
            "Service",
            cluster=self._place.cluster,
            task_definition=task,
            assign_public_ip=True,
            security_groups=[self._place.group],
            desired_count=1,
            min_healthy_percent=0,
            circuit_breaker=DeploymentCircuitBreaker(rollback=True),
        )
        service.auto_scale_task_count(min_capacity=1, max_capacity=at_once).scale_on_metric(
            "Backlog",
            metric=queue.metric_approximate_number_of_messages_visible(statistic="Maximum"),
            scaling_steps=[
                ScalingInterval(lower=lower or None, upper=upper, change=change)
                for lower, upper, change in BACKLOG
            ],
            adjustment_type=AdjustmentType.CHANGE_IN_CAPACITY,
            cooldown=Duration.minutes(1),
        )
