"""Going back after the end: the saga that reverses another, and how its request is made.

A saga names it, and is reversed by it once it has succeeded. It is a saga as any other, but for its
start: nobody sends its request, which is made of the saga that it reverses. Each field of it is, by
its name:

- `reverses`: the id of that saga;
- `reason`: what the caller gave as reason, or None;
- the name of a step of that saga: what the step returned, None where it was left out or skipped;
- else that field of that saga's request.

::

    @request_model
    class TripRefundRequest:
        reverses: str
        trip_id: str                 # of the request
        flight: Booking              # what the step returned, whose action says -> Decision[Held]
        car: Booking | None = None   # of a step that a request may leave out

    TRAVEL_BOOKING = Saga("travel-booking", ..., reverse="trip-refund")
    TRIP_REFUND = Saga("trip-refund", request=TripRefundRequest, business_key="trip_id", ...)

What a field does not name of it is left out, so that little is carried.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Optional, get_args

from recourse.declare import asks, fits, hints
from recourse.declare.declaration import Declaration, Step
from recourse.declare.step import plain
from recourse.declare.step_checks import refusing, shown
from recourse.errors import DeclarationError

ID, REASON = "reverses", "reason"
OWN: Mapping[str, Any] = {ID: str, REASON: Optional[str]}  # noqa: UP045
"""What the request of a reverse may have besides: of no step, and of no request."""


def reversed_by(sagas: Mapping[str, Declaration]) -> dict[str, list[Declaration]]:
    """The sagas that each reversing saga reverses, by its name."""
    found: dict[str, list[Declaration]] = {}
    for saga in sagas.values():
        if saga.reverse is not None:
            found.setdefault(saga.reverse, []).append(saga)
    return found


def request_of(
    reverse: Declaration,
    saga: Declaration,
    *,
    saga_id: str,
    reason: str | None,
    request: Mapping[str, Any],
    results: Mapping[str, Any],
) -> dict[str, Any]:
    """The request of a reversing saga.

    Args:
        reverse: The reversing saga.
        saga: The saga that is reversed, as it is declared.
        saga_id: Its id.
        reason: Why it is reversed.
        request: Its request.
        results: What its steps have returned, by their names.

    Raises:
        AskError: It has not what the request is made of: it began with another declaration.
    """
    known: dict[str, Any] = {ID: saga_id, REASON: reason}
    for name in hints.fields_of(reverse.request):
        if name in saga.by_name:
            known.setdefault(name, results.get(name))
        elif name in request:
            known.setdefault(name, request[name])
    made: dict[str, Any] = plain(asks.make(reverse.request, known))
    return made


def check(sagas: Sequence[Declaration]) -> None:
    """What sagas name to reverse them can do so.

    Raises:
        DeclarationError: It cannot.
    """
    by_name = {saga.name: saga for saga in sagas}
    for saga in sagas:
        if saga.reverse is None:
            continue
        refuse = refusing(f"saga {saga.name!r}")
        if saga.reverse == saga.name:
            raise refuse("its reverse is itself: name another saga, whose steps take it back")
        reverse = by_name.get(saga.reverse)
        if reverse is None:
            raise refuse(
                f"its reverse must be one of the sagas beside it, got {saga.reverse!r} beside "
                f"{', '.join(sorted(by_name.keys() - {saga.name}))}"
            )
        if reverse.reverse is not None:
            raise refuse(
                f"its reverse {reverse.name!r} must have none itself, got {reverse.reverse!r}: "
                "what was taken back is begun anew, by a saga of its own"
            )
        _check_request(saga, reverse, refuse)


def _check_request(
    saga: Declaration, reverse: Declaration, refuse: Callable[[str], DeclarationError]
) -> None:
    """The request of a reverse can always be made of the saga that it reverses."""
    model, has = reverse.request, hints.types_of(saga.request)
    called = f"{model.__name__} of its reverse {reverse.name!r}"
    if reason := fits.unsound(model):
        raise refuse(f"{called} cannot be made of it: {reason}")
    wanted = hints.types_of(model)
    for name, field in hints.fields_of(model).items():
        if name in OWN:
            given = OWN[name]
        elif name in saga.by_name:
            given = _returned(saga, saga.by_name[name], called, refuse)
        elif name in has:
            given = has[name]
        else:
            raise refuse(
                f"{called} has a field {name!r}, which is neither a step of it nor a field of its "
                f"request, nor {ID!r} or {REASON!r}: what it is made of must have its name"
            )
        if reason := fits.misfit(given, fits.made_of(field, wanted[name]), name):
            raise refuse(f"what it has must fit {called}: {reason}")


def _returned(
    saga: Declaration, step: Step, called: str, refuse: Callable[[str], DeclarationError]
) -> Any:
    """The type of what a step has returned in a saga that has succeeded."""
    where = step.action.ref
    try:
        hint = hints.types_of(step.action.decide).get("return")
        hints.check_names(hint)
    except hints.UnknownNameError as problem:
        raise refuse(
            f"{called} takes what step {step.name!r} returns, by {where}, and {problem}"
        ) from problem
    of = get_args(hint)
    if not of:
        raise refuse(
            f"{called} takes what step {step.name!r} returns, and {where} does not say what that "
            f"is, got {shown(hint)}: write `-> Decision[Held]`, with a TypedDict such as Held"
        )
    # After the pivot an operator may skip a step.
    absent = saga.optional(step) or saga.role(step.name) == "retriable"
    return Optional[of[0]] if absent else of[0]  # noqa: UP045
