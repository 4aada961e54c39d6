"""The issuer of bearer tokens: the one that the context names, or a user pool."""

from __future__ import annotations

from dataclasses import dataclass

from aws_cdk import App, CfnOutput, Stack
from constructs import Construct

from recourse.cdk.issuer import SCOPE_PREFIX, UserPoolIssuer
from recourse.cdk.stage import Stage


@dataclass(frozen=True)
class Issuer:
    """What is needed to verify a token.

    Attributes:
        url: The issuer.
        audiences: The accepted audiences.
        prefix: The prefix of scopes in its tokens.
        stack: The stack of the user pool, where there is one.
    """

    url: str
    audiences: tuple[str, ...]
    prefix: str = ""
    stack: Stack | None = None


class IssuerStack(Stack):
    """A user pool, in a separate stack: every stack that verifies tokens is deployed after it."""

    def __init__(self, scope: Construct, name: str, *, stage: Stage) -> None:
        super().__init__(scope, name)
        self.pool = UserPoolIssuer(self, "Users", stage=stage)
        CfnOutput(self, "UserPoolId", value=self.pool.pool.user_pool_id)
        CfnOutput(self, "TokenUrl", value=self.pool.token_url)
        for client, client_id in self.pool.clients.items():
            CfnOutput(self, f"{client}Id", value=client_id)


def issuer_of(app: App, stage: Stage) -> Issuer:
    """The issuer of a stage."""
    if stage.issuer and stage.audience:
        return Issuer(stage.issuer, (stage.audience,))
    stack = IssuerStack(app, f"{stage.prefix}-Issuer", stage=stage)
    clients = tuple(stack.pool.clients.values())
    return Issuer(stack.pool.issuer, clients, SCOPE_PREFIX, stack)
