"""Who may do what: the API's scopes, the groups of users that have them, and where a login ends.

One list for the user pool, for the trigger that judges its tokens, for the local cloud's issuer and
for the command line::

    scopes_permitted(["customer"])  # {"sagas:write", "sagas:read", "webhooks:write"}
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

SCOPES: Mapping[str, str] = {
    "sagas:write": "start, cancel and reverse sagas",
    "sagas:read": "see sagas and what services hold",
    "valet:issue": "issue, see and revoke valet keys",
    "webhooks:write": "register, change, test and delete webhooks",
    "insurer": "see and decide claims",
    "operator": "see and resolve everybody's sagas, change what services hold",
}
"""Each scope, and what it permits."""
GROUPS: Mapping[str, tuple[str, ...]] = {
    "reader": ("sagas:read",),
    "customer": ("sagas:write", "sagas:read", "webhooks:write"),
    "documents": ("valet:issue",),
    "insurer": ("insurer", "sagas:read", "webhooks:write"),
    "operator": tuple(SCOPES),
}
"""Each group, and its scopes: a user has those of all groups that they are in, and no others."""
CALLBACKS = tuple(f"http://127.0.0.1:{port}/callback" for port in range(28416, 28421))
"""Where issuers may send a browser back to: `recourse login` listens on the first free port.

An issuer compares the whole address, so there are a few, all registered. The address is literal,
because `localhost` may be another host (RFC 8252, 8.3).
"""


def scopes_permitted(groups: Iterable[str]) -> frozenset[str]:
    """The scopes that these groups have together; groups that are not ours have none."""
    return frozenset(scope for group in groups for scope in GROUPS.get(group, ()))
