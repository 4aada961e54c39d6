"""Parameters that say what they may be, and hold a request to it."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from recourse.functions.api.routes import Parameter
from recourse.problems import invalid

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.data_classes import APIGatewayProxyEventV2


class Number(Parameter):
    """A whole number of the query.

    Args:
        name: Its name.
        text: What it is for.
        default: What it is where it is absent.
        most: The largest that is taken.
        least: The smallest.
    """

    def __init__(self, name: str, text: str, *, default: int, most: int, least: int = 1) -> None:
        schema = {"type": "integer", "minimum": least, "maximum": most, "default": default}
        super().__init__(name, text, schema, problem="invalid")

    def of(self, event: APIGatewayProxyEventV2) -> int:
        """What a request has.

        Raises:
            ProblemError: It is none, or not among those that are taken.
        """
        least, most = self.schema["minimum"], self.schema["maximum"]
        text = event.query_string_parameters.get(self.name)
        if text is None:
            return int(self.schema["default"])
        if not (text.isascii() and text.isdigit()) or not least <= int(text[:9]) <= most:
            raise invalid(self.name, f"must be {least} to {most}, got {text[:20] or 'nothing'}")
        return int(text)


class Choice(Parameter):
    """One of some texts, in the query, or none of them.

    Args:
        name: Its name.
        text: What it is for.
        allowed: What it may be.
    """

    def __init__(self, name: str, text: str, allowed: Collection[str]) -> None:
        super().__init__(name, text, {"enum": list(allowed)}, problem="invalid")

    def of(self, event: APIGatewayProxyEventV2) -> str | None:
        """What a request has; None where it is absent.

        Raises:
            ProblemError: It is none of those that are allowed.
        """
        value = event.query_string_parameters.get(self.name)
        if value is not None and value not in self.schema["enum"]:
            raise invalid(self.name, f"should be one of {', '.join(self.schema['enum'])}")
        return value


CURSOR = Parameter("cursor", "where the page before ended", problem="bad-cursor")
LIMIT = Number("limit", "how many at most", default=20, most=100)
IF_NONE_MATCH = Parameter("If-None-Match", "the ETag known", where="header")
