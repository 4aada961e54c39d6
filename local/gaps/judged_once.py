"""ministack finds out anew, for every question about a call, who calls and what their policies say.

A transaction asks one question for each of its items, most of them the same; and each time the
policies are read from their text. That takes longer than all the rest of a call.
"""

from contextvars import ContextVar
from functools import lru_cache
from typing import Any

from ministack import app
from ministack.core import iam_evaluator

MOST = 1024
"""Policies that are kept; one that is changed has another text."""


class Call:
    """What was found out about a call, for as long as it is answered."""

    def __init__(self) -> None:
        self.principals: dict[tuple[str, str], Any] = {}
        self.allowed: list[tuple[Any, ...]] = []


_call: ContextVar[Call] = ContextVar("call")


def close() -> None:
    """Read each policy once; ask once about each call who calls, and whether they may."""
    parse = iam_evaluator.parse_policy_document
    pin, resolve = iam_evaluator.pin_signed_request, iam_evaluator.resolve_principal
    enforce = iam_evaluator.enforce
    parse_once = lru_cache(MOST)(parse)

    def parse_each_text_once(policy: Any) -> Any:
        return parse_once(policy) if isinstance(policy, str) else parse(policy)

    def pin_new_call(*request: Any, **more: Any) -> None:
        _call.set(Call())
        pin(*request, **more)

    def resolve_once(key: str, account: str, credential: Any = None) -> Any:
        call = _call.get(None)
        if call is None:
            return resolve(key, account, credential)
        if (key, account) not in call.principals:
            call.principals[key, account] = resolve(key, account, credential)
        return call.principals[key, account]

    def enforce_once(
        key: str,
        action: str,
        service: str,
        region: str,
        resource_arn: str = "*",
        service_context: dict[str, Any] | None = None,
    ) -> Any:
        question = (key, action, service, region, resource_arn, service_context)
        call = _call.get(None)
        if call is None:
            return enforce(*question)
        if question not in call.allowed:
            if refused := enforce(*question):
                return refused
            call.allowed.append(question)
        return None

    iam_evaluator.parse_policy_document = parse_each_text_once
    iam_evaluator.pin_signed_request = app.pin_signed_request = pin_new_call
    iam_evaluator.resolve_principal = resolve_once
    iam_evaluator.enforce = enforce_once
