"""The id of a saga."""

from __future__ import annotations

import hashlib
import json

from recourse.errors import RecourseError


class BadSagaIdError(RecourseError, ValueError):
    """A text is not the id of a saga, and never was."""


class SagaId(str):
    """The id of a saga, and the name of its first run: 32 digits, hexadecimal, in lower case.

    ::

        saga_id = SagaId.of("travel-booking", "asha", "key-1")  # the same each time
        assert SagaId(str(saga_id)) == saga_id

    Raises:
        BadSagaIdError: The text has another form.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> SagaId:
        """What the text names."""
        if len(text) != 32 or text.strip("0123456789abcdef"):
            raise BadSagaIdError(
                f"{text!r} is not a valid saga id: it must be 32 hexadecimal digits in lower case"
            )
        return super().__new__(cls, text)

    @classmethod
    def of(cls, saga: str, owner: str, key: str) -> SagaId:
        """That of a start: the same start has the same id.

        Args:
            saga: The saga's name.
            owner: Who starts it.
            key: The Idempotency-Key.
        """
        return cls(hashlib.sha256(json.dumps([saga, owner, key]).encode()).hexdigest()[:32])
