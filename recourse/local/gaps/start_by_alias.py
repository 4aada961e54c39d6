"""ministack authorizes what is asked of an alias or a version by its ARN, a start for example.

AWS authorizes it by the machine's ARN, and the alias or version is the condition key
`states:StateMachineQualifier`.

Source: AWS, Step Functions Developer Guide, "Authorization for versions and aliases".
"""

from typing import Any

from recourse.local import judging


def close() -> None:
    """Authorize it by the machine, with the qualifier as condition key."""

    def judge_by_machine(asked: judging.Question, judge: judging.Judge) -> Any:
        # arn:aws:states:region:account:stateMachine:name:qualifier
        machine, _, qualifier = asked.resource.rpartition(":")
        if ":stateMachine:" in machine and machine.count(":") == 6:
            key = {"states:StateMachineQualifier": qualifier}
            asked = asked._replace(resource=machine, context={**(asked.context or {}), **key})
        return judge(asked)

    judging.change(judge_by_machine)
