"""Who may do what: the API's scopes, the groups of users that have them, and where a login ends.

One list for the user pool, for the trigger that judges its tokens, for the local cloud's issuer and
for the command line::

    scopes_permitted(["customer"])  # {"sagas:write", "sagas:read", "webhooks:write"}

A deployment has further scopes: those that its sagas name for who may decide, `Wait(scope=…)`. Each
has a group of its name::

    own = own_scopes(SAGAS.values())          # ["approver"]
    scopes_permitted(["approver"], own)       # {"approver", "sagas:read", "webhooks:write"}
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from recourse.errors import DeclarationError

if TYPE_CHECKING:
    from recourse.declare.shape import Shape

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


def own_scopes(shapes: Iterable[Shape[Any]]) -> list[str]:
    """The scopes of those who decide that are no scopes of every deployment's.

    Raises:
        DeclarationError: One is called as a group is whose members may not all decide.
    """
    waits = (step.waits for shape in shapes for step in shape.all)
    found = {one.scope for one in waits if one is not None} - SCOPES.keys()
    if taken := sorted(found & GROUPS.keys()):
        raise DeclarationError(
            f"the scope {taken[0]!r} of a Wait must be called otherwise than the groups "
            f"{', '.join(GROUPS)}, for whoever decides has a group of its name"
        )
    return sorted(found)


def scopes(own: Sequence[str] = ()) -> Mapping[str, str]:
    """Each scope of a deployment, and what it permits.

    Args:
        own: Its own, as `own_scopes` has them.
    """
    return {**SCOPES, **{one: f"see and decide what {one!r} may" for one in own}}


def groups(own: Sequence[str] = ()) -> Mapping[str, tuple[str, ...]]:
    """Each group of a deployment, and its scopes; arguments as for `scopes`."""
    found = {**GROUPS, **{one: (one, "sagas:read", "webhooks:write") for one in own}}
    return {**found, "operator": tuple(scopes(own))}


def scopes_permitted(names: Iterable[str], own: Sequence[str] = ()) -> frozenset[str]:
    """The scopes that groups have together; groups that are not ours have none.

    Args:
        names: The groups' names.
        own: As for `scopes`.
    """
    there = groups(own)
    return frozenset(scope for name in names for scope in there.get(name, ()))
