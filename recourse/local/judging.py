"""Changes how ministack authorizes calls, for the gaps that need it.

Runs in ministack's process. Only this module depends on the arguments of `iam_evaluator.enforce`::

    judging.change(lambda asked, judge: None if asked.service == "sqs" else judge(asked))
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from ministack.core import iam_evaluator


class Question(NamedTuple):
    """Whether the principal of a key may do something; the answer is a refusal, or None."""

    key: str
    action: str
    service: str
    region: str
    resource: str = "*"
    context: dict[str, Any] | None = None


Judge = Callable[[Question], Any]


def change(answer: Callable[[Question, Judge], Any]) -> None:
    """Answer each question by `answer`, whose second argument is the previous way to answer."""
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
