"""ministack's Parallel branches share one context: ``$$.State`` may be a sibling's.

An attempt counted for another branch would meet the wrong fault. AWS gives each branch its own
context.
"""

from typing import Any

from ministack.services import stepfunctions

Context = dict[str, Any]


def close() -> None:
    """Run every branch (and Map item) on a copy of the context."""
    run = stepfunctions._run_sub_machine

    def run_on_a_copy(
        states: Context, start_at: str, data: object, execution: Context, context: Context
    ) -> object:
        return run(states, start_at, data, execution, dict(context))

    stepfunctions._run_sub_machine = run_on_a_copy
