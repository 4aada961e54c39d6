"""What is refused when a saga is built: whatever could lose money or strand a saga later.

A message says whose mistake it is, what must be, what is instead, and where it is not plain what to
write.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import FunctionType
from typing import Any, get_args

from recourse import limits, request
from recourse.saga import Coordination, DeclarationError, Retry, Role, Saga, Step, Together
from recourse.step import Action, Confirm, Refusal, Undo, ref, resolve

_SAGA_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_STEP_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_VARIABLE = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*")

LONGEST_NAME = 69
"""Of a step: a state's name has at most 80 characters, and a step's states are named for it, with
up to eleven more."""

LONGEST_GROUP = 80
"""Of the names of steps that run together, joined by ` | `: the name of their state."""

MOST_ATTEMPTS = 100
LONGEST_CAP = 900
LONGEST_TIMEOUT = 900
"""What a Lambda function may take."""

LONGEST_DEADLINE = 365 * 24 * 3600
"""What a run of a state machine may take."""

FOREIGN_TRIES = 76
"""Of a task, beyond its step's own attempts: while its function is throttled, and where an error
that may pass is waited out for minutes."""

MOST_HISTORY = 25_000
"""Events in the history of a run; at the next one Step Functions ends it, undone or not."""


def check_shape(saga: Saga) -> None:
    """A saga has a name, and steps: what everything else is said of.

    Raises:
        DeclarationError: It has not.
    """
    if not _is_name(saga.name, _SAGA_NAME, 64):
        raise DeclarationError(
            f"saga {_shown(saga.name)}: its name must be lower case letters, digits and dashes, "
            "at most 64 of them, as in 'travel-booking'"
        )
    refuse = _refusing(f"saga {saga.name!r}")
    if not isinstance(saga.steps, list | tuple):
        raise refuse(f"steps must be a list of Step and Together, got {_shown(saga.steps)}")
    for one in saga.steps:
        if isinstance(one, list | tuple):
            raise refuse(
                f"steps must be a list of Step and Together, got a list in it, {_shown(one)}: "
                "write Together(...) round steps that run at the same time"
            )
        if not isinstance(one, Step | Together):
            raise refuse(f"steps must be a list of Step and Together, got {_shown(one)} in it")
        if isinstance(one, Together):
            _check_together(one, refuse)


def _check_together(together: Together, refuse: Callable[[str], DeclarationError]) -> None:
    if not together.steps:
        raise refuse("a Together must hold steps, got a Together without steps: leave it out")
    for step in together.steps:
        if not isinstance(step, Step):
            beside = [_shown(one.name) for one in together.steps if isinstance(one, Step)]
            raise refuse(
                f"a Together must hold Steps alone, got {_shown(step)}"
                + (f" beside {', '.join(beside)}" if beside else "")
                + ": write Together(Step(...), Step(...)), neither nested nor with a list"
            )


def check(saga: Saga) -> None:
    """A saga keeps what design and platform ask of it.

    Raises:
        DeclarationError: It does not.
    """
    _check_request(saga)
    _check_steps(saga)


def check_all(sagas: Sequence[Saga]) -> None:
    """Sagas can be deployed side by side.

    Raises:
        DeclarationError: Two have one name, or their services or functions have.
    """
    names: dict[str, str] = {}
    for saga in sagas:
        if not isinstance(saga, Saga):
            raise DeclarationError(f"a list of sagas must hold Sagas alone, got {_shown(saga)}")
        # Resources are named for a saga without its dashes.
        alike = saga.name.replace("-", "")
        if alike in names:
            raise DeclarationError(
                f"saga {saga.name!r}: its name must be its own, and there is {names[alike]!r} "
                "already: they would differ in dashes alone, if at all"
            )
        names[alike] = saga.name
    _check_side_by_side((saga, step) for saga in sagas for step in saga.all)


def _check_request(saga: Saga) -> None:
    refuse = _refusing(f"saga {saga.name!r}")
    if not request.is_request_model(saga.request):
        raise refuse(
            f"its request is no @request_model class, got {_shown(saga.request)}: "
            "write @request_model above a class and give that"
        )
    model = saga.request.__name__
    try:
        hints = request.types_of(saga.request)
    except Exception as problem:
        raise refuse(
            f"the types of {model} cannot be resolved ({problem}): "
            "what its fields name must be defined in its module, at the top"
        ) from problem
    known = request.fields_of(saga.request)
    key = saga.business_key
    if not isinstance(key, str) or key not in known or not request.is_required(known[key]):
        raise refuse(f"the business key {_shown(key)} is no required field of {model}")
    if not request.is_text(hints[key]):
        raise refuse(
            f"the business key {key!r} must be text, got {_shown(hints[key])}: write `{key}: str`"
        )
    if saga.coordination not in get_args(Coordination):
        raise refuse(
            "coordination must be 'orchestration' or 'choreography', "
            f"got {_shown(saga.coordination)}"
        )
    if not _is_within(saga.deadline, 1, LONGEST_DEADLINE):
        raise refuse(
            f"deadline must be 1 to {LONGEST_DEADLINE} seconds, got {_shown(saga.deadline)}"
        )
    if saga.contact is not None:
        _check_contact(saga.contact, model, hints, refuse)


def _check_contact(
    contact: object, model: str, hints: Mapping[str, Any], refuse: Callable[[str], DeclarationError]
) -> None:
    if not isinstance(contact, str) or contact not in hints:
        raise refuse(f"the contact {_shown(contact)} is no field of {model}")
    person = request.without_none(hints[contact])
    try:
        parts = request.types_of(person)
    except Exception:  # it is no class
        parts = {}
    for part in ("name", "email"):
        if part not in parts or not request.is_text(parts[part]):
            raise refuse(
                f"the contact {contact!r} must be of a class with a name and an email, and "
                f"{_shown(person)} has no {part} that is always text: write `{part}: str` in it"
            )


def _check_steps(saga: Saga) -> None:
    seen: set[str] = set()
    for step in saga.all:
        refuse = _refusing(f"step {_shown(step.name)} of {saga.name!r}")
        _check_step(step, refuse)
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
            refuse = _refusing(f"step {step.name!r} of {saga.name!r}")
            for name in step.after:
                if name not in earlier:
                    raise refuse(f"it is given the result of {name!r}, which is no earlier step")
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


def _check_shares(saga: Saga) -> None:
    """What all results have together fits what a run may carry."""
    most, taken = limits.results(len(saga.all)), sum(saga.shares.values())
    for name, share in saga.shares.items():
        if share < limits.LEAST or taken > most:
            raise DeclarationError(
                f"step {name!r} of {saga.name!r}: its result would have {share} bytes of the "
                f"{most} that {len(saga.all)} steps have together; each needs {limits.LEAST}: "
                "declare a smaller result_bytes, or fewer steps"
            )


def _check_step(step: Step, refuse: Callable[[str], DeclarationError]) -> None:
    """What can be said of a step without its saga."""
    if not _is_name(step.name, _STEP_NAME, LONGEST_NAME):
        raise refuse(
            "its name must be lower case letters, digits and underscores, at most "
            f"{LONGEST_NAME} of them, as in 'check_in'"
        )
    _check_part("action", step.action, Action, refuse)
    for what, part, kind in (("undo", step.undo, Undo), ("confirm", step.confirm, Confirm)):
        if part is None:
            continue
        _check_part(what, part, kind, refuse)
        if part.decide.__module__ != step.action.decide.__module__:
            raise refuse(
                f"its {what} {part.ref} must be in the module of its action {step.action.ref}, "
                f"whose table it writes: write the {what} beside the action"
            )
    for what, names in (("takes", step.takes), ("after", step.after)):
        if not isinstance(names, list | tuple) or not all(isinstance(one, str) for one in names):
            raise refuse(
                f"{what} must be a list of names, got {_shown(names)}"
                + (f": write {what}=[{names!r}]" if isinstance(names, str) else "")
            )
        if len(set(names)) < len(names):
            raise refuse(f"{what} must name each once, got {_shown(names)}")
    if not isinstance(step.pivot, bool):
        raise refuse(f"pivot must be True or False, got {_shown(step.pivot)}")
    if not _is_within(step.timeout, 1, LONGEST_TIMEOUT):
        raise refuse(f"timeout must be 1 to {LONGEST_TIMEOUT} seconds, got {_shown(step.timeout)}")
    if step.result_bytes is not None and (
        isinstance(step.result_bytes, bool) or not isinstance(step.result_bytes, int)
    ):
        raise refuse(
            f"result_bytes must be a whole number of bytes, got {_shown(step.result_bytes)}"
        )
    if step.retry is not None:
        _check_retry(step.retry, refuse)


def _check_retry(retry: object, refuse: Callable[[str], DeclarationError]) -> None:
    if not isinstance(retry, Retry):
        raise refuse(f"retry must be a Retry(...), got {_shown(retry)}")
    if not isinstance(retry.attempts, int) or not _is_within(retry.attempts, 4, MOST_ATTEMPTS):
        raise refuse(
            f"the attempts of a retry must be a whole number, at least 4 and at most "
            f"{MOST_ATTEMPTS}, got {_shown(retry.attempts)}"
        )
    if not _is_within(retry.cap, 0, LONGEST_CAP) or not retry.cap:
        raise refuse(
            f"the cap of a retry must be above 0 and at most {LONGEST_CAP} seconds, "
            f"got {_shown(retry.cap)}"
        )
    if not _is_within(retry.interval, 0, retry.cap) or not retry.interval:
        raise refuse(
            f"the interval of a retry must be above 0 and at most its cap of {retry.cap:g} "
            f"seconds, got {_shown(retry.interval)}"
        )


def _check_part(
    what: str,
    part: Action | Undo | Confirm,
    kind: type[Action | Undo | Confirm],
    refuse: Callable[[str], DeclarationError],
) -> None:
    """An action, undo or confirmation is what its place is for, and its function finds it."""
    if not isinstance(part, kind):
        raise refuse(
            f"its {what} must be made by {kind.made_by}, got {_shown(part)}: "
            f"write {kind.made_by}(...) above the function and give that"
        )
    _check_function(f"its {what}", part.decide, refuse)
    if not _takes_a_call(part.reads):
        raise refuse(
            f"reads of {part.ref} must be a function of a Call that names the rows to read, "
            f"got {_shown(part.reads)}"
        )
    if isinstance(part, Action):
        _check_action(part, refuse)
    if isinstance(part, Undo) and not isinstance(part.external, bool):
        raise refuse(f"external of {part.ref} must be True or False, got {_shown(part.external)}")
    if _found(ref(part.decide)) is not part:
        raise refuse(
            f"its {what} must be found by its step's own function as {ref(part.decide)}: write "
            f"{kind.made_by}(...) above a function at the top of a module, under its own name"
        )


def _check_action(action: Action, refuse: Callable[[str], DeclarationError]) -> None:
    if not isinstance(action.refuses, list | tuple):
        raise refuse(
            f"refuses of {action.ref} must be a list of Refusal classes, "
            f"got {_shown(action.refuses)}"
        )
    for error in action.refuses:
        if not (isinstance(error, type) and issubclass(error, Refusal)):
            raise refuse(
                f"it declares {_shown(error)}, which is no Refusal, so nothing would catch it: "
                f"list in refuses of {action.ref} classes made from Refusal alone"
            )
    for what, value in (("documents", action.documents), ("external", action.external)):
        if not isinstance(value, bool):
            raise refuse(f"{what} of {action.ref} must be True or False, got {_shown(value)}")
    if not isinstance(action.settings, list | tuple) or not all(
        isinstance(name, str) and _VARIABLE.fullmatch(name) for name in action.settings
    ):
        raise refuse(
            f"settings of {action.ref} must be a list of names of environment variables in "
            f"capitals, such as MAIL_PROVIDER, got {_shown(action.settings)}"
        )
    if action.find is not None:
        _check_function(f"find of {action.ref}", action.find, refuse)
        if _found(ref(action.find)) is not action.find:
            raise refuse(
                f"find of {action.ref} must be a function at the top of a module, under its own "
                f"name, got {_shown(action.find)}"
            )


def _check_function(
    whose: str, function: object, refuse: Callable[[str], DeclarationError]
) -> None:
    if not isinstance(function, FunctionType) or function.__module__ == "__main__":
        raise refuse(
            f"{whose} must be a plain function in a module that can be imported, "
            f"got {_shown(function)}"
        )
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise refuse(f"{whose} must be a plain function, without async or yield: {ref(function)}")
    if not _takes_a_call(function):
        raise refuse(f"{whose} must take one argument, the Call: {ref(function)}")


def _check_takes(saga: Saga, step: Step, refuse: Callable[[str], DeclarationError]) -> None:
    """Whether a request leaves a step out must follow from the types of what it takes."""
    known, hints = request.fields_of(saga.request), request.types_of(saga.request)
    for name in step.takes:
        if name not in known:
            raise refuse(f"it takes {name!r}, which the request does not have")
        if not request.may_be_none(hints[name]):
            if request.is_none_by_default(known[name]):
                raise refuse(
                    f"it takes {name!r}, whose default is None and whose type says that it never "
                    f"is: write `{name}: ... | None = None`, or no default"
                )
        elif request.is_required(known[name]):
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


def _check_role(
    saga: Saga, step: Step, *, alone: bool, refuse: Callable[[str], DeclarationError]
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


def _check_side_by_side(steps: Iterable[tuple[Saga, Step]]) -> None:
    """Services are named by their modules, functions by what they do; each is one thing."""
    modules: dict[str, str] = {}
    functions: dict[str, tuple[Saga, Step]] = {}
    for saga, step in steps:
        refuse = _refusing(f"step {step.name!r} of {saga.name!r}")
        module = step.action.decide.__module__
        other = modules.setdefault(step.service.lower(), module)
        if other != module:
            raise refuse(
                f"its service {module} must have a name of its own, and there is {other}: "
                "they would share a table, so give one of the modules another name"
            )
        where, first = functions.setdefault(step.function, (saga, step))
        for what in ("action", "undo", "timeout"):
            if getattr(step, what) != getattr(first, what):
                raise refuse(
                    f"its function {step.function} serves step {first.name!r} of {where.name!r} "
                    f"too, with another {what}: write an action of another name, which may call "
                    "what both do"
                )


def _history(saga: Saga) -> int:
    """How many events of history a run may have at the most.

    A step has at most two tasks, an action and an undo; three more undo first what failed, settle
    and park. A task takes two events and three for each try: its own attempts for errors that may
    pass, as many for others, and those that are none of its own (`FOREIGN_TRIES`). Choices, groups
    and their branches take the rest.
    """
    attempts = [saga.retry(step).attempts for step in saga.all]
    tasks = [*attempts, *attempts, *[max(attempts)] * 3]
    return sum(2 + 3 * (2 * tries + FOREIGN_TRIES) for tries in tasks) + 8 * len(attempts) + 10


def _refusing(whose: str) -> Callable[[str], DeclarationError]:
    return lambda why: DeclarationError(f"{whose}: {why}")


def _is_name(name: object, form: re.Pattern[str], longest: int) -> bool:
    return isinstance(name, str) and len(name) <= longest and form.fullmatch(name) is not None


def _is_within(number: object, least: float, most: float) -> bool:
    """Whether it is a number from `least` to `most`; NaN, infinity and a bool are none."""
    if isinstance(number, bool) or not isinstance(number, int | float):
        return False
    return least <= number <= most


def _found(ref: str) -> object:
    """What is there, or None."""
    try:
        return resolve(ref)
    except Exception:  # whatever a module that cannot be imported raises
        return None


def _takes_a_call(function: object) -> bool:
    """Whether it can be called with one argument."""
    if not callable(function):
        return False
    try:
        inspect.signature(function).bind(None)
    except TypeError:
        return False
    except ValueError:  # what is written in C does not always say
        return True
    return True


def _shown(value: object) -> str:
    """What was given, short."""
    if isinstance(value, Action | Undo | Confirm):
        where = getattr(value.decide, "__qualname__", "?")
        return f"{where}, which {value.made_by} made"
    if isinstance(value, Step):
        return f"Step({_shown(value.name)}, ...)"
    if isinstance(value, Together):
        return f"Together({', '.join(_shown(one) for one in value.steps)})"
    if isinstance(value, type | FunctionType):
        return value.__qualname__
    try:
        text = repr(value)
    except Exception:
        return f"a {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."
