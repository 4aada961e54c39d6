"""Gap: moto looks for each of ten kinds of value in every DynamoDB attribute, in four spellings.

That is two thirds of the time of a read. Here an attribute is looked up as what it is, a dict with
the kind as its key.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from moto.core.serialize import ResponseSerializer

from tests.moto.patching import replaced


@contextmanager
def plain() -> Iterator[None]:
    """Look attributes up plainly."""
    shipped = ResponseSerializer.get_value

    def get_value(self: ResponseSerializer, value: Any, key: str, shape: Any) -> Any:
        if type(value) is dict and shape.parent.name == "AttributeValue":
            return value.get(key)
        return shipped(self, value, key, shape)

    with replaced(ResponseSerializer, "get_value", get_value):
        yield
