"""One dashboard a stage: whether sagas go on, and where something waits."""

from __future__ import annotations

from aws_cdk import Duration
from aws_cdk.aws_cloudwatch import Dashboard, GraphWidget, MathExpression, PeriodOverride
from constructs import Construct

from recourse.cdk.api import SagaApi
from recourse.cdk.events import EventBackbone
from recourse.cdk.stage import Stage

MINUTES = 5


class SagaDashboard(Construct):
    """A dashboard of CloudWatch with what the alarms look at, and what comes before them.

    It finds queues, functions and machines by the beginning of their names, which is the app's and
    the stage's: so it grows with the app, and needs no reference to what is in other stacks.

    ::

        page = SagaDashboard(stack, "Dashboard", stage=stage, events=events, api=api)

    It is listed at $3 a month: where `stage.has_every_alarm`, perhaps, and not elsewhere.

    Args:
        scope: The construct that contains it.
        name: Its construct id.
        stage: The deployment.
        events: What the sagas' events go through.
        api: The API.

    Attributes:
        dashboard: The dashboard.
    """

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        stage: Stage,
        events: EventBackbone,
        api: SagaApi,
    ) -> None:
        super().__init__(scope, name)
        # With faults on demand it is another stage, whose names begin alike.
        mine = f'"{stage.prefix}"' + ("" if stage.chaos else f' NOT "{stage.prefix}-chaos"')
        parked = events.parked.metric_approximate_number_of_messages_visible(statistic="Maximum")
        latency = [
            api.api.metric_latency(statistic=one, period=Duration.minutes(MINUTES))
            for one in ("p50", "p99")
        ]
        self.dashboard = Dashboard(
            self,
            "Dashboard",
            dashboard_name=f"{stage.prefix}-sagas",
            period_override=PeriodOverride.INHERIT,
            default_interval=Duration.hours(3),
            widgets=[
                [
                    GraphWidget(title="Sagas that wait for a decision", left=[parked]),
                    _found(
                        "Messages in dead-letter queues",
                        f"{{AWS/SQS,QueueName}} {mine} deadletters "
                        'MetricName="ApproximateNumberOfMessagesVisible"',
                        "Maximum",
                    ),
                    _found(
                        "Age of the oldest message, in seconds",
                        f'{{AWS/SQS,QueueName}} {mine} MetricName="ApproximateAgeOfOldestMessage"',
                        "Maximum",
                    ),
                    _found(
                        "Age of the oldest event that is not on its topic, in milliseconds",
                        f'{{AWS/Lambda,FunctionName}} {mine} MetricName="IteratorAge"',
                        "Maximum",
                    ),
                ],
                [
                    _share(stage),
                    _found(
                        "Runs, 99 of 100 within, in milliseconds",
                        f'{{AWS/States,StateMachineArn}} {mine} MetricName="ExecutionTime"',
                        "p99",
                    ),
                    GraphWidget(title="The API's answers, in milliseconds", left=[*latency]),
                    _found(
                        "Calls of functions that were throttled",
                        f'{{AWS/Lambda,FunctionName}} {mine} MetricName="Throttles"',
                        "Sum",
                    ),
                ],
            ],
        )


def _found(title: str, query: str, statistic: str) -> GraphWidget:
    """A graph of whatever metrics a search finds."""
    search = f"SEARCH('{query}', '{statistic}', {MINUTES * 60})"
    return GraphWidget(title=title, left=[_expression(search)])


def _share(stage: Stage) -> GraphWidget:
    """Of the actions that runs tried, the share that failed; retries count."""

    def tried(outcome: str) -> str:
        # A namespace that has more than letters and digits must be in quotes.
        schema = f'{{"{stage.metrics_namespace}",saga,service,step}}'
        query = f'{schema} MetricName="action.{outcome}"'
        return f"SUM(SEARCH('{query}', 'Sum', {MINUTES * 60}))"

    failed, done = tried("failed"), tried("done")
    share = _expression(f"100 * {failed} / ({failed} + {done})", label="failed")
    return GraphWidget(title="Actions that failed, of 100", left=[share])


def _expression(expression: str, label: str = "") -> MathExpression:
    return MathExpression(
        expression=expression,
        label=label,
        using_metrics={},
        period=Duration.minutes(MINUTES),
    )
