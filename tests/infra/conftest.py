"""The assemblies that the tests read: each synthesised once a session.

Loading the CDK takes longer than all of them together, so the modules here share one worker, and
import what loads it where a test of theirs runs: every worker collects them.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from statemachines.card_order import CARD_ORDER
from statemachines.order import ORDER
from tests.infra.assembly import Assembly, synthesise

LOCAL = {
    "runtime": "local",
    "chaos": "on",
    "timescale": "0.1",
    "issuer": "http://127.0.0.1:8000/_issuer",
    "audience": "recourse",
    "public_url": "http://127.0.0.1:8000",
    "console_url": "http://127.0.0.1:8000",
    "connections_url": "http://127.0.0.1:4566/_aws/execute-api/{api}/{stage}",
    "owner_limits": "imported=8",
}

SECRET = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:stripe-AbCdEf"
WHOLE = {"alarms": "all", "keys": "each"}
"""What a stage has where data are kept, and under the local cloud."""


@pytest.fixture(scope="session")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Assembly:
    """What `cdk deploy` asks AWS for."""
    return synthesise(tmp_path_factory.mktemp("dev"), {})


@pytest.fixture(scope="session")
def prod(tmp_path_factory: pytest.TempPathFactory) -> Assembly:
    """The same for production, with an issuer and web origins of its own."""
    context = {
        "stage": "prod",
        "issuer": "https://issuer.example",
        "audience": "recourse",
        "cors_origins": "https://one.example https://two.example",
        "console_url": "https://console.example",
        "malware_scan": "on",
    }
    return synthesise(tmp_path_factory.mktemp("prod"), context)


@pytest.fixture(scope="session")
def local(tmp_path_factory: pytest.TempPathFactory) -> Assembly:
    """What the local cloud gets."""
    return synthesise(tmp_path_factory.mktemp("local"), LOCAL)


@pytest.fixture(scope="session")
def fargate(tmp_path_factory: pytest.TempPathFactory) -> Assembly:
    """What AWS is asked for, of one saga, where workers are on Fargate and there is the probe.

    Streams have executions of their own, the account has a role for API Gateway's logs, and two
    machines have clients.
    """
    context = {
        "workers": "fargate",
        "probe": "on",
        "streams": "20",
        "cloudwatch_role": "off",
        "machines": "Client:customer+documents,Operator:operator",
    }
    return synthesise(
        tmp_path_factory.mktemp("fargate"), context, {"order": replace(ORDER, reverse=None)}
    )


@pytest.fixture(scope="session")
def striped(tmp_path_factory: pytest.TempPathFactory) -> Assembly:
    """What AWS is asked for, of one saga, where its payments are Stripe's."""
    context = {"payment_provider": "stripe:test", "payment_secret": SECRET}
    sagas = {CARD_ORDER.name: CARD_ORDER}
    return synthesise(tmp_path_factory.mktemp("striped"), context, sagas)


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Assembly:
    """What `cdk deploy` asks AWS for, with all that production has."""
    return synthesise(tmp_path_factory.mktemp("whole"), WHOLE)


@pytest.fixture(scope="session", params=["prod", "local"])
def alarmed(request: pytest.FixtureRequest) -> Assembly:
    """Each of those that have every alarm, in turn; dev has few (`test_cost.py`)."""
    found: Assembly = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="session", params=["dev", "prod", "local"])
def each(request: pytest.FixtureRequest) -> Assembly:
    """Each of them in turn."""
    found: Assembly = request.getfixturevalue(request.param)
    return found
