"""Who calls, whichever door the call came through."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Caller:
    """Who calls.

    Attributes:
        subject: The owner of what it starts.
        scopes: What it may do.
        until: When its token ends, in seconds of the epoch; 0 where a gateway has looked at that.
    """

    subject: str
    scopes: frozenset[str]
    until: int = 0

    @property
    def is_operator(self) -> bool:
        """Whether it sees and resolves everybody's sagas."""
        return "operator" in self.scopes

    def owns(self, owner: str) -> bool:
        """Whether it may see what belongs to somebody."""
        return self.is_operator or owner == self.subject


def scopes_of(claim: str, prefix: str) -> frozenset[str]:
    """The scopes that a token's claim names, without what the issuer puts before ours."""
    return frozenset(one.removeprefix(prefix) for one in claim.split())
