"""The moments of a request, and whether a step can wait for them as it says.

No step's function loads it: `recourse.declare.later` is what they need.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, get_args, get_type_hints

from recourse.declare.request import Checked, is_request_model, may_be_none, without_none
from recourse.text import moment

if TYPE_CHECKING:
    from recourse.declare.shape import AnyStep


def flaw_of_moment(text: str) -> str | None:
    """Why a text is no moment; None where it is one."""
    try:
        moment(text)
    except ValueError as problem:
        return str(problem)
    return None


Moment = Annotated[str, Checked(flaw_of_moment)]
"""A moment as RFC 3339 writes it, with its offset: the type of a field of a request.

A `Step` may have to wait for it, by `not_before`::

    @request_model
    class TripRequest:
        trip_id: str
        departs_at: Moment
"""


def flaw_of(step: AnyStep, model: type, *, alone: bool) -> str | None:
    """Why a step cannot be done later as it says; None where it can, or is done at once.

    Args:
        step: The step.
        model: The class of the request.
        alone: Whether it is in no `Together`.
    """
    later = step.later
    if later is None:
        return None
    what = "not_before" if later.delay is None else "delay"
    if not alone:
        return (
            f"it has a {what}, and nothing may run beside what waits: write its Step outside of "
            "the Together"
        )
    if step.waits is not None:
        return (
            f"it has a {what} and waits for somebody's decision: let one step be later, and the "
            "next one ask"
        )
    if later.not_before is None:
        return None
    path = later.not_before
    first = path.partition(".")[0]
    if first not in step.takes:
        return (
            f"its not_before {path!r} must be within a field that it takes, got "
            f"{list(step.takes)}: write {first!r} into takes=[...]"
        )
    reason = _misfit(model, path)
    return reason and f"its not_before {path!r} is no moment: {reason}"


def _misfit(model: type, path: str) -> str | None:
    """Why no step can wait for what a request has at a path; None where one can."""
    hint: Any = model
    for number, name in enumerate(names := path.split(".")):
        if not is_request_model(hint):
            return f"{'.'.join(names[:number])} is of no @request_model class"
        types = get_type_hints(hint, include_extras=True)
        if name not in types:
            return f"{hint.__name__} has no field {name!r}"
        hint = types[name]
        if number < len(names) - 1:
            hint = without_none(hint)
    if hint == Moment or (may_be_none(hint) and Moment in get_args(hint)):
        return None
    return f"the type of {path} must be Moment"
