"""The paths that are measured: one way each from the feed to an effect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bench.push_pull.template import Part


@dataclass(frozen=True, kw_only=True)
class Path:
    """One path.

    Attributes:
        key: What its events name as their step.
        name: What the report calls it.
        kind: Who begins each transfer: who has the event, or who wants it.
        parts: What is deployed for it alone; all of them share the feed.
        interval: Seconds between two polls, where it polls.
        scales: Whether the number of its consumers is ours to choose; else the platform's.
    """

    key: str
    name: str
    kind: Literal["push", "pull", "none"]
    parts: tuple[Part, ...] = ()
    scales: bool = True
    interval: float = 0.0


NOTHING = Path(key="null", name="no channel", kind="none")
PATHS = (
    NOTHING,
    Path(
        key="sns-lambda",
        name="SNS to Lambda",
        kind="push",
        parts=(Part("Probe", "Push"),),
        scales=False,
    ),
    Path(key="webhook", name="webhook", kind="push", parts=(Part("Webhooks", ""),)),
    Path(
        key="websocket",
        name="WebSocket",
        kind="push",
        parts=(
            Part("Live", "ConnectionsTable"),
            Part("Live", "WebSocket"),
            Part("Live", "Push"),
            Part("Live", "Authorise"),
        ),
    ),
    Path(key="sse", name="SSE", kind="push", parts=(Part("Live", "Stream"),)),
    Path(
        key="sqs-lambda",
        name="SQS to Lambda",
        kind="pull",
        parts=(Part("Probe", "Pull"),),
        scales=False,
    ),
    Path(key="worker", name="SQS to worker", kind="pull", parts=(Part("Probe", "Worker"),)),
    Path(key="long-poll", name="feed, long poll", kind="pull"),
    Path(key="poll", name="feed, polled each second", kind="pull", interval=1),
)
BY_KEY = {path.key: path for path in PATHS}
