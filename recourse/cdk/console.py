"""The console: its page in a private bucket, behind CloudFront, and the API at the same origin."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from aws_cdk import Duration, Fn, Names, Stack, Token
from aws_cdk.aws_certificatemanager import Certificate
from aws_cdk.aws_cloudfront import (
    AllowedMethods,
    BehaviorOptions,
    CachePolicy,
    Distribution,
    FunctionAssociation,
    FunctionCode,
    FunctionEventType,
    FunctionRuntime,
    HeadersReferrerPolicy,
    HttpVersion,
    ICachePolicy,
    OriginRequestPolicy,
    PriceClass,
    ResponseHeadersContentSecurityPolicy,
    ResponseHeadersContentTypeOptions,
    ResponseHeadersPolicy,
    ResponseHeadersReferrerPolicy,
    ResponseHeadersStrictTransportSecurity,
    ResponseSecurityHeadersBehavior,
    S3OriginAccessControl,
    SecurityPolicyProtocol,
    ViewerProtocolPolicy,
)
from aws_cdk.aws_cloudfront import Function as EdgeFunction
from aws_cdk.aws_cloudfront_origins import HttpOrigin, S3BucketOrigin
from aws_cdk.aws_iam import Role, ServicePrincipal
from aws_cdk.aws_logs import LogGroup
from aws_cdk.aws_s3 import BlockPublicAccess, Bucket, BucketEncryption, ObjectOwnership
from aws_cdk.aws_s3_deployment import BucketDeployment, CacheControl, ISource, Source
from constructs import Construct

from recourse.cdk import console_settings
from recourse.cdk.api import SagaApi
from recourse.cdk.issuer import Issuer
from recourse.cdk.live import LiveChannels
from recourse.cdk.rights import allow, explain, wildcard
from recourse.cdk.stage import ContextError, Stage
from recourse.cdk.valet import ValetKeys
from recourse.cdk.websocket_api import NAME
from recourse.errors import DeclarationError

API, STREAM, SOCKET = "/api", "/api/events/stream", f"/{NAME}"
WITHOUT_PREFIX = """function handler(event) {
  var request = event.request;
  request.uri = request.uri.slice("/api".length);
  return request;
}
"""
"""What CloudFront runs on a call of the API: its paths are the same behind `/api`."""
READ_TIMEOUT = Duration.seconds(60)
"""How long an origin may say nothing: the API's slowest answer takes 30 s, and a stream says
something every 15. How long an answer takes in all, CloudFront does not bound."""
FOR_EVER, REVALIDATED, NEVER = "public, max-age=31536000, immutable", "no-cache", "no-store"
COPIES = "Custom::CDKBucketDeployment"
"""What the id of the CDK's function begins with that copies files into buckets."""
GRANTED = ("Abort", "DeleteObject", "GetBucket", "GetObject", "List")
"""What the CDK grants by the beginnings of actions' names."""
YEAR = Duration.days(365)


class Console(Construct):
    """Serves the console, with the API behind the same origin at `/api`.

    ::

        console = Console(
            stack,
            "Console",
            stage=stage,
            issuer=cognito.issuer,
            api=api,
            live=live,
            valet=valet,
        )
        CfnOutput(stack, "ConsoleUrl", value=console.url)

    Make it where `stage.has_console`: the local cloud serves the page itself. People can sign in
    once the stage knows the URL, for the issuer has to know to where it sends browsers back: by the
    context `console_domain`, or by `console_url` in a second deploy, which `recourse deploy` adds
    by itself where the output is called `ConsoleUrl`.

    Nothing that changes is cached by CloudFront, so a deploy invalidates nothing.

    Args:
        scope: The construct that contains it.
        name: Its construct id.
        stage: The deployment.
        issuer: The issuer of bearer tokens, and how people sign in there.
        api: The API.
        live: The live channels; without them the page polls.
        valet: Valet keys, whose bucket the page may then reach.

    Attributes:
        bucket: The bucket with the page.
        distribution: The distribution.
        url: Its origin.
        next_step: What is to be done before people can sign in; empty if nothing is.

    Raises:
        ContextError: The page has not been built.
        DeclarationError: The stage is the local cloud's.
    """

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        stage: Stage,
        issuer: Issuer,
        api: SagaApi,
        live: LiveChannels | None = None,
        valet: ValetKeys | None = None,
    ) -> None:
        super().__init__(scope, name)
        if stage.local:
            raise DeclarationError(
                "Console must be made where stage.has_console: the local cloud serves it itself"
            )
        page = console_settings.BUILT
        if not (page / "index.html").is_file():
            raise ContextError(
                f"context console: there is no {page / 'index.html'}: build the page by "
                "`make setup`, or deploy without it by console=off"
            )
        self._stage = stage
        self._sign_in = issuer.sign_in or stage.sign_in
        self.bucket = self._bucket()
        self.distribution = self._distribution(api, live, valet)
        self.url = stage.console_url or f"https://{self.distribution.domain_name}"
        self._deploy(page, self._configuration(issuer, api, live))

    @property
    def next_step(self) -> str:
        """What is to be done before people can sign in; empty if nothing is."""
        missing = [] if self._stage.console_url else [f"console_url={self.url}"]
        if not self._sign_in and (self._stage.console_url or self._stage.issuer):
            missing += ["console_client=…", "console_endpoints=…"]
        if not missing:
            return ""
        context = " ".join(f"--context {one}" for one in missing)
        return f"nobody can sign in to the console yet: deploy again with {context}"

    def _bucket(self) -> Bucket:
        """Not versioned: every file is made of a release, from which it can be put there again."""
        bucket = Bucket(
            self,
            "Page",
            encryption=BucketEncryption.S3_MANAGED,
            block_public_access=BlockPublicAccess.BLOCK_ALL,
            object_ownership=ObjectOwnership.BUCKET_OWNER_ENFORCED,
            enforce_ssl=True,
            removal_policy=self._stage.removal,
        )
        explain(bucket, "AwsSolutions-S1", reason="CloudFront alone reads it, and all may see it")
        return bucket

    def _distribution(
        self, api: SagaApi, live: LiveChannels | None, valet: ValetKeys | None
    ) -> Distribution:
        stage = self._stage
        control = S3OriginAccessControl(self, "Access", origin_access_control_name=self._named(64))
        page = S3BucketOrigin.with_origin_access_control(self.bucket, origin_access_control=control)
        headers = self._headers(valet)

        def file(cache: ICachePolicy) -> BehaviorOptions:
            return BehaviorOptions(
                origin=page,
                cache_policy=cache,
                response_headers_policy=headers,
                viewer_protocol_policy=ViewerProtocolPolicy.REDIRECT_TO_HTTPS,
            )

        behind = EdgeFunction(
            self,
            "WithoutPrefix",
            code=FunctionCode.from_inline(WITHOUT_PREFIX),
            runtime=FunctionRuntime.JS_2_0,
        )
        # In this order: the first whose path fits.
        behaviors = {}
        if live:
            reading = AllowedMethods.ALLOW_GET_HEAD
            behaviors[STREAM] = self._passed_on(live.sse_url, reading, behind)
            behaviors[SOCKET] = self._passed_on(live.websocket_url, reading)
        behaviors[f"{API}/*"] = self._passed_on(api.url, AllowedMethods.ALLOW_ALL, behind)
        behaviors["/assets/*"] = file(CachePolicy.CACHING_OPTIMIZED)
        certificate = stage.console_certificate and Certificate.from_certificate_arn(
            self, "Certificate", stage.console_certificate
        )
        made = Distribution(
            self,
            "Distribution",
            comment=f"{stage.prefix}: the console",
            default_root_object="index.html",
            default_behavior=file(CachePolicy.CACHING_DISABLED),
            additional_behaviors=behaviors,
            certificate=certificate or None,
            domain_names=[stage.console_domain] if certificate else None,
            minimum_protocol_version=(
                SecurityPolicyProtocol.TLS_V1_2_2021 if certificate else None
            ),
            http_version=HttpVersion.HTTP2_AND_3,
            price_class=PriceClass.PRICE_CLASS_100,
        )
        explain(
            made,
            "AwsSolutions-CFR1",
            reason="who may use a deployment follows from its tokens, not from where they are",
        )
        explain(
            made,
            "AwsSolutions-CFR2",
            reason="the API has limits of its own, and is reached without CloudFront too",
        )
        explain(
            made,
            "AwsSolutions-CFR3",
            reason="the API and the WebSocket API log each call by its route and caller; these "
            "logs would keep the addresses of people, and links of valet keys with their tokens",
        )
        if not certificate:
            explain(
                made,
                "AwsSolutions-CFR4",
                reason="CloudFront lets nobody choose for its own domain: a console_domain has "
                "TLS 1.2 at least",
            )
        return made

    def _passed_on(
        self, url: str, methods: AllowedMethods, behind: EdgeFunction | None = None
    ) -> BehaviorOptions:
        """What goes to another origin as it comes, and comes back as it is."""
        at = FunctionEventType.VIEWER_REQUEST
        return BehaviorOptions(
            origin=HttpOrigin(_host(url), read_timeout=READ_TIMEOUT),
            allowed_methods=methods,
            cache_policy=CachePolicy.CACHING_DISABLED,
            # With Authorization, Last-Event-ID and Sec-WebSocket-*; by Host, gateways know an API.
            origin_request_policy=OriginRequestPolicy.ALL_VIEWER_EXCEPT_HOST_HEADER,
            viewer_protocol_policy=ViewerProtocolPolicy.HTTPS_ONLY,
            function_associations=(
                [FunctionAssociation(function=behind, event_type=at)] if behind else None
            ),
        )

    def _headers(self, valet: ValetKeys | None) -> ResponseHeadersPolicy:
        reached = []
        if self._stage.console_url:
            # For browsers whose 'self' is no WebSocket.
            reached.append(f"wss://{_host(self._stage.console_url)}")
        if self._sign_in:
            # Without the last part, which is all in which the two mostly differ.
            both = (self._sign_in.token, self._sign_in.revoke)
            bases = dict.fromkeys(one.rpartition("/")[0] for one in both)
            reached += [f"https://{_host(one)}" for one in bases]
        if valet:
            reached.append(f"https://{valet.bucket.bucket_regional_domain_name}")
        connect = " ".join(["'self'", *dict.fromkeys(reached)])
        return ResponseHeadersPolicy(
            self,
            "Headers",
            response_headers_policy_name=self._named(128),
            comment=f"{self._stage.prefix}: the console's page",
            security_headers_behavior=ResponseSecurityHeadersBehavior(
                content_security_policy=ResponseHeadersContentSecurityPolicy(
                    content_security_policy="default-src 'none'; script-src 'self'; "
                    "style-src 'self'; img-src 'self' data:; font-src 'self'; "
                    f"connect-src {connect}; base-uri 'none'; form-action 'none'; "
                    "frame-ancestors 'none'; require-trusted-types-for 'script'",
                    override=True,
                ),
                content_type_options=ResponseHeadersContentTypeOptions(override=True),
                referrer_policy=ResponseHeadersReferrerPolicy(
                    referrer_policy=HeadersReferrerPolicy.NO_REFERRER, override=True
                ),
                strict_transport_security=ResponseHeadersStrictTransportSecurity(
                    access_control_max_age=YEAR, override=True
                ),
            ),
        )

    def _configuration(
        self, issuer: Issuer, api: SagaApi, live: LiveChannels | None
    ) -> Mapping[str, Any]:
        """What the page reads in `console.json`; nulls where nobody can sign in yet."""
        sign_in = self._sign_in
        return {
            "api": API,
            "sse": STREAM if live else None,
            "ws": SOCKET if live else None,
            "issuer": issuer.url,
            "authorize": sign_in.authorize if sign_in else None,
            "token": sign_in.token if sign_in else None,
            "revoke": sign_in.revoke if sign_in else None,
            "client_id": sign_in.client if sign_in else None,
            "scopes": [f"{issuer.prefix}{one}" for one in api.scopes],
            "scope_prefix": issuer.prefix,
        }

    def _deploy(self, page: Path, configuration: Mapping[str, Any]) -> None:
        """Copy the page into the bucket, what it loads first.

        Files of earlier pages stay there: one that is open still loads them.
        """
        logs = LogGroup(
            self,
            "DeployLogs",
            retention=self._stage.log_retention,
            removal_policy=self._stage.removal,
        )
        role = Role(self, "DeployRole", assumed_by=ServicePrincipal("lambda.amazonaws.com"))
        for action in ("logs:CreateLogStream", "logs:PutLogEvents"):
            allow(role, action, logs.log_group_arn)

        def put(name: str, kept: str, *sources: ISource, under: str = "") -> BucketDeployment:
            return BucketDeployment(
                self,
                name,
                destination_bucket=self.bucket,
                destination_key_prefix=under or None,
                sources=list(sources),
                cache_control=[CacheControl.from_string(kept)],
                prune=False,
                role=role,
                log_group=logs,
            )

        assets = put("Assets", FOR_EVER, Source.asset(str(page / "assets")), under="assets")
        # By ourselves: the CDK's own JSON would leave out what is null.
        told = put("Configuration", NEVER, Source.data("console.json", json.dumps(configuration)))
        index = put("Index", REVALIDATED, Source.asset(str(page), exclude=["assets"]))
        index.node.add_dependency(assets, told)
        explain(
            role,
            *(f"AwsSolutions-IAM5[Action::s3:{one}*]" for one in GRANTED),
            wildcard(self.bucket, "Arn", after="/*"),
            f"AwsSolutions-IAM5[Resource::arn:<AWS::Partition>:s3:::{self._assets}/*]",
            reason="the CDK's grants to copy from its assets into this bucket, and to no other",
        )
        for copies in Stack.of(self).node.children:
            if copies.node.id.startswith(COPIES):
                function = cast("Construct", copies)
                explain(function, "AwsSolutions-L1", reason="the CDK chooses its runtime itself")

    @property
    def _assets(self) -> str:
        """The CDK's bucket of assets, as cdk-nag prints its name."""
        qualifier = Stack.of(self).synthesizer.bootstrap_qualifier
        return f"cdk-{qualifier}-assets-<AWS::AccountId>-<AWS::Region>"

    def _named(self, longest: int) -> str:
        """A name that no other region's has: an account has one list for them all."""
        region = Stack.of(self).region
        return f"{Names.unique_resource_name(self, max_length=longest - 20)}-{region}"


def _host(url: str) -> str:
    """The host of an address, which may be known only when it is deployed."""
    if Token.is_unresolved(url):
        return Fn.select(2, Fn.split("/", url))
    return urlsplit(url).netloc
