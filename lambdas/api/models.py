"""What the API itself is sent, besides the sagas' own requests."""

from typing import Annotated, Literal

from annotated_types import Len

from recourse.saga import request_model


@request_model
class Resolution:
    """What an operator decides on a stuck step; a skip needs a reason."""

    action: Literal["retry", "skip"]
    reason: Annotated[str, Len(0, 1000)] | None = None


@request_model
class Redrive:
    """Which messages of a dead-letter queue go back; a dry run only looks."""

    saga_id: Annotated[str, Len(1, 128)] | None = None
    dry_run: bool = False
