"""ministack resolves the principal and parses its policies again for every authorization.

A transaction is authorized once for each of its items, mostly for the same action and resource, and
policies are parsed from their text each time. That takes longer than the rest of a call.
"""

from contextvars import ContextVar
from functools import lru_cache
from typing import Any

from ministack import app
from ministack.core import iam_evaluator

from recourse.local import judging

MOST = 1024
"""Parsed policies to cache, by their text."""


class Call:
    """What is known about a call while it is answered."""

    def __init__(self) -> None:
        self.principals: dict[tuple[str, str], Any] = {}
        self.allowed: list[judging.Question] = []


_call: ContextVar[Call] = ContextVar("call")


def close() -> None:
    """Parse each policy once, and authorize each question of a call once."""
    parse = iam_evaluator.parse_policy_document
    pin, resolve = iam_evaluator.pin_signed_request, iam_evaluator.resolve_principal
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

    def judge_once(asked: judging.Question, judge: judging.Judge) -> Any:
        call = _call.get(None)
        if call is None:
            return judge(asked)
        if asked not in call.allowed:
            if refused := judge(asked):
                return refused
            call.allowed.append(asked)
        return None

    iam_evaluator.parse_policy_document = parse_each_text_once
    iam_evaluator.pin_signed_request = app.pin_signed_request = pin_new_call
    iam_evaluator.resolve_principal = resolve_once
    judging.change(judge_once)
