"""What went wrong is understood however much of it is left."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from hypothesis import given
from hypothesis import strategies as st

from recourse.declare import limits
from recourse.errors import Refusal, ResultTooLargeError, StepCrashedError, TransientError
from recourse.orchestration.compiler import compile_saga
from recourse.run.failures import (
    CRASHES,
    TIMEOUTS,
    TRANSIENT,
    own_failure,
    passes,
    reported,
    understand,
)
from recourse.store.aws import THROTTLE_CODES
from statemachines import SAGAS

LONGEST = 32_768
"""Characters at which Step Functions cuts a cause."""


class ProviderDownError(TransientError):
    """A passing error of a service's own."""


class SeatsGoneError(Refusal):
    """A refusal."""


def refused(code: str) -> ClientError:
    """What a client raises where AWS does not do what it was asked for."""
    return ClientError(
        {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": 400}},  # type: ignore[typeddict-item]
        "PutObject",
    )


def raised(problem: Exception) -> dict[str, str]:
    """What a state machine catches of an error that a function raises."""
    told = reported(problem)
    said = {"errorMessage": str(told), "errorType": type(told).__name__, "stackTrace": []}
    return {"Error": type(told).__name__, "Cause": json.dumps(said)[:LONGEST]}


def in_a_group(step: str, caught: dict[str, str]) -> dict[str, Any]:
    """The same as the branch of a group hands it on."""
    return {"Together0": {"Error": step, "Cause": json.dumps(caught)[:LONGEST]}}


@pytest.mark.parametrize(
    ("problem", "seen"),
    [
        (TransientError("busy"), "TransientError"),
        (StepCrashedError("gone"), "StepCrashedError"),
        (ProviderDownError("down"), "TransientError"),
        (TimeoutError("late"), "TransientError"),
        (TransientError('{"error": "no name of ours"}'), "TransientError"),
        (SeatsGoneError("none left"), "SeatsGoneError"),
        (KeyError("a mistake"), "KeyError"),
    ],
)
def test_an_error_keeps_its_name_and_a_machine_retries_it_by_one_it_knows(
    problem: Exception, seen: str
) -> None:
    caught = raised(problem)
    assert caught["Error"] == seen
    assert (seen in TRANSIENT) == isinstance(problem, TransientError | TimeoutError)
    told = understand(caught, 30)
    if not isinstance(problem, StepCrashedError):
        assert told == {"type": type(problem).__name__, "message": str(problem)}
    assert own_failure("seat", in_a_group("seat", caught)) == caught


@pytest.mark.parametrize(
    ("problem", "passes"),
    [
        *((refused(code), True) for code in sorted(THROTTLE_CODES)),
        (EndpointConnectionError(endpoint_url="https://s3.example"), True),
        (refused("AccessDenied"), False),
    ],
)
def test_what_a_call_of_aws_is_refused_for_passes_or_does_not(
    problem: Exception, passes: bool
) -> None:
    assert (raised(problem)["Error"] == "TransientError") is passes


@given(st.text(max_size=3000), st.integers(1, 200))
def test_a_text_is_cut_to_its_bytes_and_marked(text: str, most: int) -> None:
    most += len(json.dumps(limits.MARK, ensure_ascii=False).encode())
    found = limits.cut(text, most)
    assert len(json.dumps(found, ensure_ascii=False).encode()) <= most
    assert found == text or found.endswith(limits.MARK)
    assert text.startswith(found.removesuffix(limits.MARK))


TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=200).map(lambda one: one * 400)


@given(TEXTS, st.integers(100, LONGEST), st.booleans())
def test_a_cause_that_is_cut_anywhere_is_understood(text: str, end: int, ascii_only: bool) -> None:
    """As a function's own error, and again as a group's, which escapes it once more."""
    said = json.dumps({"errorMessage": text, "errorType": "E"}, ensure_ascii=ascii_only)
    told = understand({"Error": "ValueError", "Cause": said[:end]}, 30)
    assert told["type"] == "ValueError"
    assert text.startswith(told["message"].removesuffix(limits.MARK))
    inner = json.dumps({"Error": "ValueError", "Cause": said}, ensure_ascii=ascii_only)
    failure = {"Together0": {"Error": "seat", "Cause": inner[:end]}}
    own = own_failure("seat", failure)
    assert own is not None and own["Error"] == "ValueError"
    told = understand(own, 30)
    assert told["type"] == "ValueError"
    assert text.startswith(told["message"].removesuffix(limits.MARK))


def test_a_cause_that_says_nothing_is_shown_as_it_is() -> None:
    assert understand({"Error": "Lambda.Strange", "Cause": "?"}, 1) == {
        "type": "Lambda.Strange",
        "message": "?",
    }
    assert own_failure("seat", {"other": {"Error": "x", "Cause": ""}}) is None


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.text(max_size=20),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=9), inner),
        max_leaves=30,
    )
)
def test_a_size_is_never_less_than_that_of_the_json(value: Any) -> None:
    try:
        text = json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return
    assert limits.size(value) >= len(text)


def test_a_step_shares_equally_what_others_do_not_declare() -> None:
    most = limits.results(4)
    assert limits.shares([None] * 4) == [most // 4] * 4
    assert limits.shares([1000, None, None, 2000]) == [
        1000,
        (most - 3000) // 2,
        (most - 3000) // 2,
        2000,
    ]


@pytest.mark.parametrize(
    "name",
    [
        # Of Lambda's own, as the developer guide of Step Functions tells to retry them:
        "Lambda.ClientExecutionTimeoutException",
        "Lambda.ServiceException",
        "Lambda.AWSLambdaException",
        "Lambda.SdkClientException",
        "Lambda.TooManyRequestsException",
        # Where there was no room for it, or no network:
        "Lambda.EC2ThrottledException",
        "Lambda.ENILimitReachedException",
        "Lambda.ResourceNotReadyException",
        # Of a process that ended, and of a time-out:
        "Lambda.Unknown",
        "Runtime.ExitError",
        "Runtime.ExitedError",
        "Sandbox.Timedout",
        "States.Timeout",
        # Ours:
        "TransientError",
        "StepCrashedError",
        "StepTimedOutError",
    ],
)
@pytest.mark.of_all
def test_what_aws_says_of_a_function_that_may_work_later_is_tried_again(name: str) -> None:
    """The names are written out, for a list that is looked at by itself can lose any of them."""
    assert passes({"Error": name})
    for saga in SAGAS.values():
        tried = re.findall(
            rf'"ErrorEquals": \[[^\]]*"{re.escape(name)}"', json.dumps(compile_saga(saga))
        )
        assert len(tried) >= len(saga.all)


@pytest.mark.parametrize(
    ("kinds", "shown"), [(CRASHES, "StepCrashedError"), (TIMEOUTS, "StepTimedOutError")]
)
def test_every_name_that_aws_has_for_an_end_without_an_answer_is_ours(
    kinds: set[str], shown: str
) -> None:
    assert len(kinds) > 1
    for kind in kinds:
        assert understand({"Error": kind, "Cause": "whatever"}, 30)["type"] == shown
        assert kind in TRANSIENT


@pytest.mark.parametrize("value", ["x" * 98, {"a": "é" * 40}, [1, 2, 3]])
def test_a_result_has_its_whole_share_and_no_byte_more(value: Any) -> None:
    limits.check_result("hold", value, limits.size(value))
    with pytest.raises(ResultTooLargeError, match="step 'hold'"):
        limits.check_result("hold", value, limits.size(value) - 1)
