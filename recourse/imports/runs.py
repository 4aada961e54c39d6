"""Runs of imports on Step Functions: start one, and find out whether one has died."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from recourse.errors import TransientError
from recourse.imports.table import AT_WORK, Import, Imports

if TYPE_CHECKING:
    from types_boto3_stepfunctions import SFNClient

QUIET = 10
"""Seconds for which an import at work may be silent before its run is looked at."""


@dataclass(frozen=True)
class ImportRuns:
    """Runs of all imports.

    Attributes:
        sfn: A Step Functions client.
        machine: The ARN of the state machine.
        imports: The table of imports.
    """

    sfn: SFNClient
    machine: str
    imports: Imports

    def start(self, found: Import) -> None:
        """Start the run that an import is at; if it was started before, nothing happens.

        Raises:
            TransientError: Step Functions did not accept it.
        """
        if found.status not in AT_WORK:
            return
        given = {"import_id": found.import_id, "run": found.run}
        try:
            self.sfn.start_execution(
                stateMachineArn=self.machine, name=found.execution, input=json.dumps(given)
            )
        except self.sfn.exceptions.ExecutionAlreadyExists:
            return
        except (ClientError, BotoCoreError) as problem:
            raise TransientError(f"the import could not be started: {problem}") from problem

    def seen(self, found: Import) -> Import:
        """An import as it is: INTERRUPTED where it was at work, and its run is over.

        Whoever looks finds that out, so that nothing has to watch it.
        """
        quiet = _seconds(self.imports.now) - _seconds(found.updated_at)
        if found.status not in AT_WORK or quiet < QUIET:
            return found
        try:
            run = self.sfn.describe_execution(executionArn=self._arn(found))
            if run["status"] == "RUNNING":
                return found
            why = f"its run ended as {run['status']} {run.get('error', '')}".rstrip()
        except self.sfn.exceptions.ExecutionDoesNotExist:
            why = "its run was never started"
        except (ClientError, BotoCoreError):
            return found  # the next look finds out
        return self.imports.note(found, status="INTERRUPTED", why=why)

    def _arn(self, found: Import) -> str:
        arn = self.machine.replace(":stateMachine:", ":execution:")
        return f"{arn}:{found.execution}"


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()
