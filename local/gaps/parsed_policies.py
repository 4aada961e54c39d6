"""ministack reads the policies of a role anew for each of its calls, from their text.

That takes longer than all the rest of a decision. A policy that is changed has another text.
"""

from functools import lru_cache
from typing import Any

from ministack.core import iam_evaluator

MOST = 1024
"""Policies that are kept; the app has some hundred."""


def close() -> None:
    """Read each text once."""
    parse = iam_evaluator.parse_policy_document
    parse_once = lru_cache(MOST)(parse)

    def parse_each_text_once(policy: Any) -> Any:
        return parse_once(policy) if isinstance(policy, str) else parse(policy)

    iam_evaluator.parse_policy_document = parse_each_text_once
