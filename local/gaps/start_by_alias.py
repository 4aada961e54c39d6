"""ministack judges a start by an alias by the alias's ARN, as if that were a machine.

On AWS it is judged by the machine's own ARN, and the alias, or the version, is the condition key
`states:StateMachineQualifier`.

Source: AWS, Step Functions Developer Guide, "Creating a state machine alias".
"""

from typing import Any

from ministack.core import iam_evaluator


def close() -> None:
    """Judge a start by the machine, and by the qualifier that it was asked by."""
    enforce = iam_evaluator.enforce

    def enforce_by_machine(
        key: str,
        action: str,
        service: str,
        region: str,
        resource_arn: str = "*",
        service_context: dict[str, Any] | None = None,
    ) -> Any:
        # arn:aws:states:region:account:stateMachine:name:qualifier
        machine, _, qualifier = resource_arn.rpartition(":")
        if action == "states:StartExecution" and machine.count(":") == 6:
            resource_arn = machine
            told = {"states:StateMachineQualifier": qualifier}
            service_context = {**(service_context or {}), **told}
        return enforce(key, action, service, region, resource_arn, service_context)

    iam_evaluator.enforce = enforce_by_machine
