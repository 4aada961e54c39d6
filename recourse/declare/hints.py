"""What annotations say: types without their other names, and the fields of dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from functools import cache
from types import MappingProxyType, UnionType
from typing import (
    Annotated,
    Any,
    NotRequired,
    Required,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

UNIONS = (Union, UnionType)
"""The origins of `X | Y`: those of two classes have another than those of anything else."""


def bare(hint: Any) -> Any:
    """A type without its annotations and other names."""
    while True:
        origin = get_origin(hint)
        if origin is Annotated:
            hint = get_args(hint)[0]
        elif type(origin or hint).__name__ == "TypeAliasType":  # `type Id = str`, Python 3.12
            hint = (origin or hint).__value__
        elif hasattr(hint, "__supertype__"):  # NewType
            hint = hint.__supertype__
        else:
            return hint


@cache
def types_of(cls: Any) -> Mapping[str, Any]:
    """The type of each field of a class, by the field's name.

    Raises:
        Exception: An annotation names what is not there; whatever evaluating it raises.
    """
    return MappingProxyType(get_type_hints(cls))


def fields_of(cls: Any) -> dict[str, Field[Any]]:
    """The fields that a dataclass is made with, by name."""
    return {one.name: one for one in fields(cls) if one.init}


def is_required(field: Field[Any]) -> bool:
    """Whether a dataclass cannot be made without the field."""
    return field.default is MISSING and field.default_factory is MISSING


def is_typed_dict(cls: Any) -> bool:
    """Whether it is a `TypedDict`, of typing or typing_extensions."""
    return isinstance(cls, type) and issubclass(cls, dict) and hasattr(cls, "__optional_keys__")


def may_lack(cls: Any, name: str) -> bool:
    """Whether what has this type may be without a field of it."""
    if not is_typed_dict(cls):
        return False
    # `NotRequired` within an annotation that is text is in no set of keys.
    how = get_origin(get_type_hints(cls, include_extras=True)[name])
    return how is NotRequired or (how is not Required and name in cls.__optional_keys__)
