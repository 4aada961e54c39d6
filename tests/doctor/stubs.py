"""An account whose calls are stubbed: what it answers is checked against AWS's own models."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import botocore.session
from botocore.exceptions import BotoCoreError
from botocore.stub import Stubber

from recourse.doctor.account import Account
from recourse.doctor.finding import Finding
from recourse.doctor.planned import Planned

REGION, NUMBER = "eu-west-1", "123456789012"
SENDER = "trips@example.com"
ROLE = f"arn:aws:iam::{NUMBER}:role/logs"
PARAMETER = "/cdk-bootstrap/hnb659fds/version"
DYNAMO, EVENTS = "dynamodb.list_tables", "events.list_rules"
Answer = dict[str, Any] | str | BotoCoreError | Callable[[dict[str, Any]], Any]


def missing_stack(_: dict[str, Any]) -> str:
    return "ValidationError"


HEALTHY: dict[str, Answer] = {
    "sts.get_caller_identity": {"Account": NUMBER},
    "ssm.get_parameter": {"Parameter": {"Value": "30"}},
    "lambda.get_account_settings": {
        "AccountLimit": {
            "ConcurrentExecutions": 1000,
            "UnreservedConcurrentExecutions": 1000,
            "TotalCodeSize": 80_000,
        },
        "AccountUsage": {"TotalCodeSize": 100},
    },
    "lambda.get_function_concurrency": {},
    "apigateway.get_account": {},
    "sesv2.get_email_identity": {"VerifiedForSendingStatus": True},
    "sesv2.get_account": {"SendingEnabled": True, "ProductionAccessEnabled": True},
    "cloudformation.describe_stacks": lambda asked: (
        "ValidationError" if "StackName" in asked else {"Stacks": []}
    ),
    DYNAMO: {"TableNames": []},
    EVENTS: {"Rules": []},
    "service-quotas.get_service_quota": lambda asked: {
        "Quota": {"Value": {"dynamodb": 2500.0, "events": 300.0}.get(asked["ServiceCode"], 2000.0)}
    },
    "iam.get_account_summary": {
        "SummaryMap": {"Roles": 9, "RolesQuota": 1000, "Policies": 9, "PoliciesQuota": 1500}
    },
}
"""What a fresh account in good order answers, by service and operation; text is an error's code."""
CALLS = {one for one in HEALTHY if not one.startswith("lambda.get_function")}
"""What is asked of it for the stage below."""


def stage(*, role: bool = True, reserved: int = 20, version: int = 6) -> Planned:
    """A stage that needs something of everything."""
    mail = {"Action": "ses:SendEmail", "Resource": f"arn:aws:ses:x:y:identity/{SENDER}"}
    resources: dict[str, Any] = {
        "Stream": _of("Lambda::Function", ReservedConcurrentExecutions=reserved),
        "Step": _of("Lambda::Function"),
        "Mails": _of("IAM::Policy", PolicyDocument={"Statement": [mail]}, Roles=[{"Ref": "R"}]),
        "R": _of("IAM::Role"),
        "Sockets": _of("ApiGatewayV2::Api", ProtocolType="WEBSOCKET"),
        "Table": _of("DynamoDB::Table"),
        "Rule": _of("Events::Rule"),
    }
    if role:
        resources["Account"] = _of("ApiGateway::Account")
    return Planned({"App-dev-One": {"Resources": resources}}, {PARAMETER: version})


def _of(kind: str, **properties: Any) -> dict[str, Any]:
    return {"Type": f"AWS::{kind}", "Properties": properties}


_session = cache(botocore.session.Session)


@cache
def client(service: str) -> Any:
    """A client, made once: that takes longer than all that is asked of it."""
    return _session().create_client(
        service, REGION, aws_access_key_id="AKIASECRET", aws_secret_access_key="hush"
    )


class Stubs:
    """Clients of an account.

    Args:
        answers: What it answers where that is not what a healthy one does.

    Attributes:
        called: What was asked, `service.operation`.
    """

    def __init__(self, **answers: Answer) -> None:
        self.answers = HEALTHY | {name.replace("__", "."): one for name, one in answers.items()}
        self.called: list[str] = []

    def __call__(self, service: str) -> Stubbed:
        return Stubbed(self, service)

    def findings(self, planned: Planned | None = None) -> list[Finding]:
        """What the doctor finds there."""
        return list(Account(self, planned or stage(), REGION).findings())


class Stubbed:
    """A client whose every call is stubbed just before it is made."""

    def __init__(self, stubs: Stubs, service: str) -> None:
        self._stubs, self._service = stubs, service
        self._client = client(service)

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        def call(**asked: Any) -> Any:
            name = f"{self._service}.{operation}"
            self._stubs.called.append(name)
            answer = self._stubs.answers[name]
            if callable(answer):
                answer = answer(asked)
            if isinstance(answer, BotoCoreError):
                raise answer
            with Stubber(self._client) as stub:
                if isinstance(answer, str):
                    stub.add_client_error(operation, answer, "the key AKIASECRET may not")
                else:
                    stub.add_response(operation, answer, asked)
                return getattr(self._client, operation)(**asked)

        return call

    def get_paginator(self, operation: str) -> Pages:
        return Pages(getattr(self, operation))


class Pages:
    """One page of a list."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def paginate(self, *, PaginationConfig: Any, **asked: Any) -> Iterator[Any]:
        assert PaginationConfig["MaxItems"], "it is bounded"
        yield self._call(**asked)
