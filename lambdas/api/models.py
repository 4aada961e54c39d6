"""What the API itself is sent, besides the sagas' own requests."""

from typing import Annotated, Literal

from annotated_types import Len

from recourse.saga import request_model


@request_model
class Resolution:
    """What an operator decides on a stuck step; a skip needs a reason."""

    action: Literal["retry", "skip"]
    reason: Annotated[str, Len(0, 1000)] | None = None
