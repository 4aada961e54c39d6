"""The id of a saga, and the ids of its trace."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import datetime

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

    def reversal(self, number: int) -> SagaId:
        """That of the saga which reverses it, by how many have tried to before."""
        text = json.dumps(["reverse", self, number])
        return SagaId(hashlib.sha256(text.encode()).hexdigest()[:32])


_TRACEPARENT = re.compile(
    "(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?",
    re.ASCII | re.DOTALL,
)


class Traceparent(str):
    """A place in a trace, as W3C Trace Context writes it: `00-<trace id>-<span id>-<flags>`.

    A saga has one trace. Its spans are the saga itself, and the action, the undo and the
    confirmation of each step; the ids of these spans follow from the saga id and the step's name,
    so that they are the same wherever they are needed, and nothing has to be stored for them.

    ::

        begun = Traceparent.sent(header) or Traceparent.new(saga_id, started_at)
        begun.trace_id                        # 32 hexadecimal digits, the same for the whole saga
        begun.at(saga_id)                     # the saga's own span
        begun.at(saga_id, "payment", "undo")  # that of an undo
    """

    __slots__ = ()

    @classmethod
    def sent(cls, text: object) -> Traceparent | None:
        """The one that a header or a field is; None where it is not valid, for that is ignored.

        What a later version of the specification adds is left out, as it asks for.
        """
        found = _TRACEPARENT.fullmatch(text) if isinstance(text, str) else None
        if found is None or (found[1] == "00" and len(found[0]) != 55):
            return None
        return cls._of(found[2], found[3], int(found[4], 16) & 1)

    @classmethod
    def new(cls, saga_id: str, started_at: str) -> Traceparent:
        """The saga's own span, in a trace of its own: the same start has the same one.

        The trace's id is the time in seconds, as X-Ray wants it, and a digest of the saga id.
        """
        seconds = int(datetime.fromisoformat(started_at).timestamp())
        return cls._of(f"{seconds:08x}{_digest('trace', saga_id)[:24]}", _span(saga_id), 1)

    @classmethod
    def _of(cls, trace_id: str, span_id: str, flags: int) -> Traceparent:
        return cls(f"00-{trace_id}-{span_id}-{flags:02x}")

    @property
    def trace_id(self) -> str:
        """The id of the trace: 32 hexadecimal digits."""
        return self[3:35]

    @property
    def span_id(self) -> str:
        """The id of the span: 16 hexadecimal digits."""
        return self[36:52]

    def at(self, saga_id: str, step: str | None = None, side: str | None = None) -> Traceparent:
        """The span of a saga in this trace, or of the side of one of its steps."""
        return Traceparent(f"{self[:36]}{_span(saga_id, step, side)}{self[52:]}")


def _span(*of: str | None) -> str:
    """A span's id: the digest of what it is the span of."""
    return _digest(*filter(None, of))[:16]


def _digest(*of: str) -> str:
    return hashlib.sha256("#".join(of).encode()).hexdigest()
