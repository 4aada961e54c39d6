"""ministack judges a start by an alias by the alias's ARN, as if that were a machine.

On AWS it is judged by the machine's own ARN, and the alias, or the version, is the condition key
`states:StateMachineQualifier`.

Source: AWS, Step Functions Developer Guide, "Creating a state machine alias".
"""

from typing import Any

from local import judging


def close() -> None:
    """Judge a start by the machine, and by the qualifier that it was asked by."""

    def judge_by_machine(asked: judging.Question, judge: judging.Judge) -> Any:
        # arn:aws:states:region:account:stateMachine:name:qualifier
        machine, _, qualifier = asked.resource.rpartition(":")
        if asked.action == "states:StartExecution" and machine.count(":") == 6:
            told = {"states:StateMachineQualifier": qualifier}
            asked = asked._replace(resource=machine, context={**(asked.context or {}), **told})
        return judge(asked)

    judging.change(judge_by_machine)
