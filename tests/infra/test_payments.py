"""Payments by Stripe: only where they are asked for, and the secret only for those that need it."""

from __future__ import annotations

import json

import pytest

from statemachines import SAGAS
from statemachines.card_order import CARD_ORDER
from tests.infra.assembly import Assembly, Resource, synthesise
from tests.infra.conftest import SECRET
from tests.infra.test_rights import business, functions

pytestmark = pytest.mark.xdist_group("infra")

READ = "secretsmanager:GetSecretValue"
NEED = {step.function for step in CARD_ORDER.all if step.action.secrets}
EVENTS = "PaymentEvents"


def test_the_functions_that_need_it_may_read_that_one_secret(striped: Assembly) -> None:
    readers = {}
    for name, function in functions(striped).items():
        for resource, actions in striped.rights(function).items():
            if found := {one for one in actions if one.startswith("secretsmanager:")}:
                readers[name] = (resource, found)
    need = {f"{name}{entry}" for name in NEED for entry in ("", "Queue")} | {EVENTS}
    assert len(NEED) == 2
    assert readers == dict.fromkeys(need, (SECRET, {READ}))


def test_a_function_that_needs_it_is_told_where_it_is_and_nothing_of_what_it_says(
    striped: Assembly,
) -> None:
    for name, function in functions(striped).items():
        told = striped.environment(function)
        named = told.get("PAYMENT_SECRET")
        assert (named == SECRET) == (named is not None)
        assert (named is not None) == (name.removesuffix("Queue") in NEED or name == EVENTS)
    templates = json.dumps(striped.templates)
    assert "sk_" not in templates and "SecretString" not in templates
    assert "AWS::SecretsManager" not in templates


def test_without_it_nobody_may_read_a_secret_and_nothing_of_it_is_there(each: Assembly) -> None:
    assert not any("Payments" in name for name in each.templates)
    assert READ not in json.dumps(each.templates)
    # With none in the context the variable is there and empty, as settings are.
    for name, function in functions(each).items():
        assert each.environment(function).get("PAYMENT_SECRET", "") == "", name
    assert SAGAS[CARD_ORDER.name] is CARD_ORDER


def test_the_endpoint_of_webhooks_may_compare_books_and_tell_an_operator(
    striped: Assembly,
) -> None:
    assert business(striped, EVENTS) == {
        SECRET: {READ},
        "<CardsTable.Arn>": {"dynamodb:GetItem", "dynamodb:UpdateItem"},
        "<Alarms>": {"sns:Publish"},
    }


def test_its_route_is_one_path_and_one_method(striped: Assembly) -> None:
    routes = [one for one in striped.every("AWS::ApiGatewayV2::Route") if one.stack == "Payments"]
    assert [one.properties["RouteKey"] for one in routes] == ["POST /payment-events"]
    assert striped.findings() == []


def test_the_rest_is_as_without_it(striped: Assembly, dev: Assembly) -> None:
    def kinds(assembly: Assembly, name: str) -> list[Resource]:
        return [one for one in assembly.every("AWS::Lambda::Function") if one.name == name]

    for name in NEED:
        (with_it,), (without,) = kinds(striped, name), kinds(dev, name)
        for what in ("MemorySize", "Timeout", "Runtime", "Architectures"):
            assert with_it.properties[what] == without.properties[what]


@pytest.mark.parametrize(
    ("context", "wrong"),
    [
        ({"payment_provider": "stripe:test"}, "payment_secret must be the ARN"),
        ({"payment_secret": SECRET}, "payment_secret must be the ARN"),
        ({"payment_provider": "stripe", "payment_secret": SECRET}, "stripe:test or stripe:live"),
        (
            {"payment_provider": "stripe:http://example.com", "payment_secret": SECRET},
            "stripe:test or stripe:live",
        ),
        (
            {"payment_provider": "stripe:test", "payment_secret": SECRET[:-7]},
            "the whole ARN of a secret",
        ),
        (
            {"payment_provider": "stripe:test", "payment_secret": f"{SECRET[:-6]}*"},
            "the whole ARN of a secret",
        ),
        (
            {"payment_provider": "stripe:live", "payment_secret": SECRET, "chaos": "on"},
            "must not be with chaos",
        ),
    ],
)
def test_what_would_not_work_or_would_cost_money_is_refused(
    context: dict[str, str], wrong: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from recourse.cdk.stage import ContextError

    with pytest.raises(ContextError, match=wrong):
        synthesise(tmp_path_factory.mktemp("wrong"), context, {CARD_ORDER.name: CARD_ORDER})
