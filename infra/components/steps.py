"""The functions of a step: one for a state machine's tasks, one for a choreography's queue."""

from __future__ import annotations

from collections.abc import Mapping

from aws_cdk import Duration
from aws_cdk.aws_iam import PolicyStatement
from aws_cdk.aws_kms import Key
from aws_cdk.aws_s3 import Bucket
from constructs import Construct

from infra.components.function import HandlerFunction
from infra.components.rights import READ, WRITE, explain, use_key, use_table, wildcard
from infra.components.tables import OutboxTable
from infra.stage import Stage
from recourse.saga import Step


class StepFunction(HandlerFunction):
    """A function that runs one step's action and undo, on the table of the service that owns it.

    Args:
        scope: Where it belongs.
        name: Its construct id.
        stage: The deployment.
        step: What it runs.
        handler: How it is called.
        table: The service's table.
        documents: The bucket, where the action stores documents under its service's own prefix.
        key: What both are encrypted with.
        timeout: Its own; that of its step's task where it is absent.
        environment: What the handler reads besides.
    """

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        stage: Stage,
        step: Step,
        handler: str,
        table: OutboxTable,
        documents: Bucket,
        key: Key,
        timeout: Duration | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        told = {
            "ACTION": step.action.ref,
            "UNDO": step.undo.ref if step.undo else "",
            "TABLE_NAME": table.table_name,
            "CHAOS": "on" if stage.chaos else "",
            "TIMESCALE": str(stage.timescale),
        }
        if step.action.documents:
            told["DOCUMENTS_BUCKET"] = documents.bucket_name
        told |= {name: _context(scope, name.lower()) for name in step.action.settings}
        super().__init__(
            scope,
            name,
            stage=stage,
            handler=handler,
            environment=told | dict(environment or {}),
            timeout=timeout or stage.step_timeout(step.timeout),
        )
        use_table(table, self, *READ, *WRITE)
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


def _context(scope: Construct, name: str) -> str:
    return str(scope.node.try_get_context(name) or "").strip()
