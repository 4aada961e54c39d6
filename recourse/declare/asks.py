"""What a step is asked, made from the JSON of a request.

A service owns the class: a frozen dataclass, with more of them in it, of text, whole numbers, truth
values, `Literal`, `X | None`, `tuple[X, ...]` or `Sequence[X]`, and `Mapping[str, X]`::

    @dataclass(frozen=True, kw_only=True)
    class Seats:
        id: str
        seats: int

    @dataclass(frozen=True, kw_only=True)
    class HoldAsk:
        flight: Seats
        documents: Mapping[str, str] | None = None

Requests outlive releases: what the class does not know is ignored, and what is absent, or null
where that cannot be, has its default. No validator is loaded, for the API has validated it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass
from functools import cache, partial
from types import MappingProxyType, NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin

from recourse.declare.hints import UNIONS, bare, fields_of, is_required, types_of
from recourse.declare.step import frozen
from recourse.errors import RecourseError

T = TypeVar("T")
Maker = Callable[[Any], Any]
_PLAIN = (str, int, bool)


class AskError(RecourseError):
    """A request is not what the step is asked: a defect, or a release that forgot a default."""


class UnmadeError(RecourseError, TypeError):
    """A type that nothing makes from JSON; `field` has it, or has it within its own type."""

    def __init__(self, hint: Any, field: str = "") -> None:
        super().__init__(f"{field}: {hint}")
        self.hint = hint
        self.field = field


class _WrongError(RecourseError):
    """A value is not what its place is for; `path` leads there."""

    def __init__(self, what: str, *path: str) -> None:
        super().__init__(what)
        self.path = path


def make(cls: type[T], request: Mapping[str, Any]) -> T:
    """What a step is asked.

    Args:
        cls: The class that its service owns.
        request: The fields of the request that the step takes, as JSON.

    Raises:
        AskError: It cannot be made of them; the message names the field.
    """
    try:
        made: T = _instance(cls, request)
    except _WrongError as wrong:
        where = ".".join(wrong.path)
        raise AskError(f"{where} of the request {wrong}, for {cls.__name__}") from None
    return made


def maker(hint: Any) -> Maker:
    """What makes a value of a type from JSON.

    Raises:
        UnmadeError: Nothing does.
    """
    hint = bare(hint)
    origin, of = get_origin(hint), get_args(hint)
    if hint in (Any, object):
        return frozen
    if hint in (*_PLAIN, NoneType, None):
        return partial(_exactly, NoneType if hint is None else hint)
    if isinstance(hint, type) and is_dataclass(hint):
        return partial(_instance, hint)
    if origin is Literal and all(one is None or type(one) in _PLAIN for one in of):
        return partial(_one_of, of)
    if origin in UNIONS:
        return partial(_first_of, tuple(map(maker, of)))
    if origin is Sequence or (origin is tuple and of[1:] == (...,)):
        return partial(_each, maker(of[0]))
    if origin is Mapping and bare(of[0]) is str:
        return partial(_by_name, maker(of[1]))
    raise UnmadeError(hint)


@cache
def fields_made(cls: type) -> tuple[tuple[str, bool, Maker], ...]:
    """Of each field of a dataclass its name, whether it is required, and what makes its value.

    Raises:
        UnmadeError: Nothing makes the value of one.
        UnknownNameError: A type is not there.
    """
    hints, found = types_of(cls), []
    for name, field in fields_of(cls).items():
        try:
            found.append((name, is_required(field), maker(hints[name])))
        except UnmadeError as problem:
            raise UnmadeError(problem.hint, name) from None
    return tuple(found)


def _instance(cls: type, value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise _WrongError(f"must be an object, got {_called(value)}")
    made = {}
    for name, required, make_field in fields_made(cls):
        if name in value:
            try:
                made[name] = make_field(value[name])
            except _WrongError as wrong:
                if required or value[name] is not None:  # else the null stands for its absence
                    wrong.path = (name, *wrong.path)
                    raise
        elif required:
            raise _WrongError("must be there, for it has no default", name)
    try:
        return cls(**made)
    except (TypeError, ValueError) as problem:
        raise _WrongError(f"must be of {cls.__name__}: {problem}") from problem


def _exactly(cls: type, value: Any) -> Any:
    if type(value) is not cls:
        raise _WrongError(f"must be {cls.__name__}, got {_called(value)}")
    return value


def _one_of(values: tuple[Any, ...], value: Any) -> Any:
    for one in values:
        if type(one) is type(value) and one == value:
            return one
    raise _WrongError(f"must be one of {list(values)}, got another {_called(value)}")


def _first_of(makers: tuple[Maker, ...], value: Any) -> Any:
    wrong: list[_WrongError] = []
    for make in makers:
        try:
            return make(value)
        except _WrongError as problem:
            wrong.append(problem)
    # What went the furthest was meant: of `Seats | None` it is the seats that are wrong.
    raise max(wrong, key=lambda problem: len(problem.path))


def _each(make: Maker, value: Any) -> Any:
    if not isinstance(value, list | tuple):
        raise _WrongError(f"must be a list, got {_called(value)}")
    return tuple(_at(str(at), make, one) for at, one in enumerate(value))


def _by_name(make: Maker, value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise _WrongError(f"must be an object, got {_called(value)}")
    return MappingProxyType({name: _at(name, make, one) for name, one in value.items()})


def _at(where: str, make: Maker, value: Any) -> Any:
    try:
        return make(value)
    except _WrongError as wrong:
        wrong.path = (where, *wrong.path)
        raise


def _called(value: Any) -> str:
    """What a value is called in a message, which shows nothing of a request's contents."""
    return "null" if value is None else type(value).__name__
