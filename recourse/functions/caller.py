"""The caller, over any channel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from recourse.errors import RecourseError
from recourse.text import flaw_of_subject


class BadSubjectError(RecourseError, ValueError):
    """The subject of a token cannot be an owner; the text says why."""


@dataclass(frozen=True)
class Caller:
    """A caller.

    Attributes:
        subject: Its id, which is the owner of what it starts.
        scopes: Its scopes.
        until: When its token expires, in epoch seconds; 0 where a gateway has verified that.

    Raises:
        BadSubjectError: The subject cannot be an owner.
    """

    subject: str
    scopes: frozenset[str]
    until: int = 0

    def __post_init__(self) -> None:
        """Refuse a subject that no row, no message and no path of an object can have."""
        if flaw := flaw_of_subject(self.subject):
            raise BadSubjectError(f"the token's subject {flaw}")

    @property
    def is_operator(self) -> bool:
        """Whether it sees and resolves every owner's sagas."""
        return "operator" in self.scopes

    def owns(self, owner: str) -> bool:
        """Whether it may see what belongs to an owner."""
        return self.is_operator or owner == self.subject


def scopes_of(claims: Mapping[str, Any], prefix: str) -> frozenset[str]:
    """The scopes of a token, without the issuer's prefix.

    ::

        scopes_of({"scope": "recourse/sagas:read recourse/sagas:write"}, "recourse/")
        scopes_of({"scp": ["sagas:read", "sagas:write"]}, "")

    Issuers put them into `scope` (RFC 9068) or `scp` (Entra, Okta), as text or as a list, of which
    an authorizer of API Gateway makes the text `[sagas:read sagas:write]`.
    """
    found: set[str] = set()
    for name in ("scope", "scp"):
        claim = claims.get(name)
        for text in claim if isinstance(claim, list) else [claim]:
            if isinstance(text, str):
                found.update(_without_brackets(text).split())
    return frozenset(one.removeprefix(prefix) for one in found)


def _without_brackets(text: str) -> str:
    return text[1:-1] if text.startswith("[") and text.endswith("]") else text
