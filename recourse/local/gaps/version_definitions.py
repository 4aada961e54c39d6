"""ministack runs a machine's newest definition, whichever version or alias was started.

AWS runs the definition of the version, which for an alias is the one that it routes to.

Source: AWS, Step Functions Developer Guide, "Associating executions with a version or alias".
"""

from contextvars import ContextVar
from typing import Any

from ministack.services import stepfunctions

Machines: Any = type(stepfunctions._state_machines)
SNAPSHOT = ("definition", "roleArn")
_version: ContextVar[dict[str, Any] | None] = ContextVar("version", default=None)


class OfVersions(Machines):  # type: ignore[misc]
    """State machines as a run sees them: its own one is as its version has it."""

    __slots__ = ()

    def get(self, arn: str, default: Any = None) -> Any:
        """A machine; within a run of a version, that machine as it was when it was published."""
        found, version = super().get(arn, default), _version.get()
        if found and version and version["stateMachineArn"] == arn:
            return found | {name: version[name] for name in SNAPSHOT}
        return found


def close() -> None:
    """Have a run see its machine as the version has it that was started."""
    start = stepfunctions._start_execution

    def start_version(data: dict[str, Any]) -> Any:
        named = stepfunctions._execution_version_arn(data.get("stateMachineArn", ""))
        # The thread that runs the execution gets a copy of this context.
        token = _version.set(stepfunctions._state_machine_versions.get(named) if named else None)
        try:
            return start(data)
        finally:
            _version.reset(token)

    stepfunctions._start_execution = start_version
    stepfunctions._state_machines.__class__ = OfVersions
