"""A declaration that could lose money is refused when it is built, with the step's name."""

from dataclasses import replace
from typing import Any

import pytest

from recourse.saga import DeclarationError, Retry, Saga, Step, Together, request_model
from recourse.step import Call, Decision, Refusal, action, confirm, undo


@request_model
class Ask:
    order_id: str
    wanted: int
    extra: int | None = None


class SoldOutError(Refusal):
    pass


@action(refuses=[SoldOutError])
def hold(call: Call) -> Decision:
    return Decision()


@undo()
def release(call: Call) -> Decision:
    return Decision()


@confirm()
def book(call: Call) -> Decision:
    return Decision()


@action()
def pay(call: Call) -> Decision:
    return Decision()


HOLD = Step("hold", hold, undo=release, takes=["wanted"])
PAY = Step("pay", pay, pivot=True)


def declare(*steps: Step | Together, **changes: Any) -> Saga:
    given: dict[str, Any] = {"request": Ask, "business_key": "order_id", "steps": steps}
    return Saga("shop", **given | changes)


def test_a_sound_declaration_is_taken() -> None:
    saga = declare(HOLD, PAY, Step("tell", pay, after=["hold"]))
    assert [saga.role(step.name) for step in saga.all] == ["compensable", "pivot", "retriable"]
    assert saga.pivot.name == "pay"
    assert (
        saga.retry(saga.by_name["tell"]).attempts > saga.retry(saga.by_name["hold"]).attempts >= 4
    )


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([Step("grab", hold), PAY], "'grab'.*no undo"),
        ([HOLD, PAY, Step("late", pay, undo=release)], "'late'.*nothing is undone"),
        ([HOLD, Step("pay", pay, undo=release, pivot=True)], "'pay'.*never undone"),
        ([HOLD, PAY, Step("again", pay, pivot=True)], r"2 pivots \['pay', 'again'\]"),
        ([HOLD], r"0 pivots"),
        ([HOLD, Step("hold", hold, undo=release), PAY], "'hold' is declared twice"),
        ([Together(HOLD, Step("hold", hold, undo=release)), PAY], "'hold' is declared twice"),
        ([HOLD, PAY, Step("odd", hold)], "'odd'.*SoldOutError.*nothing catches"),
        ([HOLD, PAY, Step("odd", pay, confirm=book)], "'odd'.*confirmed"),
        ([Together(HOLD, PAY)], "'hold'.*decides alone"),
        ([Step("hold", hold, undo=release, takes=["nothing"]), PAY], "'hold'.*'nothing'"),
        ([Step("hold", hold, undo=release, after=["pay"]), PAY], "'hold'.*'pay'.*no earlier step"),
        ([Step("Hold!", hold, undo=release), PAY], "'Hold!'.*lower case"),
        ([Step("hold", hold, undo=release, timeout=0), PAY], "'hold'.*timeout"),
        ([Step("hold", hold, undo=release, retry=Retry(attempts=3)), PAY], "'hold'.*at least 4"),
        ([HOLD, Step("pay", pay, pivot=True, takes=["extra"])], "'pay'.*could leave it out"),
        ([Together(), PAY], "without steps"),
    ],
)
def test_an_unsound_one_is_refused(steps: list[Step | Together], message: str) -> None:
    with pytest.raises(DeclarationError, match=message):
        declare(*steps)


def test_an_error_that_is_no_refusal_is_caught_by_nothing_and_refused() -> None:
    odd = action(refuses=[KeyError])(lambda call: Decision())  # type: ignore[list-item]
    with pytest.raises(DeclarationError, match=r"'odd'.*KeyError.*no Refusal"):
        declare(Step("odd", odd, undo=release), PAY)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"business_key": "extra"}, "no required field"),
        ({"business_key": "no_such"}, "no required field"),
        ({"request": dict}, "no @request_model"),
        ({"deadline": 0}, "deadline"),
    ],
)
def test_the_saga_itself_must_be_sound(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DeclarationError, match=message):
        declare(HOLD, PAY, **changes)


def test_a_saga_is_named_for_urls_and_events() -> None:
    with pytest.raises(DeclarationError, match="lower case"):
        Saga("Shop Things", request=Ask, business_key="order_id", steps=[HOLD, PAY])


def test_a_step_is_left_out_when_the_request_has_none_of_what_it_takes() -> None:
    saga = declare(HOLD, Step("more", hold, undo=release, takes=["extra"]), PAY)
    more = saga.by_name["more"]
    assert saga.left_out(more, {"order_id": "o", "wanted": 1, "extra": None})
    assert not saga.left_out(more, {"order_id": "o", "wanted": 1, "extra": 0})
    assert not saga.left_out(PAY, {"order_id": "o"})


def test_the_function_is_named_for_what_it_does() -> None:
    assert HOLD.function == "TestDeclarationHold"
    assert HOLD.action.ref.endswith("test_declaration:hold")


@pytest.mark.parametrize("share", [0, 500 * 1024])
def test_results_that_would_not_fit_together_are_refused_with_the_steps_name(share: int) -> None:
    with pytest.raises(DeclarationError, match=r"step '\w+' of 'shop': its result would have"):
        declare(replace(HOLD, result_bytes=share), PAY)
