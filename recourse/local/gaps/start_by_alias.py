"""ministack authorizes a start by an alias by the alias's ARN.

AWS authorizes it by the machine's ARN, and the alias or version is the condition key
`states:StateMachineQualifier`.

Source: AWS, Step Functions Developer Guide, "Creating a state machine alias".
"""

from typing import Any

from recourse.local import judging


def close() -> None:
    """Authorize a start by the machine, with the qualifier as condition key."""

    def judge_by_machine(asked: judging.Question, judge: judging.Judge) -> Any:
        # arn:aws:states:region:account:stateMachine:name:qualifier
        machine, _, qualifier = asked.resource.rpartition(":")
        if asked.action == "states:StartExecution" and machine.count(":") == 6:
            key = {"states:StateMachineQualifier": qualifier}
            asked = asked._replace(resource=machine, context={**(asked.context or {}), **key})
        return judge(asked)

    judging.change(judge_by_machine)
