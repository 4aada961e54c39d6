"""What is refused when a saga is built: whatever could lose money or strand a saga later.

A message says whose mistake it is, what must be, what is instead, and what to write, where that is
not plain.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, get_args

from recourse.declare import fits, hints, limits, moments, request, reverse
from recourse.declare.declaration import Coordination, Declaration, Step, Together
from recourse.declare.shape import Role
from recourse.declare.step_checks import (
    check_step,
    is_name,
    is_within,
    refusing,
    shown,
)
from recourse.declare.tables import ExistingTable
from recourse.declare.wait import Waits
from recourse.errors import DeclarationError

_SAGA_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
LONGEST_GROUP = 80
"""Of the names of steps that run together, joined by ` | `: the name of their state."""

LONGEST_DEADLINE = 365 * 24 * 3600
"""What a run of a state machine may take."""

FOREIGN_TRIES = 76
"""Of a task, beyond its step's own attempts: while its function is throttled, and where an error
that may pass is waited out for minutes."""

MOST_HISTORY = 25_000
"""Events in the history of a run; at the next one Step Functions ends it, undone or not."""


def check_shape(saga: Declaration) -> None:
    """A saga has a name, and steps: what everything else is said of.

    Raises:
        DeclarationError: It has not.
    """
    if not is_name(saga.name, _SAGA_NAME, 64):
        raise DeclarationError(
            f"saga {shown(saga.name)}: its name must be lower case letters, digits and dashes, "
            "at most 64 of them, as in 'travel-booking'"
        )
    refuse = refusing(f"saga {saga.name!r}")
    if not isinstance(saga.steps, list | tuple):
        raise refuse(f"steps must be a list of Step and Together, got {shown(saga.steps)}")
    for one in saga.steps:
        if isinstance(one, list | tuple):
            raise refuse(
                f"steps must be a list of Step and Together, got a list in it, {shown(one)}: "
                "write Together(...) round steps that run at the same time"
            )
        if not isinstance(one, Step | Together):
            raise refuse(f"steps must be a list of Step and Together, got {shown(one)} in it")
        if isinstance(one, Together):
            _check_together(one, refuse)


def _check_together(together: Together, refuse: Callable[[str], DeclarationError]) -> None:
    if not together.steps:
        raise refuse("a Together must hold steps, got a Together without steps: leave it out")
    for step in together.steps:
        if not isinstance(step, Step):
            beside = [shown(one.name) for one in together.steps if isinstance(one, Step)]
            raise refuse(
                f"a Together must hold Steps alone, got {shown(step)}"
                + (f" beside {', '.join(beside)}" if beside else "")
                + ": write Together(Step(...), Step(...)), neither nested nor with a list"
            )


def check(saga: Declaration) -> None:
    """A saga keeps what design and platform ask of it.

    Raises:
        DeclarationError: It does not.
    """
    _check_request(saga)
    _check_steps(saga)


def check_all(sagas: Sequence[Declaration]) -> None:
    """Sagas can be deployed side by side.

    Raises:
        DeclarationError: Two have one name, or their services or functions have; or what one names
            to reverse it cannot.
    """
    names: dict[str, str] = {}
    for saga in sagas:
        if not isinstance(saga, Declaration):
            raise DeclarationError(f"a list of sagas must hold Sagas alone, got {shown(saga)}")
        # Resources are named for a saga without its dashes.
        alike = saga.name.replace("-", "")
        if alike in names:
            raise DeclarationError(
                f"saga {saga.name!r}: its name must be its own, and there is {names[alike]!r} "
                "already: they must differ in more than dashes"
            )
        names[alike] = saga.name
    _check_side_by_side((saga, step) for saga in sagas for step in saga.all)
    reverse.check(sagas)


def _check_request(saga: Declaration) -> None:
    refuse = refusing(f"saga {saga.name!r}")
    if not request.is_request_model(saga.request):
        raise refuse(
            f"its request is not a @request_model class, got {shown(saga.request)}: "
            "write @request_model above a class and give that"
        )
    model = saga.request.__name__
    try:
        hints.check_names(saga.request)
    except hints.UnknownNameError as problem:
        raise refuse(f"{problem}") from problem
    types = hints.types_of(saga.request)
    if lost := request.unknown_beside(saga.request):
        raise refuse(f"{lost} must be checked beside fields that are before it in its class")
    known = hints.fields_of(saga.request)
    key = saga.business_key
    if not isinstance(key, str) or key not in known or not hints.is_required(known[key]):
        raise refuse(f"the business key {shown(key)} is not a required field of {model}")
    if not request.is_text(types[key]):
        raise refuse(
            f"the business key {key!r} must be text, got {shown(types[key])}: write `{key}: str`"
        )
    if saga.coordination not in get_args(Coordination):
        raise refuse(
            "coordination must be 'orchestration' or 'choreography', "
            f"got {shown(saga.coordination)}"
        )
    if not is_within(saga.deadline, 1, LONGEST_DEADLINE):
        raise refuse(
            f"deadline must be 1 to {LONGEST_DEADLINE} seconds, got {shown(saga.deadline)}"
        )
    if saga.contact is not None:
        _check_contact(saga.contact, model, types, refuse)
    if saga.reverse is not None and not is_name(saga.reverse, _SAGA_NAME, 64):
        raise refuse(f"reverse must be the name of another saga, got {shown(saga.reverse)}")


def _check_contact(
    contact: object, model: str, types: Mapping[str, Any], refuse: Callable[[str], DeclarationError]
) -> None:
    if not isinstance(contact, str) or contact not in types:
        raise refuse(f"the contact {shown(contact)} is not a field of {model}")
    person = request.without_none(types[contact])
    try:
        parts = hints.types_of(person)
    except hints.UnknownNameError:  # it is not a class
        parts = {}
    for part in ("name", "email"):
        if part not in parts or not request.is_text(parts[part]):
            raise refuse(
                f"the contact {contact!r} must be of a class with a name and an email, and "
                f"{shown(person)} has no {part} that is always text: write `{part}: str` in it"
            )


def _check_steps(saga: Declaration) -> None:
    seen: set[str] = set()
    for step in saga.all:
        refuse = refusing(f"step {shown(step.name)} of {saga.name!r}")
        check_step(step, refuse)
        if step.name in seen:
            raise DeclarationError(
                f"saga {saga.name!r}: step {step.name!r} is declared twice: give each its own name"
            )
        seen.add(step.name)
        _check_takes(saga, step, refuse)
    pivots = [step.name for step in saga.all if step.pivot]
    if len(pivots) != 1:
        raise DeclarationError(
            f"saga {saga.name!r} has {len(pivots)} pivots {pivots}: exactly one step decides it, "
            "write pivot=True there"
        )
    earlier: set[str] = set()
    for group in saga.groups:
        for step in group:
            refuse = refusing(f"step {step.name!r} of {saga.name!r}")
            for name in step.after:
                if name not in earlier:
                    raise refuse(
                        f"it is given the result of {name!r}, which is not an earlier step"
                    )
            _check_role(saga, step, alone=len(group) == 1, refuse=refuse)
        names = [step.name for step in group]
        joined = len(" | ".join(names))
        if len(group) > 1 and joined > LONGEST_GROUP:
            raise DeclarationError(
                f"steps {names} of {saga.name!r} run together: their names, joined by ' | ', must "
                f"be at most {LONGEST_GROUP} characters, got {joined}: shorten them, or let fewer "
                "run at the same time"
            )
        earlier |= {step.name for step in group}
    _check_shares(saga)
    _check_side_by_side((saga, step) for step in saga.all)
    if (history := _history(saga)) > MOST_HISTORY:
        raise DeclarationError(
            f"saga {saga.name!r}: a run must be at most {MOST_HISTORY} events of history, and its "
            f"{len(saga.all)} steps could take {history}: fewer steps, or fewer attempts"
        )


def _check_shares(saga: Declaration) -> None:
    """What all results have together fits what a run may carry."""
    most, taken = limits.results(len(saga.all)), sum(saga.shares.values())
    for name, share in saga.shares.items():
        if share < limits.LEAST or taken > most:
            raise DeclarationError(
                f"step {name!r} of {saga.name!r}: its result would have {share} bytes of the "
                f"{most} that {len(saga.all)} steps have together; each needs {limits.LEAST}: "
                "declare a smaller result_bytes, or fewer steps"
            )


def _check_takes(saga: Declaration, step: Step, refuse: Callable[[str], DeclarationError]) -> None:
    """Whether a request leaves a step out must follow from the types of what it takes."""
    known, types = hints.fields_of(saga.request), hints.types_of(saga.request)
    for name in step.takes:
        if name not in known:
            raise refuse(f"it takes {name!r}, which the request does not have")
        if not request.may_be_none(types[name]):
            if request.is_none_by_default(known[name]):
                raise refuse(
                    f"it takes {name!r}, whose default is None and whose type says that it never "
                    f"is: write `{name}: ... | None = None`, or no default"
                )
        elif hints.is_required(known[name]):
            raise refuse(
                f"it takes {name!r}, which is required and may be None: write "
                f"`{name}: ... | None = None` where a request may leave it out, else a type "
                "without None"
            )
    if step.pivot and saga.optional(step):
        raise refuse(
            "it is the pivot, and a request could leave it out: "
            f"let it take a field that cannot be None, beside or instead of {list(step.takes)}"
        )
    if reason := fits.unfit(step, types):
        raise refuse(reason)


def _check_role(
    saga: Declaration, step: Step, *, alone: bool, refuse: Callable[[str], DeclarationError]
) -> None:
    """What a step may have follows from where it stands: before the pivot, as it, after it."""
    role = saga.role(step.name)
    if role == "pivot" and not alone:
        raise refuse(
            f"the pivot {saga.pivot.name!r} decides alone, it cannot run together with others: "
            "write its Step outside of the Together"
        )
    if role == "compensable" and step.undo is None:
        raise refuse("it comes before the pivot and has no undo: write undo=...")
    if role == "pivot" and step.undo is not None:
        raise refuse("it is the pivot, which is never undone, yet it has an undo: leave undo out")
    if role == "retriable" and step.undo is not None:
        raise refuse(
            "it comes after the pivot, where nothing is undone, yet it has an undo: leave undo out"
        )
    if role != "compensable" and step.confirm is not None:
        raise refuse("only what is held before the pivot can be confirmed by it: leave confirm out")
    if role == "retriable" and step.action.refuses:
        names = ", ".join(error.__name__ for error in step.action.refuses)
        raise refuse(
            f"it may raise {names}, but after the pivot nothing catches a refusal: "
            "write it before the pivot, or let it refuse nothing"
        )
    _check_external(step, role, refuse)
    if step.waits is not None:
        _check_wait(saga, step, step.waits, alone=alone, refuse=refuse)
    if reason := moments.flaw_of(step, saga.request, alone=alone):
        raise refuse(reason)


def _check_wait(
    saga: Declaration,
    step: Step,
    waits: Waits,
    *,
    alone: bool,
    refuse: Callable[[str], DeclarationError],
) -> None:
    """What waits for somebody can be withdrawn, and nothing runs beside it."""
    if saga.role(step.name) != "compensable":
        raise refuse(
            "it waits for somebody's decision, which may be no or never come: write it before the "
            "pivot"
        )
    if not alone:
        raise refuse(
            "it waits for somebody's decision, beside which nothing may run: write its Step "
            "outside of the Together"
        )
    if saga.waiting[waits.name] != step:
        raise refuse(
            f"its questions are called {waits.name!r}, as those of step "
            f"{saga.waiting[waits.name].name!r} are: a saga asks one question of a name, so give "
            "one of them another"
        )
    if waits.within >= saga.deadline:
        raise refuse(
            f"it waits for up to {waits.within:g} seconds, and the saga's deadline is "
            f"{saga.deadline:g}: write a later deadline=... of the saga"
        )


def _check_external(step: Step, role: Role, refuse: Callable[[str], DeclarationError]) -> None:
    """An effect elsewhere is taken back elsewhere; what a pivot did there can be found."""
    action, undo = step.action, step.undo
    if undo is not None and undo.external != action.external:
        inside = "undo" if action.external else "action"
        outside = "action" if action.external else "undo"
        raise refuse(
            f"its {outside} acts outside DynamoDB and its {inside} does not: write external=True "
            "for both or for neither"
        )
    if role == "pivot" and action.external and action.find is None:
        raise refuse(
            "it is a pivot that acts outside DynamoDB, and could not be settled: write "
            f"find=..., which asks the provider what it did, in the @action of {action.ref}"
        )
    if action.find is not None and not (role == "pivot" and action.external):
        raise refuse(
            f"{action.ref} has a find, which is asked only of a pivot that is external: "
            "leave find out, or write external=True and pivot=True"
        )


def _check_side_by_side(steps: Iterable[tuple[Declaration, Step]]) -> None:
    """Services are named by their modules, functions by what they do; each is one thing.

    So is each table that exists already: one environment variable has the name of each.
    """
    modules: dict[str, str] = {}
    tables: dict[str, ExistingTable] = {}
    functions: dict[str, tuple[Declaration, Step]] = {}
    for saga, step in steps:
        refuse = refusing(f"step {step.name!r} of {saga.name!r}")
        module = step.action.decide.__module__
        other = modules.setdefault(step.service.lower(), module)
        if other != module:
            raise refuse(
                f"its service {module} must have a name of its own, and there is {other}: "
                "they would share a table, so give one of the modules another name"
            )
        for table in (one for part in step.parts for one in part.tables):
            known = tables.setdefault(table.variable, table)
            if table.name != known.name:
                raise refuse(
                    f"its table {table.name!r} must have a name of its own, and there is "
                    f"{known.name!r}: both would be named by {table.variable}"
                )
            if table != known:
                raise refuse(
                    f"its table {table.name!r} must have one key, got {table.key!r} here and "
                    f"{known.key!r} elsewhere: declare it once, and use that"
                )
        where, first = functions.setdefault(step.function, (saga, step))
        for what in ("action", "undo", "timeout"):
            if getattr(step, what) != getattr(first, what):
                raise refuse(
                    f"its function {step.function} serves step {first.name!r} of {where.name!r} "
                    f"too, with another {what}: write an action of another name, which may call "
                    "what both do"
                )


def _history(saga: Declaration) -> int:
    """How many events of history a run may have at the most.

    A step has at most two tasks, an action and an undo; three more undo first what failed, settle
    and park. A task takes two events and three for each try: its own attempts for errors that may
    pass, as many for others, and those that are not its own (`FOREIGN_TRIES`). Choices, groups and
    their branches take the rest.
    """
    attempts = [saga.retry(step).attempts for step in saga.all]
    tasks = [*attempts, *attempts, *[max(attempts)] * 3]
    return sum(2 + 3 * (2 * tries + FOREIGN_TRIES) for tries in tasks) + 8 * len(attempts) + 10
