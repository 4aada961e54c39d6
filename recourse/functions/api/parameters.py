"""Parameters that describe and validate themselves."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from recourse.functions.api.routes import Parameter
from recourse.problems import invalid
from recourse.text import whole

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.data_classes import APIGatewayProxyEventV2


class Number(Parameter):
    """A whole number of the query.

    Args:
        name: Its name.
        text: What it is for.
        default: Its value where it is absent.
        most: The largest value.
        least: The smallest.
    """

    def __init__(self, name: str, text: str, *, default: int, most: int, least: int = 1) -> None:
        schema = {"type": "integer", "minimum": least, "maximum": most, "default": default}
        super().__init__(name, text, schema, problem="invalid")

    def of(self, event: APIGatewayProxyEventV2) -> int:
        """Its value in a request.

        Raises:
            ProblemError: It is not a whole number, or out of bounds.
        """
        least, most = self.schema["minimum"], self.schema["maximum"]
        text = event.query_string_parameters.get(self.name)
        if text is None:
            return int(self.schema["default"])
        try:
            return whole(text, least, most)
        except ValueError as problem:
            raise invalid(self.name, str(problem)) from None


class Choice(Parameter):
    """One of several texts, in the query; optional.

    Args:
        name: Its name.
        text: What it is for.
        allowed: The values that are allowed.
    """

    def __init__(self, name: str, text: str, allowed: Collection[str]) -> None:
        super().__init__(name, text, {"enum": list(allowed)}, problem="invalid")

    def of(self, event: APIGatewayProxyEventV2) -> str | None:
        """Its value in a request; None where it is absent.

        Raises:
            ProblemError: It is not an allowed value.
        """
        value = event.query_string_parameters.get(self.name)
        if value is not None and value not in self.schema["enum"]:
            raise invalid(self.name, f"must be one of {', '.join(self.schema['enum'])}")
        return value


CURSOR = Parameter("cursor", "the cursor of the previous page", problem="bad-cursor")
LIMIT = Number("limit", "how many at most", default=20, most=100)
IF_MATCH = Parameter(
    "If-Match",
    "the ETag of the version that you have seen: it is done to no other",
    where="header",
)
IF_NONE_MATCH = Parameter("If-None-Match", "the ETag of the version that you have", where="header")
