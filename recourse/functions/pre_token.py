"""Before a user pool issues a user's token: no scope but those of the user's groups.

Cognito calls it for every token of a user, also when one is refreshed, and issues none if it fails.
The event is version 2 of the pre token generation trigger, of which it reads::

    {"request": {"scopes": ["recourse/sagas:read", …],
                 "groupConfiguration": {"groupsToOverride": ["customer", …], …}, …}, …}

Tokens of machines, which have no groups, are not part of that version.
"""

from __future__ import annotations

import os
from typing import Any

from recourse.functions.users import scopes, scopes_permitted

STANDARD = frozenset({"openid", "email", "phone", "profile", "aws.cognito.signin.user.admin"})
"""Scopes of every user pool, which permit nothing at this API."""


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Take away what the user's groups do not have, whatever the client asked for.

    What was not asked for is taken away too: a client that names no scope is given all of its own.

    Raises:
        LookupError: It is not such an event.
    """
    prefix, request = os.environ["SCOPE_PREFIX"], event["request"]
    own = os.environ["OWN_SCOPES"].split()
    groups = request["groupConfiguration"].get("groupsToOverride") or []
    asked = set(request.get("scopes") or [])
    permitted = {prefix + scope for scope in scopes_permitted(groups, own)}
    taken = (asked | {prefix + scope for scope in scopes(own)}) - permitted - STANDARD
    access = {"scopesToAdd": [], "scopesToSuppress": sorted(taken)}
    return event | {
        "response": {"claimsAndScopeOverrideDetails": {"accessTokenGeneration": access}}
    }
