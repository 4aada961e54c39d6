"""Starts of functions in a fresh process, held against a DynamoDB client and nothing else.

A start is all computing, so it is measured in processor time: by the clock the same start differs
by a fifth from one run to the next on a machine that others use.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable

from bench import ROOT
from bench.figures import Figure, alternated, say

ROUNDS = 15
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "bench",
    "AWS_SECRET_ACCESS_KEY": "bench",
    "AWS_DEFAULT_REGION": "us-east-1",
    "PYTHONPATH": str(ROOT),
    "POWERTOOLS_SERVICE_NAME": "bench",
    "POWERTOOLS_METRICS_NAMESPACE": "Recourse",
    "RECOURSE_SAGAS": "statemachines:SAGAS",
    "ACTION": "services.flights:hold",
    "UNDO": "services.flights:release",
    "TABLE_NAME": "flights",
    "LEDGER_TABLE": "ledger",
    "FEED_TABLE": "feed",
    "PARAMETERS": "/recourse/bench",
    "VALET_TABLE": "valet",
    "VALET_BUCKET": "documents",
    "VALET_ISSUER": "urn:recourse:bench",
}
BARE = "import botocore.session; botocore.session.get_session().create_client('dynamodb')"
STEP = "from recourse.functions import step; step.runner()"
REDEEM = "from recourse.functions import valet; valet.redeemer().credentials()"
API = "import lambdas.api; from recourse.functions import kit; kit.ledger()"
STARTING = (
    API
    + """; kit.runs().machines.ssm()
from recourse.declare.validation import adapter_of
from statemachines import SAGAS
adapter_of(SAGAS["travel-booking"].request)
"""
)
FUNCTIONS = {
    "step function, its runner and client made": (STEP, 1.35),
    "redeeming function, its client made": (REDEEM, 1.35),
    "API function, its ledger and client made": (API, 1.8),
    "API function, also with all that a first POST of a saga needs": (STARTING, None),
}
"""What a cold start does, and how many times the bare client's it may take."""


def measure() -> list[Figure]:
    """Start each kind of function in fresh processes, beside a bare botocore DynamoDB client."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}

    def started(code: str) -> Callable[[], float]:
        def start() -> float:
            before = _computed()
            command = [sys.executable, "-c", code]
            subprocess.run(command, env=ours | ENVIRONMENT, cwd=ROOT, check=True)
            return _computed() - before

        return start

    say(f"{ROUNDS} starts of each, in turn")
    codes = [BARE, *(code for code, _ in FUNCTIONS.values())]
    bare, *found = alternated([started(code) for code in codes], rounds=ROUNDS, warmups=1)
    return [
        Figure(
            what=f"start of the {name}",
            size=f"{ROUNDS} fresh processes, median of processor time",
            figure=f"{took * 1000:.0f} ms",
            alternative=f"bare botocore client of DynamoDB: {bare * 1000:.0f} ms",
            ratio=took / bare,
            most=most,
        )
        for (name, (_, most)), took in zip(FUNCTIONS.items(), found, strict=True)
    ]


def _computed() -> float:
    """Seconds of processor time that ended processes have taken."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
