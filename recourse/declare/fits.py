"""Checks by types, when a saga is built, that every valid request has what its steps ask for.

Types are those of a request model, whose JSON the API has validated, and those of an ask
(`recourse.declare.asks`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field
from types import NoneType
from typing import Any, Literal, Optional, cast, get_args, get_origin

from recourse.declare.asks import UnmadeError, fields_made
from recourse.declare.declaration import Step
from recourse.declare.hints import (
    UNIONS,
    UnknownNameError,
    bare,
    fields_of,
    is_required,
    is_typed_dict,
    may_lack,
    types_of,
)
from recourse.declare.json_types import LISTS, OBJECTS, is_class, items, parts
from recourse.declare.request import without_none

Pairs = frozenset[tuple[Any, Any]]


def unsound(ask: Any) -> str | None:
    """Why a class cannot be what a step is asked; None where it can."""
    seen, left = set(), [ask]
    while left:
        cls = left.pop()
        if not is_class(cls) or not cls.__dataclass_params__.frozen:
            got = cls.__name__ if isinstance(cls, type) else f"an instance of {type(cls).__name__}"
            return f"it must be a class made by @dataclass(frozen=True, kw_only=True), got {got}"
        try:
            fields_made(cls)
        except UnmadeError as problem:
            return (
                f"{cls.__name__}.{problem.field} must be of a type that JSON makes and that "
                f"cannot be changed, got {shown(problem.hint)}: write tuple[X, ...] for a list, "
                "Mapping[str, X] for an object, a frozen dataclass for one of known fields"
            )
        except UnknownNameError as problem:
            return f"{problem}"
        seen.add(cls)
        left += {one for hint in types_of(cls).values() for one in _classes(hint)} - seen
    return None


def unfit(step: Step, types: Mapping[str, Any]) -> str | None:
    """Why what a step takes of a request is not what its action and undo are asked; None if it is.

    Args:
        step: The step; what it takes is in the request, and what it asks for is sound.
        types: The type of each field of the request.
    """
    parts = [part for part in (step.action, step.undo) if part is not None]
    for name in step.takes:
        if not any(name in fields_of(part.ask) for part in parts):
            asks = " and ".join(f"{part.ask.__name__} of {part.ref}" for part in parts)
            return f"it takes {name!r}, and there is no such field in {asks}: write it there"
    for part in parts:
        asked = types_of(cast(Any, part.ask))
        for name, field in fields_of(part.ask).items():
            if name not in step.takes:
                if is_required(field):
                    return (
                        f"it must take {name!r}, which {part.ask.__name__} of {part.ref} has no "
                        f"default for: write takes={[*step.takes, name]}"
                    )
                continue
            # A step that takes one field alone is left out where that is None.
            given = types[name] if step.takes[1:] else without_none(types[name])
            if reason := misfit(given, made_of(field, asked[name]), name):
                return f"what it takes must fit {part.ask.__name__} of {part.ref}: {reason}"
    return None


def made_of(field: Field[Any], hint: Any) -> Any:
    """What a field of an ask is made of: null too, where that stands for its default."""
    return hint if is_required(field) else Optional[hint]  # noqa: UP045


def misfit(given: Any, wanted: Any, where: str, above: Pairs = frozenset()) -> str | None:
    """Why a value of one type does not always make one of another; None where it does.

    Args:
        given: The type in the request, or of what a step returns.
        wanted: The type in the ask.
        where: The field, for the message.
        above: The pairs of classes within which this is asked: of a tree, what is looked at.
    """
    for part in parts(given):
        reasons = [_misfit_of_one(part, one, where, above) for one in parts(wanted)]
        if None not in reasons:
            # Of `Seats | None` it is the seats that were meant.
            within = (reason for reason in reasons if reason and reason.startswith(f"{where}."))
            return next(within, _no(given, wanted, where))
    return None


def shown(hint: Any) -> str:
    """A type, as one writes it."""
    hint = bare(hint)
    if get_origin(hint) in UNIONS:
        return " | ".join(map(shown, get_args(hint)))
    if hint in (None, NoneType):
        return "None"
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")


def _misfit_of_one(given: Any, wanted: Any, where: str, above: Pairs) -> str | None:
    """The same of types that are no unions."""
    origin, of = get_origin(wanted), get_args(wanted)
    if wanted in (Any, object):
        return None
    has_fields = is_class(given) or is_typed_dict(given)
    if is_class(wanted) and has_fields:
        return _misfit_of_classes(given, wanted, where, above)
    if origin is Mapping and has_fields:
        within = types_of(given)
    elif origin is Mapping and (get_origin(given) or given) in OBJECTS:
        within = {"*": (*get_args(given), Any, Any)[1]}
    elif origin in LISTS and (get_origin(given) or given) in LISTS:
        each = items(given)
        within = {str(at): one for at, one in enumerate(each)} if each[1:] else {"*": each[0]}
    elif given == wanted or (get_origin(given) is Literal and type(get_args(given)[0]) is wanted):
        return None
    else:
        return _no(given, wanted, where)
    inner = of[1] if origin is Mapping else of[0]
    found = (misfit(one, inner, f"{where}.{name}", above) for name, one in within.items())
    return next((reason for reason in found if reason), None)


def _misfit_of_classes(given: Any, wanted: Any, where: str, above: Pairs) -> str | None:
    if (given, wanted) in above:
        return None
    above |= {(given, wanted)}
    has, asked = types_of(given), types_of(wanted)
    for name, field in fields_of(wanted).items():
        if is_required(field) and (name not in has or may_lack(given, name)):
            lacks = "may lack it" if name in has else "has no such field"
            return (
                f"{where}.{name} must be there, for {wanted.__name__} has no default for it, and "
                f"{given.__name__} {lacks}"
            )
        if name in has:
            made = made_of(field, asked[name])
            if reason := misfit(has[name], made, f"{where}.{name}", above):
                return reason
    return None


def _no(given: Any, wanted: Any, where: str) -> str:
    return f"{where} must be {shown(wanted)}, got {shown(given)}"


def _classes(hint: Any) -> set[Any]:
    """The dataclasses that a type names."""
    hint = bare(hint)
    if is_class(hint):
        return {hint}
    return set().union(*map(_classes, get_args(hint))) if get_origin(hint) is not Literal else set()
