"""A user's token never has a scope that their groups do not have, whatever the client asked for.

The event is that of AWS's guide for version 2 of the pre token generation trigger.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recourse.declare.shape import RecordedShape, read, record
from recourse.errors import DeclarationError
from recourse.functions.pre_token import STANDARD, handler
from recourse.functions.users import GROUPS, SCOPES, own_scopes
from tests.integration.asking import SPENDING

PREFIX = "recourse/"


@pytest.fixture(autouse=True, scope="module")
def prefix() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCOPE_PREFIX", PREFIX)
        patch.setenv("OWN_SCOPES", "")
        yield


def event(groups: Any, scopes: Any, source: str = "TokenGeneration_HostedAuth") -> dict[str, Any]:
    return {
        "version": "2",
        "triggerSource": source,
        "region": "us-east-1",
        "userPoolId": "us-east-1_EXAMPLE",
        "userName": "asha",
        "callerContext": {"awsSdkVersion": "aws-sdk-unknown-unknown", "clientId": "1example"},
        "request": {
            "userAttributes": {"sub": "4a5b", "email": "asha@example.com"},
            "scopes": scopes,
            "groupConfiguration": {
                "groupsToOverride": groups,
                "iamRolesToOverride": [],
                "preferredRole": None,
            },
        },
        "response": {"claimsAndScopeOverrideDetails": None},
    }


def issued(groups: Any, scopes: Any, **about: Any) -> set[str]:
    """The scopes of the token that Cognito makes of the answer."""
    answer = handler(event(groups, scopes, **about), None)
    change = answer["response"]["claimsAndScopeOverrideDetails"]["accessTokenGeneration"]
    # Where a client names no scope, Cognito begins with all that the client may have.
    begun = set(scopes or [PREFIX + scope for scope in SCOPES])
    return (begun | set(change["scopesToAdd"])) - set(change["scopesToSuppress"])


EVERY = [PREFIX + scope for scope in SCOPES]


@pytest.mark.parametrize("group", GROUPS)
def test_a_user_has_the_scopes_of_their_group(group: str) -> None:
    assert issued([group], EVERY) == {PREFIX + scope for scope in GROUPS[group]}


def test_who_decides_by_a_scope_of_the_sagas_own_has_it_by_a_group_of_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = PREFIX + "approver"
    asked = [*EVERY, own]
    assert own not in issued(["approver", "operator"], asked), (
        "where no saga names it there is none"
    )
    monkeypatch.setenv("OWN_SCOPES", "approver reviewer")
    assert issued(["approver"], asked) == {own, PREFIX + "sagas:read", PREFIX + "webhooks:write"}
    assert issued(["operator"], asked) == set(asked)
    assert issued(["reader", "reviewer"], asked) == {
        PREFIX + "sagas:read",
        PREFIX + "webhooks:write",
    }
    change = handler(event(["reader"], None), None)["response"]["claimsAndScopeOverrideDetails"]
    suppressed = change["accessTokenGeneration"]["scopesToSuppress"]
    assert {own, PREFIX + "reviewer"} <= set(suppressed), "also where no scope is asked for"


def spending(scope: str) -> RecordedShape:
    """The shape of a saga that asks whoever has a scope."""
    said = record(SPENDING)
    said["groups"][1][0]["waits"]["scope"] = scope
    return read(said)


def test_the_scopes_of_a_deployment_are_those_that_its_sagas_name_besides() -> None:
    assert own_scopes([spending("insurer")]) == []
    assert own_scopes([spending("b"), spending("a.x"), spending("b")]) == ["a.x", "b"]
    with pytest.raises(DeclarationError, match="the scope 'customer' of a Wait must be called"):
        own_scopes([spending("customer")])


def test_a_user_of_two_groups_has_the_scopes_of_both() -> None:
    assert issued(["reader", "documents"], EVERY) == {PREFIX + "sagas:read", PREFIX + "valet:issue"}


@pytest.mark.parametrize("groups", [[], None, ["another"], ["Operator"], ["recourse/operator"]])
def test_a_user_of_none_of_these_groups_has_no_scope(groups: Any) -> None:
    assert issued(groups, EVERY) == set()


def test_less_is_issued_where_less_was_asked_for() -> None:
    assert issued(["operator"], [PREFIX + "sagas:read"]) == {PREFIX + "sagas:read"}


@pytest.mark.parametrize("scopes", [[], None])
def test_a_client_that_names_no_scope_is_given_no_more(scopes: Any) -> None:
    assert issued(["reader"], scopes) == {PREFIX + "sagas:read"}


def test_the_same_is_done_when_a_token_is_refreshed() -> None:
    assert issued([], EVERY, source="TokenGeneration_RefreshTokens") == set()


def test_an_event_that_is_another_ends_in_an_error_and_so_in_no_token() -> None:
    wrong: list[dict[str, Any]] = [{}, {"request": {}}, {"request": {"scopes": EVERY}}]
    for broken in wrong:
        with pytest.raises(LookupError):
            handler(broken, None)


@given(
    groups=st.lists(st.sampled_from([*GROUPS, "another", "operator "])),
    scopes=st.lists(st.sampled_from([*EVERY, *SCOPES, *STANDARD, "recourse/all", "x/operator"])),
)
def test_no_token_has_a_scope_that_the_groups_do_not_have(
    groups: list[str], scopes: list[str]
) -> None:
    permitted = {PREFIX + scope for group in groups for scope in GROUPS.get(group, ())}
    assert issued(groups, scopes) <= permitted | STANDARD
