"""What the class of a request says: its fields, what they may be, and which may be None."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import Field, dataclass
from types import NoneType
from typing import (
    Any,
    Literal,
    NamedTuple,
    TypeVar,
    dataclass_transform,
    get_args,
    get_origin,
)

from recourse.declare.hints import UNIONS, bare, types_of

T = TypeVar("T")


@dataclass_transform(kw_only_default=True, frozen_default=True)
def request_model(cls: type[T]) -> type[T]:
    """Make a class the shape of a request: keyword-only, frozen, strict, unknown fields refused.

    It is a plain dataclass, for step functions must not load a validator that they never use; the
    API validates it with pydantic, and constraints are those of `annotated_types` and `Checked`::

        @request_model
        class VisitRequest:
            visit_id: Annotated[str, Len(1, 128)]
            slot: str
            note: str | None = None
    """
    made = dataclass(frozen=True, kw_only=True)(cls)
    made.__pydantic_config__ = {"extra": "forbid", "strict": True}  # type: ignore[attr-defined]
    return made


class Checked(NamedTuple):
    """A constraint of a field that says what is wrong with a value, in words.

    ::

        def flaw_of_iban(text: str) -> str | None:
            return None if is_iban(text) else "must be an IBAN such as DE02100500000054540402"

        Iban = Annotated[str, Len(15, 34), Checked(flaw_of_iban)]

    The API answers a 422 that names the field and has these words, where `Predicate` of
    `annotated_types` only says that it failed.

    Attributes:
        flaw: What is wrong with a value that has the field's type; None where nothing is.
        beside: Earlier fields of the same class, whose values `flaw` is called with as well.
    """

    flaw: Callable[..., str | None]
    beside: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Checked({self.flaw.__name__})"

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        """The check as pydantic makes it, which alone calls this: nothing else loads pydantic."""
        from pydantic_core import PydanticCustomError, core_schema

        def checked(value: Any, info: Any) -> Any:
            others = [info.data[name] for name in self.beside if name in info.data]
            if len(others) < len(self.beside):
                return value  # another is wrong itself, and the answer says so
            if flaw := self.flaw(value, *others):
                raise PydanticCustomError("flawed", "{flaw}", {"flaw": flaw})
            return value

        return core_schema.with_info_after_validator_function(checked, handler(source))


def unknown_beside(model: type) -> str | None:
    """A field, of a class or one within it, that is checked beside another that is not before it.

    Raises:
        UnknownNameError: An annotation names what is not there.
    """
    classes = [model]
    for cls in classes:
        earlier: set[str] = set()
        for name, hint in types_of(cls, include_extras=True).items():
            for part in _parts(hint):
                if isinstance(part, Checked) and not earlier.issuperset(part.beside):
                    return f"{cls.__name__}.{name}"
                if is_request_model(part) and part not in classes:
                    classes.append(part)
            earlier.add(name)
    return None


def _parts(hint: Any) -> Iterator[Any]:
    """A type, and all that it is made of, constraints too."""
    yield hint
    for part in get_args(hint):
        yield from _parts(part)


def is_request_model(cls: object) -> bool:
    """Whether it is a class that `request_model` made."""
    return isinstance(cls, type) and {"__pydantic_config__", "__dataclass_fields__"} <= {*vars(cls)}


def is_none_by_default(field: Field[Any]) -> bool:
    """Whether the field is None in a request that does not have it."""
    return field.default is None


def is_text(hint: Any) -> bool:
    """Whether what has this type is always text."""
    return bare(hint) is str


def may_be_none(hint: Any) -> bool:
    """Whether what has this type may be None."""
    hint = bare(hint)
    if any(hint is one for one in (None, NoneType, Any, object)) or isinstance(hint, TypeVar):
        return True
    if get_origin(hint) in UNIONS:
        return any(may_be_none(one) for one in get_args(hint))
    return get_origin(hint) is Literal and any(one is None for one in get_args(hint))


def without_none(hint: Any) -> Any:
    """The type of what it may be besides None, where that is one type; else the type itself."""
    hint = bare(hint)
    if get_origin(hint) in UNIONS:
        others = [one for one in get_args(hint) if one is not NoneType]
        return without_none(others[0]) if len(others) == 1 else hint
    return hint
