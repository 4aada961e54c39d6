"""A function that streams its responses: uvicorn behind the Lambda Web Adapter, at a URL."""

from __future__ import annotations

from collections.abc import Mapping

from aws_cdk import Duration, Stack
from aws_cdk.aws_lambda import (
    FunctionUrlAuthType,
    FunctionUrlCorsOptions,
    HttpMethod,
    InvokeMode,
    LayerVersion,
)
from constructs import Construct

from recourse.cdk.function import HandlerFunction
from recourse.cdk.stage import Stage

ADAPTER = "753240598075:layer:LambdaAdapterLayerArm64:27"
"""Lambda Web Adapter 1.0.0, for arm64, in the account from which AWS Labs publishes it."""
TIMEOUT = Duration.minutes(15)
"""The longest that Lambda allows: after each stream the client has to connect again."""
MARGIN = Duration.seconds(30)
"""Time before the timeout at which a stream is closed."""


class StreamFunction(HandlerFunction):
    """A function that answers with streams; the function itself verifies its callers.

    Args:
        scope: The construct that contains it.
        name: Its construct id.
        stage: The deployment.
        environment: The variables that it reads.

    Attributes:
        address: Its URL, with a slash at the end.
    """

    def __init__(
        self, scope: Construct, name: str, *, stage: Stage, environment: Mapping[str, str]
    ) -> None:
        seconds = TIMEOUT.minus(MARGIN).to_seconds()
        super().__init__(
            scope,
            name,
            stage=stage,
            handler="recourse/functions/sse.sh",
            environment={
                "AWS_LAMBDA_EXEC_WRAPPER": "/opt/bootstrap",
                "AWS_LWA_INVOKE_MODE": "response_stream",
                "AWS_LWA_PORT": "8080",
                "AWS_LWA_READINESS_CHECK_PROTOCOL": "tcp",
                "STREAM_SECONDS": f"{seconds:g}",
                **environment,
            },
            timeout=TIMEOUT,
            at_once=stage.streams,
        )
        arn = f"arn:{Stack.of(self).partition}:lambda:{Stack.of(self).region}:{ADAPTER}"
        self.add_layers(LayerVersion.from_layer_version_arn(self, "Adapter", arn))
        cors = FunctionUrlCorsOptions(
            allowed_origins=list(stage.cors_origins),
            allowed_methods=[HttpMethod.GET],
            allowed_headers=["authorization", "last-event-id"],
            max_age=Duration.minutes(5),
        )
        url = self.add_function_url(
            auth_type=FunctionUrlAuthType.NONE,
            invoke_mode=InvokeMode.RESPONSE_STREAM,
            cors=cors if stage.cors_origins else None,
        )
        self.address = url.url
