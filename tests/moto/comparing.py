"""Gap: to moto true is 1 and false is 0; in DynamoDB values of different types are never equal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from moto.dynamodb.comparisons import OpEqual, OpNotEqual

from tests.moto.patching import replaced


def _typed(value: Any) -> Any:
    """A value in which no boolean equals a number."""
    if isinstance(value, dict):
        return {name: _typed(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_typed(one) for one in value]
    return (bool, value) if isinstance(value, bool) else value


def _are_equal(operator: Any, item: Any) -> bool:
    return bool(_typed(operator.lhs.expr(item)) == _typed(operator.rhs.expr(item)))


def _differ(operator: Any, item: Any) -> bool:
    return not _are_equal(operator, item)


@contextmanager
def by_type() -> Iterator[None]:
    """Compare in conditions as DynamoDB does."""
    with replaced(OpEqual, "expr", _are_equal), replaced(OpNotEqual, "expr", _differ):
        yield
