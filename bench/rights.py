"""What judging rights takes of the local cloud: the same trips on two, of which one judges."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import get_args

from bench import LOCAL
from bench.cloud import Side, trips
from bench.figures import Figure, alternated, say
from bench.samples import things
from recourse.cli.api import Api
from recourse.declare.declaration import Coordination
from recourse.local.boot import GAPS
from recourse.local.cloud import EVERY_SCOPE, LocalCloud

AT_ONCE = 8
WARM, PART, ROUNDS = 24, 32, 5
"""Trips before anything is measured; trips of each side in a round; rounds."""
SIDES = {"IAM enforced": GAPS, "not enforced": (*GAPS, "bench.unjudged")}


def measure() -> list[Figure]:
    """Run the same trips in turn on a local cloud that enforces IAM and on one that does not."""
    with ExitStack() as ends:
        clouds = [ends.enter_context(_begun(name, gaps)) for name, gaps in SIDES.items()]
        figures = []
        for coordination in get_args(Coordination):
            judged, unjudged = (ends.enter_context(_side(cloud, coordination)) for cloud in clouds)
            longer, shorter = alternated(
                [partial(side.run, PART, AT_ONCE) for side in (judged, unjudged)], rounds=ROUNDS
            )
            figures.append(
                Figure(
                    what=f"trips by {coordination}, {AT_ONCE} at once, IAM enforced",
                    size=f"{PART} of each a round, {ROUNDS} rounds",
                    figure=f"{1000 * longer / PART:.0f} ms a trip",
                    alternative=f"not enforced: {1000 * shorter / PART:.0f} ms a trip",
                    ratio=longer / shorter,
                )
            )
        kept = [cloud.decisions.exists() and cloud.decisions.stat().st_size for cloud in clouds]
        if not kept[0] or kept[1]:
            raise AssertionError(f"bytes of decisions, which only one should have made: {kept}")
        return figures


@contextmanager
def _begun(name: str, gaps: Sequence[str]) -> Iterator[LocalCloud]:
    say(name)
    with LocalCloud(
        port=0,
        aws_port=0,
        state_dir=LOCAL / "bench" / name.replace(" ", "-"),
        fresh=True,
        seed_file=None,
        gaps=gaps,
        say=say,
    ) as cloud:
        yield cloud


@contextmanager
def _side(cloud: LocalCloud, coordination: Coordination) -> Iterator[Side]:
    """Trips on a cloud that has what they need, and whose functions are warm."""
    with Api(cloud.api_url, cloud.token("asha", EVERY_SCOPE)) as api:
        for (kind, thing), body in things().items():
            api.call("PUT", f"/{kind}/{thing}", json=body)
        side = trips(cloud, api, coordination)
        side.run(WARM, AT_ONCE)
        yield side
