"""What is sent, as the class of a request takes it: the one place where pydantic validates.

Nothing of it is loaded before the first request: a step's function never validates.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from recourse.errors import RecourseError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

LARGEST = 64 * 1024
"""The most bytes of the JSON of a request as it is sent."""
DEEPEST = 24
"""How deep it may be nested: events and runs carry it within more."""


class InvalidRequestError(RecourseError):
    """What was sent is not what the class of the request takes.

    Attributes:
        errors: The fields that are wrong, each with its dotted path, `field`, and a `message`.
    """

    def __init__(self, errors: list[dict[str, str]]) -> None:
        self.errors = errors
        first = errors[0]
        super().__init__(f"{first['field'] or 'the body'}: {first['message']}")


def validated(model: type, raw: str | bytes) -> Any:
    """JSON as a class of requests takes it: plain, with a null for each optional field left out.

    ::

        validated(TripRequest, '{"trip_id": "t-1", …}')  # {"trip_id": "t-1", …, "car": None}

    Raises:
        InvalidRequestError: It is not valid.
    """
    from pydantic import ValidationError

    adapter = adapter_of(model)
    try:
        return adapter.dump_python(adapter.validate_json(raw), mode="json")
    except ValidationError as problem:
        found = problem.errors(include_url=False, include_context=False, include_input=False)
    raise InvalidRequestError(
        [
            {"field": ".".join(str(part) for part in error["loc"]), "message": error["msg"]}
            for error in found
        ]
    )


@cache
def adapter_of(model: type) -> TypeAdapter[Any]:
    """The validator of a request model; the first one loads pydantic."""
    from pydantic import TypeAdapter

    return TypeAdapter(model)
