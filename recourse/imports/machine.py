"""The state machine of an import: check its file, record batches, join them, begin their sagas.

The batches are the items of a Distributed Map, which reads them from S3: `concurrency` of them are
started at the same time. What may pass is tried for minutes, all else a few times. What fails for
good is noted and fails nothing else, until more rows have failed than are tolerated: then an item
fails, and with it the map. Where even that cannot be noted the item ends all the same, and what
joins the batches counts it (`finish`).

Then a second Distributed Map takes the same batches, one after the other: the sagas of each begin
as there is room, and while there is none it waits. Nothing of that fails anything: what does not
begin is left to the sweeper.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from recourse.declare.limits import cut
from recourse.run.failures import THROTTLES, TRANSIENT

FILES, STARTS = "ImportFiles", "ImportStarts"
"""The functions, by the names that are substituted by their ARNs."""
BUCKET, PARTITION = "ImportBucket", "Partition"
"""Further names that are substituted."""
CHECK_SECONDS, START_SECONDS = 290, 110
FINAL = ["TooManyFailuresError", "UnknownImportError"]
MAP, BEGINNINGS = "Start", "Begin"
"""The names of the states that are Distributed Maps."""
LONGEST_WAIT = 30
"""Seconds after which there may be room again, at the most."""


def definition(timescale: float = 1) -> dict[str, Any]:
    """The machine, in Amazon States Language.

    Args:
        timescale: The factor of pauses before retries, but for those of what may pass: it is
            other work that these wait for.
    """
    about = {"import_id.$": "$.import_id", "run.$": "$.run"}
    files = {"Type": "Task", "Resource": f"${{{FILES}}}", "TimeoutSeconds": CHECK_SECONDS}
    starts = {"Type": "Task", "Resource": f"${{{STARTS}}}", "TimeoutSeconds": START_SECONDS}
    batches = {
        "Resource": f"arn:${{{PARTITION}}}:states:::s3:getObject",
        "ReaderConfig": {"InputType": "JSONL"},
        "Parameters": {"Bucket": f"${{{BUCKET}}}", "Key.$": "$.key"},
    }
    retry = _retry(timescale)
    stop = {"ErrorEquals": FINAL, "Next": "Stop"}
    return {
        "Comment": "An import: a saga for each row of a file",
        "StartAt": "Check",
        "States": {
            "Check": {
                **files,
                "Parameters": {"phase": "check", **about},
                "Retry": retry,
                "Next": "Anything",
            },
            "Anything": {
                "Type": "Choice",
                "Choices": [
                    {
                        "And": [
                            {"Variable": "$.status", "StringEquals": "STARTING"},
                            {"Variable": "$.batches", "NumericGreaterThan": 0},
                        ],
                        "Next": MAP,
                    }
                ],
                "Default": "Finish",
            },
            MAP: {
                "Type": "Map",
                "MaxConcurrencyPath": "$.concurrency",
                "ItemReader": batches,
                "ItemSelector": {**about, "phase": "start", "batch.$": "$$.Map.Item.Value"},
                "ItemProcessor": {
                    "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
                    "StartAt": "Batch",
                    "States": {
                        "Batch": {
                            **starts,
                            "Retry": retry,
                            "Catch": [
                                stop,
                                {
                                    "ErrorEquals": ["States.ALL"],
                                    "ResultPath": "$.failure",
                                    "Next": "GiveUp",
                                },
                            ],
                            "End": True,
                        },
                        "GiveUp": {
                            **starts,
                            "Retry": retry,
                            "Catch": [stop, {"ErrorEquals": ["States.ALL"], "Next": "Leave"}],
                            "End": True,
                        },
                        "Leave": {"Type": "Succeed"},
                        "Stop": {"Type": "Fail", "Error": FINAL[0]},
                    },
                },
                "ResultPath": None,
                "Catch": [
                    {"ErrorEquals": ["States.ALL"], "ResultPath": "$.failure", "Next": "Finish"}
                ],
                "Next": "Finish",
            },
            "Finish": {
                **files,
                "Parameters": {"phase": "finish", "import_id.$": "$.import_id", "state.$": "$"},
                "Retry": retry,
                "Next": "Recorded",
            },
            "Recorded": {
                "Type": "Choice",
                "Choices": [
                    {"Variable": "$.recorded", "NumericGreaterThan": 0, "Next": BEGINNINGS}
                ],
                "Default": "Done",
            },
            BEGINNINGS: {
                "Type": "Map",
                "MaxConcurrency": 1,
                "ItemReader": batches,
                "ItemSelector": {
                    **about,
                    "phase": "begin",
                    "batch.$": "$$.Map.Item.Value",
                    "waits": {"seconds": 0},
                },
                "ItemProcessor": {
                    "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
                    "StartAt": "Room",
                    "States": {
                        "Room": {
                            **starts,
                            "ResultPath": "$.waits",
                            "Retry": retry,
                            "Catch": [{"ErrorEquals": ["States.ALL"], "Next": "Leave"}],
                            "Next": "Waits",
                        },
                        "Waits": {
                            "Type": "Choice",
                            "Choices": [
                                {
                                    "And": [
                                        {"Variable": "$.waits.seconds", "IsPresent": True},
                                        {"Variable": "$.waits.seconds", "NumericGreaterThan": 0},
                                    ],
                                    "Next": "Wait",
                                }
                            ],
                            "Default": "Leave",
                        },
                        "Wait": {"Type": "Wait", "SecondsPath": "$.waits.seconds", "Next": "Room"},
                        "Leave": {"Type": "Succeed"},
                    },
                },
                "ResultPath": None,
                "Next": "Done",
            },
            "Done": {"Type": "Succeed"},
        },
    }


def reason(failure: dict[str, str]) -> str:
    """Why a state has failed, in words, from what its machine has caught."""
    cause = failure.get("Cause", "")
    with suppress(ValueError, KeyError, TypeError):  # else it is words already
        cause = json.loads(cause)["errorMessage"]
    return cut(f"{failure['Error']}: {cause}".removesuffix(": "))


def _retry(timescale: float) -> list[Mapping[str, Any]]:
    def retried(errors: list[str], times: int, interval: int, cap: int) -> dict[str, Any]:
        return {
            "ErrorEquals": errors,
            "MaxAttempts": times,
            "IntervalSeconds": interval,
            "BackoffRate": 2,
            "MaxDelaySeconds": cap,
            "JitterStrategy": "FULL",
        }

    return [
        {"ErrorEquals": FINAL, "MaxAttempts": 0},
        # The sagas that run already may take all of an account's concurrency for minutes.
        retried([*THROTTLES, *TRANSIENT], 20, 1, 30),
        retried(["States.ALL"], 3, max(1, round(timescale)), max(2, round(30 * timescale))),
    ]
