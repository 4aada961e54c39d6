"""What annotations say: types without their other names, and the fields of dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from types import MappingProxyType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    Required,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from recourse.errors import RecourseError

UNIONS = (Union, UnionType)
"""The origins of `X | Y`: those of two classes have another than those of anything else."""


class UnknownNameError(RecourseError, NameError):
    """An annotation of a class names what is not there."""

    def __init__(self, of: Any, problem: Exception) -> None:
        super().__init__(
            f"the types of {getattr(of, '__name__', of)} cannot be resolved ({problem}): "
            "what they name must be defined in its module, at the top"
        )


def bare(hint: Any) -> Any:
    """A type without its annotations and other names."""
    while True:
        origin = get_origin(hint)
        if origin is Annotated:
            hint = get_args(hint)[0]
        elif type(origin or hint).__name__ == "TypeAliasType":  # `type Id = str`, Python 3.12
            hint = _value(origin or hint)
        elif hasattr(hint, "__supertype__"):  # NewType
            hint = hint.__supertype__
        else:
            return hint


def _value(alias: Any) -> Any:
    """What a `type` statement calls, which is evaluated when it is first asked for."""
    try:
        return alias.__value__
    except Exception as problem:  # whatever a name that is not there raises
        raise UnknownNameError(alias, problem) from problem


@cache
def types_of(cls: Any, *, include_extras: bool = False) -> Mapping[str, Any]:
    """The type of each field of a class, by the field's name.

    Args:
        cls: The class.
        include_extras: Whether they are with their annotations.

    Raises:
        UnknownNameError: An annotation names what is not there.
    """
    try:
        return MappingProxyType(get_type_hints(cls, include_extras=include_extras))
    except Exception as problem:  # whatever evaluating it raises
        raise UnknownNameError(cls, problem) from problem


def check_names(hint: Any) -> None:
    """Whatever a type names, and the classes within it do, is there.

    Raises:
        UnknownNameError: It is not.
    """
    left, seen = [hint], set()
    while left:
        one = bare(left.pop())
        if get_origin(one) is not Literal:
            left += get_args(one)
        if isinstance(one, type) and one not in seen and (is_dataclass(one) or is_typed_dict(one)):
            seen.add(one)
            left += types_of(one).values()


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
    how = get_origin(types_of(cls, include_extras=True)[name])
    return how is NotRequired or (how is not Required and name in cls.__optional_keys__)
