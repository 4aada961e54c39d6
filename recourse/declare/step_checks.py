"""What is refused of a step by itself: its name, its functions, its numbers."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from types import FunctionType

from recourse.declare import fits
from recourse.declare.declaration import Step, Together
from recourse.declare.shape import Retry
from recourse.declare.step import Action, Confirm, Undo, ref, resolve
from recourse.declare.tables import ExistingTable
from recourse.declare.wait import Wait
from recourse.errors import DeclarationError, Refusal
from recourse.text import are_reasons

LONGEST_NAME = 69
"""Of a step: a state's name has at most 80 characters, and a step's states are named for it, with
up to eleven more."""
MOST_ATTEMPTS = 100
LONGEST_CAP = 900
LONGEST_TIMEOUT = 900
"""What a Lambda function may take."""
LONGEST_WAIT = 365 * 24 * 3600
_QUESTIONS = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_SCOPE = re.compile(r"[a-z][a-z0-9]*([:._-][a-z0-9]+)*")
_STEP_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_VARIABLE = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*")


def check_step(step: Step, refuse: Callable[[str], DeclarationError]) -> None:
    """What can be said of a step without its saga."""
    if not is_name(step.name, _STEP_NAME, LONGEST_NAME):
        raise refuse(
            "its name must be lower case letters, digits and underscores, at most "
            f"{LONGEST_NAME} of them, as in 'check_in'"
        )
    _check_part("action", step.action, Action, refuse)
    _check_keeps(step.action, refuse)
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
                f"{what} must be a list of names, got {shown(names)}"
                + (f": write {what}=[{names!r}]" if isinstance(names, str) else "")
            )
        if len(set(names)) < len(names):
            raise refuse(f"{what} must name each once, got {shown(names)}")
    if not isinstance(step.pivot, bool):
        raise refuse(f"pivot must be True or False, got {shown(step.pivot)}")
    if not is_within(step.timeout, 1, LONGEST_TIMEOUT):
        raise refuse(f"timeout must be 1 to {LONGEST_TIMEOUT} seconds, got {shown(step.timeout)}")
    if step.result_bytes is not None and (
        isinstance(step.result_bytes, bool) or not isinstance(step.result_bytes, int)
    ):
        raise refuse(
            f"result_bytes must be a whole number of bytes, got {shown(step.result_bytes)}"
        )
    if step.retry is not None:
        _check_retry(step.retry, refuse)
    if step.delay is not None and not is_within(step.delay, 1, LONGEST_WAIT):
        raise refuse(f"delay must be 1 to {LONGEST_WAIT} seconds, got {shown(step.delay)}")
    if step.not_before is not None and not isinstance(step.not_before, str):
        raise refuse(
            "not_before must be the dotted path of a Moment of the request, as in "
            f"'trip.departs_at', got {shown(step.not_before)}"
        )
    if step.delay is not None and step.not_before is not None:
        raise refuse("it has a delay and a not_before: write one of them")


def _check_keeps(action: Action, refuse: Callable[[str], DeclarationError]) -> None:
    keeps, why = action.keeps, action.keeps_documents
    if not are_reasons(keeps):
        raise refuse(
            f"keeps of {action.ref} must be a reason for each field, as in "
            f"{{'flight_id': 'seats are counted by it'}}, got {shown(keeps)}"
        )
    if not isinstance(why, str) or (why and not action.documents):
        raise refuse(
            f"keeps_documents of {action.ref} must say why the documents that it stores are kept, "
            f"and needs documents=True, got {shown(why)}"
        )


def _check_retry(retry: object, refuse: Callable[[str], DeclarationError]) -> None:
    if not isinstance(retry, Retry):
        raise refuse(f"retry must be a Retry(...), got {shown(retry)}")
    if not isinstance(retry.attempts, int) or not is_within(retry.attempts, 4, MOST_ATTEMPTS):
        raise refuse(
            f"the attempts of a retry must be a whole number, at least 4 and at most "
            f"{MOST_ATTEMPTS}, got {shown(retry.attempts)}"
        )
    if not is_within(retry.cap, 0, LONGEST_CAP) or not retry.cap:
        raise refuse(
            f"the cap of a retry must be above 0 and at most {LONGEST_CAP} seconds, "
            f"got {shown(retry.cap)}"
        )
    if not is_within(retry.interval, 0, retry.cap) or not retry.interval:
        raise refuse(
            f"the interval of a retry must be above 0 and at most its cap of {retry.cap:g} "
            f"seconds, got {shown(retry.interval)}"
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
            f"its {what} must be made by {kind.made_by}, got {shown(part)}: "
            f"write {kind.made_by}(...) above the function and give that"
        )
    _check_function(f"its {what}", part.decide, refuse)
    if not _takes(1, part.reads):
        raise refuse(
            f"reads of {part.ref} must be a function of a Call that names the rows to read, "
            f"got {shown(part.reads)}"
        )
    if not isinstance(part.tables, list | tuple) or not all(
        isinstance(one, ExistingTable) for one in part.tables
    ):
        raise refuse(
            f"tables of {part.ref} must be a list of ExistingTable, got {shown(part.tables)}"
        )
    if reason := fits.unsound(part.ask):
        raise refuse(f"what {part.ref} is asked cannot be made from a request: {reason}")
    if isinstance(part, Action):
        _check_action(part, refuse)
    if isinstance(part, Undo) and not isinstance(part.external, bool):
        raise refuse(f"external of {part.ref} must be True or False, got {shown(part.external)}")
    if _found(ref(part.decide)) is not part:
        raise refuse(
            f"its {what} must be found by its step's own function as {ref(part.decide)}: write "
            f"{kind.made_by}(...) above a function at the top of a module, under its own name"
        )


def _check_action(action: Action, refuse: Callable[[str], DeclarationError]) -> None:
    if not isinstance(action.refuses, list | tuple):
        raise refuse(
            f"refuses of {action.ref} must be a list of Refusal classes, "
            f"got {shown(action.refuses)}"
        )
    for error in action.refuses:
        if not (isinstance(error, type) and issubclass(error, Refusal)):
            raise refuse(
                f"it declares {shown(error)}, which is not a Refusal, so nothing would catch it: "
                f"list in refuses of {action.ref} classes made from Refusal alone"
            )
    for what, value in (("documents", action.documents), ("external", action.external)):
        if not isinstance(value, bool):
            raise refuse(f"{what} of {action.ref} must be True or False, got {shown(value)}")
    for what, names in (("settings", action.settings), ("secrets", action.secrets)):
        if not isinstance(names, list | tuple) or not all(
            isinstance(name, str) and _VARIABLE.fullmatch(name) for name in names
        ):
            raise refuse(
                f"{what} of {action.ref} must be a list of names of environment variables in "
                f"capitals, such as MAIL_PROVIDER, got {shown(names)}"
            )
    if both := sorted({*action.settings} & {*action.secrets}):
        raise refuse(f"{both[0]} of {action.ref} must be a setting or a secret, and not both")
    if action.waits is not None:
        _check_wait(action, action.waits, refuse)
    if action.find is not None:
        _check_function(f"find of {action.ref}", action.find, refuse)
        if _found(ref(action.find)) is not action.find:
            raise refuse(
                f"find of {action.ref} must be a function at the top of a module, under its own "
                f"name, got {shown(action.find)}"
            )


def _check_wait(action: Action, wait: object, refuse: Callable[[str], DeclarationError]) -> None:
    whose = f"waits of {action.ref}"
    if not isinstance(wait, Wait):
        raise refuse(f"{whose} must be a Wait(...), got {shown(wait)}")
    if not is_name(wait.name, _QUESTIONS, LONGEST_NAME):
        raise refuse(
            f"the name in {whose} must be lower case letters, digits and dashes, as in 'claims', "
            f"got {shown(wait.name)}"
        )
    _check_function(f"decide in {whose}", wait.decide, refuse, takes=("the Call", "the Answer"))
    if not isinstance(wait.scope, str) or not _SCOPE.fullmatch(wait.scope):
        raise refuse(f"the scope in {whose} must be one, as in 'insurer', got {shown(wait.scope)}")
    if not is_within(wait.within, 1, LONGEST_WAIT):
        raise refuse(
            f"within in {whose} must be 1 to {LONGEST_WAIT} seconds, got {shown(wait.within)}"
        )
    if wait.remind is not None and not is_within(wait.remind, 1, wait.within):
        raise refuse(
            f"remind in {whose} must be 1 second at least and within at the most, "
            f"{wait.within:g} seconds, got {shown(wait.remind)}"
        )
    if action.external:
        raise refuse(
            f"{action.ref} acts outside DynamoDB and waits for somebody: let one step ask, and "
            "the next one act"
        )


def _check_function(
    whose: str,
    function: object,
    refuse: Callable[[str], DeclarationError],
    *,
    takes: Sequence[str] = ("the Call",),
) -> None:
    if not isinstance(function, FunctionType) or function.__module__ == "__main__":
        raise refuse(
            f"{whose} must be a plain function in a module that can be imported, "
            f"got {shown(function)}"
        )
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise refuse(f"{whose} must be a plain function, without async or yield: {ref(function)}")
    if not _takes(len(takes), function):
        number = "one argument" if len(takes) == 1 else "two arguments"
        raise refuse(f"{whose} must take {number}, {' and '.join(takes)}: {ref(function)}")


def refusing(whose: str) -> Callable[[str], DeclarationError]:
    """What makes an error of a reason, and says whose mistake it is."""
    return lambda why: DeclarationError(f"{whose}: {why}")


def is_name(name: object, form: re.Pattern[str], longest: int) -> bool:
    """Whether it is a text of this form, and no longer than that."""
    return isinstance(name, str) and len(name) <= longest and form.fullmatch(name) is not None


def is_within(number: object, least: float, most: float) -> bool:
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


def _takes(number: int, function: object) -> bool:
    """Whether it can be called with so many arguments."""
    if not callable(function):
        return False
    try:
        inspect.signature(function).bind(*[None] * number)
    except TypeError:
        return False
    except ValueError:  # what is written in C does not always say
        return True
    return True


def shown(value: object) -> str:
    """What was given, short."""
    if isinstance(value, Action | Undo | Confirm):
        where = getattr(value.decide, "__qualname__", "?")
        return f"{where}, which {value.made_by} made"
    if isinstance(value, Step):
        return f"Step({shown(value.name)}, ...)"
    if isinstance(value, Together):
        return f"Together({', '.join(shown(one) for one in value.steps)})"
    if isinstance(value, type | FunctionType):
        return value.__qualname__
    try:
        text = repr(value)
    except Exception:
        return f"a {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."
