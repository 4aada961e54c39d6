"""What a valet key can be refused for: one class for each branch that a caller can take.

Each has the last part of its problem's `type`, its status and its title, so that the audit, the
API and the redeeming function, which loads no web framework, all say the same.
"""

from __future__ import annotations

from typing import ClassVar


class ValetError(Exception):
    """A refusal.

    Attributes:
        kind: The last part of the problem's `type`, which is stable.
        status: The HTTP status.
        title: What it means, in any request.
        field: The field of the request that is wrong, where one is.
    """

    kind: ClassVar[str]
    status: ClassVar[int]
    title: ClassVar[str]

    def __init__(self, detail: str, *, field: str | None = None) -> None:
        super().__init__(detail)
        self.field = field


class BadTokenError(ValetError):
    """The token is none of ours, or was changed."""

    kind, status, title = "bad-token", 401, "The token is none of ours"


class OutOfScopeError(ValetError):
    """The key is good, but not for this."""

    kind, status, title = "out-of-scope", 403, "The key is not for this"


class UnknownKeyError(ValetError):
    """There is no such key, or it is somebody else's."""

    kind, status, title = "not-found", 404, "There is no such thing"


class UnknownObjectError(ValetError):
    """The object does not exist, or no longer does."""

    kind, status, title = "object-not-found", 404, "There is no such object"


class NothingUploadedError(ValetError):
    """There is nothing yet that could be completed."""

    kind, status, title = "nothing-uploaded", 409, "Nothing has been uploaded with the key"


class NotAnUploadError(ValetError):
    """Only an upload is completed."""

    kind, status, title = "not-an-upload", 409, "The key is not for an upload"


class ExpiredKeyError(ValetError):
    """The key has expired."""

    kind, status, title = "key-expired", 410, "The key has expired"


class RevokedKeyError(ValetError):
    """The key was revoked."""

    kind, status, title = "key-revoked", 410, "The key was revoked"


class UsedUpKeyError(ValetError):
    """The key was used as often as it may be, or its upload is done."""

    kind, status, title = "key-used-up", 410, "The key is used up"


class WrongPartError(ValetError):
    """No such part belongs to the upload."""

    kind, status, title = "wrong-part", 422, "The part does not belong to the upload"


class BadNameError(ValetError):
    """The object's name is not one that is taken."""

    kind, status, title = "bad-object-name", 422, "The object's name cannot be taken"


class UnknownTypeError(ValetError):
    """The content type is not one whose content can be checked."""

    kind, status, title = "unknown-content-type", 422, "The content type cannot be checked"


class TooLargeError(ValetError):
    """The upload would be larger than any may be."""

    kind, status, title = "upload-too-large", 422, "The upload would be too large"


class WrongLengthError(ValetError):
    """What was uploaded has another length than the key says."""

    kind, status, title = "wrong-length", 422, "What was uploaded has another length"


class WrongTypeError(ValetError):
    """What was uploaded is not of the type that the key says."""

    kind, status, title = "wrong-content", 422, "What was uploaded is of another type"


class WrongHashError(ValetError):
    """What was uploaded has another SHA-256 than the key says."""

    kind, status, title = "wrong-hash", 422, "What was uploaded has another SHA-256"


class TooOftenError(ValetError):
    """The key, or its owner, asks more often than it may."""

    kind, status, title = "too-often", 429, "The key or its owner asks too often"


class BearerOnLinkError(ValetError):
    """A link was followed with a bearer, which would travel on to S3, which refuses it."""

    kind, status, title = "bearer-on-link", 400, "A link is followed without a bearer"


REFUSALS: tuple[type[ValetError], ...] = tuple(ValetError.__subclasses__())
"""Every refusal there is."""
