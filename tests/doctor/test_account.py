"""The account: one in good order has no finding; each fault, alone, is one, with its way out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import (
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    ProxyConnectionError,
    ReadTimeoutError,
)
from hypothesis import given
from hypothesis import strategies as st

from recourse.doctor.account import BOUNDED, UNRESERVED, Account
from recourse.doctor.finding import Finding
from recourse.doctor.planned import Planned
from tests.doctor.stubs import CALLS, HEALTHY, REGION, ROLE, SENDER, Answer, Stubs, stage


def bad(found: list[Finding]) -> list[Finding]:
    return [one for one in found if one.level != "ok"]


def limits(whole: int, left: int, size: int = 100) -> Answer:
    limit = {"ConcurrentExecutions": whole, "UnreservedConcurrentExecutions": left}
    return {
        "AccountLimit": limit | {"TotalCodeSize": 80_000},
        "AccountUsage": {"TotalCodeSize": size},
    }


def many(name: str, count: int, of: Callable[[int], Any]) -> Answer:
    return {name: [of(number) for number in range(count)]}


FAULTS: dict[str, tuple[dict[str, Answer], str, str, str, str]] = {
    "not bootstrapped": (
        {"ssm__get_parameter": "ParameterNotFound"},
        *("bootstrap", "error", "is not bootstrapped", "bootstrap aws://123456789012/eu-west-1"),
    ),
    "an old bootstrap": (
        {"ssm__get_parameter": {"Parameter": {"Value": "5"}}},
        *("bootstrap", "error", "with version 5, and 6 is needed", "bootstrap aws://"),
    ),
    "a reservation that leaves too few": (
        {"lambda__get_account_settings": limits(29, 29)},
        *("concurrency", "error", "9 are left", "-c streams=N"),
    ),
    "fewer executions than functions": (
        {"lambda__get_account_settings": limits(21, 21)},
        *("concurrency", "error", "1 are left", "request-service-quota-increase"),
    ),
    "code that fills its quota": (
        {"lambda__get_account_settings": limits(1000, 1000, 79_000)},
        *("quotas", "warning", "of functions' code are used", "delete old versions"),
    ),
    "another CloudWatch role": (
        {"apigateway__get_account": {"cloudwatchRoleArn": ROLE}},
        *("cloudwatch role", "warning", ROLE, "-c cloudwatch_role=off"),
    ),
    "a sender that SES does not know": (
        {"sesv2__get_email_identity": "NotFoundException"},
        *("mail", "error", f"does not know {SENDER}", "create-email-identity"),
    ),
    "a sender that is not verified": (
        {"sesv2__get_email_identity": {"VerifiedForSendingStatus": False}},
        *("mail", "error", f"{SENDER} is not verified", "follow the link"),
    ),
    "SES in its sandbox": (
        {"sesv2__get_account": {"SendingEnabled": True, "ProductionAccessEnabled": False}},
        *("mail", "warning", "sandbox", "put-account-details"),
    ),
    "sending that is paused": (
        {"sesv2__get_account": {"SendingEnabled": False, "ProductionAccessEnabled": True}},
        *("mail", "error", "paused", "get-account"),
    ),
    "too many stacks": (
        {
            "cloudformation__describe_stacks": lambda asked: (
                "ValidationError"
                if "StackName" in asked
                else many(
                    "Stacks",
                    2000,
                    lambda n: {
                        "StackName": f"s{n}",
                        "CreationTime": 0,
                        "StackStatus": "CREATE_COMPLETE",
                    },
                )
            )
        },
        *("quotas", "error", "2,000 CloudFormation stacks, 1 more", "L-0485CB21"),
    ),
    "nearly too many tables": (
        {"dynamodb__list_tables": many("TableNames", 2000, lambda n: f"table{n}")},
        *("quotas", "warning", "2,000 DynamoDB tables, 1 more", "L-F98FE922"),
    ),
    "too many rules": (
        {"events__list_rules": many("Rules", 300, lambda n: {"Name": f"rule{n}"})},
        *("quotas", "error", "300 EventBridge rules, 1 more", "L-244521F2"),
    ),
    "too many roles": (
        {
            "iam__get_account_summary": {
                "SummaryMap": {"Roles": 1000, "RolesQuota": 1000, "Policies": 9}
                | {"PoliciesQuota": 1500}
            }
        },
        *("quotas", "error", "1,000 IAM roles, 1 more", "delete roles"),
    ),
}


def test_an_account_in_good_order_has_no_finding_and_is_only_read() -> None:
    stubs = Stubs()
    assert bad(stubs.findings()) == []
    assert set(stubs.called) == CALLS
    for call in stubs.called:
        assert call.partition(".")[2].startswith(("get_", "list_", "describe_")), call


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_alone_is_found_with_its_way_out(fault: str) -> None:
    answers, check, level, what, remedy = FAULTS[fault]
    (found,) = bad(Stubs(**answers).findings())
    assert (found.check, found.level) == (check, level)
    assert what in found.what and remedy in found.remedy and found.why


def test_a_fresh_account_has_too_few_executions_for_the_functions() -> None:
    stubs = Stubs(lambda__get_account_settings=limits(1, 1))
    (found,) = bad(stubs.findings(stage(reserved=0)))
    assert (found.check, found.level) == ("concurrency", "warning")
    assert "throttled" in found.why and "L-B99A9384" in found.remedy


def test_an_account_without_a_role_for_logs_refuses_a_stage_that_makes_none() -> None:
    (found,) = bad(Stubs().findings(stage(role=False)))
    assert (found.check, found.level) == ("cloudwatch role", "error")
    given = Stubs(apigateway__get_account={"cloudwatchRoleArn": ROLE})
    assert bad(given.findings(stage(role=False))) == []


def test_a_stage_that_is_deployed_already_counts_what_it_has_once() -> None:
    """Its reservation, its role, its tables: all of them are the account's already."""
    there = {"StackName": "App-dev-One", "CreationTime": 0, "StackStatus": "CREATE_COMPLETE"}
    detail = {
        "LogicalResourceId": "x",
        "ResourceType": "x",
        "LastUpdatedTimestamp": 0,
        "ResourceStatus": "CREATE_COMPLETE",
        "PhysicalResourceId": "app-dev-stream",
    }
    stubs = Stubs(
        cloudformation__describe_stacks={"Stacks": [there]},
        cloudformation__describe_stack_resource={"StackResourceDetail": detail},
        lambda__get_account_settings=limits(30, UNRESERVED),
        lambda__get_function_concurrency={"ReservedConcurrentExecutions": 20},
        apigateway__get_account={"cloudwatchRoleArn": ROLE},
        dynamodb__list_tables=many("TableNames", 1999, lambda n: f"table{n}"),
    )
    assert bad(stubs.findings()) == []


UNANSWERED: dict[str, Answer] = {
    "AccessDenied": "AccessDeniedException",
    "ThrottlingException": "ThrottlingException",
    "no network": EndpointConnectionError(endpoint_url="https://user:hush@there.example"),
    "no connection in time": ConnectTimeoutError(endpoint_url="https://there.example"),
    "no answer in time": ReadTimeoutError(endpoint_url="https://there.example"),
    "a proxy that does not answer": ProxyConnectionError(proxy_url="http://me:hush@proxy"),
}


@pytest.mark.parametrize("call", sorted(CALLS))
@pytest.mark.parametrize("how", UNANSWERED)
def test_a_call_that_has_no_answer_is_a_finding_and_shows_no_secret(call: str, how: str) -> None:
    found = Stubs(**{call.replace(".", "__"): UNANSWERED[how]}).findings()
    assert bad(found), "it is said"
    assert not [one for one in bad(found) if "was not answered" not in one.what]
    assert all("was not answered" in one.what and one.remedy for one in bad(found))
    for one in found:
        assert not any(secret in repr(one) for secret in ("hush", "AKIASECRET"))
    if how == "AccessDenied" and call not in ("sts.get_caller_identity", "apigateway.get_account"):
        action = "".join(part.title() for part in call.partition(".")[2].split("_"))
        assert f":{action}" in bad(found)[0].remedy


@pytest.mark.parametrize(
    "how", ["ExpiredToken", "InvalidClientTokenId", "SignatureDoesNotMatch", NoCredentialsError()]
)
def test_credentials_that_are_not_valid_are_one_error_and_nothing_else_is_asked(
    how: Answer,
) -> None:
    stubs = Stubs(sts__get_caller_identity=how)
    (found,) = stubs.findings()
    assert (found.check, found.level) == ("credentials", "error")
    assert "AWS_PROFILE" in found.remedy and len(stubs.called) == 1


def test_a_quota_that_cannot_be_read_is_the_documented_one() -> None:
    tables = many("TableNames", 2500, lambda n: f"table{n}")
    stubs = Stubs(
        dynamodb__list_tables=tables, **{"service-quotas__get_service_quota": "AccessDenied"}
    )
    found = bad(stubs.findings())
    (full,) = [one for one in found if one.level == "error"]
    assert "of 2,500" in full.what
    (unread,) = (one for one in found if one is not full)
    assert unread.level == "warning" and "allow servicequotas:GetServiceQuota" in unread.remedy


def test_a_quota_that_was_not_answered_is_told_once_and_is_no_matter_of_rights() -> None:
    """As the emulator does, which has no quotas."""
    stubs = Stubs(**{"service-quotas__get_service_quota": "400"})
    (unread,) = bad(stubs.findings())
    assert unread.what == "servicequotas:GetServiceQuota was not answered: 400"
    assert "allow" not in unread.remedy and "run `recourse doctor` again" in unread.remedy


@given(whole=st.integers(0, 3000), reserved=st.integers(0, 2000), already=st.integers(0, 500))
def test_a_reservation_is_refused_exactly_where_it_leaves_fewer_than_ten(
    whole: int, reserved: int, already: int
) -> None:
    """AWS's rule, for any quota, whatever others have reserved."""
    left = max(0, whole - already)

    class Clients:
        def __getattr__(self, name: str) -> Callable[..., Any]:
            settings: Any = limits(whole, left)
            stacks = HEALTHY["cloudformation.describe_stacks"]
            assert name in ("get_account_settings", "describe_stacks"), (name, stacks)
            return lambda **_: settings

    account = Account(lambda _: Clients(), stage(reserved=reserved), REGION)
    account.__dict__["_there"] = set()
    (found,) = [one for one in account._concurrency() if one.check == "concurrency"]
    fails = bool(reserved) and left - reserved < UNRESERVED
    assert (found.level == "error") == fails


def test_every_call_is_bounded_in_time() -> None:
    said: Any = BOUNDED
    assert (said.connect_timeout + said.read_timeout) * said.retries["total_max_attempts"] <= 30


def test_a_stage_that_needs_nothing_is_asked_about_nothing_more() -> None:
    stubs = Stubs()
    assert bad(stubs.findings(Planned({"App-dev-One": {"Resources": {}}}, {}))) == []
    assert not {"apigateway.get_account", "sesv2.get_account", "ssm.get_parameter"} & set(
        stubs.called
    )
