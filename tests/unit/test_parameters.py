"""What a deployment says of each saga: read when first needed, kept, and refused in plain words."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from recourse.errors import TransientError
from recourse.store.parameters import Parameters, UnreadableParameterError

PATH = "/recourse/Shop-dev/machines"


class SSM:
    """Knows one parameter; answers with a failure first, if it is given one."""

    def __init__(self, *failures: Exception) -> None:
        self.asked: list[str] = []
        self._failures = list(failures)

    def get_parameter(self, *, Name: str) -> dict[str, dict[str, str]]:
        self.asked.append(Name)
        if self._failures:
            raise self._failures.pop()
        if Name != f"{PATH}/order":
            raise refused("ParameterNotFound")
        return {"Parameter": {"Value": "arn:order"}}


def refused(code: str, status: int = 400) -> ClientError:
    answer = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "GetParameter")  # type: ignore[arg-type]


def test_a_parameter_is_read_when_it_is_first_needed_and_then_kept() -> None:
    made: list[SSM] = []

    def ssm() -> SSM:
        made.append(SSM())
        return made[-1]

    machines = Parameters(ssm, PATH)
    assert made == []
    assert [machines["order"], machines["order"]] == ["arn:order"] * 2
    assert [one.asked for one in made] == [[f"{PATH}/order"]]


@pytest.mark.parametrize(
    ("name", "failures"),
    [("trip", ()), ("order", (refused("AccessDeniedException"),))],
    ids=["not there", "not allowed"],
)
def test_a_parameter_that_cannot_be_read_is_named(name: str, failures: tuple[Exception]) -> None:
    with pytest.raises(UnreadableParameterError, match=f"parameter {PATH}/{name} must be there"):
        Parameters(lambda: SSM(*failures), PATH)[name]


@pytest.mark.parametrize(
    "failure",
    [
        refused("ThrottlingException"),
        refused("InternalServerError", 500),
        EndpointConnectionError(endpoint_url="ssm"),
    ],
    ids=["throttled", "broken", "not reached"],
)
def test_what_may_pass_is_transient_and_is_asked_again(failure: Exception) -> None:
    ssm = SSM(failure)
    machines = Parameters(lambda: ssm, PATH)
    with pytest.raises(TransientError, match=f"parameter {PATH}/order could not be read"):
        machines["order"]
    assert machines["order"] == "arn:order"
