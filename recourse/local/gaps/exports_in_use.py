"""ministack's CloudFormation drops and changes exports that other stacks import; AWS refuses."""

from typing import Any

from ministack.services import cloudformation
from ministack.services.cloudformation import handlers, stacks

Resolved = tuple[list[dict[str, str]], dict[str, dict[str, str]]]


def _importers(name: str) -> list[str]:
    """The stacks that import an export."""
    return sorted(
        stack
        for stack, held in cloudformation._stacks.items()
        if held["StackStatus"] != "DELETE_COMPLETE"
        and name in handlers._imported_export_names(held, stack)
    )


def close() -> None:
    """Fail an update that removes or changes an export while it is imported."""
    resolve = stacks._resolve_stack_outputs

    def resolve_or_refuse(*given: Any) -> Resolved:
        resolved: Resolved = resolve(*given)
        _outputs, exports = resolved
        # Until the update has finished, the stack has its previous outputs.
        for before in cloudformation._stacks[given[5]].get("Outputs", []):
            name = before.get("ExportName")
            after = exports.get(name, {}).get("Value")
            if name and after != before["OutputValue"] and (users := _importers(name)):
                used = f"as it is in use by {', '.join(users)}"
                raise ValueError(
                    f"Export {name} cannot be deleted {used}"
                    if after is None
                    else f"Cannot update export {name} {used}"
                )
        return resolved

    stacks._resolve_stack_outputs = resolve_or_refuse
