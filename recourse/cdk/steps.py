"""The functions of a step: one for a state machine's tasks, one for a choreography's queue."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from aws_cdk import Duration
from aws_cdk.aws_dynamodb import ITable, Table
from aws_cdk.aws_iam import PolicyStatement
from aws_cdk.aws_kms import Key
from aws_cdk.aws_s3 import Bucket
from constructs import Construct

from recourse.cdk.function import HandlerFunction
from recourse.cdk.rights import CHECK, READ, WRITE, allow, explain, use_key, use_table, wildcard
from recourse.cdk.stage import ContextError, Stage
from recourse.declare.declaration import Step
from recourse.declare.step import Action, Confirm, Undo
from recourse.declare.tables import TABLE_NAME, ExistingTable

SECRET_ARN = re.compile(
    r"arn:aws:secretsmanager:[a-z0-9-]+:\d{12}:secret:[\w/+=.@-]+-[A-Za-z0-9]{6}"
)


class StepFunction(HandlerFunction):
    """A function that runs one step's action and undo, on the table of the service that owns it.

    Args:
        scope: The construct that contains it.
        name: Its construct id.
        stage: The deployment.
        step: The step.
        handler: Its entry point, `module.attribute`.
        table: The service's table.
        documents: The bucket in which the action stores documents, under its service's prefix.
        key: The key that encrypts both.
        timeout: The function's timeout; that of the step's task by default.
        environment: Additional variables that the handler reads.

    Raises:
        ContextError: The context names a secret by less than its ARN.
    """

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        stage: Stage,
        step: Step,
        handler: str,
        table: ITable,
        documents: Bucket,
        key: Key,
        timeout: Duration | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        variables = {
            "ACTION": step.action.ref,
            "UNDO": step.undo.ref if step.undo else "",
            "TABLE_NAME": table.table_name,
            "CHAOS": "on" if stage.chaos else "",
            "TIMESCALE": str(stage.timescale),
        }
        if step.action.documents:
            variables["DOCUMENTS_BUCKET"] = documents.bucket_name
        secrets = {name: _secret(scope, name.lower()) for name in step.action.secrets}
        variables |= {name: _context(scope, name.lower()) for name in step.action.settings}
        variables |= secrets
        super().__init__(
            scope,
            name,
            stage=stage,
            handler=handler,
            environment=variables | dict(environment or {}),
            timeout=timeout or stage.step_timeout(step.timeout),
        )
        # An undo is written on condition that the action is.
        use_table(table, self, *READ, *WRITE, *([CHECK] if step.undo else []))
        for arn in sorted({*secrets.values()} - {""}):
            allow(self, "secretsmanager:GetSecretValue", arn)
        if step.action.documents:
            prefix = f"{step.service}/*"
            self.add_to_role_policy(
                PolicyStatement(
                    actions=["s3:PutObject"], resources=[documents.arn_for_objects(prefix)]
                )
            )
            use_key(key, self)
            explain(
                self.own_role,
                wildcard(documents, "Arn", after=f"/{prefix}", seen_from=self),
                reason="it writes under its own prefix",
            )


def use_existing_tables(
    function: HandlerFunction,
    parts: Iterable[Action | Undo | Confirm],
    known: Mapping[str, ITable],
) -> None:
    """Let a function use the existing tables that its actions, undos and confirms declare.

    They may put and update rows of a table that they declare, and read rows if they have `reads`.
    The key that encrypts a table that is known by name only belongs to its owner, who must let the
    function's role use it.

    Args:
        function: The function; its environment gets each table's name, which the CDK context
            `table_<name>` may replace.
        parts: The actions, undos and confirms that it runs.
        known: The tables that the app has, by their declared names.

    Raises:
        ContextError: The context names a table by an invalid name.
    """
    rights: dict[str, set[str]] = {}
    tables: dict[str, ITable] = {}
    for part in parts:
        for table in part.tables:
            if table.name not in tables:
                tables[table.name] = known.get(table.name) or _named(function, table)
                function.add_environment(table.variable, tables[table.name].table_name)
            actions = rights.setdefault(table.name, set())
            actions |= {"dynamodb:PutItem", "dynamodb:UpdateItem"}
            actions |= {"dynamodb:BatchGetItem"} if part.may_read else set()
    for name, actions in sorted(rights.items()):
        use_table(tables[name], function, *sorted(actions))


def _named(function: HandlerFunction, table: ExistingTable) -> ITable:
    """A table by the name that it has in this stage."""
    variable = table.variable
    name = _context(function, variable.lower()) or table.name
    if not TABLE_NAME.fullmatch(name):
        raise ContextError(
            f"context {variable.lower()}={name!r} must be 3 to 255 letters, digits, '_', '-' and "
            "'.'"
        )
    return Table.from_table_name(function, table.name, name)


def _secret(scope: Construct, name: str) -> str:
    """The ARN of a secret that the context names, or nothing.

    Raises:
        ContextError: It is not complete, as a right to that one secret must have it.
    """
    arn = _context(scope, name)
    if arn and not SECRET_ARN.fullmatch(arn):
        raise ContextError(
            f"context {name}={arn!r} must be the whole ARN of a secret, with the six characters "
            "after its name"
        )
    return arn


def _context(scope: Construct, name: str) -> str:
    return str(scope.node.try_get_context(name) or "").strip()
