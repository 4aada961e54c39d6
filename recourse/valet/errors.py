"""Why a request with a valet key is refused: one class for each branch that a caller can take.

Each is a problem of the catalogue, so that the audit trail, the API and the redeeming function,
which loads no web framework, all give the same answer.
"""

from __future__ import annotations

from typing import ClassVar

from recourse.problems import ProblemError


class ValetError(ProblemError):
    """A refusal.

    Args:
        detail: What is wrong with this request.
        field: The field of the request that is wrong, if it is one.

    Attributes:
        kind: The problem's key in the catalogue.
        field: The field of the request that is wrong, if it is one.
    """

    kind: ClassVar[str]

    def __init__(self, detail: str, *, field: str | None = None) -> None:
        errors = [{"field": field, "message": detail}] if field else []
        super().__init__(self.kind, detail, errors=errors)
        self.field = field


class BadTokenError(ValetError):
    """The token was not issued here, or was changed."""

    kind = "bad-token"


class OutOfScopeError(ValetError):
    """The key is valid, but not for this."""

    kind = "out-of-scope"


class UnknownKeyError(ValetError):
    """The key does not exist, or has another owner."""

    kind = "not-found"


class UnknownObjectError(ValetError):
    """The object does not exist, or no longer does."""

    kind = "object-not-found"


class NothingUploadedError(ValetError):
    """Nothing was uploaded that could be completed."""

    kind = "nothing-uploaded"


class NotAnUploadError(ValetError):
    """Only an upload is completed."""

    kind = "not-an-upload"


class ExpiredKeyError(ValetError):
    """The key has expired."""

    kind = "key-expired"


class RevokedKeyError(ValetError):
    """The key was revoked."""

    kind = "key-revoked"


class UsedUpKeyError(ValetError):
    """The key was used as often as allowed, or its upload is done."""

    kind = "key-used-up"


class WrongPartError(ValetError):
    """The part does not belong to the upload."""

    kind = "wrong-part"


class BadNameError(ValetError):
    """The object's name is not allowed."""

    kind = "bad-object-name"


class UnknownTypeError(ValetError):
    """The content type is not one that can be verified by content."""

    kind = "unknown-content-type"


class TooLargeError(ValetError):
    """The upload would be larger than the limit."""

    kind = "upload-too-large"


class WrongLengthError(ValetError):
    """The upload has another length than the key says."""

    kind = "wrong-length"


class WrongTypeError(ValetError):
    """The upload is not of the type that the key says."""

    kind = "wrong-content"


class WrongHashError(ValetError):
    """The upload has another SHA-256 than the key says."""

    kind = "wrong-hash"


class TooOftenError(ValetError):
    """The key, or its owner, exceeds its rate."""

    kind = "too-often"


class BearerOnLinkError(ValetError):
    """A link was followed with a bearer token, which would be sent on to S3, which rejects it."""

    kind = "bearer-on-link"


REFUSALS: tuple[type[ValetError], ...] = tuple(ValetError.__subclasses__())
"""All of them."""
