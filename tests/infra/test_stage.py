"""The context: what it may say, and what it is told where it says something else."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.infra.assembly import Assembly

if TYPE_CHECKING:
    from recourse.cdk.stage import Stage

pytestmark = pytest.mark.xdist_group("infra")


CERTIFICATE = "arn:aws:acm:us-east-1:123456789012:certificate/0a1b2c3d-0000-4000-8000-0a1b2c3d4e5f"
DOMAIN = {"console_domain": "console.example", "console_certificate": CERTIFICATE}
ENDPOINTS = "authorize=https://a/authorize token=https://a/token revoke=https://a/revoke"
OTHER = {"issuer": "https://a", "audience": "recourse", "console_client": "page"}


def stage(**context: str) -> Stage:
    from aws_cdk import App

    from recourse.cdk.stage import Stage

    return Stage.from_context(App(context=context, analytics_reporting=False).node)


def test_without_a_word_it_is_dev_without_faults() -> None:
    from recourse.cdk.stage import Stage

    assert stage() == Stage()
    assert (Stage().name, Stage().keeps_data, Stage().chaos) == ("dev", False, False)


def test_chaos_shows_in_the_name() -> None:
    assert stage(chaos="on").name == "dev-chaos"
    assert stage(chaos="off").name == "dev"


def test_only_production_keeps_its_data() -> None:
    assert stage(stage="prod").keeps_data
    assert stage(stage="prod", chaos="on").keeps_data
    assert not stage(stage="staging").keeps_data


@pytest.mark.parametrize(
    ("context", "alarms", "keys"),
    [
        ({}, False, False),
        ({"stage": "staging"}, False, False),
        ({"stage": "prod"}, True, True),
        ({"runtime": "local"}, True, True),
        ({"alarms": "all"}, True, False),
        ({"keys": "each"}, False, True),
        ({"stage": "prod", "alarms": "few", "keys": "one"}, False, False),
    ],
)
def test_a_stage_that_keeps_no_data_has_few_alarms_and_one_key_unless_the_context_says_more(
    context: dict[str, str], alarms: bool, keys: bool
) -> None:
    made = stage(**context)
    assert (made.has_every_alarm, made.has_every_key) == (alarms, keys)


def test_origins_are_separated_by_spaces_or_commas() -> None:
    assert stage(cors_origins="https://a, https://b  https://c").cors_origins == (
        "https://a",
        "https://b",
        "https://c",
    )


@pytest.mark.parametrize(
    "origin",
    ["https://d111111abcdef8.cloudfront.net", "https://a.b:8443", "http://127.0.0.1:8000"],
)
def test_the_console_is_at_an_origin_which_may_be_in_plain_text_on_this_machine(
    origin: str,
) -> None:
    assert (stage().console_url, stage(console_url=origin).console_url) == ("", origin)


def test_the_console_is_at_its_own_domain_where_it_has_one() -> None:
    made = stage(**DOMAIN)
    assert (made.console_url, made.console_certificate) == ("https://console.example", CERTIFICATE)
    assert stage(**DOMAIN, console_url="https://console.example") == made


def test_the_console_is_served_unless_the_context_says_off_or_the_local_cloud_does() -> None:
    assert stage().has_console
    assert not stage(console="off").has_console
    assert not stage(runtime="local").has_console


def test_another_issuer_has_its_own_client_for_the_console() -> None:
    found = stage(**OTHER, console_endpoints=ENDPOINTS).sign_in
    assert found is not None
    assert (found.client, found.token) == ("page", "https://a/token")
    assert stage().sign_in is None


def test_a_ledger_may_be_on_its_way_to_its_indexes() -> None:
    assert (stage().index_step, stage(index_step="3").index_step) == (None, 3)


def test_a_machine_is_a_customer_unless_the_context_says_more() -> None:
    assert stage().machines == {}
    assert stage(machines="nightly, desk:operator papers:customer+documents").machines == {
        "nightly": ("customer",),
        "desk": ("operator",),
        "papers": ("customer", "documents"),
    }


def test_so_many_streams_as_the_context_says() -> None:
    assert (stage().streams, stage(streams="200").streams) == (None, 200)


def test_the_account_gets_its_role_for_logs_unless_the_context_says_that_it_has_one() -> None:
    assert stage().cloudwatch_role and stage(cloudwatch_role="on").cloudwatch_role
    assert not stage(cloudwatch_role="off").cloudwatch_role


@pytest.mark.parametrize(
    ("context", "said"),
    [
        ({"stage": "Prod"}, "stage='Prod'"),
        ({"stage": "my-stage"}, "stage='my-stage'"),
        ({"chaos": "yes"}, "chaos='yes'"),
        ({"cloudwatch_role": "mine"}, "cloudwatch_role='mine'"),
        ({"index_step": "0"}, "index_step='0'"),
        ({"index_step": "10"}, "index_step='10' must be 1 to 9"),
        ({"runtime": "docker"}, "runtime='docker'"),
        ({"timescale": "fast"}, "timescale='fast'"),
        ({"timescale": "0"}, "timescale=0"),
        ({"timescale": "-1"}, "timescale=-1"),
        ({"timescale": "nan"}, "timescale=nan"),
        ({"issuer": "https://issuer.example"}, "issuer and audience"),
        ({"malware_scan": "yes"}, "malware_scan='yes'"),
        ({"public_url": "api.example"}, "public_url='api.example'"),
        ({"public_url": "https://api.example/v1"}, "public_url="),
        ({"console_url": "https://console.example/"}, "console_url='https://console.example/'"),
        ({"console_url": "https://console.example/app"}, "must be an origin"),
        ({"console_url": "https://Console.example"}, "in lower case"),
        ({"console_url": "http://console.example"}, "https://console.example"),
        ({"console_url": "https://a.example https://b.example"}, "console_url="),
        ({"console_url": "https://*.example"}, "console_url="),
        ({"console": "yes"}, "context console='yes' must be on or off"),
        ({"console_domain": "console.example"}, "console_domain and console_certificate"),
        ({"console_certificate": CERTIFICATE}, "console_domain and console_certificate"),
        ({**DOMAIN, "console_domain": "https://console.example"}, "must be a host"),
        ({**DOMAIN, "console_certificate": CERTIFICATE.replace("us", "eu")}, "in us-east-1"),
        ({**DOMAIN, "console_url": "https://d1.cloudfront.net"}, "must be https://console.example"),
        ({"console_client": "page"}, "console_client and console_endpoints"),
        ({"console_endpoints": ENDPOINTS}, "console_client and console_endpoints"),
        ({"console_client": "page", "console_endpoints": ENDPOINTS}, "must be with issuer"),
        ({**OTHER, "console_endpoints": ENDPOINTS.partition(" ")[0]}, "the issuer's three"),
        ({**OTHER, "console_endpoints": f"{ENDPOINTS} token=https://b"}, "the issuer's three"),
        ({**OTHER, "console_endpoints": ENDPOINTS.replace("s://a/t", "://a/t")}, "token='http:"),
        ({**OTHER, "console_endpoints": ENDPOINTS.replace("a/t", "a;x/t")}, "token='https://a;x"),
        ({"cors_origins": "*"}, "no wildcard"),
        ({"alarms": "none"}, "alarms='none' must be all or few"),
        ({"keys": "two"}, "keys='two' must be each or one"),
        ({"owner_limits": "starts=0"}, "owner_limits starts must be a number of 1 or more"),
        ({"owner_limits": "stars=5"}, "owner_limits must name one of .*starts.*, got 'stars'"),
        ({"streams": "0"}, "streams='0'"),
        ({"streams": "many"}, "streams='many'"),
        ({"sender": "trips"}, "a mail address"),
        ({"sender": "*@example.com"}, "a mail address"),
        ({"audience": "recourse"}, "issuer and audience"),
        ({"workers": "ec2"}, "workers='ec2'"),
        ({"machines": "nightly:admin"}, "machines='nightly:admin'"),
        ({"machines": "nightly:"}, "groups of reader, customer"),
        ({"machines": "a-b"}, "machines='a-b'"),
        ({"machines": "one,one:operator"}, "'one' must be given once"),
        ({"workers": "fargate", "runtime": "local"}, "workers='fargate'"),
    ],
)
def test_what_it_cannot_say_is_refused_by_name(context: dict[str, str], said: str) -> None:
    from recourse.cdk.stage import ContextError

    with pytest.raises(ContextError, match=said):
        stage(**context)


@pytest.mark.parametrize(
    ("region", "partition"),
    [
        ("cn-north-1", "aws-cn"),
        ("us-gov-west-1", "aws-us-gov"),
        ("us-iso-east-1", "aws-iso"),
        ("eusc-de-east-1", "aws-eusc"),
    ],
)
def test_a_region_of_another_partition_is_refused_by_its_name(
    monkeypatch: pytest.MonkeyPatch, region: str, partition: str
) -> None:
    from recourse.cdk.stage import ContextError

    monkeypatch.setenv("CDK_DEFAULT_REGION", region)
    with pytest.raises(ContextError, match=f"{region}.*'{partition}'.*only 'aws'"):
        stage()
    monkeypatch.setenv("CDK_DEFAULT_REGION", "ap-south-1")
    assert stage().name == "dev"


def test_no_arn_names_a_partition(each: Assembly) -> None:
    """Where another is refused, by name, is one place; it is not in the way of having more."""
    for path in each.files:
        assert not re.search(r"arn:aws[\w-]*:", path.read_text()), path.name


def test_a_step_function_ends_with_its_task_at_the_latest_whatever_the_timescale() -> None:
    from recourse.cdk.stage import Stage

    assert Stage().step_timeout(30).to_seconds() == 30
    assert Stage(timescale=0.1).step_timeout(30).to_seconds() == 3
    assert Stage(timescale=0.01).step_timeout(30).to_seconds() == 1
