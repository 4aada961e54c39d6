"""What the sagas' services have: a table each, a function for each step, the documents' bucket."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from aws_cdk import Duration, Stack
from aws_cdk.aws_dynamodb import AttributeType, CfnTable, ITable, Table
from aws_cdk.aws_kms import Key
from aws_cdk.aws_s3 import (
    BlockPublicAccess,
    Bucket,
    BucketEncryption,
    LifecycleRule,
    ObjectOwnership,
)
from constructs import Construct

from recourse.cdk.function import HandlerFunction
from recourse.cdk.rights import explain
from recourse.cdk.stage import Stage
from recourse.cdk.steps import StepFunction, use_existing_tables
from recourse.cdk.tables import OutboxTable
from recourse.cdk.valet_bucket import expiring, only_fresh_signatures
from recourse.declare.declaration import Step
from recourse.declare.saga import Saga, collect
from recourse.declare.shape import Shape
from recourse.declare.step import Action, Confirm, Undo
from recourse.errors import DeclarationError
from recourse.project import declared_at, earlier_at

RESOURCES, MOST = 4, 500
"""How many resources a step's function has, and how many CloudFormation takes of a stack."""


class Services(Construct):
    """Every service that the sagas use, made from the declarations.

    ::

        orders = Table(
            stack,
            "Orders",
            partition_key=Attribute(name="pk", type=AttributeType.STRING),
            stream=StreamViewType.NEW_IMAGE,
        )
        services = Services(
            stack,
            "Services",
            stage=stage,
            sagas=[ORDER],
            tables={"orders": orders},
        )

    Args:
        scope: The construct that contains it.
        name: Its construct id.
        stage: The deployment.
        sagas: The declarations; what `stage.project.sagas` names must list just these, for there
            the functions find them.
        tables: The tables of services that have one already, by service. Its key is `pk`, text; it
            has a stream with new images, and rows that expire by `expires_at`. A service that is
            not named gets one.
        existing_tables: The tables of the declarations' `ExistingTable`s, by their name there;
            those that are not named have that very name, or the one in the CDK context
            `table_<name>`.
        homes: Where the functions of a service's steps are, by service, if not here: in a stack of
            their own, where this one would have more than CloudFormation takes.

    Attributes:
        sagas: The declarations.
        shapes: These, and before them the shapes of sagas that may be in flight.
        tables: The table of each service.
        functions: The function of each step, by `Step.function`.
        documents: The bucket of the documents that steps store.
        lent: The prefixes in it that valet keys can give access to, such as `invoices/*`.
        erased: Those of documents that are not kept when their owner's data are erased.
        key: The key that encrypts what is made here; and everything else, where the stage has one
            key for all.

    Raises:
        DeclarationError: The functions would find other sagas, a table cannot be a service's, or
            the steps have more resources than a stack.
        ShapeError: A function is gone that a saga in flight may need; the message names its step.
    """

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        stage: Stage,
        sagas: Iterable[Saga],
        tables: Mapping[str, ITable] | None = None,
        existing_tables: Mapping[str, ITable] | None = None,
        homes: Mapping[str, Construct] | None = None,
    ) -> None:
        super().__init__(scope, name)
        self._stage = stage
        homes = homes or {}
        self._existing = dict(existing_tables or {})
        self.sagas = list(collect(*sagas).values())
        _check_found(self.sagas, stage.sagas)
        self.shapes: list[Shape[Step]] = [*earlier_at(stage.sagas), *self.sagas]
        steps = {step.function: step for shape in self.shapes for step in shape.all}
        names = sorted({step.service for step in steps.values()})
        own = dict(tables or {})
        _check_named(own, names, "tables", "services")
        parts = [part for step in steps.values() for part in step.parts]
        declared = sorted({table.name for part in parts for table in part.tables})
        _check_named(self._existing, declared, "existing_tables", "existing tables")
        check_homes(self, homes, steps.values(), each=RESOURCES)
        for service, table in own.items():
            _check_relayed(service, table)
        self.key = Key(self, "Key", enable_key_rotation=True, removal_policy=stage.removal)
        self.documents = self._bucket()
        storing = {step.service for step in steps.values() if step.action.documents}
        self.lent = [f"{service}/*" for service in sorted(storing)]
        kept = {step.service for step in steps.values() if step.action.keeps_documents}
        self.erased = [f"{service}/*" for service in sorted(storing - kept)]
        self.tables: dict[str, ITable] = {
            service: own.get(service)
            or OutboxTable(self, f"{service.title()}Table", stage=stage, key=self.key)
            for service in names
        }
        self.functions: dict[str, HandlerFunction] = {
            name: self.step_function(
                homes.get(step.service, self),
                name,
                step=step,
                handler="recourse.functions.step.handler",
            )
            for name, step in sorted(steps.items())
        }

    def step_function(
        self,
        scope: Construct,
        name: str,
        *,
        step: Step,
        handler: str,
        timeout: Duration | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> StepFunction:
        """A function that runs a step's action and undo.

        Args:
            scope: The construct that contains it.
            name: Its construct id.
            step: The step.
            handler: Its entry point, `module.attribute`.
            timeout: The function's timeout; that of the step's task by default.
            environment: Additional variables that the handler reads.
        """
        function = StepFunction(
            scope,
            name,
            stage=self._stage,
            step=step,
            handler=handler,
            table=self.tables[step.service],
            documents=self.documents,
            key=self.key,
            timeout=timeout,
            environment=environment,
        )
        self.let_use_existing(function, [step.action, *([step.undo] if step.undo else [])])
        return function

    def let_use_existing(
        self, function: HandlerFunction, parts: Iterable[Action | Undo | Confirm]
    ) -> None:
        """Let a function use the existing tables that the parts of steps declare."""
        use_existing_tables(function, parts, self._existing)

    def _bucket(self) -> Bucket:
        bucket = Bucket(
            self,
            "Documents",
            encryption=BucketEncryption.KMS,
            encryption_key=self.key,
            bucket_key_enabled=True,
            block_public_access=BlockPublicAccess.BLOCK_ALL,
            object_ownership=ObjectOwnership.BUCKET_OWNER_ENFORCED,
            enforce_ssl=True,
            versioned=True,
            removal_policy=self._stage.removal,
            lifecycle_rules=[
                LifecycleRule(abort_incomplete_multipart_upload_after=Duration.days(1)),
                *expiring("", self._stage.kept("documents")),
            ],
        )
        only_fresh_signatures(bucket)
        explain(bucket, "AwsSolutions-S1", reason="access to documents is audited by CloudTrail")
        return bucket


def check_homes(
    here: Construct, homes: Mapping[str, Construct], steps: Iterable[Step], *, each: int
) -> None:
    """Refuse homes of unknown services, and stacks with more steps than CloudFormation takes.

    Args:
        here: The home of the services that have no other.
        homes: The homes of those that have, by service.
        steps: The steps, one for each function.
        each: How many resources there are for each.

    Raises:
        DeclarationError: There is such a home, or such a stack.
    """
    services = Counter(step.service for step in steps)
    _check_named(homes, services, "homes", "services")
    stacks: Counter[str] = Counter()
    for service, functions in services.items():
        stacks[Stack.of(homes.get(service, here)).stack_name] += functions
    for stack, functions in stacks.items():
        if functions * each > MOST:
            raise DeclarationError(
                f"stack {stack!r}: {functions} steps with {each} resources each must be at most "
                f"{MOST} resources, got {functions * each}: give some services another home, such "
                f"as homes={{{max(services)!r}: Stack(app, ...)}} (docs/operations.md)"
            )


def _check_found(sagas: Iterable[Saga], where: str) -> None:
    """Refuse sagas that the functions would not find."""
    given = {saga.name: saga for saga in sagas}
    listed = {saga.name: saga for saga in declared_at(where).values()}
    if given != listed:
        raise DeclarationError(
            f"the sagas must be those that functions find at {where!r}, {', '.join(listed)}, got "
            f"{', '.join(given)}"
        )


def _check_named(given: Iterable[str], names: Iterable[str], what: str, whose: str) -> None:
    unknown = sorted(set(given) - set(names))
    if unknown:
        raise DeclarationError(
            f"{what}: {', '.join(unknown)} must be among the sagas' {whose}: {', '.join(names)}"
        )


def _check_relayed(service: str, table: ITable) -> None:
    """Refuse a table that steps cannot write, or from which no event would be relayed."""
    if not table.table_stream_arn:
        raise DeclarationError(
            f"the table of service {service!r} must have a stream with new images, from which its "
            "events are relayed; name it where the table is imported: "
            "Table.from_table_attributes(..., table_name=..., table_stream_arn=...)"
        )
    if not isinstance(table, Table):
        return
    schema = table.schema()
    keys = [key for key in (schema.partition_key, schema.sort_key) if key]
    if [(key.name, key.type) for key in keys] != [("pk", AttributeType.STRING)]:
        raise DeclarationError(
            f"the table of service {service!r} must have the one key 'pk', text, got "
            + " and ".join(repr(key.name) for key in keys)
        )
    resource = table.node.default_child
    assert isinstance(resource, CfnTable)
    stream = resource.stream_specification
    view = getattr(stream, "stream_view_type", None)
    if view not in ("NEW_IMAGE", "NEW_AND_OLD_IMAGES"):
        raise DeclarationError(
            f"the stream of the table of service {service!r} must have new images, got {view}"
        )
