"""What a valet key can be refused for: one class for each branch that a caller can take.

Each is a problem by itself, so that the audit, the API and the redeeming function, which loads no
web framework, all say the same.
"""

from __future__ import annotations

from typing import ClassVar

from recourse.problems import ProblemError


class ValetError(ProblemError):
    """A refusal.

    Args:
        detail: What is wrong in this very request.
        field: The field of the request that is wrong, where one is.

    Attributes:
        kind: Which problem it is, in the catalogue.
        field: The same.
    """

    kind: ClassVar[str]

    def __init__(self, detail: str, *, field: str | None = None) -> None:
        errors = [{"field": field, "message": detail}] if field else []
        super().__init__(self.kind, detail, errors=errors)
        self.field = field


class BadTokenError(ValetError):
    """The token is none of ours, or was changed."""

    kind = "bad-token"


class OutOfScopeError(ValetError):
    """The key is good, but not for this."""

    kind = "out-of-scope"


class UnknownKeyError(ValetError):
    """There is no such key, or it is somebody else's."""

    kind = "not-found"


class UnknownObjectError(ValetError):
    """The object does not exist, or no longer does."""

    kind = "object-not-found"


class NothingUploadedError(ValetError):
    """There is nothing yet that could be completed."""

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
    """The key was used as often as it may be, or its upload is done."""

    kind = "key-used-up"


class WrongPartError(ValetError):
    """No such part belongs to the upload."""

    kind = "wrong-part"


class BadNameError(ValetError):
    """The object's name is not one that is taken."""

    kind = "bad-object-name"


class UnknownTypeError(ValetError):
    """The content type is not one whose content can be checked."""

    kind = "unknown-content-type"


class TooLargeError(ValetError):
    """The upload would be larger than any may be."""

    kind = "upload-too-large"


class WrongLengthError(ValetError):
    """What was uploaded has another length than the key says."""

    kind = "wrong-length"


class WrongTypeError(ValetError):
    """What was uploaded is not of the type that the key says."""

    kind = "wrong-content"


class WrongHashError(ValetError):
    """What was uploaded has another SHA-256 than the key says."""

    kind = "wrong-hash"


class TooOftenError(ValetError):
    """The key, or its owner, asks more often than it may."""

    kind = "too-often"


class BearerOnLinkError(ValetError):
    """A link was followed with a bearer, which would travel on to S3, which refuses it."""

    kind = "bearer-on-link"


REFUSALS: tuple[type[ValetError], ...] = tuple(ValetError.__subclasses__())
"""Every refusal there is."""
