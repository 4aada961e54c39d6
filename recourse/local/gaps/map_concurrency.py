"""ministack ignores the `MaxConcurrencyPath` of a Distributed Map, and starts all items at once.

Source: AWS, Step Functions Developer Guide, "Using Map state in Distributed mode".
"""

from typing import Any

from ministack.services import stepfunctions

State = dict[str, Any]


def close() -> None:
    """Look the number up where the state says it is."""
    run = stepfunctions._run_distributed_map

    def run_so_many_at_once(
        state: State, raw: object, effective: object, iterator: State, execution: State, ctx: State
    ) -> object:
        if path := state.get("MaxConcurrencyPath"):
            most = stepfunctions._resolve_path_or_ctx(path, effective, ctx)
            state = {**state, "MaxConcurrency": most}
        return run(state, raw, effective, iterator, execution, ctx)

    stepfunctions._run_distributed_map = run_so_many_at_once
