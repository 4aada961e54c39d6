"""How ministack is asked whether a call may be, for the gaps that change the answer.

Runs in its process; no other place knows what `iam_evaluator.enforce` takes.

    judging.change(lambda asked, judge: None if asked.service == "sqs" else judge(asked))
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from ministack.core import iam_evaluator


class Question(NamedTuple):
    """Whether whoever has a key may do something; what is not allowed is answered by a refusal."""

    key: str
    action: str
    service: str
    region: str
    resource: str = "*"
    context: dict[str, Any] | None = None


Judge = Callable[[Question], Any]


def change(answer: Callable[[Question, Judge], Any]) -> None:
    """Have each question answered so; the judge that comes with it answers as it was before."""
    enforce = iam_evaluator.enforce

    def judge(asked: Question) -> Any:
        return enforce(*asked)

    def enforce_changed(
        key: str,
        action: str,
        service: str,
        region: str,
        resource_arn: str = "*",
        service_context: dict[str, Any] | None = None,
    ) -> Any:
        asked = Question(key, action, service, region, resource_arn, service_context)
        return answer(asked, judge)

    iam_evaluator.enforce = enforce_changed
