"""The issuer of bearer tokens: any, or a Cognito user pool."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from aws_cdk import Duration, Stack
from aws_cdk.aws_cloudwatch import IAlarmAction
from aws_cdk.aws_cognito import (
    AccountRecovery,
    AuthFlow,
    CognitoDomainOptions,
    FeaturePlan,
    LambdaVersion,
    Mfa,
    MfaSecondFactor,
    OAuthFlows,
    OAuthScope,
    OAuthSettings,
    PasswordPolicy,
    ResourceServerScope,
    UserPool,
    UserPoolClientIdentityProvider,
    UserPoolOperation,
)
from constructs import Construct

from recourse.cdk.console_settings import SignIn
from recourse.cdk.function import HandlerFunction
from recourse.cdk.queues import alarm_above
from recourse.cdk.rights import explain
from recourse.cdk.stage import ContextError, Stage
from recourse.declare.shape import Shape
from recourse.functions import users
from recourse.functions.users import CALLBACKS

SCOPE_PREFIX = "recourse/"
CONSOLE = "Console"


@dataclass(frozen=True)
class Issuer:
    """An OpenID Connect issuer of access tokens, with the scopes of `recourse.functions.users`.

    On the local cloud its own issuer stands in for any, for `recourse login` and `recourse token`.

    ::

        issuer = Issuer("https://login.example.com/", ("https://shop.example.com",))

    Attributes:
        url: Its URL, as the tokens' claim `iss` has it; its metadata and its keys are found there.
        audiences: The accepted audiences.
        prefix: What its tokens put before each scope.
        sign_in: How people sign in to the console; None where they cannot, or where the stage's
            context says it.
    """

    url: str
    audiences: tuple[str, ...]
    prefix: str = ""
    sign_in: SignIn | None = None

    def on(self, stage: Stage) -> Issuer:
        """Who issues the tokens of a stage: on the local cloud its own issuer, else this one."""
        if stage.local and stage.issuer and stage.audience:
            return Issuer(stage.issuer, (stage.audience,))
        return self


class CognitoIssuer(Construct):
    """A user pool whose access tokens carry the API's scopes, those of a user by their groups.

    ::

        cognito = CognitoIssuer(
            stack, "Users", stage=stage, sagas=services.sagas, alarm=events.alarm
        )
        live = LiveChannels(
            stack,
            "Live",
            stage=stage,
            events=events,
            issuer=cognito.issuer,
        )

    People sign in by `recourse login`, and to the console where the stage knows its URL, for a
    client has the addresses to which browsers are sent back. Machines, which the stage names, have
    a client each.

    Args:
        scope: The construct that contains it.
        name: Its construct id.
        stage: The deployment.
        sagas: The declarations: each scope that they name for who may decide is one of the pool's,
            and has a group of its name.
        alarm: Notified if the function fails without which no user is issued a token.

    Attributes:
        pool: The user pool.
        issuer: What APIs need to verify its tokens.
        token_url: The URL at which a machine gets a token for its client's id and secret.
        login_client: The id of the client by which people sign in; it has no secret.
        machines: The ids of the machines' clients, by name.

    Raises:
        ContextError: A machine has the name of another part of the pool.
        DeclarationError: A scope of the sagas' is called as another group.
    """

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        stage: Stage,
        sagas: Iterable[Shape[Any]] = (),
        alarm: IAlarmAction | None = None,
    ) -> None:
        super().__init__(scope, name)
        own = users.own_scopes(sagas)
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
            feature_plan=FeaturePlan.ESSENTIALS,  # Lite cannot change an access token's scopes
            deletion_protection=stage.keeps_data,
            removal_policy=stage.removal_of_protected,
        )
        scopes = {
            scope: ResourceServerScope(scope_name=scope, scope_description=text)
            for scope, text in users.scopes(own).items()
        }
        server = self.pool.add_resource_server(
            "Resources", identifier=SCOPE_PREFIX.rstrip("/"), scopes=list(scopes.values())
        )
        oauth = {name: OAuthScope.resource_server(server, one) for name, one in scopes.items()}
        # Only a domain has the endpoint that issues tokens with scopes; its name must be unique
        # in the region.
        domain = self.pool.add_domain(
            "Domain",
            cognito_domain=CognitoDomainOptions(
                domain_prefix=f"{stage.prefix.lower()}-{Stack.of(self).account}"
            ),
        )
        oauth2 = f"{domain.base_url()}/oauth2"
        self.token_url = f"{oauth2}/token"
        self._judge_tokens(stage, own, alarm)
        for group, permitted in users.groups(own).items():
            self.pool.add_group(
                f"{group.capitalize()}Group", group_name=group, description=", ".join(permitted)
            )
        every = list(oauth.values())
        self.login_client = self._public("Login", every, CALLBACKS, Duration.days(30))
        sign_in = None
        if stage.console_url:
            # A page keeps its refresh token in the browser: for a working day, not for a month.
            page = self._public(CONSOLE, every, [f"{stage.console_url}/"], Duration.hours(12))
            sign_in = SignIn(
                client=page,
                authorize=f"{oauth2}/authorize",
                token=self.token_url,
                revoke=f"{oauth2}/revoke",
            )
        self.machines = {
            name: self._machine(
                name, [oauth[one] for one in oauth if one in users.scopes_permitted(groups, own)]
            )
            for name, groups in stage.machines.items()
        }
        region, pool = Stack.of(self).region, self.pool.user_pool_id
        self.issuer = Issuer(
            f"https://cognito-idp.{region}.amazonaws.com/{pool}",
            (
                self.login_client,
                *([sign_in.client] if sign_in else []),
                *self.machines.values(),
            ),
            SCOPE_PREFIX,
            sign_in,
        )
        explain(
            self.pool,
            "AwsSolutions-COG3",
            "AwsSolutions-COG8",
            reason="threat protection is a paid plan, which the deployer may choose",
        )

    def login_command(self, api_url: str) -> str:
        """The command by which people sign in to an API, for an output of its stack."""
        return (
            f"recourse login --api {api_url} --issuer {self.issuer.url} "
            f"--client {self.login_client}"
        )

    def _judge_tokens(self, stage: Stage, own: list[str], alarm: IAlarmAction | None) -> None:
        """Have every token of a user judged by their groups."""
        function = HandlerFunction(
            self,
            "PreToken",
            stage=stage,
            handler="recourse.functions.pre_token.handler",
            environment={"SCOPE_PREFIX": SCOPE_PREFIX, "OWN_SCOPES": " ".join(own)},
            timeout=Duration.seconds(5),  # Cognito waits no longer
        )
        self.pool.add_trigger(
            UserPoolOperation.PRE_TOKEN_GENERATION_CONFIG, function, LambdaVersion.V2_0
        )
        if alarm:
            alarm_above(
                self,
                "PreTokenErrors",
                function.metric_errors(),
                stage=stage,
                threshold=0,
                action=alarm,
            )

    def _public(
        self, name: str, scopes: list[OAuthScope], callbacks: Sequence[str], refreshed: Duration
    ) -> str:
        """A client by which people sign in: without a secret, by a code with PKCE."""
        client = self.pool.add_client(
            name,
            generate_secret=False,
            prevent_user_existence_errors=True,
            enable_token_revocation=True,
            supported_identity_providers=[UserPoolClientIdentityProvider.COGNITO],
            auth_flows=AuthFlow(user_srp=True),
            access_token_validity=Duration.hours(1),
            refresh_token_validity=refreshed,
            # Each refresh replaces the refresh token: RFC 9700, 4.14.2 for clients without a secret
            refresh_token_rotation_grace_period=Duration.seconds(60),
            o_auth=OAuthSettings(
                flows=OAuthFlows(authorization_code_grant=True),
                scopes=scopes,
                callback_urls=list(callbacks),
            ),
        )
        return client.user_pool_client_id

    def _machine(self, name: str, scopes: list[OAuthScope]) -> str:
        """A client by id and secret."""
        if name == CONSOLE or self.pool.node.try_find_child(name):
            raise ContextError(f"context machines: {name!r} must be another name")
        client = self.pool.add_client(
            name,
            generate_secret=True,
            prevent_user_existence_errors=True,
            o_auth=OAuthSettings(flows=OAuthFlows(client_credentials=True), scopes=scopes),
        )
        return client.user_pool_client_id
