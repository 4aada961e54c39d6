"""The caller, over any channel."""

from __future__ import annotations

from typing import NamedTuple


class Caller(NamedTuple):
    """A caller.

    Attributes:
        subject: Its id, which is the owner of what it starts.
        scopes: Its scopes.
        until: When its token expires, in epoch seconds; 0 where a gateway has verified that.
    """

    subject: str
    scopes: frozenset[str]
    until: int = 0

    @property
    def is_operator(self) -> bool:
        """Whether it sees and resolves every owner's sagas."""
        return "operator" in self.scopes

    def owns(self, owner: str) -> bool:
        """Whether it may see what belongs to an owner."""
        return self.is_operator or owner == self.subject


def scopes_of(claim: str, prefix: str) -> frozenset[str]:
    """The scopes in a token's claim, without the issuer's prefix."""
    return frozenset(one.removeprefix(prefix) for one in claim.split())
