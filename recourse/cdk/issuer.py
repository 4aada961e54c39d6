"""The issuer of bearer tokens: any, or a Cognito user pool."""

from __future__ import annotations

from dataclasses import dataclass

from aws_cdk import Stack
from aws_cdk.aws_cognito import (
    AccountRecovery,
    CognitoDomainOptions,
    Mfa,
    MfaSecondFactor,
    OAuthFlows,
    OAuthScope,
    OAuthSettings,
    PasswordPolicy,
    ResourceServerScope,
    UserPool,
)
from constructs import Construct

from recourse.cdk.rights import explain
from recourse.cdk.stage import Stage
from recourse.functions.caller import SCOPES

SCOPE_PREFIX = "recourse/"


@dataclass(frozen=True)
class Issuer:
    """An OpenID Connect issuer of access tokens, whose scopes are those that routes ask for.

    On the local cloud its own issuer stands in for any: `recourse token` makes the tokens there.

    ::

        issuer = Issuer("https://login.example.com/", ("https://shop.example.com",))

    Attributes:
        url: Its URL, as the tokens' claim `iss` has it; its metadata and its keys are found there.
        audiences: The accepted audiences.
        prefix: What its tokens put before each scope.
    """

    url: str
    audiences: tuple[str, ...]
    prefix: str = ""

    def on(self, stage: Stage) -> Issuer:
        """Who issues the tokens of a stage: on the local cloud its own issuer, else this one."""
        if stage.local and stage.issuer and stage.audience:
            return Issuer(stage.issuer, (stage.audience,))
        return self


class CognitoIssuer(Construct):
    """A user pool whose access tokens carry the API's scopes.

    ::

        cognito = CognitoIssuer(stack, "Users", stage=stage)
        live = LiveChannels(
            stack,
            "Live",
            stage=stage,
            events=events,
            issuer=cognito.issuer,
        )

    Args:
        scope: The construct that contains it.
        name: Its construct id.
        stage: The deployment.

    Attributes:
        pool: The user pool.
        issuer: What APIs need to verify its tokens.
        token_url: The URL at which a client gets a token for its id and secret.
        clients: The ids of the clients: one for callers, one for operators.
    """

    def __init__(self, scope: Construct, name: str, *, stage: Stage) -> None:
        super().__init__(scope, name)
        self.pool = UserPool(
            self,
            "Pool",
            self_sign_up_enabled=False,
            mfa=Mfa.REQUIRED,
            mfa_second_factor=MfaSecondFactor(otp=True, sms=False),
            account_recovery=AccountRecovery.EMAIL_ONLY,
            password_policy=PasswordPolicy(
                min_length=12,
                require_digits=True,
                require_lowercase=True,
                require_uppercase=True,
                require_symbols=True,
            ),
            deletion_protection=stage.keeps_data,
            removal_policy=stage.removal_of_protected,
        )
        scopes = [
            ResourceServerScope(scope_name=scope, scope_description=text)
            for scope, text in SCOPES.items()
        ]
        server = self.pool.add_resource_server(
            "Resources", identifier=SCOPE_PREFIX.rstrip("/"), scopes=scopes
        )
        # Only a domain has the endpoint that issues tokens with scopes; its name must be unique
        # in the region.
        domain = self.pool.add_domain(
            "Domain",
            cognito_domain=CognitoDomainOptions(
                domain_prefix=f"{stage.prefix.lower()}-{Stack.of(self).account}"
            ),
        )
        self.token_url = f"{domain.base_url()}/oauth2/token"
        self.clients = {
            name: self.pool.add_client(
                name,
                generate_secret=True,
                prevent_user_existence_errors=True,
                o_auth=OAuthSettings(
                    flows=OAuthFlows(client_credentials=True),
                    scopes=[
                        OAuthScope.resource_server(server, scope)
                        for scope in scopes
                        if name == "Operator" or scope.scope_name != "operator"
                    ],
                ),
            ).user_pool_client_id
            for name in ("Client", "Operator")
        }
        region, pool = Stack.of(self).region, self.pool.user_pool_id
        self.issuer = Issuer(
            f"https://cognito-idp.{region}.amazonaws.com/{pool}",
            tuple(self.clients.values()),
            SCOPE_PREFIX,
        )
        explain(
            self.pool,
            "AwsSolutions-COG3",
            "AwsSolutions-COG8",
            reason="threat protection is a paid plan, which the deployer may choose",
        )
