"""Gap: an attribute of DynamoDB is taken apart and put together four times on its way.

Botocore writes and reads it member by member, and moto reads and writes it in the same way,
looking for each of ten kinds of value in four spellings. That is two thirds of the time of a call
for a row of more than a few values. What JSON says of an attribute is what it is, but for bytes, of
which no row here has any; so here it is handed on as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from botocore.parsers import BaseJSONParser
from botocore.serialize import JSONSerializer
from moto.core.parse import BaseJSONParser as MotoParser
from moto.core.serialize import ResponseSerializer

from recourse.testing.patching import replaced


def _is_attribute(shape: Any, value: object) -> bool:
    return shape.name == "AttributeValue" and type(value) is dict


WRITES: Any = JSONSerializer
READS: Any = BaseJSONParser
MOTO_READS: Any = MotoParser
MOTO_WRITES: Any = ResponseSerializer


@contextmanager
def plain() -> Iterator[None]:
    """Hand attributes on as they are."""
    answer = MOTO_WRITES._serialize
    ask = WRITES._serialize

    def answered(self: Any, serialized: Any, value: Any, shape: Any, key: str) -> None:
        if _is_attribute(shape, value):
            self._default_serialize(serialized, value, shape, key)
        else:
            answer(self, serialized, value, shape, key)

    def asked(self: Any, serialized: Any, value: Any, shape: Any, key: Any = None) -> None:
        if _is_attribute(shape, value):
            serialized[key] = value
        else:
            ask(self, serialized, value, shape, key)

    def parsed(shipped: Callable[..., Any]) -> Callable[..., Any]:
        def read(self: Any, shape: Any, value: Any) -> Any:
            return value if _is_attribute(shape, value) else shipped(self, shape, value)

        return read

    with ExitStack() as stack:
        for owner, name, mine in (
            (MOTO_WRITES, "_serialize", answered),
            (WRITES, "_serialize", asked),
            (READS, "_handle_structure", parsed(READS._handle_structure)),
            (MOTO_READS, "_parse_structure", parsed(MOTO_READS._parse_structure)),
        ):
            stack.enter_context(replaced(owner, name, mine))
        yield
