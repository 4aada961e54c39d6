"""The header Recourse-Chaos: what it may ask for, and which attempts meet it."""

import pytest

from recourse.chaos import UnknownFaultError, fault, parse
from statemachines import SAGAS

TRAVEL = SAGAS["travel-booking"]


def test_faults_are_named_by_step_and_by_undo() -> None:
    asked = "hotel=reject, payment=crash:1,flight.undo=error:2"
    assert parse(asked, TRAVEL) == {
        "hotel": "reject",
        "payment": "crash:1",
        "flight.undo": "error:2",
    }


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("", "is not a valid fault"),
        ("hotel", "is not a valid fault"),
        ("hotel=reject:0", "is not a valid fault"),
        ("hotel=reject:-1", "is not a valid fault"),
        ("spa=reject", "is not a step of travel-booking"),
        ("hotel=explode", "there are reject, error"),
        ("capture.undo=error", "has no undo"),
        ("invoice=late", "cannot be late"),
        ("flight.undo=late", "cannot be late"),
        ("hotel=reject,hotel=error", "named twice"),
        ("hotel=reject,", "is not a valid fault"),
    ],
)
def test_what_is_no_fault_is_refused(header: str, message: str) -> None:
    with pytest.raises(UnknownFaultError, match=message):
        parse(header, TRAVEL)


def test_a_fault_without_a_count_meets_every_attempt() -> None:
    assert [fault({"hotel": "error"}, "hotel", attempt) for attempt in (1, 2, 99)] == ["error"] * 3


def test_a_fault_with_a_count_meets_the_first_attempts_only() -> None:
    met = [fault({"hotel": "error:2"}, "hotel", attempt) for attempt in (1, 2, 3)]
    assert met == ["error", "error", None]
    assert fault({"hotel": "error:2"}, "hotel.undo", 1) is None
